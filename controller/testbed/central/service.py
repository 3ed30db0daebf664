"""The controller's service: one run at a time, from its request to its nodes' journals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from controller.domain.errors import EdgelmError, InputError, Permanent
from controller.domain.scenario import Scenario
from controller.loop import run_central
from controller.ports import Journal, Planner, Scheduler, Store
from controller.telemetry import names
from controller.telemetry.exposition import Exposition
from controller.telemetry.names import Emitter
from controller.telemetry.usage import NodeUsage
from controller.testbed.central.approvals import Approvals, PolicyQuestion
from controller.testbed.central.measured import MeasuredJournal
from controller.testbed.central.runs import (
    CANCELLED,
    DONE,
    ENDING,
    FAILED,
    OVER,
    RUNNING,
    WAITING,
    RunAtCentre,
)
from controller.testbed.handshake import CENTRE, JOURNAL
from controller.testbed.node.wire import record_from_document

LEAD_S: Final = 3.0  # real seconds from the start of a run to its first slot
PRESENT_S: Final = 45.0  # a node that has not asked for so long is not there
JOURNALS_S: Final = 60.0  # real seconds that nodes have to send their journals

log = logging.getLogger("edgelm.controller")


Ask = Callable[[int, str, Sequence[str]], Awaitable[bool]]


class Conflict(EdgelmError):
    """Somebody else has the testbed, or another run has this id."""


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


class Controller:
    """The controller.

    Args:
        data: folder of journals, a folder per run.
        store: documents that survive: runs, orders, records, events.
        prepare: reads an experiment.json; raises InputError.
    """

    def __init__(self, data: Path, store: Store, prepare: Callable[[str], Work]) -> None:
        self._data, self._store, self._prepare = data, store, prepare
        self.current: RunAtCentre | None = None
        self.approvals: Approvals | None = None  # of the run that is decided now
        self._driving: asyncio.Task[None] | None = None
        self.nodes: dict[str, tuple[str, float]] = {}  # name -> address, last asked (unix)
        self.events: list[dict[str, Any]] = []
        self.told = asyncio.Condition()
        self._telling, self._beginning = asyncio.Lock(), asyncio.Lock()
        self.usage: dict[str, NodeUsage] = {}  # of the nodes' machines, where somebody watches
        self.measured = Exposition(Emitter.CONTROLLER)
        self.measured.set(names.CONTROLLER_SLOT, -1)
        store.index("records", "run")

    async def open(self) -> None:
        """Take up what a former process left: its events, and the run that is not over."""
        self.events = await asyncio.to_thread(self._store.find, "events", sort=[("number", 1)])
        unfinished = [
            document
            for document in await asyncio.to_thread(self._store.find, "runs")
            if document["phase"] not in OVER
        ]
        for document in unfinished[:1]:
            work = self._prepare(document["experiment"])
            self.current = self._run_of(document, work)
            await asyncio.to_thread(self._take_back, self.current)
            await self.tell("resumed", run=self.current.run_id)
            self._driving = asyncio.create_task(self._drive(self.current, work))

    async def close(self) -> None:
        if self._driving is not None:
            self._driving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._driving

    @property
    def store_fault(self) -> str:
        """Reason why documents wait for the store, "" if they do not."""
        return self._store.fault or ""

    # Runs

    async def begin(self, run_id: str, experiment: str, speed: float) -> RunAtCentre:
        """Begin a run, or return the one that this id has begun already.

        Raises:
            InputError: the experiment cannot be read, or has another id.
            Conflict: another run has the testbed.
        """
        async with self._beginning:  # of two at once, one has the testbed
            return await self._begin(run_id, experiment, speed)

    async def _begin(self, run_id: str, experiment: str, speed: float) -> RunAtCentre:
        if self.current is not None and self.current.run_id == run_id:
            return self.current
        known = await asyncio.to_thread(self._store.get, "runs", run_id)
        work = self._prepare(experiment)
        if work.run_id != run_id:
            raise InputError("run", "is not the id of this experiment", value=run_id,
                             remedy=f"its id is {work.run_id}")  # fmt: skip
        if known is not None and known["phase"] == DONE:
            return self._run_of(known, work)
        if self.current is not None and self.current.phase not in OVER:
            raise Conflict(f"run {self.current.run_id} has the testbed: wait, or cancel it")
        document = {
            "id": run_id,
            "experiment": experiment,
            "token": secrets.token_urlsafe(16),
            "phase": WAITING,
            "began_unix_s": time.time(),
            "speed": speed,
            "slots": work.slots,
            "played": None,
        }
        run = self._run_of(document, work)
        await run.update()
        self.current = run
        await self.tell("begun", run=run_id)
        await self._wake()
        self._driving = asyncio.create_task(self._drive(run, work))
        return run

    def find(self, run_id: str) -> RunAtCentre | None:
        """Return the current run if it is this one, or a finished one from the store."""
        if self.current is not None and self.current.run_id == run_id:
            return self.current
        document = self._store.get("runs", run_id)
        if document is None:
            return None
        return self._take_back(self._run_of(document, self._prepare(document["experiment"])))

    async def cancel(self, run_id: str, token: str) -> RunAtCentre | None:
        """End a run.

        Raises:
            Conflict: ``token`` is not the one that the run was begun with.
        """
        run = self.current
        if run is None or run.run_id != run_id or run.phase in OVER:
            return run if run is not None and run.run_id == run_id else None
        if not secrets.compare_digest(token.encode(), run.document["token"].encode()):
            raise Conflict("the token is not the one that this run was begun with")
        await self.close()
        await run.update(phase=CANCELLED)
        await self.tell("cancelled", run=run_id)
        await self._wake()
        return run

    # Nodes

    async def hear(self, node: str, url: str) -> None:
        """Note that a node asks.

        Raises:
            Conflict: another node of this name is there.
        """
        former = self.nodes.get(node)
        now = time.time()
        if former is not None and former[0] != url and now - former[1] < PRESENT_S / 10:
            raise Conflict(
                f"a node {node} is there already, at {former[0]}: give each node its own name"
            )
        if former is None or former[0] != url:
            await self.tell("node", node=node, url=url)
        self.nodes[node] = (url, now)
        if former is None or former[0] != url:
            await self._wake()

    def present(self) -> dict[str, str]:
        """Return the addresses of the nodes that have asked lately."""
        now = time.time()
        return {name: url for name, (url, at) in self.nodes.items() if now - at < PRESENT_S}

    # Events

    async def tell(self, kind: str, **fields: Any) -> None:
        """Append to the log that others follow."""
        async with self._telling:  # else two would have one number, and one of them be lost
            number = len(self.events) + 1
            event = {"number": number, "unix_s": round(time.time(), 3), "event": kind, **fields}
            await asyncio.to_thread(self._store.put, "events", f"{number:09d}", event)
            async with self.told:
                self.events.append(event)
                self.told.notify_all()
        log.info("%s %s", kind, fields)

    async def events_after(self, number: int, wait_s: float) -> Sequence[dict[str, Any]]:
        """Return the events after ``number``; wait up to ``wait_s`` for one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s), self.told:
                await self.told.wait_for(lambda: len(self.events) > number)
        return self.events[number:]

    # Parts

    def _run_of(self, document: dict[str, Any], work: Work) -> RunAtCentre:
        folder = self._data / "runs" / str(document["id"])
        folder.mkdir(parents=True, exist_ok=True)
        run = RunAtCentre(document, work.scenario, self._store, folder)
        names = work.scenario.testbed.node_names
        run.journals = {name for name in names if run.file(name, JOURNAL).exists()}
        return run

    def _take_back(self, run: RunAtCentre) -> RunAtCentre:
        """Give a run the records that the store has of it."""
        for one in self._store.find("records", {"run": run.run_id}):
            run.take_back(record_from_document(one["record"]), one["known_s"])
        return run

    async def _drive(self, run: RunAtCentre, work: Work) -> None:
        """Bring a run to its end, from whatever phase it is in."""
        try:
            if run.phase == WAITING:
                await self._wait_for_nodes(run)
                await run.update(phase=RUNNING, began_unix_s=time.time() + LEAD_S)
                await self.tell("running", run=run.run_id)
                await self._wake()
            if run.phase == RUNNING:
                await self._decide(run, work)
                await run.update(phase=ENDING)
            await self._wait_for_journals(run)
            await run.update(phase=DONE, ended_unix_s=time.time())
            await self.tell("done", run=run.run_id, records=len(run.records))
        except Exception as error:  # whatever it is, the testbed must become free again
            log.exception("the run failed")
            await run.update(phase=FAILED, problem=str(error))
            await self.tell("failed", run=run.run_id, problem=str(error))
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

    async def _wait_for_nodes(self, run: RunAtCentre) -> None:
        names = run.scenario.testbed.node_names
        async with self.told:
            await self.told.wait_for(lambda: all(name in self.present() for name in names))

    async def _wait_for_journals(self, run: RunAtCentre) -> None:
        names = set(run.scenario.testbed.node_names)
        try:
            async with asyncio.timeout(JOURNALS_S), run.changed:
                await run.changed.wait_for(lambda: run.journals >= names)
        except TimeoutError:
            lacking = ", ".join(sorted(names - run.journals))
            raise Permanent(
                f"no journal came from {lacking}: the run's slots are not known"
            ) from None

    async def _wake(self) -> None:
        """Wake the nodes that wait for news."""
        async with self.told:
            self.told.notify_all()
        if self.current is not None:
            await self.current.wake()
