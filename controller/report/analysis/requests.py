"""Requests of a run: how long each LM's took, why they failed, and whether a pod was ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

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


def lm_outcomes(requests: pl.DataFrame) -> dict[str, LmOutcomes]:
    """Return the outcomes of a run's requests by LM."""
    import polars as pl

    times = [f"{name}_s" for name in COMPONENTS]
    answered = pl.col("success")
    rows = (
        requests.lazy()
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


def with_waits(requests: pl.DataFrame, slots: pl.DataFrame, slot_s: float) -> pl.DataFrame:
    """Return the requests with three more columns.

    ``slot_delay_s``: from birth until the slot's decision is in force. ``wait_s``: from arrival
    until service. ``found_pod``: the LM's pod was ready at the destination as the slot of the
    arrival began; before slot 0 none is. A request that never arrived counts in its slot of birth.
    """
    import polars as pl

    ready = slots.filter(pl.col("state") == "ready").select(
        pl.col("slot").cast(pl.Int64) + 1, "node", "lm", found_pod=pl.lit(value=True)
    )
    slot_delay = pl.col("arrived_s") - pl.col("uplink_s") - pl.col("born_s")
    arrival = (pl.col("arrived_s") / slot_s).floor().cast(pl.Int64).fill_null(pl.col("slot"))
    return (
        requests.with_columns(
            slot_delay_s=slot_delay,
            wait_s=pl.col("queue_s") - slot_delay,
            arrival_slot=pl.min_horizontal(arrival, slots["slot"].cast(pl.Int64).max()),
        )
        .join(
            ready,
            left_on=["arrival_slot", "destination", "lm"],
            right_on=["slot", "node", "lm"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("found_pod").fill_null(value=False))
    )


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
