"""What a run leaves on disk: one row per request, one per (slot, node, LM), one line per decision.

Columns, names and units are fixed (docs/records.md), so that any tool can check them. The twin and
the testbed fill the same table.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import TIERS
from controller.domain.requests import FAILURES, NOWHERE, RequestTable
from controller.domain.state import MODES, STATES, ClusterState
from controller.domain.testbed import Testbed
from controller.results.journal import DecisionLines, Entry

if TYPE_CHECKING:
    import polars as pl

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def requests_parquet(table: RequestTable, testbed: Testbed) -> bytes:
    """requests.parquet; the row number is the request's id."""
    import polars as pl

    times = (
        "born_s", "arrived_s", "started_s", "finished_s", "returned_s",
        "uplink_s", "queue_s", "inference_s", "downlink_s", "latency_s",
    )  # fmt: skip
    success = table.success
    frame = pl.DataFrame(
        {
            "request_id": pl.Series(np.arange(len(table)), dtype=pl.Int64),
            "lm": _named(testbed.lm_names, table.lm),
            "origin": _named(testbed.node_names, table.origin),
            "destination": _named(testbed.node_names, table.destination),
            "prompts": pl.Series(table.prompts, dtype=pl.Int64).cast(pl.Int32),
            "slot": pl.Series(table.slot, dtype=pl.Int64).cast(pl.Int32),
            **{name: pl.Series(getattr(table, name), nan_to_null=True) for name in times},
            "success": pl.Series(success, dtype=pl.Boolean),
            "failure": _named(FAILURES, np.where(success, NOWHERE, table.failure)),
        }
    )
    return _parquet(frame)


def slots_parquet(states: Sequence[ClusterState], testbed: Testbed) -> bytes:
    """slots.parquet: how every slot ended, by slot, node, LM."""
    import polars as pl

    shape = len(states), len(testbed.nodes), len(testbed.lms)
    slot = np.array([state.slot for state in states], dtype=np.int64)
    index = np.indices(shape).reshape(3, -1)

    def column(name: str, dtype: type) -> NDArray[np.generic]:
        rows = [getattr(state, name) for state in states]
        return np.array(rows, dtype=dtype).reshape(-1)

    frame = pl.DataFrame(
        {
            "slot": pl.Series(slot[index[0]], dtype=pl.Int64).cast(pl.Int32),
            "node": _named(testbed.node_names, index[1]),
            "lm": _named(testbed.lm_names, index[2]),
            "backlog_prompts": pl.Series(column("backlog", np.int64), dtype=pl.Int64),
            "mode": _named(MODES, column("mode", np.int64)),
            "cores": pl.Series(column("cores", np.float64), dtype=pl.Float64),
            "vgpus": pl.Series(column("vgpus", np.int64), dtype=pl.Int64).cast(pl.Int32),
            "state": _named(STATES, column("pod", np.int64)),
            "busy_s": pl.Series(column("busy_s", np.float64), dtype=pl.Float64),
        }
    )
    return _parquet(frame)


def decisions_jsonl(entries: Sequence[Entry], testbed: Testbed) -> bytes:
    """decisions.jsonl: one JSON object per line, by slot and tier: which of several concurrent
    decisions ended first is chance."""
    lines = DecisionLines(testbed)
    ordered = sorted(entries, key=lambda entry: (entry.slot, TIERS.index(entry.tier)))
    return "".join(line for entry in ordered for line in lines.of(entry)).encode()


def _named(names: Sequence[str], codes: NDArray[np.generic]) -> pl.Series:
    """Names of codes; null where a code is NOWHERE."""
    import polars as pl

    chosen = pl.Series(codes, dtype=pl.Int64)
    chosen = chosen.to_frame("code").select(
        pl.when(pl.col("code") != NOWHERE).then(pl.col("code"))
    )["code"]
    return pl.Series(names, dtype=pl.String).gather(chosen.cast(pl.UInt32))


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", compression_level=3, statistics=True)
    return out.getvalue()
