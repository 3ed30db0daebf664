"""The folder of a campaign on disk: atomic files, whole runs or none, locks that die with their
process.

A run is written to ``runs/.ID.tmp`` and renamed to ``runs/ID`` when every byte is on disk, so
``runs/ID`` is a finished run. What a kill leaves behind, or what someone has truncated since, is
recognised and made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

FORMAT_VERSION: Final = 1  # of the folder: names and columns of its files

# States of a run in campaign.json.
PENDING: Final = "pending"
DONE: Final = "done"
FAILED: Final = "failed"

RUN_FILES: Final = (
    "experiment.json",
    "requests.parquet",
    "slots.parquet",
    "decisions.jsonl",
    "summary.json",
)
TRANSCRIPT = "transcript.jsonl"  # of a run with agents
STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PARQUET_MAGIC = b"PAR1"


def runs_folder(root: Path) -> Path:
    return root / "runs"


def run_folder(root: Path, run_id: str) -> Path:
    return runs_folder(root) / run_id


def unfinished_transcript(root: Path, run_id: str) -> Path:
    """The calls made so far of a run that is not finished: it goes on from them."""
    return runs_folder(root) / f".{run_id}.{TRANSCRIPT}"


def is_complete(folder: Path) -> bool:
    """Every file of a run is there and none is cut short."""
    try:
        json.loads((folder / "summary.json").read_bytes())
        experiment = json.loads((folder / "experiment.json").read_bytes())
        names = [*RUN_FILES, TRANSCRIPT] if experiment.get("reasoner") else RUN_FILES
        ends = {".parquet": _PARQUET_MAGIC, ".jsonl": b"}\n", ".json": b""}
        return all(_ends_with(folder / name, ends[Path(name).suffix]) for name in names)
    except (OSError, ValueError):
        return False


def _ends_with(path: Path, tail: bytes) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(tail)))
        return file.read() == tail


def publish(root: Path, run_id: str, files: Mapping[str, bytes]) -> None:
    """Make ``runs/ID`` appear with all its files at once. The caller holds the run's claim.

    Raises:
        OSError: the disk is full or gone; nothing half-written is left.
    """
    partial, final = _partial(root, run_id), run_folder(root, run_id)
    _remove(partial)
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            write_durably(partial / name, content)
        _sync_folder(partial)
        _remove(final)
        partial.rename(final)
    except OSError:
        _remove(partial)
        raise
    _sync_folder(final.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content; readers see the old or the new, never a mixture."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_durably(partial, content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def claim(root: Path, run_id: str) -> Iterator[bool]:
    """Hold the right to make a run; False if another process has it. The kernel takes it back
    when the process dies, however it dies."""
    runs_folder(root).mkdir(parents=True, exist_ok=True)
    path = runs_folder(root) / f".{run_id}.lock"
    with locked(path, wait=False) as held:
        yield held
        if held and run_folder(root, run_id).exists():
            # Whoever still waits on this file, or makes a new one, will find the run finished.
            path.unlink(missing_ok=True)
            unfinished_transcript(root, run_id).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; False if it is held elsewhere and ``wait`` is not set."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held = False
    else:
        held = True
    try:
        yield held
    finally:
        os.close(descriptor)


def _partial(root: Path, run_id: str) -> Path:
    return runs_folder(root) / f".{run_id}.tmp"


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
