"""What separates a strategy from the bound: the parts of its objective, from its records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.report.study import Constants, Study
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


def measure_gaps(study: Study) -> list[Gap]:
    """The best contestant and every diagnostic at each load, by load; runs whose files cannot be
    read are left out."""
    gaps = []
    for setting in study.loads() or (study.nominal,):
        contestants, present = study.ranking(setting), study.order(setting)
        shown = [*contestants[:1], *(s for s in present if s not in contestants)]
        for strategy in shown:
            parts = [
                found
                for run in study.finished(strategy, setting).values()
                if (found := _split_objective(run, study.constants)) is not None
            ]
            if parts:
                gaps.append(Gap(strategy, setting, np.mean(parts, axis=0)))
    return gaps


def _split_objective(run: Run, constants: Constants) -> Floats | None:
    """(7,) parts of one run's objective; None without a success, a bound or readable records."""
    import polars as pl

    summary = run.figures
    if summary is None or not summary.bound or not summary.success_rate:
        return None
    try:
        means = _mean_times(run.folder, constants.slot_s)
    except (OSError, pl.exceptions.PolarsError):
        return None
    weight = constants.lam / constants.tau_s
    unfairness = (1 - constants.lam) * (1 - summary.f_norm)
    timed = weight * np.array([means[name] for name in _TIMES])
    service, queueing, starts, slot_delay, transfers = timed
    return np.array(
        [
            summary.bound,
            service - summary.bound,
            queueing,
            starts,
            slot_delay,
            transfers,
            unfairness,
        ]
    )


_TIMES: Final = ("inference", "queueing", "starts", "slot_delay", "transfers")


def _mean_times(folder: Path, slot_s: float) -> dict[str, float]:
    """Seconds of a success by cause. A wait for service counts as start-up if the pod was not
    ready as the slot of the arrival began (before slot 0 none is), else as queueing."""
    import polars as pl

    ready = (
        pl.scan_parquet(folder / "slots.parquet")
        .filter(pl.col("state") == "ready")
        .select(pl.col("slot").cast(pl.Int64) + 1, "node", "lm", pl.lit(value=True).alias("ready"))
    )
    slot_delay = pl.col("arrived_s") - pl.col("uplink_s") - pl.col("born_s")
    waiting = pl.col("queue_s") - slot_delay
    was_ready = pl.col("ready").fill_null(value=False)
    row = (
        pl.scan_parquet(folder / "requests.parquet")
        .filter("success")
        .with_columns((pl.col("arrived_s") / slot_s).floor().cast(pl.Int64).alias("slot"))
        .join(ready, left_on=["slot", "destination", "lm"], right_on=["slot", "node", "lm"],
              how="left", maintain_order="left")
        .select(
            inference=pl.col("inference_s").mean(),
            queueing=pl.when(was_ready).then(waiting).otherwise(0.0).mean(),
            starts=pl.when(was_ready).then(0.0).otherwise(waiting).mean(),
            slot_delay=slot_delay.mean(),
            transfers=(pl.col("uplink_s") + pl.col("downlink_s")).mean(),
        )
        .collect()
        .row(0, named=True)
    )  # fmt: skip
    # To the nanosecond, so that the order in which threads add up does not show.
    return {name: round(float(value), 9) for name, value in row.items()}
