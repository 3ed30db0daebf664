"""Models that no engine can serve, told from faults that a new try may cure."""

from __future__ import annotations

import json
from pathlib import Path


class BadModel(Exception):
    """A model that this engine cannot serve. Loading it again does not help."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")


def check_folder(folder: Path, index: str, kind: str) -> None:
    """Look for the JSON file by which a folder of weights says what it holds.

    Raises:
        BadModel: no folder, no such file, or not JSON; the message says what to do.
    """
    remedy = f"give the folder of {kind}, as edgelm models writes it"
    if not folder.is_dir():
        raise BadModel(folder, "is not a folder", remedy)
    try:
        json.loads((folder / index).read_bytes())
    except FileNotFoundError:
        found = ", ".join(sorted(one.name for one in folder.iterdir())[:5]) or "nothing"
        raise BadModel(folder, f"has no {index} (it has {found})", remedy) from None
    except ValueError:
        raise BadModel(folder, f"{index} is not JSON", "fetch it again") from None
