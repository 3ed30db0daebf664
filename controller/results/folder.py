"""The folder of a campaign: where everything lies, and how a whole run appears in it at once.

A run is written to ``runs/.ID.tmp`` and renamed to ``runs/ID`` when every byte is on disk, its
digests among them. So ``runs/ID`` is a finished run, whatever kills the process.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controller.files import sync_folder, write_durably
from controller.results.digests import SUMS, sums_of

# Names and columns of the files. Format 1 has no SHA256SUMS, no `attempts` and
# `recomputed_prompts` in requests.parquet, no `gpus` in slots.parquet.
FORMAT_VERSION: Final = 2
READABLE: Final = (1, FORMAT_VERSION)

# States of a run in campaign.json.
PENDING: Final = "pending"
DONE: Final = "done"
FAILED: Final = "failed"

EXPERIMENT: Final = "experiment.json"
REQUESTS: Final = "requests.parquet"
SLOTS: Final = "slots.parquet"
DECISIONS: Final = "decisions.jsonl"
SUMMARY: Final = "summary.json"
TRANSCRIPT: Final = "transcript.jsonl"  # of a run with agents
MACHINES: Final = "machines.parquet"  # of a campaign: use of machines during its runs
RUN_FILES: Final = (EXPERIMENT, REQUESTS, SLOTS, DECISIONS, SUMMARY)

ID_DIGITS: Final = 12
PRIVATE: Final = 0o700  # folders of runs with agents
STORAGE_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def run_id_of(experiment: bytes) -> str:
    """Return the id of the run of an experiment.json: how its SHA-256 begins."""
    return hashlib.sha256(experiment).hexdigest()[:ID_DIGITS]


def runs_folder(root: Path) -> Path:
    return root / "runs"


def run_folder(root: Path, run_id: str) -> Path:
    return runs_folder(root) / run_id


def unfinished_transcript(root: Path, run_id: str) -> Path:
    """Return the file of the calls that an unfinished run has made; it goes on from them."""
    return runs_folder(root) / f".{run_id}.{TRANSCRIPT}"


def experiment_path(root: Path, run_id: str) -> Path:
    """Return the campaign's own copy of a run's experiment.json, there before the run is."""
    return root / "experiments" / f"{run_id}.json"


def failure_path(root: Path, run_id: str) -> Path:
    """Return the file that says, for programmers, why a run failed."""
    return root / "failures" / f"{run_id}.txt"


def trace_path(root: Path, sha256: str) -> Path:
    """Return the campaign's own copy of a trace, from which its runs can be made anywhere."""
    return root / "traces" / f"{sha256}.csv"


def publish(root: Path, run_id: str, files: Mapping[str, bytes]) -> None:
    """Make ``runs/ID`` appear with all its files and their digests at once, instead of what was
    there. The caller owns the run.

    Raises:
        OSError: the disk is full or gone; nothing half-written is left.
    """
    partial, final = runs_folder(root) / f".{run_id}.tmp", run_folder(root, run_id)
    _remove(partial)
    try:
        partial.mkdir(parents=True)
        if TRANSCRIPT in files:
            partial.chmod(PRIVATE)  # prompts and replies are for whoever made the run
        for name, content in {**files, SUMS: sums_of(files)}.items():
            write_durably(partial / name, content)
        sync_folder(partial)
        _remove(final)
        partial.rename(final)
    except OSError:
        _remove(partial)
        raise
    sync_folder(final.parent)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
