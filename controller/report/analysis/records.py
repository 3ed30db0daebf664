"""The files of the nominal setting's runs, each read once and kept as what the report needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.report.analysis.alignment import Alignment, align, movements
from controller.report.analysis.decision_counts import RunCounts, count_decisions
from controller.report.analysis.policies import Policy, has_intent, policies_of
from controller.report.analysis.reading import reading
from controller.report.analysis.requests import COMPONENTS, GRID_S, LmOutcomes, lm_outcomes
from controller.results.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Records:
    """Records by strategy and seed.

    ``outcomes``: of every strategy. ``counts``: of strategies with agents. ``alignments``: of
    strategies whose planner has an intent. ``problems``: a sentence per file that cannot be read.
    """

    outcomes: dict[str, dict[int, Mapping[str, LmOutcomes]]] = field(default_factory=dict)
    counts: dict[str, dict[int, RunCounts]] = field(default_factory=dict)
    alignments: dict[str, dict[int, Alignment]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def answered(self, strategy: str, lm: str) -> Floats:
        """Return the (181,) share of the LM's requests answered in time within each time of
        GRID_S, all seeds together."""
        runs = [run[lm] for run in self._runs(strategy) if lm in run]
        arrivals = sum(run.arrivals for run in runs)
        if not arrivals:
            return np.full(GRID_S.shape, nan)
        answered: Floats = np.sum([run.answered for run in runs], axis=0) / arrivals
        return answered

    def components_s(self, strategy: str, lm: str) -> Floats:
        """Return the (4,) mean over seeds of the successes' mean times; NaN without a success."""
        rows = np.array([run[lm].components_s for run in self._runs(strategy) if lm in run])
        rows = rows[~np.isnan(rows).any(axis=1)] if len(rows) else rows
        return rows.mean(axis=0) if len(rows) else np.full(len(COMPONENTS), nan)

    def failure_shares(self, strategy: str) -> dict[str, float]:
        """Return reason -> share of all requests, mean over seeds."""
        runs = [list(run.values()) for run in self._runs(strategy)]
        reasons = sorted({reason for run in runs for lm in run for reason in lm.failures})
        return {
            reason: float(
                np.mean(
                    [
                        sum(lm.failures.get(reason, 0) for lm in run)
                        / sum(lm.arrivals for lm in run)
                        for run in runs
                    ]
                )
            )
            for reason in reasons
        }

    def _runs(self, strategy: str) -> Iterable[Mapping[str, LmOutcomes]]:
        return self.outcomes.get(strategy, {}).values()


def read_records(
    runs: Iterable[Run], agents: Collection[str], slot_s: float, epoch_slots: int
) -> Records:
    """Read the files of runs, those of a seed in the order given. A file that cannot be read is a
    problem of its run, not of the report."""
    records = Records()
    for kept in runs:
        run = replace(kept)  # its tables are dropped with it
        strategy, seed = run.strategy, run.seed
        with _noting(records.problems, run, "requests.parquet"):
            records.outcomes.setdefault(strategy, {})[seed] = lm_outcomes(run.requests)
        policies: list[Policy] = []
        with _noting(records.problems, run, "decisions.jsonl"):
            if strategy in agents:
                counts = count_decisions(run.decisions, slot_s, epoch_slots)
                records.counts.setdefault(strategy, {})[seed] = counts
            policies = policies_of(run.policies)
        if has_intent(policies):
            with _noting(records.problems, run, "slots.parquet"):
                found = align(movements(run.requests, run.slots, slot_s), policies)
                records.alignments.setdefault(strategy, {})[seed] = found
    return records


@contextmanager
def _noting(problems: list[str], run: Run, name: str) -> Iterator[None]:
    try:
        with reading(run, name):
            yield
    except InputError as error:
        if str(error) not in problems:
            problems.append(str(error))
