"""A run as it is on disk or in memory: its experiment, its figures, its records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from controller.results.folder import DONE, TRANSCRIPT

if TYPE_CHECKING:
    import polars as pl


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


@dataclass(frozen=True)
class Run:
    """One cell of a grid. ``figures`` is None unless the run is finished and readable; then
    ``problem`` says why. ``files``: name -> content, or the path that holds it."""

    id: str
    strategy: str
    seed: int
    setting: Setting
    state: str
    figures: Summary | None
    problem: str = ""
    files: Mapping[str, bytes | Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        file = self.files["experiment.json"]
        if isinstance(file, bytes):
            raise ValueError("a run in memory has no folder")
        return file.parent

    @cached_property
    def experiment(self) -> Mapping[str, Any]:
        """experiment.json; empty if there is none."""
        return self._object("experiment.json")

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """summary.json; empty if there is none."""
        return self._object("summary.json")

    @cached_property
    def requests(self) -> pl.DataFrame:
        """requests.parquet: a row per request."""
        return self._frame("requests.parquet")

    @cached_property
    def slots(self) -> pl.DataFrame:
        """slots.parquet: a row per slot, node and LM."""
        return self._frame("slots.parquet")

    @cached_property
    def decisions(self) -> list[dict[str, Any]]:
        """decisions.jsonl: an object per decision."""
        return self._lines("decisions.jsonl")

    @cached_property
    def transcript(self) -> list[dict[str, Any]]:
        """transcript.jsonl: an object per call of an agent, after one that describes the run."""
        return self._lines(TRANSCRIPT)

    def _object(self, name: str) -> Mapping[str, Any]:
        found = json.loads(self._content(name)) if name in self.files else {}
        return found if isinstance(found, dict) else {}

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._content(name).splitlines()]

    def _frame(self, name: str) -> pl.DataFrame:
        import polars as pl

        return pl.read_parquet(self._content(name))

    def _content(self, name: str) -> bytes:
        file = self.files[name]
        return file if isinstance(file, bytes) else file.read_bytes()


def run_in_memory(strategy: str, files: Mapping[str, bytes]) -> Run:
    """Return a run that was made without a folder, from its files by name."""
    figures, problem = read_figures(files["summary.json"])
    seed = json.loads(files["experiment.json"])["seed"]
    return Run("", strategy, seed, Setting(()), DONE, figures, problem, files)


def _shorten(value: Any, usual: Any) -> str:
    """A scaled profile without the name that it shares with the usual one."""
    words = f"{value:g}" if isinstance(value, float) else str(value)
    return words.removeprefix(f"{usual}-").replace("-x", " x ")


def read_figures(content: bytes) -> tuple[Summary | None, str]:
    try:
        return Summary.model_validate_json(content), ""
    except ValidationError as error:
        return None, f"its summary.json cannot be used: {first_problem(error)}"


def first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
