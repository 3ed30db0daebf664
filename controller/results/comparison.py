"""The comparison of a run with the same run made again."""

from __future__ import annotations

import json
from collections.abc import Mapping

from controller.results.folder import SUMMARY
from controller.results.run import Run


def compare(run: Run, files: Mapping[str, bytes]) -> dict[str, bool]:
    """Return name -> True where ``run`` has the same bytes; in summary.json ``wall_s`` is left out.

    Raises:
        InputError: a file of ``run`` is missing or damaged.
    """
    return {
        name: _figures(content) == _figures(run.content(name))
        if name == SUMMARY
        else content == run.content(name)
        for name, content in files.items()
    }


def _figures(summary: bytes) -> object:
    return {**json.loads(summary), "wall_s": None}
