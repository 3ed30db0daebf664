"""Playback of a trace on a testbed: names to indices, time compressed by the load, missing origins
filled in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.workloads.arrivals import ORIGINS, Arrivals, Ints, Root, stream
from controller.workloads.processes import TraceFile
from controller.workloads.trace import SIZES, Trace

CLIENT = "@"  # an origin "@k" is client k of the source, placed at node k mod N


def play(
    process: TraceFile,
    trace: Trace,
    scenario: Scenario,
    slots: int,
    load: float,
    root: Root,
    source: str,
) -> Arrivals:
    """Return the requests of ``trace`` in ``slots`` slots, ``load`` times as dense in time.

    Raises:
        InputError: the testbed lacks an LM or node, or a trace of duration 0 repeats.
    """
    lm = _indices(trace.lm, scenario.testbed.lm_names, "LM", scenario, source)
    origin = _origins(trace, scenario, source)
    born_s, row = _unrolled(process, trace, slots * scenario.slot_s, load, source)
    slot = np.floor(born_s / scenario.slot_s).astype(np.int64)
    slot += born_s >= (slot + 1) * scenario.slot_s  # the division may have been rounded
    slot -= born_s < slot * scenario.slot_s
    inside = slot < slots
    born_s, row, slot = born_s[inside], row[inside], slot[inside]
    return Arrivals(
        lm=lm[row],
        origin=_filled(origin[row], process, len(scenario.testbed.nodes), root),
        prompts=trace.prompts[row],
        slot=slot,
        offset=born_s / scenario.slot_s - slot,
        sizes={name: trace.sizes[name][row] for name in SIZES},
    )


def _unrolled(
    process: TraceFile, trace: Trace, horizon_s: float, load: float, source: str
) -> tuple[NDArray[np.float64], Ints]:
    """Return the birth times before the horizon, and the trace's row of each."""
    if load == 0 or len(trace) == 0 or horizon_s == 0:
        return np.zeros(0), np.zeros(0, np.int64)
    rounds = 1
    if process.repeat:
        if trace.duration_s <= 0:
            raise InputError(source, "a trace without length cannot repeat", field="duration_s")
        rounds = int(np.ceil(horizon_s * load / trace.duration_s))
    starts_s = np.repeat(np.arange(rounds) * trace.duration_s, len(trace))
    born_s = (starts_s + np.tile(trace.born_s, rounds)) / load
    row = np.tile(np.arange(len(trace)), rounds)
    return born_s[born_s < horizon_s], row[born_s < horizon_s]


def _origins(trace: Trace, scenario: Scenario, source: str) -> Ints:
    """Return (R,) the node row of each origin, -1 where the trace names none."""
    nodes = scenario.testbed.node_names
    names, inverse = np.unique(trace.origin, return_inverse=True)
    known = {"": -1}
    for name in names:
        if name.startswith(CLIENT) and name[1:].isdecimal():
            known[name] = int(name[1:]) % len(nodes)
    rest = np.array([name for name in names if name not in known], dtype=np.str_)
    rows = _indices(rest, nodes, "node", scenario, source)
    known |= dict(zip(rest.tolist(), rows.tolist(), strict=True))
    return np.array([known[name] for name in names], dtype=np.int64)[inverse]


def _filled(origin: Ints, process: TraceFile, nodes: int, root: Root) -> Ints:
    """Return the origins, with missing ones drawn at random or assigned in turn."""
    if process.origins == "random":
        drawn = stream(root, 0, ORIGINS).integers(0, nodes, len(origin))
    else:
        drawn = (np.cumsum(origin < 0) - 1) % nodes
    return np.where(origin < 0, drawn, origin)


def _indices(
    names: NDArray[np.str_], known: tuple[str, ...], kind: str, scenario: Scenario, source: str
) -> Ints:
    """Return the position of every name in ``known``."""
    distinct, inverse = np.unique(names, return_inverse=True)
    for name in distinct:
        if name not in known:
            raise InputError(
                source,
                f"no such {kind} on testbed {scenario.testbed.name}",
                value=str(name),
                remedy=f"it has {', '.join(known)}",
            )
    return np.array([known.index(name) for name in distinct], dtype=np.int64)[inverse]
