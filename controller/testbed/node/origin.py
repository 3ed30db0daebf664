"""Requests at their origin: orders, the way out, the result and the record."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from controller.domain.decisions import Stamp
from controller.testbed.node.events import (
    TOO_LATE,
    UNREACHABLE,
    OrdersReceived,
    ResultArrived,
    TransferFailed,
)
from controller.testbed.node.instructions import (
    AcceptRequest,
    AcknowledgeResult,
    CloseRecord,
    RefuseRequest,
    SendCancel,
    SendTransfer,
)
from controller.testbed.node.records import Outcome, Record, Request, close
from controller.testbed.node.settings import NodeSettings
from controller.testbed.node.turn import Repeats, Turn

WAITING = "waiting"  # for orders
SENDING = "sending"  # until the destination acknowledges
SENT = "sent"  # until the result, or the verdict, is back


@dataclass(slots=True)
class Open:
    """A request that was born here and is not decided yet."""

    request: Request
    deadline_s: float
    state: str = WAITING
    destination: str | None = None
    sent_s: float | None = None
    attempts: int = 0
    away: bool = False  # the last word of its destination: none
    cancelled: bool = False


class Origin:
    """The requests that were born at this node."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self.open: dict[int, Open] = {}
        # Closed requests, until nothing can be taken for new any more.
        self.closed: dict[int, float] = {}
        self.unwritten: dict[int, Record] = {}  # records whose writing nobody confirmed
        self.waiting: dict[int, None] = {}
        self.local: dict[int, None] = {}  # on their way to this node's own queues
        self.repeats = Repeats(settings.repeat_s, settings.repeat_limit_s)
        self.stamp: Stamp | None = None
        self.plan: dict[str, str | None] = {}
        self.ends: list[tuple[float, int]] = []  # heap of deadlines, with and without grace

    # Events

    def bear(self, request: Request, turn: Turn) -> None:
        fault = self._fault(request, turn.time_s)
        if fault:
            turn.emit(RefuseRequest(request.request_id, fault))
            return
        key = request.request_id
        if key not in self.open and key not in self.closed:
            deadline_s = request.born_s + self._settings.tau_s
            self.open[key] = Open(request, deadline_s)
            self.waiting[key] = None
            heapq.heappush(self.ends, (deadline_s, key))
            heapq.heappush(self.ends, (self._last_s(request), key))
            turn.changed = True
        turn.emit(AcceptRequest(key))

    def order(self, event: OrdersReceived, turn: Turn) -> None:
        if self.stamp is None or event.stamp > self.stamp:
            self.stamp, self.plan = event.stamp, dict(event.destinations)
            turn.changed = True

    def acknowledge(self, key: int, turn: Turn) -> None:
        one = self.open.get(key)
        if one is not None and one.state == SENDING:
            one.state, one.away = SENT, False
            self.repeats.end(key)
            self.local.pop(key, None)
            turn.changed = True

    def refuse(self, event: TransferFailed, turn: Turn) -> None:
        key = event.request_id
        one = self.open.get(key)
        if one is None or one.state != SENDING or event.attempt != one.attempts:
            return
        away = event.reason == UNREACHABLE
        if event.reason == TOO_LATE:
            self._close(one, TOO_LATE, turn)
            return
        if not away:  # an answer ends the attempt; without one it may have arrived
            one.attempts += 1
            turn.changed = True
        if away != one.away:
            one.away, turn.changed = away, True
        pause_s = event.retry_after_s or self._settings.retry_after_s
        self.repeats.hold(key, turn.time_s + pause_s)

    def take_result(self, event: ResultArrived, turn: Turn) -> None:
        """Close the request; one that is closed or unknown is acknowledged so that its host can
        forget it."""
        if not event.whole:
            return
        self.decide(event.outcome, turn)
        turn.emit(AcknowledgeResult(event.host, event.outcome.request_id))

    def decide(self, outcome: Outcome, turn: Turn) -> None:
        one = self.open.get(outcome.request_id)
        if one is None or one.state == WAITING:
            return
        failure = outcome.failure
        if one.cancelled:
            failure = "cancelled"
        elif not failure and turn.time_s > one.deadline_s:
            failure = "deadline"
        self._close(one, failure, turn, outcome)

    def cancel(self, key: int, turn: Turn) -> None:
        """End a request; one that its host has stays open until the host's verdict."""
        one = self.open.get(key)
        if one is None or one.cancelled:
            return
        if one.state != SENT:
            self._close(one, "cancelled", turn)
            return
        one.cancelled = turn.changed = True
        if one.destination != self._settings.node:
            self.repeats.begin(key)

    def confirm_record(self, key: int, turn: Turn) -> None:
        if self.unwritten.pop(key, None) is not None:
            turn.changed = True

    def restart(self, turn: Turn) -> None:
        """Issue again what the former process may not have done."""
        self.repeats.restart()
        for record in self.unwritten.values():
            turn.emit(CloseRecord(record))

    # Time

    def expire(self, turn: Turn, *, also_now: bool) -> None:
        """Close what is past its deadline: at once before it was sent, else after the grace in
        which its host may give the times and the kind of the failure."""
        while self.ends and _passed(self.ends[0][0], turn.time_s, also_now):
            end_s, key = heapq.heappop(self.ends)
            one = self.open.get(key)
            if one is None:
                if self.closed.get(key, end_s + 1) <= end_s:
                    del self.closed[key]
            elif one.state == WAITING or end_s >= self._last_s(one.request):
                self._close(one, _failure_without_verdict(one), turn)
                if end_s >= self._last_s(one.request):
                    del self.closed[key]

    def route(self, turn: Turn) -> None:
        """Send what has orders of its slot, or whose slot is over, by the plan in force."""
        if self.stamp is None:
            return
        for key in list(self.waiting):
            one = self.open[key]
            slot = one.request.slot
            ready = self.stamp.slot >= slot or turn.time_s >= self._slot_end_s(slot)
            if not ready or one.request.lm not in self.plan:
                continue
            destination = self.plan[one.request.lm]
            if destination is None:
                self._close(one, "refused", turn)
                continue
            del self.waiting[key]
            one.state, one.destination = SENDING, destination
            # The destination stays: an unanswered transfer may have arrived there.
            one.sent_s, one.attempts = turn.time_s, 1
            if destination == self._settings.node:
                self.local[key] = None
            else:
                self.repeats.begin(key)
            turn.changed = True

    def issue(self, turn: Turn) -> None:
        for key in self.repeats.take(turn.time_s):
            one = self.open[key]
            if one.destination is None:
                continue
            if one.state == SENDING:
                turn.emit(SendTransfer(one.destination, one.request, one.attempts))
            else:
                turn.emit(SendCancel(one.destination, key))

    def wake_s(self, now_s: float) -> float:
        """Return the next time at which something is due here, or infinity."""
        ends_s = self.ends[0][0] if self.ends else float("inf")
        # A slot that is over waits for a plan that names its LM, not for time.
        slots_s = (self._slot_end_s(self.open[key].request.slot) for key in self.waiting)
        next_slot_s = min((end_s for end_s in slots_s if end_s > now_s), default=float("inf"))
        return min(ends_s, self.repeats.next_s(), next_slot_s)

    # Parts

    def _fault(self, request: Request, time_s: float) -> str:
        settings = self._settings
        if request.origin != settings.node:
            return f"request of origin {request.origin!r} at node {settings.node!r}"
        if request.lm not in settings.lms:
            return f"unknown LM {request.lm!r}; known: {', '.join(settings.lms)}"
        if request.prompts < 1:
            return f"{request.prompts} prompts; at least 1 is needed"
        if request.payload_bytes > settings.queue_limit_bytes:
            return (
                f"payload of {request.payload_bytes} bytes; "
                f"a queue takes {settings.queue_limit_bytes}"
            )
        if time_s >= self._last_s(request):
            return f"born at {request.born_s} s, past its deadline"
        return ""

    def _close(self, one: Open, failure: str, turn: Turn, outcome: Outcome | None = None) -> None:
        key = one.request.request_id
        record = close(
            one.request,
            destination=one.destination,
            sent_s=one.sent_s,
            attempts=one.attempts,
            failure=failure,
            outcome=outcome,
            returned_s=turn.time_s,
        )
        del self.open[key]
        self.waiting.pop(key, None)
        self.local.pop(key, None)
        self.repeats.end(key)
        self.closed[key] = self._last_s(one.request)
        self.unwritten[key] = record
        turn.changed = True
        turn.emit(CloseRecord(record))
        turn.forget(key)

    def _last_s(self, request: Request) -> float:
        settings = self._settings
        return request.born_s + settings.tau_s + settings.verdict_grace_s

    def _slot_end_s(self, slot: int) -> float:
        return (slot + 1) * self._settings.slot_s


def _passed(end_s: float, time_s: float, also_now: bool) -> bool:
    return end_s < time_s or (also_now and end_s == time_s)


def _failure_without_verdict(one: Open) -> str:
    if one.cancelled:
        return "cancelled"
    # A destination that has it, or that nobody reaches, and is silent past the deadline is lost.
    return "lost_node" if one.state == SENT or one.away else "deadline"
