"""Observable state of a cluster, as arrays of shape (N, I): a row per node, a column per LM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

OFF: Final = 0
CPU: Final = 1
GPU: Final = 2
MODES: Final = ("off", "cpu", "gpu")

# Life cycle of the pod of one LM on one node; ``STATES[code]`` is the name in slots.parquet.
POD_OFF: Final = 0
POD_PENDING: Final = 1  # wanted, but its resources are not free yet
POD_STARTING: Final = 2
POD_READY: Final = 3
POD_STOPPING: Final = 4  # holds its resources until it is gone
UNKNOWN: Final = -1  # GPUs of a pod that the device plugin does not report

STATES: Final = ("off", "pending", "starting", "ready", "stopping")


@dataclass(frozen=True, slots=True, eq=False)
class ClusterState:
    """Telemetry at the end of a slot. Rows are the nodes of ``rows`` (testbed indices): all nodes
    for planner and scheduler, the controlled ones for a deployer."""

    time_s: float
    slot: int
    rows: Ints  # (N,)
    up: Bools  # (N,) heard from at the end of the slot
    heard_s: Floats  # (N,) time when the node was last heard from, the date of its row
    backlog: Ints  # (N, I) prompts waiting or in service at the node
    mode: Ints  # (N, I) OFF, CPU, GPU: device that the pod has now
    cores: Floats  # (N, I) allocated to it now
    vgpus: Ints  # (N, I) allocated to it now
    cards: Ints  # (N, I) bit mask of the physical GPUs that the pod's slices are on, or UNKNOWN
    pod: Ints  # (N, I) POD_*
    want_mode: Ints  # (N, I) the last deployment in force
    want_cores: Floats
    want_vgpus: Ints
    want_slot: Ints  # (N,) slot in which that deployment was decided, -1 before the first
    free_cores: Floats  # (N,)
    free_ram_gb: Floats  # (N,)
    free_vgpus: Ints  # (N,)
    arrived_prompts: Ints  # (N, I) prompts born at the node during the slot that ended
    arrived_requests: Ints  # (N, I) requests, likewise
    busy_s: Floats  # (N, I) time the pod spent serving during that slot


@dataclass(frozen=True, slots=True, eq=False)
class Telemetry:
    """Outcomes that became known in a window of slots, the M_e of Eq. 11. Arrays are (I,).

    An outcome is known when the result is back at its origin or the request has failed, so it
    lags behind births by up to tau: the delayed feedback of section IV-A.
    """

    first_slot: int
    last_slot: int
    arrived_requests: Ints
    arrived_prompts: Ints
    succeeded: Ints
    failed: Ints
    latency_sum_s: Floats  # over the successes


def take_rows(state: ClusterState, rows: Ints) -> ClusterState:
    """Return the state with only these rows (positions), as the process of some nodes sees it."""
    taken: dict[str, Any] = {name: getattr(state, name)[rows] for name in _BY_ROW}
    return replace(state, **taken)


def join_rows(states: Sequence[ClusterState]) -> ClusterState:
    """Return one state from several nodes' states of the same slot, rows ascending.

    Time and slot are those of the newest state; ``heard_s`` dates each row.
    """
    newest = max(states, key=lambda state: state.slot)
    order = np.argsort(np.concatenate([state.rows for state in states]), kind="stable")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(state, name) for state in states])[order] for name in _BY_ROW
    }
    return replace(newest, **joined)


_BY_ROW: Final = tuple(
    one.name for one in fields(ClusterState) if one.name not in ("time_s", "slot")
)
