"""The tables of a run: a row per request, a row per (slot, node, LM), a line per decision.

Each column is described once, in ``REQUEST_COLUMNS`` or ``SLOT_COLUMNS``: its name, its Polars type
and its values. The twin and the testbed fill the same tables (docs/records.md).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import TIERS
from controller.domain.requests import FAILURES, NOWHERE, RequestTable
from controller.domain.state import MODES, STATES, ClusterState
from controller.domain.testbed import Testbed
from controller.results.journal import DecisionLines, Entry

if TYPE_CHECKING:
    import polars as pl

Values = NDArray[Any]
Rows = TypeVar("Rows")

UNKNOWN_GPUS: Final = -1  # of ClusterState.cards


@dataclass(frozen=True, slots=True, eq=False)
class SlotRows:
    """The states of a run as rows by slot, node, LM: R rows in all. A slot lacks the nodes whose
    state nobody recorded."""

    states: Sequence[ClusterState]
    slot: Values  # (R,) as are the following
    node: Values
    lm: Values

    def field(self, name: str) -> Values:
        """Return a field (N, I) of every state as one column (R,)."""
        if not self.states:
            return np.zeros(0, np.int64)
        return np.concatenate([getattr(state, name).reshape(-1) for state in self.states])


@dataclass(frozen=True, slots=True)
class Column(Generic[Rows]):
    """A column of a table. ``values`` of type String are strings or None; NaN becomes null."""

    name: str
    dtype: str  # name of a Polars type, as in docs/records.md but for the capital letter
    values: Callable[[Rows, Testbed], Any]


def _plain(name: str, dtype: str) -> Column[RequestTable]:
    """Return a column that is a field of the request table."""
    return Column(name, dtype, lambda table, _: getattr(table, name))


REQUEST_COLUMNS: Final[tuple[Column[RequestTable], ...]] = (
    Column("request_id", "Int64", lambda table, _: np.arange(len(table))),
    Column("lm", "String", lambda table, testbed: _named(testbed.lm_names, table.lm)),
    Column("origin", "String", lambda table, testbed: _named(testbed.node_names, table.origin)),
    Column(
        "destination",
        "String",
        lambda table, testbed: _named(testbed.node_names, table.destination),
    ),
    _plain("prompts", "Int32"),
    _plain("slot", "Int32"),
    _plain("born_s", "Float64"),
    _plain("arrived_s", "Float64"),
    _plain("started_s", "Float64"),
    _plain("finished_s", "Float64"),
    _plain("returned_s", "Float64"),
    _plain("uplink_s", "Float64"),
    _plain("queue_s", "Float64"),
    _plain("inference_s", "Float64"),
    _plain("downlink_s", "Float64"),
    _plain("latency_s", "Float64"),
    _plain("success", "Boolean"),
    Column(
        "failure",
        "String",
        lambda table, _: _named(FAILURES, np.where(table.success, NOWHERE, table.failure)),
    ),
    _plain("attempts", "Int32"),
    _plain("recomputed_prompts", "Int32"),
)

SLOT_COLUMNS: Final[tuple[Column[SlotRows], ...]] = (
    Column("slot", "Int32", lambda rows, _: rows.slot),
    Column("node", "String", lambda rows, testbed: _named(testbed.node_names, rows.node)),
    Column("lm", "String", lambda rows, testbed: _named(testbed.lm_names, rows.lm)),
    Column("backlog_prompts", "Int64", lambda rows, _: rows.field("backlog")),
    Column("mode", "String", lambda rows, _: _named(MODES, rows.field("mode"))),
    Column("cores", "Float64", lambda rows, _: rows.field("cores")),
    Column("vgpus", "Int32", lambda rows, _: rows.field("vgpus")),
    Column(
        "gpus",
        "List",
        lambda rows, testbed: _gpus(testbed.node_names, rows.node, rows.field("cards")),
    ),
    Column("state", "String", lambda rows, _: _named(STATES, rows.field("pod"))),
    Column("busy_s", "Float64", lambda rows, _: rows.field("busy_s")),
)


def requests_parquet(
    table: RequestTable, testbed: Testbed, ids: Sequence[int] | None = None
) -> bytes:
    """Return the requests.parquet; without ``ids`` the row number is the request's id."""
    if ids is None:
        return _parquet(REQUEST_COLUMNS, table, testbed)
    given: Column[RequestTable] = Column(
        "request_id", "Int64", lambda _, __: np.array(ids, np.int64)
    )
    return _parquet((given, *REQUEST_COLUMNS[1:]), table, testbed)


