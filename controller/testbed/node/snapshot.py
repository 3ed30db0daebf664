"""Snapshot of a machine's state that survives a restart, in place of the events that led to it.

Without it the log of a node would grow for as long as a run lasts. A machine that takes up a
snapshot and is given the events after it is in the same state as one that replays all of them.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from controller.domain.decisions import Stamp
from controller.testbed.node.host import Host, Hosted
from controller.testbed.node.origin import Open, Origin
from controller.testbed.node.records import Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that survives. Pairs stand for dicts with number keys, in their order."""

    now_s: float
    # The origin
    open: list[Open]
    closed: list[tuple[int, float]]
    unwritten: list[Record]
    waiting: list[int]
    local: list[int]
    repeated: list[int]  # requests whose instruction at the origin nobody has confirmed
    stamp: Stamp | None
    plan: list[tuple[str, str | None]]
    ends: list[tuple[float, int]]
    # The host
    hosted: list[Hosted]
    gone: list[tuple[int, float]]
    queues: list[tuple[str, list[int]]]
    pods: list[tuple[str, str]]
    returned: list[int]  # requests whose outcome nobody has acknowledged
    deadlines: list[tuple[float, int]]
    arrivals: int


def take(now_s: float, origin: Origin, host: Host) -> Snapshot:
    """Return the state of both roles."""
    return Snapshot(
        now_s=now_s,
        open=list(origin.open.values()),
        closed=list(origin.closed.items()),
        unwritten=list(origin.unwritten.values()),
        waiting=list(origin.waiting),
        local=list(origin.local),
        repeated=origin.repeats.pending(),
        stamp=origin.stamp,
        plan=list(origin.plan.items()),
        ends=list(origin.ends),
        hosted=list(host.hosted.values()),
        gone=list(host.gone.items()),
        queues=[(lm, list(queue)) for lm, queue in host.queues.items()],
        pods=list(host.pods.items()),
        returned=host.returns.pending(),
        deadlines=list(host.deadlines),
        arrivals=host.arrivals,
    )


def restore(snapshot: Snapshot, origin: Origin, host: Host) -> None:
    """Put a state into roles that are empty."""
    origin.open.update((one.request.request_id, one) for one in snapshot.open)
    origin.closed.update(snapshot.closed)
    origin.unwritten.update((one.request.request_id, one) for one in snapshot.unwritten)
    origin.waiting.update(dict.fromkeys(snapshot.waiting))
    origin.local.update(dict.fromkeys(snapshot.local))
    for key in snapshot.repeated:
        origin.repeats.begin(key)
    origin.stamp, origin.plan = snapshot.stamp, dict(snapshot.plan)
    origin.ends.extend(snapshot.ends)
    heapq.heapify(origin.ends)
    host.hosted.update((one.request.request_id, one) for one in snapshot.hosted)
    host.gone.update(snapshot.gone)
    host.queues.update((lm, deque(keys)) for lm, keys in snapshot.queues if lm in host.queues)
    host.queued_bytes = sum(
        host.hosted[key].request.payload_bytes for queue in host.queues.values() for key in queue
    )
    host.pods.update(snapshot.pods)
    for key in snapshot.returned:
        host.returns.begin(key)
    host.deadlines.extend(snapshot.deadlines)
    heapq.heapify(host.deadlines)
    host.arrivals = snapshot.arrivals
