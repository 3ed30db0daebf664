"""Files that are written whole: whoever reads, and whatever is lost, finds the old or the new."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError


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


_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return a file's content. A pipe or a device, which may never end, is refused unread.

    Raises:
        InputError: it is no regular file, larger than ``most_bytes``, or cannot be read.
    """
    source = str(path)
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFDIR:  # which fdopen would not take
            os.close(descriptor)
            raise IsADirectoryError(0, "is a folder")
        with os.fdopen(descriptor, "rb") as file:
            if kind != stat.S_IFREG:
                raise InputError(
                    source,
                    f"cannot be read: is {_KINDS.get(kind, 'no file')}",
                    remedy="give a file; write what comes from a pipe or a device to one first",
                )
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InputError(
            source,
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            remedy="check path and permissions",
        ) from error
    if len(content) > most_bytes:
        raise InputError(
            source,
            f"is larger than {most_bytes // 1_000_000} MB",
            remedy="give a smaller file, and check that it is the one that you mean",
        )
    return content
