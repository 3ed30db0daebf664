"""Weights from the hub: pinned, whole, resumable. Needs the extra ``lm``."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from controller.domain.errors import InputError, Permanent
from controller.testbed.weights.catalog import Source
from controller.testbed.weights.folder import Manifest, describe, read_manifest, seal

COMMIT: Final = re.compile("^[0-9a-f]{40}$")
WAIT_S: Final = 10.0  # for the hub's first answer


def listing(source: Source, revision: str) -> dict[str, tuple[int, str | None]]:
    """Return size and, where the hub knows it, SHA-256 of each file that an engine reads.

    Raises:
        InputError: the revision is not a commit.
        Permanent: the hub does not answer, or has no such commit.
    """
    if not COMMIT.match(revision):
        raise InputError(
            "models pull", "a revision is a commit of 40 hex digits", value=revision,
            remedy="a branch or tag may move under a campaign: give its commit",
        )  # fmt: skip
    try:
        info = HfApi().model_info(
            source.repository, revision=revision, files_metadata=True, timeout=WAIT_S
        )
    except (OSError, HfHubHTTPError, httpx.HTTPError) as error:
        raise _unreachable(source, revision, error) from error
    return {
        one.rfilename: (one.size or 0, one.lfs.sha256 if one.lfs else None)
        for one in info.siblings or ()
        if any(fnmatch.fnmatch(one.rfilename, pattern) for pattern in source.patterns)
    }


def pull(
    lm: str,
    source: Source,
    revision: str,
    listed: dict[str, tuple[int, str | None]],
    folder: Path,
) -> Manifest:
    """Fetch an LM's weights into a folder and seal it; what is there already is kept.

    Raises:
        InputError: the folder holds another revision.
        Permanent: the hub does not answer, or has sent other bytes than it lists.
    """
    sealed = read_manifest(folder)
    if sealed and sealed.revision != revision:
        raise InputError(
            str(folder), "holds another revision", value=sealed.revision or sealed.origin,
            remedy="give another folder, or remove this one",
        )  # fmt: skip
    try:
        snapshot_download(
            source.repository,
            revision=revision,
            local_dir=folder,
            allow_patterns=list(source.patterns),
        )
    except (OSError, HfHubHTTPError, httpx.HTTPError) as error:
        raise _unreachable(source, revision, error) from error
    manifest = describe(
        folder,
        lm,
        origin=f"hub {source.repository}",
        revision=revision,
        licence=source.licence,
    )
    wrong = [
        name
        for name, (size, sha256) in listed.items()
        if name not in manifest.files
        or manifest.files[name].bytes != size
        or sha256 not in (None, manifest.files[name].sha256)
    ]
    if wrong:
        raise Permanent(
            f"{folder}: {', '.join(wrong)}: not the bytes that the hub lists; "
            "remove these files and give the command again"
        )
    seal(folder, manifest)
    return manifest


def _unreachable(source: Source, revision: str, error: Exception) -> Permanent:
    reason = " ".join(str(error).split())[:200]
    return Permanent(
        f"cannot fetch {source.repository} at {revision}: {reason}. What was fetched is kept: the "
        "same command goes on with it. A mirror is named by HF_ENDPOINT. Without a network, give "
        "the command on a machine that has one, copy the folder, and run: edgelm models check DIR"
    )
