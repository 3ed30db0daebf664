"""State machine of a node: events in, instructions out.

It knows no clock, no socket and no file. Events carry their time; an event that changed what must
survive a restart comes back as ``Persist`` at the head of its instructions, and a new machine that
is given the persisted events is in the same state and issues all that is open again. State that
survives depends on persisted events alone, so nothing else may decide about it: times of
repetitions, and what an LM's server is doing, only decide about instructions.
"""

from __future__ import annotations

from dataclasses import replace

from controller.testbed.node.events import (
    BatchStarted,
    Cancelled,
    EngineFailed,
    Event,
    OrdersReceived,
    PodStateChanged,
    PromptDone,
    RecordWritten,
    RequestBorn,
    Restarted,
    ResultAcknowledged,
    ResultArrived,
    TransferAcknowledged,
    TransferArrived,
    TransferFailed,
)
from controller.testbed.node.host import Host
from controller.testbed.node.instructions import ForgetRequest, Instruction, Persist
from controller.testbed.node.invariants import Checker
from controller.testbed.node.origin import Origin
from controller.testbed.node.settings import NodeSettings
from controller.testbed.node.snapshot import Snapshot, restore, take
from controller.testbed.node.turn import Turn


class NodeMachine:
    """A node as the origin of its clients' requests and as the host of its LMs' queues.

    Args:
        settings: name, LMs and limits.
        snapshot: the state of a former machine, to go on from.
        check: compare the state with the invariants after every event (tests, rehearsals).
    """

    def __init__(
        self, settings: NodeSettings, snapshot: Snapshot | None = None, *, check: bool = False
    ) -> None:
        self.settings = settings
        self.now_s = float("-inf")
        self.origin = Origin(settings)
        self.host = Host(settings)
        if snapshot is not None:
            self.now_s = snapshot.now_s
            restore(snapshot, self.origin, self.host)
        self._checker = Checker(self.origin, self.host, settings) if check else None

    def handle(self, event: Event) -> list[Instruction]:
        """Return what follows from an event, in the order in which it must be done."""
        if isinstance(event, Restarted):
            for former in event.log:
                self._step(former)
            event = replace(event, log=())
        turn = self._step(event)
        self._issue(turn)
        if turn.changed:
            # Replayed, the event must have the time that it had: the clock may have been set back.
            turn.instructions.insert(0, Persist(replace(event, time_s=turn.time_s)))
        if self._checker:
            self._checker.after(event, turn)
        return turn.instructions

    def snapshot(self) -> Snapshot:
        """Return the state that survives, in place of the events that led to it."""
        return take(self.now_s, self.origin, self.host)

    def wake_s(self) -> float:
        """Return the time by which a Tick is due, or infinity."""
        return min(self.origin.wake_s(self.now_s), self.host.wake_s())

    def _step(self, event: Event) -> Turn:
        """Change the state by one event; used for replay too."""
        self.now_s = max(self.now_s, event.time_s)
        turn = Turn(self.now_s)
        # What happens at the very instant of a deadline still counts, what comes after does not.
        self._expire(turn, also_now=False)
        self._apply(event, turn)
        if self._checker:
            self._checker.note(event, turn)
        self._expire(turn, also_now=True)
        self.origin.route(turn)
        self._take_local(turn)
        for key in dict.fromkeys(turn.forgotten):
            if key not in self.origin.open and key not in self.host.hosted:
                turn.emit(ForgetRequest(key))
        return turn

    def needs(self, request_id: int) -> bool:
        """Return True while payload or result of a request must be kept; after a restart the
        executor drops those of the others, whose ForgetRequest may be lost."""
        return request_id in self.origin.open or request_id in self.host.hosted

    def _apply(self, event: Event, turn: Turn) -> None:  # noqa: C901 - a table of events
        origin, host = self.origin, self.host
        match event:
            case RequestBorn():
                origin.bear(event.request, turn)
            case OrdersReceived():
                origin.order(event, turn)
            case TransferArrived():
                host.arrive(event, turn)
            case TransferAcknowledged():
                origin.acknowledge(event.request_id, turn)
            case TransferFailed():
                origin.refuse(event, turn)
            case BatchStarted():
                host.start_batch(event, turn)
            case PromptDone():
                host.record_prompts(event, turn)
            case EngineFailed():
                host.fail_engine(event, turn)
            case PodStateChanged():
                host.change_pod(event, turn)
            case ResultAcknowledged():
                host.acknowledge_result(event.request_id, turn)
            case ResultArrived():
                origin.take_result(event, turn)
            case RecordWritten():
                origin.confirm_record(event.request_id, turn)
            case Cancelled():
                origin.cancel(event.request_id, turn)
                host.cancel(event.request_id, turn)
            case Restarted():
                host.restart()
                origin.restart(turn)
                host.report_all(turn)
                turn.changed = True  # pods are unknown from here on, in a replay too
            case _:
                pass

    def _expire(self, turn: Turn, *, also_now: bool) -> None:
        self.host.expire(turn, also_now=also_now)
        self._return_local(turn)
        self.origin.expire(turn, also_now=also_now)

    def _return_local(self, turn: Turn) -> None:
        for outcome in self.host.local_outcomes():
            self.origin.decide(outcome, turn)
            self.host.acknowledge_result(outcome.request_id, turn)

    def _take_local(self, turn: Turn) -> None:
        """Queue this node's own requests for itself, as far as the byte limit lets them in."""
        for key in list(self.origin.local):
            if not self.host.take(self.origin.open[key].request, turn):
                self.origin.acknowledge(key, turn)

    def _issue(self, turn: Turn) -> None:
        self.origin.issue(turn)
        self.host.issue(turn)
