"""A run as it is on disk or in memory: its experiment, its figures, its records. Every file of a
run is read here and nowhere else, after a comparison with its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from controller.domain.decisions import PLANNER
from controller.results.completeness import read_object
from controller.results.digests import DamagedRun, read_checked
from controller.results.folder import (
    DECISIONS,
    DONE,
    EXPERIMENT,
    REQUESTS,
    SLOTS,
    SUMMARY,
    TRANSCRIPT,
)
from controller.results.manifest import first_problem

if TYPE_CHECKING:
    import polars as pl


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LmFigures(_Figures):
    """Figures of one LM's requests."""

    arrivals: int
    successes: int
    rho: float | None
    t_mean_s: float | None


class EpochFigures(_Figures):
    """Figures of the requests born in one epoch."""

    objective: float
    success_rate: float | None = None
    f_norm: float | None = None
    t_mean_s: float | None = None
    per_lm: dict[str, LmFigures] = Field(default_factory=dict)


class TierFigures(_Figures):
    """Figures of one tier's decisions."""

    calls: int
    ok: int = 0
    repaired: int = 0
    fallback: int = 0
    late: int = 0
    guarded: int = 0  # the guard changed them, whatever their outcome
    tokens_in: int | None = 0  # None: unknown
    tokens_out: int | None = 0
    cost_usd: float | None = None
    latency_mean_s: float | None = None


class Reasoning(_Figures):
    """The reasoner that answered a run's agents."""

    label: str = "unnamed"
    is_language_model: bool | None = None  # None: unknown
    notes: tuple[str, ...] = ()  # what its server turned out not to understand


def _as_reasoning(value: object) -> object:
    """Accept a label alone, as older runs have it."""
    if not isinstance(value, str):
        return value or None
    optimiser = value.startswith(("reference", "faulty"))
    return {"label": value, "is_language_model": False if optimiser else None}


class Summary(_Figures):
    """The figures of summary.json that the report needs. A figure that later versions added has a
    default, so that older runs stay readable."""

    code: str = ""  # digest of the code that decided; unknown in older runs
    target: str = "twin"  # before format 2 nothing else was run on
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
    """The place of a run in the grid on every axis but strategy and seed."""

    axes: tuple[tuple[str, Any], ...]

    def value(self, axis: str) -> Any:
        """Return the value on an axis, None where the grid has no such axis."""
        return dict(self.axes).get(axis)

    def label(self, axes: tuple[str, ...], nominal: Setting | None = None) -> str:
        """Return the values on these axes in words; given a nominal setting, only those that
        differ from it."""
        parts = []
        for axis in axes:
            value, usual = self.value(axis), nominal.value(axis) if nominal else None
            if value is not None and (nominal is None or value != usual):
                parts.append(f"{axis} {_shorten(value, usual)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Run:
    """One run of a grid. Reading a file that is missing or damaged raises InputError, which names
    the file and what to do.

    Args:
        figures: None unless the run is finished and readable; then ``problem`` says why.
        files: name -> content, or the path that holds it.
        digests: name -> SHA-256; None for a run of format 1, which has none, or one in memory.
    """

    id: str
    strategy: str
    seed: int
    setting: Setting
    state: str
    figures: Summary | None
    problem: str = ""
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    digests: Mapping[str, str] | None = None

    @property
    def folder(self) -> Path:
        """The run's folder.

        Raises:
            ValueError: the run is in memory, or has no files.
        """
        for file in self.files.values():
            if isinstance(file, Path):
                return file.parent
        raise ValueError("a run in memory has no folder")

    @property
    def checked(self) -> bool:
        """False if files are read from disk without a digest to compare them with."""
        return self.digests is not None or not any(isinstance(f, Path) for f in self.files.values())

    @cached_property
    def experiment(self) -> Mapping[str, Any]:
        """experiment.json; empty if the run has none."""
        return self._object(EXPERIMENT)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """summary.json; empty if the run has none."""
        return self._object(SUMMARY)

    @cached_property
    def requests(self) -> pl.DataFrame:
        """requests.parquet: a row per request."""
        return self._frame(REQUESTS)

    @cached_property
    def slots(self) -> pl.DataFrame:
        """slots.parquet: a row per slot, node and LM."""
        return self._frame(SLOTS)

    @cached_property
    def decisions(self) -> list[dict[str, Any]]:
        """decisions.jsonl: an object per decision."""
        return self._lines(DECISIONS)

    @cached_property
    def policies(self) -> list[dict[str, Any]]:
        """The planner's decisions. They are one in hundreds: parsing the others takes seconds."""
        found = self._lines(DECISIONS, among=f'"{PLANNER}"'.encode())
        return [one for one in found if one.get("tier") == PLANNER]

    @cached_property
    def transcript(self) -> list[dict[str, Any]]:
        """transcript.jsonl: an object per call of an agent, after one that describes the run."""
        return self._lines(TRANSCRIPT)

    def content(self, name: str) -> bytes:
        """Return a file's bytes, compared with its digest.

        Raises:
            InputError: the file is missing, unreadable, or was changed after the run.
        """
        file = self.files.get(name)
        if isinstance(file, Path):
            return read_checked(file.parent, name, self.digests)
        if file is None:
            raise self._damaged(name, "is missing")
        return file

    def _object(self, name: str) -> Mapping[str, Any]:
        if name not in self.files:
            return {}
        return read_object(self._place, name, self.content(name))

    def _lines(self, name: str, among: bytes = b"") -> list[dict[str, Any]]:
        """Return the object of each line that contains ``among``."""
        found = []
        for number, line in enumerate(self.content(name).splitlines(), 1):
            if among not in line:
                continue
            try:
                one = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._damaged(name, f"line {number} is not JSON: {error}") from error
            if not isinstance(one, dict):
                raise self._damaged(name, f"line {number} must hold a JSON object")
            found.append(one)
        return found

    def _frame(self, name: str) -> pl.DataFrame:
        import polars as pl

        content = self.content(name)
        try:
            return pl.read_parquet(content)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise self._damaged(name, f"is not Parquet: {error}") from error
        except pl.exceptions.PanicException as error:  # a BaseException, of bytes gone bad inside
            raise self._damaged(name, f"is not Parquet: {error}") from None

    def _damaged(self, name: str, problem: str) -> DamagedRun:
        return DamagedRun(self._place, name, problem)

    @property
    def _place(self) -> Path:
        """Place of a file in messages: its folder, or the run's id if it is in memory."""
        paths = [file.parent for file in self.files.values() if isinstance(file, Path)]
        return paths[0] if paths else Path(self.id)


def run_in_memory(strategy: str, files: Mapping[str, bytes]) -> Run:
    """Return a run that was made without a folder, from its files by name."""
    figures, problem = read_figures(files[SUMMARY])
    seed = json.loads(files[EXPERIMENT])["seed"]
    return Run("", strategy, seed, Setting(()), DONE, figures, problem, files)


def _shorten(value: Any, usual: Any) -> str:
    """Return a value in words; of a scaled profile only what its name adds to the usual one."""
    words = f"{value:g}" if isinstance(value, float) else str(value)
    return words.removeprefix(f"{usual}-").replace("-x", " x ")


def read_figures(content: bytes) -> tuple[Summary | None, str]:
    """Return the figures of summary.json, or None and the reason."""
    try:
        return Summary.model_validate_json(content), ""
    except ValidationError as error:
        return None, f"its summary.json cannot be used: {first_problem(error)}"
