"""A node's part of one run: machine, executor, pods, deployer, and what they tell each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import numpy as np

from controller import wire
from controller.domain.decisions import REFUSE
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import STATES, ClusterState
from controller.domain.testbed import Lm
from controller.loop import run_node
from controller.ports import Deployer, Journal
from controller.telemetry import names
from controller.telemetry.exposition import Exposition
from controller.telemetry.traces import Traces
from controller.testbed.clock import WallClock
from controller.testbed.handshake import JOURNAL, TRANSCRIPT, headers
from controller.testbed.keys import CONTROLLER, NO_KEYS, Keys
from controller.testbed.node import events
from controller.testbed.node.calls import call_id, calls_of
from controller.testbed.node.disk import NodeDisk
from controller.testbed.node.executor import SNAPSHOT, Executor
from controller.testbed.node.lives import RecordedLife
from controller.testbed.node.log import from_line, snapshot_from_text
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.peers import HttpPeers
from controller.testbed.node.pods import Pods, Start, Stop
from controller.testbed.node.port import LiveNode
from controller.testbed.node.processes import PodProcesses
from controller.testbed.node.records import Record
from controller.testbed.node.reports import CentreReports
from controller.testbed.node.runtime import Engine, MakeRuntime, PodNews, RunOnNode
from controller.testbed.node.servers import LmServers
from controller.testbed.node.settings import NodeSettings

LIVES: Final = "lives"  # under this name on disk: how many processes have had calls in this run
PODS_END_S: Final = 30.0  # real seconds that pods have at the end of a run

log = logging.getLogger("edgelm.node")


class Work(Protocol):
    """Part of an experiment that a node works on."""

    scenario: Scenario
    slots: int  # with arrivals

    def engine(self, row: int, folder: Path, speed: float) -> Engine: ...

    def deployer(self, folder: Path) -> AbstractAsyncContextManager[Deployer]: ...

    def journal(self, path: Path) -> AbstractContextManager[Journal]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a node's service."""

    name: str
    url: str  # where others reach it
    controller: str
    data: Path
    keys: Keys = NO_KEYS
    traces: Traces | None = None
    make_runtime: MakeRuntime = PodProcesses
    resizes: bool = False  # cores of a running pod change in place

    def folder_of(self, run_id: str) -> Path:
        """Return the folder of a run's state."""
        return self.data / "runs" / run_id