def slots_parquet(states: Sequence[ClusterState], testbed: Testbed) -> bytes:
    """Return slots.parquet: how every slot ended, by slot, node, LM."""
    lms, none = len(testbed.lms), [np.zeros(0, np.int64)]
    nodes = np.concatenate([state.rows for state in states] or none)
    slots = np.concatenate([np.full(len(state.rows), state.slot) for state in states] or none)
    slot, node = np.repeat(slots, lms), np.repeat(nodes, lms)
    lm = np.tile(np.arange(lms), len(nodes))
    return _parquet(SLOT_COLUMNS, SlotRows(states, slot, node, lm), testbed)


def decisions_jsonl(entries: Sequence[Entry], testbed: Testbed) -> bytes:
    """Return decisions.jsonl: a JSON object per line, by slot and tier, since which of several
    concurrent decisions ended first is chance."""
    lines = DecisionLines(testbed)
    ordered = sorted(entries, key=lambda entry: (entry.slot, TIERS.index(entry.tier)))
    return "".join(line for entry in ordered for line in lines.of(entry)).encode()


def _named(names: Sequence[str], codes: Values) -> pl.Series:
    """Return the names of codes; null where a code is NOWHERE."""
    import polars as pl

    chosen = pl.Series(codes, dtype=pl.Int64)
    chosen = chosen.to_frame("code").select(
        pl.when(pl.col("code") != NOWHERE).then(pl.col("code"))
    )["code"]
    return pl.Series(names, dtype=pl.String).gather(chosen.cast(pl.UInt32))


def _gpus(nodes: Sequence[str], node: Values, cards: Values) -> pl.Series:
    """Return the physical GPUs of bit masks as lists of NODE/INDEX; null where unknown."""
    import polars as pl

    masks, mask = np.unique(cards, return_inverse=True)
    pairs, row = np.unique(node * max(1, len(masks)) + mask, return_inverse=True)
    lists = [
        None
        if masks[pair % len(masks)] == UNKNOWN_GPUS
        else _gpu_names(nodes[pair // len(masks)], int(masks[pair % len(masks)]))
        for pair in pairs.tolist()
    ]
    return pl.Series(lists, dtype=pl.List(pl.String)).gather(pl.Series(row, dtype=pl.UInt32))


def _gpu_names(node: str, mask: int) -> list[str]:
    return [f"{node}/{gpu}" for gpu in range(mask.bit_length()) if mask >> gpu & 1]


def _parquet(columns: Sequence[Column[Rows]], rows: Rows, testbed: Testbed) -> bytes:
    """Return a table in Parquet's format, the same bytes for the same rows."""
    import polars as pl

    return to_parquet(
        pl.DataFrame(
            {column.name: _series(column, column.values(rows, testbed)) for column in columns}
        )
    )


def to_parquet(frame: pl.DataFrame) -> bytes:
    """Return a frame in Parquet's format, as all files of a run have it."""
    out = io.BytesIO()
    frame.write_parquet(out, compression="zstd", compression_level=3, statistics=True)
    return out.getvalue()


def _series(column: Column[Any], values: Any) -> pl.Series:
    import polars as pl

    if isinstance(values, pl.Series):
        return values
    return pl.Series(values, nan_to_null=True).cast(getattr(pl, column.dtype))
