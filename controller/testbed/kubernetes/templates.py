"""Templates of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def object_templates(folder: Path) -> Environment:
    """Return the environment of the templates in a folder, templates/k8s."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML; what users give is quoted as JSON or matches a pattern
    )
    environment.filters["json"] = json.dumps
    return environment