class LiveRun:
    """A node's part of one run: machine, executor, pods and deployer."""

    def __init__(
        self,
        options: Options,
        session: aiohttp.ClientSession,
        wanted: dict[str, Any],
        work: Work,
        urls: dict[str, str],
        clock_offset_s: Callable[[], float | None],
        measured: Exposition,
    ) -> None:
        self.run_id, self.node = wanted["id"], options.name
        self._measured, self._traces = measured, options.traces
        self._clock_offset_s = clock_offset_s
        self._work = work
        self._folder = options.folder_of(self.run_id)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        scenario = work.scenario
        self._testbed = scenario.testbed
        self._row = self._testbed.node_names.index(options.name)
        self._clock = WallClock(wanted["began_unix_s"], wanted["speed"])
        self._slot_s = scenario.slot_s
        self._disk = NodeDisk(self._folder / "node.sqlite")
        lms = self._testbed.lm_names
        kept = self._disk.kept(SNAPSHOT)
        self._machine = NodeMachine(
            NodeSettings(options.name, lms, slot_s=scenario.slot_s, tau_s=scenario.tau_s),
            None if kept is None else snapshot_from_text(kept),
        )
        self.pods = Pods(scenario, self._row, resizes=options.resizes)
        engine = work.engine(self._row, self._folder / "gpus", wanted["speed"])
        self._runtime = options.make_runtime(
            RunOnNode(
                session, self.run_id, scenario, self._row, self._folder, wanted["speed"], engine,
                self._pod_changed,
            )
        )  # fmt: skip
        centre = f"{options.controller}/v1/runs/{self.run_id}/nodes/{options.name}"
        shown = headers(options.keys, CONTROLLER)
        self._reports = CentreReports(session, centre, shown, self._count)
        self.node_port = LiveNode(
            scenario, self._row, self._clock, self._machine, self.pods, self._disk,
            self._carry_out, self._observed, self._runtime.gpus_of,
        )  # fmt: skip
        self.executor = Executor(
            self._machine,
            self._disk,
            self._clock,
            HttpPeers(
                session,
                self._clock,
                self.run_id,
                options.name,
                options.keys,
                urls,
                lambda size: measured.add(names.NODE_SENT_BYTES, size),
            ),
            LmServers(session, self._clock, self.run_id, self._runtime.url_of),
            self._reports,
            self.node_port.note,
            calls_of(self._row),
        )
        self._life: int | None = None
        self._naming, self._named = asyncio.Lock(), 0

    @property
    def lms(self) -> tuple[Lm, ...]:
        return self._testbed.lms

    @property
    def began_unix_s(self) -> float:
        return self._clock.unix_s(0.0)

    @property
    def takes_calls(self) -> bool:
        """True until the last slot with arrivals is over; what was born is drained then."""
        return self.now_s() < self._work.slots * self._slot_s

    def slot_left_s(self) -> float:
        """Return the real seconds to the end of this slot."""
        return (self._slot_s - self.now_s() % self._slot_s) / self._clock.speed

    async def new_call_id(self) -> int:
        """Return an id that no other call of this run has, nor will have.

        Raises:
            ValueError: there are none left.
        """
        async with self._naming:
            if self._life is None:
                life = int(self._disk.kept(LIVES) or 0)
                await asyncio.to_thread(self._disk.commit, kept={LIVES: str(life + 1)})
                self._life = life
            number, self._named = self._named, self._named + 1
        return call_id(self._row, self._life, number)

    def now_s(self) -> float:
        return self._clock.now()

    def slot_of(self, time_s: float) -> int:
        return max(0, int(time_s // self._slot_s))

    def fault_of(self, lm: str, prompts: list[dict[str, Any]]) -> str:
        """Return what is wrong with prompts for an LM, "" if nothing is; never their contents."""
        for one in self._testbed.lms:
            if one.name == lm:
                field = "image_base64" if one.modality.startswith("image-") else "text"
                for k, prompt in enumerate(prompts):
                    if not prompt.get(field):
                        return f"prompts.{k} has no {field}: {lm} is {one.modality}"
                return ""
        return f"unknown LM {lm!r}; known: {', '.join(self._testbed.lm_names)}"

    async def remember(self) -> None:
        """Let the machine take up what a former process has persisted, before anything else."""
        lines = await asyncio.to_thread(self._disk.lines)
        self.executor.post(events.Restarted(self.now_s(), tuple(map(from_line, lines))))

    async def run(self) -> None:
        """Work until the run's final orders; leave nothing behind but files."""
        running = await self._runtime.prepare()
        self.pods.adopt(self.node_port.wishes, running)
        for start in running.values():
            self._runtime.adopt(start)
        self._carry_out()
        journal = self._folder / JOURNAL
        helpers = [
            asyncio.create_task(self.executor.run()), asyncio.create_task(self._reports.run())
        ]  # fmt: skip
        try:
            async with self._work.deployer(self._folder) as deployer:
                with self._work.journal(journal) as spool:
                    loop = asyncio.create_task(
                        run_node(
                            self._work.scenario, self._clock, self.node_port,
                            np.array([self._row]), deployer, spool,
                        )
                    )  # fmt: skip
                    await _first_end(loop, helpers)
            await self._reports.flush()
            await self._stop_pods()
            for path in (self._folder / TRANSCRIPT, journal):
                if path.exists():
                    await self._reports.file(path)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def close(self) -> None:
        """End what runs here, pods as well."""
        self.executor.end()
        try:
            await self._runtime.close()
        finally:
            self._disk.close()

    async def take_orders(self, sent: dict[str, Any]) -> None:
        """Take orders if they are newer than those in force here."""
        try:
            orders = wire.orders_from_wire(self._testbed, sent)
        except InvalidDecision as error:
            log.warning("orders that cannot be read are ignored: %s", error)
            return
        if not self.node_port.order(orders):
            return
        await self.node_port.keep_orders()
        plan = orders.in_force.plan
        if plan is None:
            return
        nodes, lms = self._testbed.node_names, self._testbed.lm_names
        row = plan.destination[self._row].tolist()
        destinations = tuple(
            (lm, None if to == REFUSE else nodes[to]) for lm, to in zip(lms, row, strict=True)
        )
        self.executor.post(events.OrdersReceived(self.now_s(), orders.stamp, destinations))

    def describe(self) -> dict[str, Any]:
        machine, reasons = self._machine, self._runtime.reasons()
        return {
            "id": self.run_id,
            "slot": self.slot_of(self.now_s()),
            "orders": {
                "slot": self.node_port.stamp.slot,
                "sequence": self.node_port.stamp.sequence,
            },
            "open": self.executor.open_requests,
            "lms": {
                lm: {
                    "state": STATES[pod.state],
                    "cores": pod.held[1],
                    "vgpus": pod.held[2],
                    "queue": len(machine.host.queues[lm]),
                    "reason": reasons.get(lm, ""),
                }
                for lm, pod in zip(self._testbed.lm_names, self.pods.pods, strict=True)
            },
        }

    def measure(self) -> None:
        """Set what is measured when somebody asks."""
        queues = self.node_port.backlogs()
        self._measured.set_all(
            names.NODE_QUEUE_PROMPTS, [({"lm": lm}, count) for lm, count in queues.items()]
        )
        pods = zip(self._testbed.lm_names, self.pods.pods, strict=True)
        self._measured.set_all(
            names.NODE_PODS, [({"lm": lm, "state": STATES[pod.state]}, 1) for lm, pod in pods]
        )
        self._measured.set(names.NODE_QUEUE_BYTES, self._machine.host.queued_bytes)
        self._measured.set(names.NODE_ORDERS_SLOT, self.node_port.stamp.slot)

    def _count(self, record: Record) -> None:
        """Count and trace a closed request; never its contents."""
        if self._traces is not None:
            self._traces.tell(RecordedLife(record, self.run_id), self._clock.unix_s)
        lm = record.request.lm
        self._measured.add(names.NODE_REQUESTS, lm=lm, outcome=record.failure or "done")
        self._measured.add(names.NODE_RECOMPUTED, record.recomputed_prompts, lm=lm)
        for part in names.PARTS:
            seconds = getattr(record, f"{part}_s")
            if record.success and seconds is not None:
                self._measured.observe(names.NODE_REQUEST_PARTS, seconds, lm=lm, part=part)

    # Pods

    def _carry_out(self) -> None:
        for command in self.pods.take():
            if isinstance(command, Start):
                self._runtime.start(command)
                self._tell_machine(command.lm, "starting")
            elif isinstance(command, Stop):
                self._runtime.stop(command.lm)
                self._tell_machine(command.lm, "stopping")
            else:
                self._runtime.resize(command)

    def _pod_changed(self, lm: int, news: PodNews) -> None:
        pods = self.pods
        hears = {
            PodNews.WAITING: pods.waiting,
            PodNews.PLACED: pods.placed,
            PodNews.READY: pods.ready,
            PodNews.LOST: pods.lost,
            PodNews.GONE: pods.gone,
            PodNews.RESIZED: pods.resized,
            PodNews.NOT_RESIZED: pods.not_resized,
        }
        hears[news](lm)
        if news not in (PodNews.RESIZED, PodNews.NOT_RESIZED):  # its server has noticed nothing
            self._tell_machine(lm, STATES[self.pods.pods[lm].state])
        self._carry_out()

    def _tell_machine(self, lm: int, state: str) -> None:
        name = self._testbed.lm_names[lm]
        self.executor.post(events.PodStateChanged(self.now_s(), name, state))

    async def _stop_pods(self) -> None:
        self.pods.stop_all()
        self._carry_out()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PODS_END_S):
                while any(pod.state for pod in self.pods.pods):
                    await asyncio.sleep(0.05)

    def _observed(self, state: ClusterState) -> None:
        document = wire.state_to_wire(self._testbed, state)
        further = {
            "pod_starts": self.pods.starts,
            "pod_reasons": self._runtime.reasons(),
            "clock_offset_s": self._clock_offset_s(),
            "open_calls": self.executor.open_calls,
        }
        self._reports.state({**document, **further})


async def _first_end(loop: asyncio.Task[int], helpers: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the loop; raise what ends a helper, without whom there is no loop."""
    try:
        await asyncio.wait({loop, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        for helper in helpers:
            if helper.done():
                helper.result()
        await loop
    finally:
        loop.cancel()
