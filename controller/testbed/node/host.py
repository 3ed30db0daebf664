"""Requests at their host: one FIFO queue per LM, the LM's server, and results on their way back."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.testbed.node.events import (
    CHECKSUM,
    FULL,
    TOO_LATE,
    UNKNOWN_LM,
    BatchStarted,
    EngineFailed,
    PodStateChanged,
    PromptDone,
    TransferArrived,
)
from controller.testbed.node.instructions import (
    AcknowledgeTransfer,
    CancelCompute,
    Compute,
    RefuseTransfer,
    ReportArrival,
    ReturnResult,
)
from controller.testbed.node.records import Outcome, Request
from controller.testbed.node.settings import NodeSettings
from controller.testbed.node.turn import Repeats, Turn

READY = "ready"


@dataclass(slots=True)
class Hosted:
    """A request that this node has taken and whose outcome its origin has not acknowledged."""

    request: Request
    deadline_s: float
    arrived_s: float
    number: int  # of arrival at this node
    ready_seen: bool  # the LM was ready at some moment since the arrival
    attempt: int = 1  # of computing
    failures: int = 0  # of the engine, stops of its pod not counted
    tried: dict[int, int] = field(default_factory=dict)  # prompt -> attempt of its last batch
    done: set[int] = field(default_factory=set)
    serving_since_s: float | None = None
    started_s: float | None = None
    inference_s: float = 0.0
    recomputed: int = 0
    outcome: Outcome | None = None  # None: it is in the queue

    def remaining(self) -> tuple[int, ...]:
        return tuple(one for one in range(self.request.prompts) if one not in self.done)


class Host:
    """The queues of this node."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self.hosted: dict[int, Hosted] = {}
        # Acknowledged outcomes, until a late copy of the transfer is refused by its deadline.
        self.gone: dict[int, float] = {}
        self.queues: dict[str, deque[int]] = {lm: deque() for lm in settings.lms}
        self.queued_bytes = 0
        self.pods: dict[str, str] = {}
        self.asked: dict[str, tuple[int, float]] = {}  # LM -> request at its server, next repeat
        self.returns = Repeats(settings.repeat_s, settings.repeat_limit_s)
        self.deadlines: list[tuple[float, int]] = []
        self.arrivals = 0

    # Events

    def arrive(self, event: TransferArrived, turn: Turn) -> None:
        request, key = event.request, event.request.request_id
        intact = event.checksum == request.checksum
        reason = self.take(request, turn) if intact else CHECKSUM
        if reason:
            pause_s = self._settings.retry_after_s if reason == FULL else 0.0
            turn.emit(RefuseTransfer(request.origin, key, event.attempt, reason, pause_s))
        else:
            turn.emit(AcknowledgeTransfer(request.origin, key, event.attempt))

    def take(self, request: Request, turn: Turn) -> str:
        """Put a request into its queue unless it is known; return why not, or nothing."""
        key, settings = request.request_id, self._settings
        deadline_s = request.born_s + settings.tau_s
        if key in self.hosted:
            return ""
        if turn.time_s >= deadline_s:
            return TOO_LATE
        if key in self.gone:
            return ""
        if request.lm not in self.queues:
            return UNKNOWN_LM
        if self.queued_bytes + request.payload_bytes > settings.queue_limit_bytes:
            return FULL
        self.arrivals += 1
        ready = self.pods.get(request.lm) == READY
        self.hosted[key] = Hosted(request, deadline_s, turn.time_s, self.arrivals, ready)
        self.queues[request.lm].append(key)
        self.queued_bytes += request.payload_bytes
        heapq.heappush(self.deadlines, (deadline_s, key))
        turn.changed = True
        turn.emit(ReportArrival(key, turn.time_s))
        return ""

    def start_batch(self, event: BatchStarted, turn: Turn) -> None:
        one = self._queued(event.request_id)
        if one is None or event.attempt != one.attempt:
            return
        fresh = [p for p in self._prompts(one, event.prompts) if one.tried.get(p) != event.attempt]
        if not fresh:
            return
        # A prompt counts when it gets into a batch again, not when its batch was lost.
        one.recomputed += sum(prompt in one.tried for prompt in fresh)
        one.tried.update(dict.fromkeys(fresh, event.attempt))
        self._begin(one, min(max(event.began_s, one.arrived_s), turn.time_s))
        turn.changed = True

    def record_prompts(self, event: PromptDone, turn: Turn) -> None:
        one = self._queued(event.request_id)
        if one is None or not (fresh := self._prompts(one, event.prompts)):
            return
        self._begin(one, min(max(event.began_s, one.arrived_s), turn.time_s))
        for prompt in fresh:
            one.tried.setdefault(prompt, one.attempt)
        one.done.update(fresh)
        one.recomputed = max(one.recomputed, event.recomputed)
        turn.changed = True
        if len(one.done) == one.request.prompts:
            self._decide(one, "", turn)

    def fail_engine(self, event: EngineFailed, turn: Turn) -> None:
        one = self._queued(event.request_id)
        if one is None or event.attempt != one.attempt:
            return
        self._interrupt(one, turn)
        # A pod that stops breaks connections: that is no fault of the engine.
        one.failures += self.pods.get(one.request.lm) == READY
        if event.permanent or one.failures >= self._settings.engine_attempts:
            self._decide(one, "engine_error", turn)
        elif one.request.lm in self.asked:
            again_s = turn.time_s + self._settings.repeat_s
            self.asked[one.request.lm] = (event.request_id, again_s)

    def change_pod(self, event: PodStateChanged, turn: Turn) -> None:
        if event.lm not in self.queues:
            return
        if self.pods.get(event.lm) != event.state:
            self.pods[event.lm] = event.state
            turn.changed = True
        queue = self.queues[event.lm]
        if event.state == READY:
            for key in queue:
                self.hosted[key].ready_seen = True
            return
        self.asked.pop(event.lm, None)
        for key in queue:
            if self.hosted[key].serving_since_s is not None:
                self._interrupt(self.hosted[key], turn)

    def cancel(self, key: int, turn: Turn) -> None:
        one = self._queued(key)
        if one is not None:
            self._decide(one, "cancelled", turn)

    def acknowledge_result(self, key: int, turn: Turn) -> None:
        one = self.hosted.get(key)
        if one is None or one.outcome is None:
            return
        del self.hosted[key]
        self.returns.end(key)
        self.gone[key] = one.deadline_s
        heapq.heappush(self.deadlines, (one.deadline_s, key))
        turn.changed = True
        turn.forget(key)

    def restart(self) -> None:
        """Forget what only the former process knew: pods, the server's work, repetitions."""
        self.pods.clear()
        self.asked.clear()
        self.returns.restart()

    # Time

    def expire(self, turn: Turn, *, also_now: bool) -> None:
        """Fail what waits or is served at its deadline."""
        while self.deadlines and (
            self.deadlines[0][0] < turn.time_s or (also_now and self.deadlines[0][0] == turn.time_s)
        ):
            _, key = heapq.heappop(self.deadlines)
            self.gone.pop(key, None)
            one = self._queued(key)
            if one is not None:
                served = one.started_s is not None or one.ready_seen
                self._decide(one, "deadline" if served else "not_deployed", turn)

    def local_outcomes(self) -> list[Outcome]:
        """Return the outcomes whose origin is this node."""
        here = self._settings.node
        back = (self.hosted[key] for key in self.returns.pending())
        return [one.outcome for one in back if one.request.origin == here and one.outcome]

    def issue(self, turn: Turn) -> None:
        for key in self.returns.take(turn.time_s):
            one = self.hosted[key]
            if one.outcome is not None:
                turn.emit(ReturnResult(one.request.origin, one.outcome))
        for lm, queue in self.queues.items():
            if queue and self.pods.get(lm) == READY:
                self._ask(lm, self.hosted[queue[0]], turn)

    def report_all(self, turn: Turn) -> None:
        """Report again after a restart: nobody confirms a report, and engines may be busy with
        what has been decided."""
        for key, one in self.hosted.items():
            if one.outcome is None:
                turn.emit(ReportArrival(key, one.arrived_s))
            elif one.outcome.failure:
                turn.emit(CancelCompute(one.request.lm, key))

    def wake_s(self) -> float:
        """Return the next time at which something is due here, or infinity."""
        deadline_s = self.deadlines[0][0] if self.deadlines else float("inf")
        asked_s = min((again_s for _, again_s in self.asked.values()), default=float("inf"))
        return min(deadline_s, asked_s, self.returns.next_s())

    # Parts

    def _queued(self, key: int) -> Hosted | None:
        one = self.hosted.get(key)
        return one if one is not None and one.outcome is None else None

    def _prompts(self, one: Hosted, prompts: Iterable[int]) -> list[int]:
        known = range(one.request.prompts)
        return [prompt for prompt in prompts if prompt in known and prompt not in one.done]

    def _begin(self, one: Hosted, time_s: float) -> None:
        if one.started_s is None:
            one.started_s = time_s
        if one.serving_since_s is None:
            one.serving_since_s = time_s

    def _interrupt(self, one: Hosted, turn: Turn) -> None:
        """End an attempt: its time in service counts, its batch will be computed again."""
        self._settle_service(one, turn.time_s)
        one.attempt += 1
        turn.changed = True

    def _settle_service(self, one: Hosted, time_s: float) -> None:
        if one.serving_since_s is not None:
            one.inference_s += time_s - one.serving_since_s
            one.serving_since_s = None

    def _decide(self, one: Hosted, failure: str, turn: Turn) -> None:
        key, lm = one.request.request_id, one.request.lm
        self._settle_service(one, turn.time_s)
        one.outcome = Outcome(
            key,
            failure,
            arrived_s=one.arrived_s,
            started_s=one.started_s,
            finished_s=None if failure else turn.time_s,
            inference_s=one.inference_s,
            recomputed_prompts=one.recomputed,
        )
        self.queues[lm].remove(key)
        self.queued_bytes -= one.request.payload_bytes
        self.returns.begin(key)
        turn.changed = True
        if self.asked.get(lm, (None,))[0] == key:
            del self.asked[lm]
            if failure:
                turn.emit(CancelCompute(lm, key))

    def _ask(self, lm: str, one: Hosted, turn: Turn) -> None:
        key = one.request.request_id
        asked, again_s = self.asked.get(lm, (None, 0.0))
        if asked == key and again_s > turn.time_s:
            return
        self.asked[lm] = (key, turn.time_s + self._settings.repeat_s)
        turn.emit(Compute(lm, key, one.attempt, one.remaining(), one.deadline_s))
