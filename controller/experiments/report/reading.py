"""A campaign folder as it is on disk (its format: docs/records.md), finished or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from controller.domain.errors import InputError
from controller.experiments.folder import is_complete, run_folder
from controller.experiments.manifest import DONE, FAILED, FORMAT_VERSION

# Not of the setting. Who reasoned shows in the strategy's label.
RESERVED: Final = frozenset({"id", "state", "strategy", "seed", "error", "reasoner"})


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LmFigures(_Record):
    """One LM's share of a run."""

    arrivals: int
    successes: int
    rho: float | None
    t_mean_s: float | None


class EpochFigures(_Record):
    """The requests born in one epoch."""

    objective: float
    success_rate: float | None = None
    f_norm: float | None = None
    t_mean_s: float | None = None
    per_lm: dict[str, LmFigures] = Field(default_factory=dict)


class TierFigures(_Record):
    """How the decisions of one tier came about."""

    calls: int
    ok: int = 0
    repaired: int = 0
    fallback: int = 0
    late: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    latency_mean_s: float | None = None


class Reasoning(_Record):
    """Who answered a run's agents."""

    label: str = "unnamed"
    is_language_model: bool | None = None  # None: the run does not say


def _as_reasoning(value: object) -> object:
    """A name alone was how older runs said it."""
    if not isinstance(value, str):
        return value or None
    optimiser = value.startswith(("reference", "faulty"))
    return {"label": value, "is_language_model": False if optimiser else None}


class Summary(_Record):
    """summary.json, as far as the report needs it."""

    objective: float
    success_rate: float | None
    bound: float | None
    f_norm: float
    t_mean_s: float | None
    t_p95_s: float | None = None
    pod_starts: int
    gpu_utilisation: float | None
    per_lm: dict[str, LmFigures]
    per_epoch: list[EpochFigures]
    decisions: dict[str, TierFigures] = Field(default_factory=dict)
    reasoner: Annotated[Reasoning | None, BeforeValidator(_as_reasoning)] = None


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


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run was run on: everything of the grid but strategy and seed."""

    axes: tuple[tuple[str, Any], ...]

    def value(self, axis: str) -> Any:
        """Value on an axis, None where the grid has no such axis."""
        return dict(self.axes).get(axis)

    def label(self, axes: tuple[str, ...], nominal: Setting | None = None) -> str:
        """The values on these axes in words; beside the nominal setting only what differs."""
        parts = []
        for axis in axes:
            value, usual = self.value(axis), nominal.value(axis) if nominal else None
            if value is not None and (nominal is None or value != usual):
                parts.append(f"{axis} {_shorten(value, usual)}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Run:
    """One cell of the grid. ``summary`` is None unless the run is finished and readable; then
    ``problem`` says why."""

    id: str
    folder: Path
    state: str
    strategy: str
    seed: int
    setting: Setting
    summary: Summary | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign's grid and what there is of it."""

    name: str
    summary: str
    folder: Path
    runs: tuple[Run, ...]

    def experiment(self, run: Run) -> dict[str, Any]:
        """experiment.json of a run; empty if there is none."""
        path = run.folder / "experiment.json"
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return found if isinstance(found, dict) else {}


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
            _first_problem(error),
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
    summary, state, problem = None, entry.state, entry.error or ""
    if is_complete(folder):
        state = DONE
        summary, problem = _read_summary(folder / "summary.json")
    elif state == DONE:
        problem = "marked done, but files are missing or cut short"
    elif not problem:
        problem = "failed without a message" if state == FAILED else "not finished"
    axes = {k: v for k, v in (entry.model_extra or {}).items() if _is_axis(k, v)}
    return Run(
        id=entry.id,
        folder=folder,
        state=state,
        strategy=entry.strategy,
        seed=entry.seed,
        setting=Setting(tuple(axes.items())),
        summary=summary,
        problem=problem,
    )


def _shorten(value: Any, usual: Any) -> str:
    """A scaled profile without the name that it shares with the usual one."""
    words = f"{value:g}" if isinstance(value, float) else str(value)
    return words.removeprefix(f"{usual}-").replace("-x", " x ")


def _is_axis(key: str, value: object) -> bool:
    return key not in RESERVED and isinstance(value, str | int | float)


def _read_summary(path: Path) -> tuple[Summary | None, str]:
    try:
        return Summary.model_validate_json(path.read_bytes()), ""
    except ValidationError as error:
        return None, f"its summary.json cannot be used: {_first_problem(error)}"


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
