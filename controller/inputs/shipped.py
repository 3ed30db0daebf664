"""Folders of the shipped files, in a wheel and in a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jinja2 import Environment

_TOP_LEVEL: Final = ("inventory", "playbooks", "templates")


def template_dir() -> Path:
    """Return the folder of the shipped templates."""
    return shipped("templates")


def html_templates(folder: str) -> Environment:
    """Return the shipped templates of pages in a folder. Whatever a view has is escaped, a name
    that it lacks is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(template_dir() / folder),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def shipped(folder: str) -> Path:
    """Return controller/data/FOLDER, or in a checkout the top-level folder of that name."""
    package = Path(str(resources.files("controller")))
    if folder in _TOP_LEVEL and (package.parent / "pyproject.toml").is_file():
        return package.parent / folder
    return package / "data" / folder
