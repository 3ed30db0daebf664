"""Models that no engine can serve, told from faults that a new try may cure."""

from __future__ import annotations

import json
from pathlib import Path


class BadModel(Exception):
    """A model that this engine cannot serve, although it is there. The server ends over it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")


def check_folder(folder: Path, index: str, kind: str) -> None:
    """Look for the JSON file by which a folder of weights says what it holds.

    Raises:
        BadModel: no folder, no such file, or not JSON; the message says what to do.
    """
    remedy = f"give the folder of {kind}, as edgelm models writes it"
    if not folder.is_dir():
        raise BadModel("it is not a folder", remedy)
    try:
        json.loads((folder / index).read_bytes())
    except FileNotFoundError:
        found = ", ".join(sorted(one.name for one in folder.iterdir())[:5]) or "nothing"
        raise BadModel(f"it has no {index} but {found}", remedy) from None
    except ValueError:
        raise BadModel(f"{index} is not JSON", "fetch it again") from None
