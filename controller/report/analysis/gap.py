"""Parts of a strategy's objective that separate it from the bound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.report.analysis.data import Constants, Data
from controller.report.analysis.reading import reading
from controller.report.analysis.requests import with_waits
from controller.results.run import Run, Setting

Floats = NDArray[np.float64]

PARTS: Final = (
    "bound",  # what no strategy can beat
    "slower service",  # than the relaxation's: GPUs shared, fewer cores, prompts done twice
    "queueing",  # behind other requests at a pod that runs
    "start-ups",  # waiting for a pod that did not run yet as the slot began
    "slot delay",  # from birth until the slot's plan is in force
    "transfers",
    "unfairness",
)


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """``parts`` (7,): mean over seeds of the parts in PARTS; they add up to the objective."""

    strategy: str
    setting: Setting
    parts: Floats

    @property
    def objective(self) -> float:
        return float(self.parts.sum())

    @property
    def ratio(self) -> float:
        """Objective over bound."""
        return self.objective / float(self.parts[0])


def measure_gaps(data: Data) -> list[Gap]:
    """Split the objective of the best contestant and every diagnostic at each load; runs whose
    files cannot be read are left out."""
    gaps = []
    for setting in data.loads() or (data.nominal,):
        contestants, present = data.ranking(setting), data.order(setting)
        shown = [*contestants[:1], *(s for s in present if s not in contestants)]
        for strategy in shown:
            parts = [
                found
                for run in data.finished(strategy, setting).values()
                if (found := _split_objective(run, data.constants)) is not None
            ]
            if parts:
                gaps.append(Gap(strategy, setting, np.mean(parts, axis=0)))
    return gaps


def _split_objective(run: Run, constants: Constants) -> Floats | None:
    """Return the (7,) parts of one run's objective; None without a success, a bound or readable
    records."""
    summary = run.figures
    if summary is None or not summary.bound or not summary.success_rate:
        return None
    run = replace(run)  # its tables are dropped with it
    try:
        with reading(run, "requests.parquet"):
            means = _mean_times(run, constants.slot_s)
    except InputError:
        return None  # named where all runs are read
    weight = constants.lam / constants.tau_s
    unfairness = (1 - constants.lam) * (1 - summary.f_norm)
    timed = weight * np.array([means[name] for name in _TIMES])
    service, queueing, starts, slot_delay, transfers = timed
    beyond = service - summary.bound, queueing, starts, slot_delay, transfers, unfairness
    return np.array([summary.bound, *beyond])


_TIMES: Final = ("inference", "queueing", "starts", "slot_delay", "transfers")


def _mean_times(run: Run, slot_s: float) -> dict[str, float]:
    """Return the mean seconds of a success by cause. A wait for service counts as start-up if the
    pod was not ready as the slot of the arrival began, else as queueing."""
    import polars as pl

    waited, found_pod = pl.col("wait_s"), pl.col("found_pod")
    row = (
        with_waits(run.requests.filter("success"), run.slots, slot_s)
        .select(
            inference=pl.col("inference_s").mean(),
            queueing=pl.when(found_pod).then(waited).otherwise(0.0).mean(),
            starts=pl.when(found_pod).then(0.0).otherwise(waited).mean(),
            slot_delay=pl.col("slot_delay_s").mean(),
            transfers=(pl.col("uplink_s") + pl.col("downlink_s")).mean(),
        )
        .row(0, named=True)
    )
    # To the nanosecond, so that the order in which threads add up does not show.
    return {name: round(float(value), 9) for name, value in row.items()}
