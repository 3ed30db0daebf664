"""A campaign folder as it is on disk (its format: docs/records.md), finished or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from controller.domain.errors import InputError
from controller.results.folder import (
    DONE,
    FAILED,
    FORMAT_VERSION,
    RUN_FILES,
    TRANSCRIPT,
    is_complete,
    run_folder,
)
from controller.results.run import Run, Setting, first_problem, read_figures

if TYPE_CHECKING:
    import polars as pl

# Not of the setting. Who reasoned shows in the strategy's label.
RESERVED: Final = frozenset({"id", "state", "strategy", "seed", "error", "reasoner"})


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    state: str
    strategy: str
    seed: int
    error: str | None = None


class _Grid(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    name: str
    summary: str = ""
    runs: list[_Entry]


@dataclass(frozen=True)
class Campaign:
    """A campaign's grid and what there is of it."""

    name: str
    summary: str
    folder: Path
    runs: tuple[Run, ...]

    @property
    def complete(self) -> bool:
        """Every run of the grid is finished."""
        return all(run.state == DONE for run in self.runs)

    @property
    def failed(self) -> dict[str, str]:
        """Errors by run id."""
        return {run.id: run.problem for run in self.runs if run.state == FAILED}

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs that are finished and readable."""
        return tuple(run for run in self.runs if run.figures)

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row per finished run: its place in the grid and the figures of its summary."""
        import polars as pl

        rows = [
            {
                "id": run.id,
                "strategy": run.strategy,
                "seed": run.seed,
                **dict(run.setting.axes),
                **{k: v for k, v in run.summary.items() if _is_plain(v)},
            }
            for run in self.finished
        ]
        return pl.DataFrame(rows, infer_schema_length=None)


def read_campaign(folder: Path) -> Campaign:
    """Read the grid and every finished run's summary.

    Raises:
        InputError: there is no readable campaign.json. A run that cannot be read is no error of
            the campaign: it becomes a run with a ``problem``.
    """
    path = folder / "campaign.json"
    if not path.is_file():
        raise InputError(
            str(folder), "is no campaign folder", remedy="give a folder that `edgelm run` wrote"
        )
    try:
        grid = _Grid.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(
            str(path),
            first_problem(error),
            remedy="remove it and run the campaign again; finished runs are kept",
        ) from error
    if grid.format != FORMAT_VERSION:
        raise InputError(
            str(path),
            f"was written by another version of edgelm; this one reads format {FORMAT_VERSION}",
            field="format",
            value=grid.format,
            remedy="use the version that wrote it",
        )
    runs = tuple(_read_run(folder, entry) for entry in grid.runs)
    return Campaign(grid.name, grid.summary, folder, runs)


def _read_run(campaign: Path, entry: _Entry) -> Run:
    """A run is finished when its folder is complete; what campaign.json says may be older."""
    folder = run_folder(campaign, entry.id)
    figures, state, problem = None, entry.state, entry.error or ""
    if is_complete(folder):
        state = DONE
        figures, problem = read_figures((folder / "summary.json").read_bytes())
    elif state == DONE:
        problem = "marked done, but files are missing or cut short"
    elif not problem:
        problem = "failed without a message" if state == FAILED else "not finished"
    axes = {k: v for k, v in (entry.model_extra or {}).items() if _is_axis(k, v)}
    return Run(
        id=entry.id,
        strategy=entry.strategy,
        seed=entry.seed,
        setting=Setting(tuple(axes.items())),
        state=state,
        figures=figures,
        problem=problem,
        files={n: folder / n for n in (*RUN_FILES, TRANSCRIPT) if (folder / n).is_file()},
    )


def _is_axis(key: str, value: object) -> bool:
    return key not in RESERVED and isinstance(value, str | int | float)


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, int | float | str)
