"""SHA256SUMS: the digest of every file of a run, in the format of ``sha256sum``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError

SUMS: Final = "SHA256SUMS"
REMEDY: Final = "run the campaign again with `edgelm run`: whole runs are kept, this one is remade"
_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^/\n]+)")


class DamagedRun(InputError):
    """A file of a run that is missing, was changed, or cannot be read."""

    def __init__(self, folder: Path, name: str, problem: str) -> None:
        super().__init__(str(folder / name), problem, remedy=REMEDY)
        self.short = f"{name} {problem}"  # without the folder, for a page


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """Return the content of SHA256SUMS for ``files`` by name."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()


def read_sums(folder: Path) -> dict[str, str] | None:
    """Return name -> digest of a run's files; None if the run has no SHA256SUMS.

    Raises:
        DamagedRun: SHA256SUMS cannot be read.
    """
    try:
        text = (folder / SUMS).read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedRun(folder, SUMS, f"cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DamagedRun(folder, SUMS, f"is damaged: line {number} is no digest and name")
        found[match[2]] = match[1]
    return found


def read_checked(folder: Path, name: str, sums: Mapping[str, str] | None) -> bytes:
    """Return a file's content after a comparison with its digest; without one if ``sums`` is
    None.

    Raises:
        DamagedRun: the file is missing, unreadable, or not what its digest says.
    """
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise DamagedRun(folder, name, "is missing") from error
    except OSError as error:
        raise DamagedRun(folder, name, f"cannot be read: {error.strerror}") from error
    if sums is not None and hashlib.sha256(content).hexdigest() != sums.get(name):
        why = f"does not match its digest in {SUMS}" if name in sums else f"is not in {SUMS}"
        raise DamagedRun(folder, name, f"{why}: it was changed or damaged after the run")
    return content
