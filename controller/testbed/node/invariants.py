"""Invariants of a node's state machine, compared after every event.

1.  A request that was born here is open or closed, never both; open, it is in exactly one state.
2.  A request that is hosted and not decided is in exactly one queue, that of its LM, once.
3.  Each queue is in order of arrival.
4.  The LM's server is asked only for the head of its queue, and only while its pod is ready.
5.  What changed is persisted first; nothing is acknowledged that was not persisted.
6.  At most one record per request is closed; issued again, it is the same.
7.  Times of a record follow each other, its four parts are not negative and sum to its latency.
8.  The bytes of the queues are those of their requests, and within the limit.
9.  No request is sent, computed or cancelled that is not open here.
10. No recorded prompt is computed: Compute names the prompts that are not recorded, at least one.
11. Nothing waits past its deadline, and nothing is open past deadline and grace.
12. A success is back by its deadline.
13. Payload and result are forgotten only when neither role of the node needs them.
"""

from __future__ import annotations

from controller.testbed.node.events import Event, TransferArrived
from controller.testbed.node.host import READY, Host
from controller.testbed.node.instructions import (
    AcceptRequest,
    AcknowledgeResult,
    AcknowledgeTransfer,
    CloseRecord,
    Compute,
    ForgetRequest,
    Instruction,
    Persist,
    ReturnResult,
    SendCancel,
    SendTransfer,
)
from controller.testbed.node.origin import SENDING, SENT, WAITING, Origin
from controller.testbed.node.records import Record
from controller.testbed.node.settings import NodeSettings
from controller.testbed.node.turn import Turn

TINY_S = 1e-6


class InvariantBroken(AssertionError):
    """A bug of the state machine: the number of the invariant, and the request or LM."""


class Checker:
    """The invariants over one machine. It remembers ids for as long as it lives."""

    def __init__(self, origin: Origin, host: Host, settings: NodeSettings) -> None:
        self._origin = origin
        self._host = host
        self._settings = settings
        self._taken = {*host.hosted, *host.gone}  # transfers that are in the log
        self._closed: dict[int, Record] = {}

    def note(self, event: Event, turn: Turn) -> None:
        """Note what an event, fresh or replayed, has put into the log."""
        if isinstance(event, TransferArrived) and turn.changed:
            self._taken.add(event.request.request_id)

    def after(self, event: Event, turn: Turn) -> None:
        """Raise InvariantBroken if the event left a state or an instruction that must not be."""
        self._check_origin(turn.time_s)
        self._check_queues(turn.time_s)
        heads = [isinstance(one, Persist) for one in turn.instructions]
        _hold(5, heads == [place == 0 and turn.changed for place in range(len(heads))], event)
        for one in turn.instructions:
            self._check_instruction(one)

    def _check_origin(self, time_s: float) -> None:
        origin = self._origin
        for key, one in origin.open.items():
            _hold(1, key not in origin.closed, key)
            _hold(1, (key in origin.waiting) == (one.state == WAITING), key)
            sending = (key in origin.local) + (key in origin.repeats)
            _hold(1, one.state != SENDING or sending == 1, key)
            _hold(1, one.state != SENT or one.cancelled or sending == 0, key)
            _hold(11, time_s < one.deadline_s + self._settings.verdict_grace_s, key)
            _hold(11, one.state != WAITING or time_s < one.deadline_s, key)

    def _check_queues(self, time_s: float) -> None:
        host, queued_bytes = self._host, 0
        queued = 0
        for lm, queue in host.queues.items():
            last = 0
            for key in queue:
                one = host.hosted[key]
                _hold(2, one.outcome is None and one.request.lm == lm, key)
                _hold(3, one.number > last, key)
                _hold(11, time_s < one.deadline_s, key)
                last = one.number
                queued_bytes += one.request.payload_bytes
            queued += len(queue)
            asked = host.asked.get(lm)
            _hold(4, asked is None or (bool(queue) and queue[0] == asked[0]), lm)
            _hold(4, asked is None or host.pods.get(lm) == READY, lm)
        _hold(2, queued == sum(one.outcome is None for one in host.hosted.values()), "all")
        _hold(8, queued_bytes == host.queued_bytes <= self._settings.queue_limit_bytes, "all")

    def _check_instruction(self, one: Instruction) -> None:
        origin, host = self._origin, self._host
        match one:
            case AcceptRequest(request_id=key):
                _hold(5, key in origin.open or key in origin.closed, key)
            case AcknowledgeTransfer(request_id=key):
                _hold(5, key in self._taken or key in host.hosted or key in host.gone, key)
            case AcknowledgeResult(request_id=key):
                _hold(5, key not in origin.open, key)
            case CloseRecord(record=record):
                key = record.request.request_id
                _hold(6, self._closed.setdefault(key, record) == record, key)
                _hold(6, key not in origin.open, key)
                self._check_record(record)
            case SendTransfer(request=request):
                _hold(9, origin.open[request.request_id].state == SENDING, request.request_id)
            case SendCancel(request_id=key):
                _hold(9, key in origin.open and origin.open[key].cancelled, key)
            case Compute(request_id=key):
                _hold(9, key in host.hosted and host.hosted[key].outcome is None, key)
                _hold(10, bool(one.remaining) and not host.hosted[key].done & {*one.remaining}, key)
            case ReturnResult(outcome=outcome):
                _hold(9, outcome.request_id in host.hosted, outcome.request_id)
            case ForgetRequest(request_id=key):
                _hold(13, key not in origin.open and key not in host.hosted, key)
            case _:
                pass

    def _check_record(self, record: Record) -> None:
        key = record.request.request_id
        times = (
            record.request.born_s,
            record.arrived_s,
            record.started_s,
            record.finished_s,
            record.returned_s,
        )
        reached = [time_s for time_s in times if time_s is not None]
        _hold(7, reached == sorted(reached), key)
        if record.latency_s is not None:
            parts = (record.uplink_s, record.queue_s, record.inference_s, record.downlink_s)
            whole = [part for part in parts if part is not None]
            _hold(7, len(whole) == 4 and min(whole) >= -TINY_S, key)
            _hold(7, abs(sum(whole) - record.latency_s) <= TINY_S, key)
        if record.success:
            _hold(7, record.latency_s is not None, key)
            _hold(12, (record.latency_s or 0.0) <= self._settings.tau_s + TINY_S, key)


def _hold(number: int, fact: bool, what: object) -> None:
    if not fact:
        raise InvariantBroken(f"invariant {number} is broken by {what}")
