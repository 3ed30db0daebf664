"""Files that are written whole: whoever reads, and whatever is lost, finds the old or the new."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file's content; readers see the old or the new, never a mixture. It is on disk when
    this returns. The folder is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        write_durably(partial, content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def forget_oldest(folder: Path, kept: int, spared: Callable[[Path], bool] | None = None) -> None:
    """Remove files of a folder, those that were written longest ago first, until ``kept`` are left
    besides those that are ``spared``. What a killed write has left goes with them."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    others = [path for _, path in sorted(found, reverse=True) if spared is None or not spared(path)]
    for path in others[kept:]:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
