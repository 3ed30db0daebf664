"""campaign.json: the grid as resolved, with the id and state of every run. Read and written only
here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.domain.errors import InputError
from controller.files import replace_file
from controller.results.folder import FORMAT_VERSION, ID_DIGITS, READABLE

MANIFEST: Final = "campaign.json"


class RunEntry(BaseModel):
    """One run: its id, its state, and its place in the grid, an extra field per axis."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{ID_DIGITS}}}$")]
    state: str
    strategy: str
    seed: int
    error: str | None = None

    @property
    def axes(self) -> dict[str, Any]:
        """Name -> value on every axis, strategy and seed first."""
        return {"strategy": self.strategy, "seed": self.seed, **(self.model_extra or {})}

    def document(self) -> dict[str, Any]:
        """Return the entry as it is written."""
        error = {"error": self.error} if self.error else {}
        return {"id": self.id, "state": self.state, **self.axes, **error}


class Manifest(BaseModel):
    """The content of campaign.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT_VERSION
    model: int | None = None  # version of the model that makes the runs
    name: str
    summary: str = ""
    campaign: dict[str, Any] = Field(default_factory=dict)  # the campaign file as resolved
    runs: tuple[RunEntry, ...]


def read_manifest(root: Path) -> Manifest:
    """Read a campaign's grid, of any readable format and any version of the model.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = root / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            str(root), "is no campaign folder", remedy="give a folder that `edgelm run` wrote"
        ) from error
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(
            str(path),
            f"cannot be read: {first_problem(error)}",
            remedy="remove it and run the campaign again; finished runs are kept",
        ) from error
    if manifest.format not in READABLE:
        raise InputError(
            str(path),
            "was written by another version of edgelm; this one reads formats "
            f"{' and '.join(map(str, READABLE))}",
            field="format",
            value=manifest.format,
            remedy="use the version that wrote it",
        )
    return manifest


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Replace campaign.json. The caller holds the campaign's lock, so that what a killed process
    left of an earlier attempt can be removed."""
    document = {**manifest.model_dump(), "runs": [run.document() for run in manifest.runs]}
    for left in root.glob(f".{MANIFEST}.*.tmp"):
        left.unlink(missing_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    replace_file(root / MANIFEST, text.encode())


def first_problem(error: ValidationError) -> str:
    """Return the first problem that a validation has found, with its place."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
