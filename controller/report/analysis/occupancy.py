"""Backlogs and pods of one run over nodes and time, thinned to what a figure can show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from controller.report.analysis.reading import reading
from controller.results.run import Run

if TYPE_CHECKING:
    import polars as pl

MAX_BINS: Final = 240
MAX_NODES: Final = 12  # in the activation timeline
STATES: Final = ("off", "GPU", "CPU", "changing")


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """A run's slots in B bins of equal length.

    ``backlog`` (N, B): prompts at the node, mean over the bin's slots; ``pods`` (N, I, B, 4): share
    of the bin's slots in each of STATES.
    """

    nodes: tuple[str, ...]
    lms: tuple[str, ...]
    slots: int
    backlog: NDArray[np.float64]
    pods: NDArray[np.float64]


def read_occupancy(run: Run) -> Occupancy:
    """Return a run's slots, thinned.

    Raises:
        InputError: slots.parquet cannot be read.
    """
    with reading(run, "slots.parquet"):
        return _thinned(replace(run).slots)  # the table is dropped with the copy


def _thinned(table: pl.DataFrame) -> Occupancy:
    import polars as pl

    rows = table.lazy()
    nodes = _in_order(rows, "node")
    lms = _in_order(rows, "lm")
    slots = int(rows.select(pl.col("slot").max()).collect().item()) + 1
    bins = min(slots, MAX_BINS)
    binned = rows.select(
        (pl.col("slot").cast(pl.Int64) * bins // slots).alias("bin"),
        pl.col("node").cast(pl.Enum(nodes)).to_physical().cast(pl.Int64),
        pl.col("lm").cast(pl.Enum(lms)).to_physical().cast(pl.Int64),
        "slot",
        "backlog_prompts",
        _code().alias("code"),
    )
    shape = len(nodes), len(lms), bins
    return Occupancy(
        tuple(nodes), tuple(lms), slots, _mean_backlog(binned, shape), _pod_shares(binned, shape)
    )


def _in_order(rows: pl.LazyFrame, column: str) -> list[str]:
    """Return the names in the order of the file, which is the testbed's."""
    import polars as pl

    names = rows.select(pl.col(column).unique(maintain_order=True)).collect()
    return [str(name) for name in names.to_series()]


def _code() -> pl.Expr:
    import polars as pl

    ready = pl.col("state") == "ready"
    return (
        pl.when(ready & (pl.col("mode") == "gpu"))
        .then(STATES.index("GPU"))
        .when(ready & (pl.col("mode") == "cpu"))
        .then(STATES.index("CPU"))
        .when(pl.col("state") == "off")
        .then(STATES.index("off"))
        .otherwise(STATES.index("changing"))
    )


def _mean_backlog(rows: pl.LazyFrame, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    import polars as pl

    sums = (
        rows.group_by("node", "bin")
        .agg(pl.col("backlog_prompts").sum().cast(pl.Float64), pl.col("slot").n_unique())
        .collect()
    )
    backlog = np.zeros((shape[0], shape[2]))
    where = sums["node"].to_numpy(), sums["bin"].to_numpy()
    backlog[where] = (sums["backlog_prompts"] / sums["slot"]).to_numpy()
    return backlog


def _pod_shares(rows: pl.LazyFrame, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    import polars as pl

    counts = rows.group_by("node", "lm", "bin", "code").agg(pl.len()).collect()
    tally = np.zeros((*shape, len(STATES)))
    where = tuple(counts[name].to_numpy() for name in ("node", "lm", "bin", "code"))
    tally[where] = counts["len"].to_numpy()
    shares: NDArray[np.float64] = tally / np.maximum(1, tally.sum(axis=-1, keepdims=True))
    return shares
