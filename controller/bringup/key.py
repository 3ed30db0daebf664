"""The SSH key of a bring-up, and whether the machines that exist know it."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from controller.bringup import project as kinds
from controller.bringup.project import Project
from controller.domain.errors import InputError


def fingerprint(public_key: str) -> str:
    """Return the MD5 fingerprint that Nova shows of a public key."""
    digest = hashlib.md5(base64.b64decode(public_key.split()[1]), usedforsecurity=False).hexdigest()
    return ":".join(digest[k : k + 2] for k in range(0, len(digest), 2))


def check_key(private: Path, project: Project) -> None:
    """Raise InputError if machines exist that were made with another key than a folder's."""
    made_with = [one.detail["fingerprint"] for one in project.own if one.kind == kinds.KEYPAIR]
    if not made_with or not project.ours(kinds.SERVER):
        return
    public = private.with_suffix(".pub")
    try:
        ours = fingerprint(public.read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError):
        ours = ""
    if ours != made_with[0]:
        raise InputError(
            str(private), "is not the key of the machines that exist, with fingerprint "
            f"{made_with[0]}" if ours else "is missing, and machines exist that know it alone",
            remedy="bring the folder of whoever made them, with --state; or `edgelm down` first",
        )  # fmt: skip
