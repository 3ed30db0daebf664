"""Spools as their readers get them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def contents(paths: Iterable[Path]) -> dict[str, bytes]:
    """Contents by path."""
    return {str(path): path.read_bytes() for path in paths}
