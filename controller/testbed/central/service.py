"""The controller's service: one run at a time, from its request to its nodes' journals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from controller.domain.errors import EdgelmError, InputError, Permanent
from controller.domain.phases import CANCELLED, DONE, ENDING, FAILED, OVER, RUNNING, WAITING
from controller.domain.scenario import Scenario
from controller.files import forget_oldest, replace_file
from controller.lease import Held, Lease, Leases, Lost
from controller.loop import run_central
from controller.ports import Journal, Planner, Scheduler, Store
from controller.telemetry import names
from controller.telemetry.exposition import Exposition
from controller.telemetry.names import Emitter
from controller.telemetry.usage import NodeUsage
from controller.testbed.central.approvals import Approvals, PolicyQuestion
from controller.testbed.central.conditions import Condition, Survey
from controller.testbed.central.events import EventLog
from controller.testbed.central.measured import MeasuredJournal
from controller.testbed.central.runs import RunAtCentre
from controller.testbed.handshake import CENTRE, JOURNAL, KEPT_TRACES
from controller.testbed.keys import PLAYER
from controller.testbed.node.wire import record_from_document

LEAD_S: Final = 3.0  # real seconds from the start of a run to its first slot
PRESENT_S: Final = 45.0  # a node that has not asked for so long is not there
TESTBED: Final = "testbed"  # key of the lease
FILES_S: Final = 60.0  # real seconds that nodes and player have to send their files
CALLER: Final = "caller"  # of a cancellation; what has ended a run
LEASE: Final = "lease"  # the end of its holder's lease

log = logging.getLogger("edgelm.controller")


Ask = Callable[[int, str, Sequence[str]], Awaitable[bool]]


class Conflict(EdgelmError):
    """Somebody else has the testbed, or the caller's fence is an old one."""


class Overtaken(Conflict):
    """A later attempt of the same holder has the run: this one has nothing to do any more."""


@dataclass(frozen=True, slots=True)
class FencingToken:
    """Proof of who may begin and cancel: the fence of the testbed's lease, and which attempt of its
    holder at the run this is. Written ``7.2``."""

    fence: int
    attempt: int = 0

    def __str__(self) -> str:
        return f"{self.fence}.{self.attempt}"


class Work(Protocol):
    """Part of an experiment that the controller works on."""

    run_id: str
    scenario: Scenario
    slots: int

    def deciders(
        self, folder: Path, ask: Ask
    ) -> AbstractAsyncContextManager[tuple[Planner, Scheduler]]:
        """Planner and scheduler. ``ask`` takes the slot of a policy, what its maker says and lines
        of what it changes, and returns True if a person approves."""
        ...

    def journal(self, path: Path) -> AbstractContextManager[Journal]: ...


class RunOwner(Protocol):
    """Owner of what a run's nodes make outside of themselves, such as pods of a cluster."""

    async def begin(self, run_id: str) -> None:
        """Make it, or find it."""
        ...

    async def end(self, run_id: str) -> None:
        """Remove it, and with it all that it owns."""
        ...


class NoOwner:
    """Owner of processes, which need none."""

    async def begin(self, run_id: str) -> None:
        del run_id

    async def end(self, run_id: str) -> None:
        del run_id


