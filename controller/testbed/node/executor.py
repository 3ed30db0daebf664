"""Executor of a node's state machine: feeds it events, does what it instructs.

Events are handled in groups: all that are there, then one sync of what must survive, then the
instructions. So no answer leaves the node before what it promises is on disk, and a busy node syncs
once for many requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol

from controller.testbed.clock import WallClock
from controller.testbed.node import events, instructions
from controller.testbed.node.disk import NodeDisk
from controller.testbed.node.log import snapshot_to_text, to_line
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Outcome, Record, Request

MOST_AT_ONCE: Final = 256  # events before a sync
COMPACT_AFTER: Final = 4096  # events in the log
SNAPSHOT: Final = "snapshot"  # its name on disk
TICK_S: Final = 1.0  # real seconds, at most, until the machine is asked what is due

log = logging.getLogger("edgelm.node")


class Ended(Exception):
    """The end of a run at this node: what it was asked is not answered any more."""


Notify = Callable[[events.Event, bytes | None], None]


class Peers(Protocol):
    """Other nodes. Each call returns the event that it led to."""

    async def send(
        self, destination: str, request: Request, attempt: int, payload: bytes
    ) -> events.Event: ...

    async def give_back(self, origin: str, outcome: Outcome, result: bytes) -> bool:
        """Return True once the origin has it on disk."""

    async def cancel(self, destination: str, request_id: int) -> None: ...


class Servers(Protocol):
    """The LM servers of this node."""

    async def compute(self, order: instructions.Compute, payload: bytes, notify: Notify) -> None:
        """Follow a request through its server until it is over there; ``notify`` of every batch,
        with the results of all prompts at the last."""

    async def cancel(self, lm: str, request_id: int) -> None: ...


class Reports(Protocol):
    """Words to the controller. Nothing of it is waited for."""

    def arrived(self, request_id: int, arrived_s: float) -> None: ...

    def closed(self, record: Record, confirm: Callable[[], None]) -> None: ...


class Executor:
    """Runs one machine.

    Args:
        on_event: sees every event, for measurements.
        calls: ids of this node's calls; the result of one is for its caller alone, and is dropped
            once the caller has it, or is gone.
    """

    def __init__(
        self,
        machine: NodeMachine,
        disk: NodeDisk,
        clock: WallClock,
        peers: Peers,
        servers: Servers,
        reports: Reports,
        on_event: Callable[[events.Event], None],
        calls: range = range(0),
    ) -> None:
        self._machine, self._disk, self._clock = machine, disk, clock
        self._peers, self._servers, self._reports = peers, servers, reports
        self._on_event, self._calls = on_event, calls
        self._logged = 0  # events since the last snapshot
        self._queue: asyncio.Queue[events.Event] = asyncio.Queue()
        self._staged_payloads: dict[int, bytes] = {}
        self._staged_results: dict[int, bytes] = {}
        self._waiting: dict[tuple[str, int], list[asyncio.Future[Any]]] = {}
        self._callers: dict[int, asyncio.Future[tuple[Record, bytes | None]]] = {}
        self._answered: list[int] = []  # calls whose results nobody needs any more
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._computing: dict[int, asyncio.Task[None]] = {}

    @property
    def open_requests(self) -> int:
        """Number of requests that were born or are hosted here and are not over, or whose record
        nobody has confirmed."""
        machine = self._machine
        return len(machine.origin.open) + len(machine.host.hosted) + len(machine.origin.unwritten)

    @property
    def open_calls(self) -> int:
        """Number of calls that are not over."""
        return sum(key in self._calls for key in self._machine.origin.open)

    # What happens

    def post(self, event: events.Event) -> None:
        """Let the machine handle an event soon."""
        self._queue.put_nowait(event)

    async def bear(self, request: Request, payload: bytes) -> str:
        """Take a client's request; return "" once it is on disk, or why it is not taken."""
        self._staged_payloads[request.request_id] = payload
        event = events.RequestBorn(self._clock.now(), request)
        reason: str = await self._ask("born", request.request_id, event)
        return reason

    async def call(self, request: Request, payload: bytes) -> tuple[Record, bytes | None]:
        """Take a call and wait until it is over; return its record, and its results if it has
        succeeded. Cancelled, it ends the request.

        Raises:
            ValueError: it is not taken; the message says why.
            Ended: the run is over here.
        """
        key = request.request_id
        over: asyncio.Future[tuple[Record, bytes | None]]
        over = self._callers[key] = asyncio.get_running_loop().create_future()
        try:
            reason = await self.bear(request, payload)
            if reason:
                raise ValueError(reason)
            return await over
        except asyncio.CancelledError:
            self.post(events.Cancelled(self._clock.now(), key))
            raise
        finally:
            del self._callers[key]

    async def take_transfer(
        self, request: Request, attempt: int, payload: bytes
    ) -> instructions.RefuseTransfer | None:
        """Take a request from its origin; return None once it is on disk, or the refusal."""
        self._staged_payloads.setdefault(request.request_id, payload)
        checksum = checksum_of(payload)
        event = events.TransferArrived(self._clock.now(), request, attempt, checksum)
        refusal: instructions.RefuseTransfer | None = await self._ask(
            "transfer", request.request_id, event
        )
        return refusal

    async def take_result(self, outcome: Outcome, host: str, result: bytes) -> None:
        """Take a result, or the verdict, from a host; return once it is on disk."""
        self._staged_results[outcome.request_id] = result
        event = events.ResultArrived(self._clock.now(), outcome, host)
        await self._ask("result", outcome.request_id, event)

    def origin_of(self, request_id: int) -> str | None:
        """Return the origin of a request that this node hosts, None if it hosts none."""
        one = self._machine.host.hosted.get(request_id)
        return None if one is None else one.request.origin

    def host_of(self, request_id: int) -> str | None:
        """Return where an open request of this origin was sent, None if it is not open."""
        one = self._machine.origin.open.get(request_id)
        return None if one is None else one.destination

    def result(self, request_id: int) -> bytes | None:
        return self._disk.result(request_id)

    # The loop

    async def run(self) -> None:
        """Handle events until cancelled; who waits then is told that the run has ended."""
        try:
            while True:
                for one in await self._handle(await self._next_events()):
                    self._perform(one)
        finally:
            for task in [*self._tasks, *self._computing.values()]:
                task.cancel()
            self.end()

    def end(self) -> None:
        """Tell who waits, and who will ask, that the run has ended here; it may never have begun
        to handle events."""
        self._is_over = True
        for waiting in [*self._waiting.values(), [*self._callers.values()]]:
            for one in waiting:
                if not one.done():
                    one.set_exception(Ended())
                    one.exception()  # somebody may have stopped waiting

    async def _next_events(self) -> list[events.Event]:
        """Return all events that are there, or a tick when something is due."""
        due_s = (self._machine.wake_s() - self._clock.now()) / self._clock.speed
        try:
            async with asyncio.timeout(min(max(0.0, due_s), TICK_S)):
                found = [await self._queue.get()]
        except TimeoutError:
            return [events.Tick(self._clock.now())]
        while len(found) < MOST_AT_ONCE and not self._queue.empty():
            found.append(self._queue.get_nowait())
        return found

    async def _handle(self, found: list[events.Event]) -> list[instructions.Instruction]:
        """Let the machine handle events, make durable what must be, return the instructions."""
        issued: list[instructions.Instruction] = []
        lines: list[str] = []
        payloads: dict[int, bytes] = {}
        results: dict[int, bytes] = {}
        forgotten: list[int] = []
        for event in found:
            self._on_event(event)
            for one in self._machine.handle(event):
                match one:
                    case instructions.Persist(event=kept):
                        lines.append(to_line(kept))
                        self._collect(kept, payloads, results)
                    case instructions.ForgetRequest(request_id=key):
                        forgotten.append(key)
                    case _:
                        issued.append(one)
            self._drop_staged(event)
            if isinstance(event, events.Restarted):
                self._leave_calls()
        if lines or forgotten:
            compacted = self._compacted(len(lines))
            # The results of this node's own requests stay, for its clients.
            guests = [key for key in forgotten if key not in self._machine.origin.closed]
            guests, self._answered = guests + self._answered, []
            await asyncio.to_thread(
                self._disk.commit, [] if compacted else lines, payloads, results, forgotten, guests,
                compacted, compacted=bool(compacted),
            )  # fmt: skip
        return issued

    def _compacted(self, lines: int) -> dict[str, str]:
        """Return a snapshot in place of the log once that has grown long, else nothing."""
        self._logged += lines
        if self._logged < COMPACT_AFTER:
            return {}
        self._logged = 0
        return {SNAPSHOT: snapshot_to_text(self._machine.snapshot())}

    def _collect(
        self, event: events.Event, payloads: dict[int, bytes], results: dict[int, bytes]
    ) -> None:
        """Add the contents that an event brought to what is written with it."""
        match event:
            case events.RequestBorn(request=request) | events.TransferArrived(request=request):
                key = request.request_id
                if key in self._staged_payloads:
                    payloads[key] = self._staged_payloads[key]
            case events.PromptDone(request_id=key):
                if key in self._staged_results:
                    results[key] = self._staged_results[key]
            case events.ResultArrived(outcome=outcome):
                if outcome.request_id in self._staged_results:
                    results[outcome.request_id] = self._staged_results[outcome.request_id]

    def _drop_staged(self, event: events.Event) -> None:
        match event:
            case events.RequestBorn(request=request) | events.TransferArrived(request=request):
                self._staged_payloads.pop(request.request_id, None)
            case events.PromptDone(request_id=key):
                self._staged_results.pop(key, None)
            case events.ResultArrived(outcome=outcome):
                self._staged_results.pop(outcome.request_id, None)

    def _perform(self, one: instructions.Instruction) -> None:  # noqa: C901 - a table
        match one:
            case instructions.AcceptRequest(request_id=key):
                self._answer("born", key, "")
            case instructions.RefuseRequest(request_id=key, reason=reason):
                self._answer("born", key, reason)
            case instructions.AcknowledgeTransfer(request_id=key):
                self._answer("transfer", key, None)
            case instructions.RefuseTransfer(request_id=key):
                self._answer("transfer", key, one)
            case instructions.AcknowledgeResult(request_id=key):
                self._answer("result", key, None)
            case instructions.ReportArrival(request_id=key, arrived_s=arrived_s):
                self._reports.arrived(key, arrived_s)
            case instructions.CloseRecord(record=record):
                self._reports.closed(record, lambda: self._confirm(record.request.request_id))
                self._answer_call(record)
            case instructions.SendTransfer():
                self._begin(self._send(one))
            case instructions.SendCancel(destination=host, request_id=key):
                self._begin(self._peers.cancel(host, key))
            case instructions.ReturnResult():
                self._begin(self._give_back(one))
            case instructions.Compute(request_id=key):
                if key not in self._computing:
                    task = asyncio.get_running_loop().create_task(self._compute(one))
                    self._computing[key] = task
                    task.add_done_callback(lambda task: self._computed(key, task))
            case instructions.CancelCompute(lm=lm, request_id=key):
                self._begin(self._servers.cancel(lm, key))
            case _:
                raise AssertionError(f"no executor for {type(one).__name__}")

    def _answer_call(self, record: Record) -> None:
        """Give a call's record and results to its caller, and drop the results."""
        key = record.request.request_id
        if key not in self._calls:
            return
        over = self._callers.get(key)
        if over is not None and not over.done():
            over.set_result((record, self._disk.result(key) if record.success else None))
        self._answered.append(key)  # dropped with what is written next: that it was recorded

    def _leave_calls(self) -> None:
        """Cancel the calls of a former process and drop their results: whose connection ended with
        it has nobody who would be answered."""
        if not self._calls:
            return
        for key in self._machine.origin.open:
            if key in self._calls:
                self.post(events.Cancelled(self._clock.now(), key))
        found = self._disk.results_of(self._calls)
        self._answered += [key for key in found if not self._machine.needs(key)]

    # Parts

    async def _ask(self, kind: str, key: int, event: events.Event) -> Any:
        """Post an event and wait for the machine's answer. Several may wait for the same one.

        Raises:
            Ended: the run ends, or has ended.
        """
        if self._is_over:
            raise Ended
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((kind, key), []).append(answer)
        self.post(event)
        return await answer

    def _answer(self, kind: str, key: int, value: Any) -> None:
        for waiting in self._waiting.pop((kind, key), []):
            if not waiting.done():
                waiting.set_result(value)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The instruction comes again until an event confirms it.
            log.error("an instruction failed: %s: %s", type(error).__name__, error)

    def _computed(self, key: int, task: asyncio.Task[None]) -> None:
        self._computing.pop(key, None)
        self._ended(task)

    async def _send(self, one: instructions.SendTransfer) -> None:
        payload = self._disk.payload(one.request.request_id)
        if payload is not None:
            self.post(await self._peers.send(one.destination, one.request, one.attempt, payload))

    async def _give_back(self, one: instructions.ReturnResult) -> None:
        result = self._disk.result(one.outcome.request_id)
        if await self._peers.give_back(one.origin, one.outcome, result or b""):
            self.post(events.ResultAcknowledged(self._clock.now(), one.outcome.request_id))

    async def _compute(self, one: instructions.Compute) -> None:
        payload = self._disk.payload(one.request_id)
        if payload is None:
            log.error("the payload of request %d is gone", one.request_id)
            self.post(
                events.EngineFailed(self._clock.now(), one.request_id, one.attempt, permanent=True)
            )
            return
        await self._servers.compute(one, payload, partial(self._note, one.request_id))

    def _note(self, key: int, event: events.Event, results: bytes | None) -> None:
        if results is not None:
            self._staged_results[key] = results
        self.post(event)

    def _confirm(self, key: int) -> None:
        self.post(events.RecordWritten(self._clock.now(), key))


def checksum_of(content: bytes) -> str:
    """Return the checksum that travels with a payload or a result."""
    return hashlib.sha256(content).hexdigest()
