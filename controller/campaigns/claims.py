"""Locks on one machine: who owns a run, and who may write a campaign's files. The kernel takes a
lock back when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from controller.results.folder import run_folder, runs_folder, unfinished_transcript


@contextlib.contextmanager
def claim(root: Path, run_id: str) -> Iterator[bool]:
    """Own a run while it is made; yields False if another process owns it."""
    runs_folder(root).mkdir(parents=True, exist_ok=True)
    path = _lock_path(root, run_id)
    with locked(path, wait=False) as owned:
        yield owned
        if owned and run_folder(root, run_id).exists():
            # A process that opened this file, or makes a new one, will find the run finished.
            path.unlink(missing_ok=True)
            unfinished_transcript(root, run_id).unlink(missing_ok=True)


def forget_claim(root: Path, run_id: str) -> None:
    """Remove what a process that was killed right after its run was finished has left of it."""
    left = [path for path in (_lock_path(root, run_id), unfinished_transcript(root, run_id))
            if path.exists()]  # fmt: skip
    if left:
        with claim(root, run_id):
            pass


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; yields False if another process has it and ``wait`` is
    not set."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owned = False
    else:
        owned = True
    try:
        yield owned
    finally:
        os.close(descriptor)


def _lock_path(root: Path, run_id: str) -> Path:
    return runs_folder(root) / f".{run_id}.lock"
