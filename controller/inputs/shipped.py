"""Folders of the shipped files, in a wheel and in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

_TOP_LEVEL: Final = ("inventory", "templates")


def template_dir() -> Path:
    """Return the folder of the shipped templates."""
    return shipped("templates")


def shipped(folder: str) -> Path:
    """Return controller/data/FOLDER, or in a checkout the top-level inventory/ or templates/."""
    package = Path(str(resources.files("controller")))
    if folder in _TOP_LEVEL and (package.parent / "pyproject.toml").is_file():
        return package.parent / folder
    return package / "data" / folder
