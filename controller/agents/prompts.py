"""Prompt templates: one typed view in, messages out, a hash of each template for the record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Prompts:
    """The templates in ``folder``, one sub-folder per agent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment: Environment | None = None

    def render(self, template: str, view: Any) -> str:
        """Render ``template`` (``planner/user.j2``) with the fields of ``view``.

        Raises:
            jinja2.UndefinedError: the template asks for what the view lacks.
        """
        if self._environment is None:
            self._environment = _environment(self._folder)
        return self._environment.get_template(template).render(view=view)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every template by name."""
        return {
            path.relative_to(self._folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self._folder.rglob("*.j2"))
        }


def to_json(value: object) -> str:
    """Return compact JSON. Raises ValueError for NaN and infinity."""
    return _COMPACT.encode(value)


def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - prompts are no HTML
        auto_reload=False,
    )
    environment.filters["json"] = to_json
    return environment
