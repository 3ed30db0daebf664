"""Reader of a user's file as bytes: regular files only, up to a size."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError

_KINDS: Final = {
    stat.S_IFDIR: "a folder",
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
        with os.fdopen(descriptor, "rb") as file:
            kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
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
