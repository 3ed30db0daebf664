"""What became of the requests of the nominal setting, run by run: one pass over each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.report.study import Study
from controller.results.run import Run

Floats = NDArray[np.float64]

COMPONENTS: Final = ("uplink", "queue", "inference", "downlink")
GRID_S: Final = np.geomspace(0.1, 3600.0, 181)  # where the distributions are evaluated


@dataclass(frozen=True, slots=True, eq=False)
class LmOutcomes:
    """One LM in one run. ``answered`` (181,): requests answered within each time of GRID_S, late
    ones left out; ``components_s`` (4,): mean over the successes, NaN without any, to the
    nanosecond, so that the order in which threads add up does not show."""

    arrivals: int
    answered: Floats
    components_s: Floats
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Per strategy and seed the LMs' outcomes, and the runs whose requests cannot be read."""

    by_run: Mapping[tuple[str, int], Mapping[str, LmOutcomes]]
    problems: Mapping[str, str]

    def of(self, strategy: str) -> list[Mapping[str, LmOutcomes]]:
        """The strategy's runs by ascending seed."""
        return [self.by_run[key] for key in sorted(self.by_run) if key[0] == strategy]

    def answered(self, strategy: str, lm: str) -> Floats:
        """(181,) share of the LM's requests answered in time within each time of GRID_S, all
        seeds together."""
        runs = [run[lm] for run in self.of(strategy) if lm in run]
        arrivals = sum(run.arrivals for run in runs)
        if not arrivals:
            return np.full(GRID_S.shape, nan)
        answered: Floats = np.sum([run.answered for run in runs], axis=0) / arrivals
        return answered

    def components_s(self, strategy: str, lm: str) -> Floats:
        """(4,) mean over seeds of the mean time of the successes; NaN without a success."""
        rows = np.array([run[lm].components_s for run in self.of(strategy) if lm in run])
        rows = rows[~np.isnan(rows).any(axis=1)] if len(rows) else rows
        return rows.mean(axis=0) if len(rows) else np.full(len(COMPONENTS), nan)

    def failure_shares(self, strategy: str) -> dict[str, float]:
        """Reason -> share of all requests, mean over seeds."""
        runs = [list(run.values()) for run in self.of(strategy)]
        reasons = sorted({reason for run in runs for lm in run for reason in lm.failures})
        shares = {}
        for reason in reasons:
            of_runs = [
                sum(lm.failures.get(reason, 0) for lm in run) / sum(lm.arrivals for lm in run)
                for run in runs
            ]
            shares[reason] = float(np.mean(of_runs))
        return shares


def read_outcomes(study: Study) -> Outcomes:
    """Read requests.parquet of every finished run of the nominal setting. A file that cannot be
    read is a problem of its run, not of the report."""
    import polars as pl

    by_run: dict[tuple[str, int], Mapping[str, LmOutcomes]] = {}
    problems = {}
    for strategy in study.present():
        for seed, run in study.finished(strategy).items():
            try:
                by_run[strategy, seed] = _read_requests(run.folder / "requests.parquet")
            except (OSError, pl.exceptions.PolarsError) as error:
                problems[run.id] = _reason(run, error)
    return Outcomes(by_run, problems)


def _reason(run: Run, error: Exception) -> str:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    path = f"runs/{run.id}/requests.parquet"
    return f"{path} cannot be read, so figures of requests leave it out: {first_line[:120]}"


def _read_requests(path: Path) -> dict[str, LmOutcomes]:
    import polars as pl

    if not path.is_file():
        raise FileNotFoundError("it does not exist")
    times = [f"{name}_s" for name in COMPONENTS]
    answered = pl.col("success")
    rows = (
        pl.scan_parquet(path)
        .select("lm", "success", "failure", "latency_s", *times)
        .group_by("lm")
        .agg(
            pl.len().alias("arrivals"),
            pl.col("latency_s").filter(answered).sort(),
            pl.col("failure").drop_nulls(),
            *(pl.col(name).filter(answered).mean() for name in times),
        )
        .sort("lm")
        .collect()
    )
    return {row["lm"]: _lm_outcomes(row) for row in rows.iter_rows(named=True)}


def _lm_outcomes(row: dict[str, object]) -> LmOutcomes:
    latency_s = np.asarray(row["latency_s"], np.float64)
    reasons, counts = np.unique(np.asarray(row["failure"], np.str_), return_counts=True)
    components = [row[f"{name}_s"] for name in COMPONENTS]
    return LmOutcomes(
        arrivals=int(str(row["arrivals"])),
        answered=np.searchsorted(latency_s, GRID_S, side="right").astype(np.float64),
        components_s=np.round(np.array([nan if c is None else c for c in components], float), 9),
        failures=dict(zip(reasons.tolist(), counts.tolist(), strict=True)),
    )
