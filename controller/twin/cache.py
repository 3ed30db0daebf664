"""Cache of the compiled kernel. Numba detects changes of a function's own file only, so the
folder's name is a digest of every file whose code or constants are compiled in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

DIGITS = 16  # of the digest
config: Any = numba.config
F = TypeVar("F", bound=Callable[..., Any])


def digest_of(files: Iterable[Path]) -> str:
    """Return a digest of the files' names and contents."""
    digest = sha256()
    for file in sorted(files, key=lambda file: file.name):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:DIGITS]


def folder_for(files: Iterable[Path], roots: Iterable[Path]) -> Path | None:
    """Return the folder of these files' compiled code below the first writable root, created if it
    is missing; None if no root is writable."""
    name = f"kernel-{digest_of(files)}"
    return next((root / name for root in roots if _is_writable(root / name)), None)


def roots() -> list[Path]:
    """Return the places for caches, best first: Numba's CACHE_DIR if set, beside the code, the
    user's cache."""
    given = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
    beside, users = Path(__file__).parent / "__pycache__", os.environ.get("XDG_CACHE_HOME")
    try:
        return [*given, beside, (Path(users) if users else Path.home() / ".cache") / "edgelm"]
    except RuntimeError:  # a user without a home, as in some containers
        return [*given, beside]


@contextmanager
def cached_in(folder: Path | None) -> Iterator[None]:
    """Make Numba cache the functions decorated in this context in ``folder``, or in its default
    place if ``folder`` is None."""
    before = config.CACHE_DIR
    if folder is not None:
        config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def kept(function: F, folder: Path | None) -> F:
    """Compile with Numba and cache the code in ``folder``. If no place is writable (read-only
    install, no home), compile it anew in each process, which takes seconds."""
    try:
        with cached_in(folder):
            return cast("F", numba.njit(cache=True)(function))
    except RuntimeError:  # Numba's "no locator available"
        return cast("F", numba.njit()(function))


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