class Controller:
    """The controller.

    Args:
        data: folder of journals, a folder per run.
        store: documents that survive: runs, orders, records, events.
        prepare: reads an experiment.json; raises InputError.
    """

    def __init__(
        self,
        data: Path,
        store: Store,
        prepare: Callable[[str], Work],
        owner: RunOwner | None = None,
    ) -> None:
        self._data, self._store, self._prepare = data, store, prepare
        self._owner = owner or NoOwner()
        self._leases = Leases(store)
        self.current: RunAtCentre | None = None
        self.approvals: Approvals | None = None  # of the run that is decided now
        self._driving: asyncio.Task[None] | None = None
        self.nodes: dict[str, tuple[str, float]] = {}  # name -> address, last asked (unix)
        self._player, self._player_unix_s = "", 0.0  # which one has asked last, and when
        self.events = EventLog(store)
        self.told = asyncio.Condition()
        self._telling, self._beginning = asyncio.Lock(), asyncio.Lock()
        self.usage: dict[str, NodeUsage] = {}  # of the nodes' machines, where somebody watches
        self.survey = Survey(0.0, {})  # of the nodes' machines, likewise
        self.measured = Exposition(Emitter.CONTROLLER)
        self.measured.set(names.CONTROLLER_SLOT, -1)
        store.index("records", "run")

    async def open(self) -> None:
        """Take up what a former process left: its events, and the run that is not over."""
        await asyncio.to_thread(self.events.open)
        unfinished = [
            document
            for document in await asyncio.to_thread(self._store.find, "runs")
            if document["phase"] not in OVER
        ]
        for document in unfinished:
            try:
                work = self._prepare(document["experiment"])
            except EdgelmError as error:  # of another version, say: it cannot go on here
                failed = {**document, "phase": FAILED, "problem": f"cannot be read: {error}"}
                await asyncio.to_thread(self._store.put, "runs", document["id"], failed)
                continue
            self.current = self._run_of(document, work)
            await asyncio.to_thread(self._take_back, self.current)
            self._driving = asyncio.create_task(self._drive(self.current, work))
            await self.tell("resumed", run=self.current.run_id)
            break

    async def close(self) -> None:
        if self._driving is not None:
            self._driving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._driving

    def trace_path(self, sha256: str) -> Path:
        """Return where a workload's trace lies."""
        return self._data / "traces" / f"{sha256}.csv"

    async def take_trace(self, sha256: str, content: bytes) -> None:
        """Keep a trace for the player, instead of the one that was brought longest ago; the trace
        of a run that is going stays."""
        path, run = self.trace_path(sha256), self.current
        await asyncio.to_thread(replace_file, path, content)
        going = run.document["experiment"] if run is not None and run.phase not in OVER else ""
        await asyncio.to_thread(
            forget_oldest, path.parent, KEPT_TRACES, lambda one: one.stem in going
        )

    @property
    def store_fault(self) -> str:
        """Reason why documents wait for the store, "" if they do not."""
        return self._store.fault or ""

    # Runs

    async def begin(
        self, run_id: str, experiment: str, speed: float, token: FencingToken
    ) -> RunAtCentre:
        """Begin a run, or find it again. A run that is on obeys ``token`` from now on; one that is
        done needs none.

        Raises:
            InputError: the experiment cannot be read, or has another id.
            Conflict: the token's fence is not that of the testbed's lease, a later attempt has the
                run, or the same holder has another run here.
        """
        async with self._beginning:  # of two at once, one has the testbed
            return await self._begin(run_id, experiment, speed, token)

    async def _begin(
        self, run_id: str, experiment: str, speed: float, token: FencingToken
    ) -> RunAtCentre:
        known = await asyncio.to_thread(self._store.get, "runs", run_id)
        work = self._prepare(experiment)
        if work.run_id != run_id:
            raise InputError("run", "is not the id of this experiment", value=run_id,
                             remedy=f"its id is {work.run_id}")  # fmt: skip
        if known is not None and known["phase"] == DONE:
            return self._run_of(known, work)
        lease = await self._lease_of(token.fence)
        if known is not None and known.get("holder") == lease.holder:
            _refuse_overtaken(token, known)
        former = self.current
        if former is not None and former.phase not in OVER:
            if former.run_id == run_id:
                await former.update(**asdict(token), holder=lease.holder)
                return former
            if former.document["holder"] == lease.holder:
                raise Conflict(f"run {former.run_id} has the testbed: wait, or cancel it")
            await self._end(former, f"the lease of {former.document['holder']} has ended", LEASE)
        document = {
            "id": run_id,
            "incarnation": 1 if known is None else known.get("incarnation", 1) + 1,
            **asdict(token),
            "holder": lease.holder,
            "experiment": experiment,
            "phase": WAITING,
            "asked_unix_s": time.time(),
            "began_unix_s": time.time(),
            "speed": speed,
            "slots": work.slots,
            "played": None,
        }
        run = self._run_of(document, work)
        await run.update()
        self.current = run
        self._driving = asyncio.create_task(self._drive(run, work))
        await self.tell("begun", run=run_id, holder=lease.holder)
        await self._wake()
        return run

    def find(self, run_id: str) -> RunAtCentre | None:
        """Return the current run if it is this one, or a finished one from the store."""
        if self.current is not None and self.current.run_id == run_id:
            return self.current
        document = self._store.get("runs", run_id)
        if document is None:
            return None
        return self._take_back(self._run_of(document, self._prepare(document["experiment"])))

    async def cancel(self, run_id: str, token: FencingToken) -> RunAtCentre | None:
        """End a run.

        Raises:
            Conflict: ``token`` is not the one that the run was begun, or found, with last.
        """
        async with self._beginning:  # who begins it again meanwhile keeps it
            run = self.current
            if run is None or run.run_id != run_id or run.phase in OVER:
                return run if run is not None and run.run_id == run_id else None
            obeyed = FencingToken(run.document["fence"], run.document["attempt"])
            if token != obeyed:
                await self.tell("cancel refused", run=run_id, token=str(token))
                raise Conflict(
                    f"{token} is an old fencing token: {run.document['holder']} has begun or found "
                    f"this run with {obeyed}"
                )
            await self._end(run, "", CALLER)
            return run

    async def fail(self, run: RunAtCentre, problem: str) -> None:
        """End a run that cannot go on, unless it is over."""
        async with self._beginning:
            if run is self.current and run.phase not in OVER:
                await self._end(run, problem, PLAYER, FAILED)

    async def _end(
        self, run: RunAtCentre, problem: str, ended_by: str, phase: str = CANCELLED
    ) -> None:
        """End a run that is on."""
        await self.close()
        await run.update(phase=phase, problem=problem, ended_by=ended_by)
        await self._owner.end(run.key)
        await self.tell(phase, run=run.run_id, problem=problem)
        await self._wake()

    # The lease of the testbed

    async def lease(self) -> Lease | None:
        """Return who has the testbed, None if it is free."""
        return await asyncio.to_thread(self._leases.look, TESTBED)

    async def take_lease(self, holder: str, ttl_s: float) -> Lease:
        """Give out the testbed for ``ttl_s``; its holder keeps it.

        Raises:
            Held: somebody else has it.
        """
        before = await self.lease()
        lease = await asyncio.to_thread(self._leases.acquire, TESTBED, holder, ttl_s)
        if before is None or before.fence != lease.fence:
            await self.tell("lease", holder=holder, fence=lease.fence)
        return lease

    async def keep_lease(self, holder: str, fence: int, ttl_s: float) -> Lease:
        """Let a lease last ``ttl_s`` from now; one that has ended too, if nobody else took it.

        Raises:
            Conflict: it was given back, or somebody else has the testbed.
        """
        try:
            one = Lease(TESTBED, holder, fence, 0.0)
            return await asyncio.to_thread(self._leases.renew, one, ttl_s)
        except Lost as error:
            raise Conflict(str(error)) from error

    async def release_lease(self, holder: str) -> None:
        """Take the testbed back from its holder, and end what it has left running; nothing happens
        if somebody else has it."""
        async with self._beginning:
            run, lease = self.current, await self.lease()
            if run is not None and run.phase not in OVER and run.document["holder"] == holder:
                await self._end(run, f"{holder} has given the testbed back", CALLER)
            if lease is not None and lease.holder == holder:
                await asyncio.to_thread(self._leases.release, lease)
                await self.tell("released", holder=holder, fence=lease.fence)

    async def _lease_of(self, fence: int) -> Lease:
        """Return the lease in force if it has this fence.

        Raises:
            Conflict: it has another one.
        """
        lease = await self.lease()
        if lease is None:
            raise Conflict(f"fence {fence} has ended: take the testbed's lease first")
        if lease.fence != fence:
            raise Conflict(str(Held(lease)))
        return lease

    # Nodes

    async def hear(self, node: str, url: str) -> None:
        """Note that a node asks.

        Raises:
            Conflict: another node of this name is there.
        """
        former = self.nodes.get(node)
        now = time.time()
        was_away = former is None or former[0] != url or now - former[1] >= PRESENT_S
        if former is not None and former[0] != url and now - former[1] < PRESENT_S / 10:
            raise Conflict(
                f"a node {node} is there already, at {former[0]}: give each node its own name"
            )
        if former is None or former[0] != url:
            await self.tell("node", node=node, url=url)
        self.nodes[node] = (url, now)
        if was_away:
            await self._wake()

    async def hear_player(self, instance: str) -> None:
        """Note that the player asks.

        Raises:
            Conflict: another player is there.
        """
        now = time.time()
        if instance != self._player and now - self._player_unix_s < PRESENT_S / 10:
            raise Conflict("a player is there already: a testbed has one")
        was_there = self.has_player
        self._player, self._player_unix_s = instance, now
        if not was_there:
            await self._wake()

    @property
    def has_player(self) -> bool:
        """True if the player has asked lately."""
        return time.time() - self._player_unix_s < PRESENT_S

    def lacking(self, run: RunAtCentre) -> list[str]:
        """Return the services that a run waits for."""
        present, conditions = self.present(), self.conditions()
        lost = [name for name, one in conditions.items() if not one.ready]
        nodes = [
            one for one in run.scenario.testbed.node_names if one not in present or one in lost
        ]
        return nodes if self.has_player else [*nodes, PLAYER]

    async def take_survey(self, survey: Survey) -> None:
        """Take the conditions of the nodes' machines; tell which have changed."""
        known, self.survey = self.survey.conditions, survey
        changed = False
        for name, one in survey.conditions.items():
            former = known.get(name)
            if (former.reason if former else "") != one.reason:
                changed = True
                await self.tell("machine", node=name, problem=one.reason)
        if changed:
            await self._wake()

    def conditions(self) -> Mapping[str, Condition]:
        """Return the conditions of the nodes' machines, as far as they are known now."""
        return self.survey.fresh(time.time())

    def addresses(self) -> dict[str, str]:
        """Return the newest address of every node that has ever asked."""
        return {name: url for name, (url, _) in self.nodes.items()}

    def present(self) -> dict[str, str]:
        """Return the addresses of the nodes that have asked lately."""
        now = time.time()
        return {name: url for name, (url, at) in self.nodes.items() if now - at < PRESENT_S}

    # Events

    async def tell(self, kind: str, **fields: Any) -> None:
        """Append to the log that others follow."""
        async with self._telling:  # else two would have one number, and one of them be lost
            event = self.events.add(kind, fields)
            run = self.current
            forgotten = self.events.forget(run.run_id if run and run.phase not in OVER else "")
            await asyncio.to_thread(self.events.keep, event, forgotten)
            async with self.told:
                self.told.notify_all()
        log.info("%s %s", kind, fields)

    async def events_after(self, number: int, wait_s: float) -> Sequence[dict[str, Any]]:
        """Return the events after ``number``, as :meth:`EventLog.after` does; wait up to ``wait_s``
        for one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self.told:
                await self.told.wait_for(lambda: self.events.newest > number)
        return self.events.after(number)

    # Parts

    def _run_of(self, document: dict[str, Any], work: Work) -> RunAtCentre:
        # Fields that documents of an earlier version lack.
        first = {"incarnation": 1, "fence": 0, "attempt": 0, "holder": "", "played": None}
        document = {**first, "asked_unix_s": document["began_unix_s"], **document}
        key = f"{document['id']}.{document['incarnation']}"
        folder = self._data / "runs" / key
        folder.mkdir(parents=True, exist_ok=True)
        run = RunAtCentre(document, work.scenario, self._store, folder, self.conditions)
        names = work.scenario.testbed.node_names
        run.journals = {name for name in names if run.file(name, JOURNAL).exists()}
        return run

    def _take_back(self, run: RunAtCentre) -> RunAtCentre:
        """Give a run the records that the store has of it."""
        for one in self._store.find("records", {"run": run.key}):
            run.take_back(record_from_document(one["record"]), one["known_s"])
        return run

    async def _drive(self, run: RunAtCentre, work: Work) -> None:
        """Bring a run to its end, from whatever phase it is in."""
        try:
            if run.phase == WAITING:
                await self._wait_for_services(run)
                await self._owner.begin(run.key)
                await run.update(phase=RUNNING, began_unix_s=time.time() + LEAD_S)
                await self.tell("running", run=run.run_id)
                await self._wake()
            elif run.phase == RUNNING:
                await self._owner.begin(run.key)  # a former process may have ended in between
            if run.phase == RUNNING:
                await self._decide(run, work)
                await run.update(phase=ENDING)
            await self._wait_for_files(run)
            await run.update(phase=DONE, ended_unix_s=time.time())
        except Exception as error:  # whatever it is, the testbed must become free again
            log.exception("the run failed")
            await run.update(phase=FAILED, problem=str(error))
        await self._owner.end(run.key)
        await self.tell(run.phase, run=run.run_id, problem=run.document.get("problem", ""))
        await self._wake()

    async def _decide(self, run: RunAtCentre, work: Work) -> None:
        clock = run.clock
        folder = run.file(CENTRE, JOURNAL).parent
        self.approvals = Approvals(clock, run.scenario.slot_s, partial(self._tell_question, run))
        with work.journal(run.file(CENTRE, JOURNAL)) as journal:
            async with work.deciders(folder, self.approvals.ask) as (planner, scheduler):
                noted = MeasuredJournal(journal, self.measured)
                ran = await run_central(
                    work.scenario, clock, run, planner, scheduler, noted, work.slots
                )
        await run.update(ran=ran)

    async def _tell_question(self, run: RunAtCentre, question: PolicyQuestion) -> None:
        await self.tell("approval", run=run.run_id, slot=question.slot)

    async def _wait_for_services(self, run: RunAtCentre) -> None:
        async with self.told:
            await self.told.wait_for(lambda: not self.lacking(run))

    async def _wait_for_files(self, run: RunAtCentre) -> None:
        """Wait for the journals of all nodes and the record of the player.

        Raises:
            Permanent: one does not come.
        """
        names = {*run.scenario.testbed.node_names, PLAYER}

        def there() -> set[str]:
            return run.journals | ({PLAYER} if run.document["played"] is not None else set())

        try:
            async with asyncio.timeout(FILES_S), run.changed:
                await run.changed.wait_for(lambda: there() >= names)
        except TimeoutError:
            lacking = ", ".join(sorted(names - there()))
            problem = f"nothing came from {lacking}: what was sent, or decided, is not known"
            raise Permanent(problem) from None

    async def _wake(self) -> None:
        """Wake the nodes that wait for news."""
        async with self.told:
            self.told.notify_all()
        if self.current is not None:
            await self.current.wake()


def _refuse_overtaken(token: FencingToken, known: Mapping[str, Any]) -> None:
    """Raise Overtaken for an attempt that a later one of the same holder has followed."""
    if token.attempt < known.get("attempt", 0):
        raise Overtaken(f"attempt {token.attempt} was overtaken by attempt {known['attempt']}")
