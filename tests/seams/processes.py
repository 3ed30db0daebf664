"""A twin that processes share: one for planner and scheduler, one for each node's deployer.

Every process sees and commands the twin through messages as they would cross a wire: turned into
JSON text and back. Messages may be lost, doubled, or come out of order. The processes march in
step: the twin's time goes on when all of them sleep, and in each slot the centre goes first, since
the twin dispatches a slot's requests before it deploys.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller import wire
from controller.domain.decisions import Deployment, Orders, Stamp
from controller.domain.state import ClusterState, Telemetry, join_rows, take_rows
from controller.loop import run_central, run_node
from controller.results.spool import Spool
from controller.strategies import Parts
from controller.twin.cluster import Twin

Ints = NDArray[np.int64]
MakeParts = Callable[[], Parts]


@dataclass
class Weather:
    """What befalls messages. Each function says of the k-th message of a kind how often it comes
    (0: lost, 2: doubled), or whether the one before comes again after it (out of order)."""

    copies: Callable[[str, int], int] = lambda kind, k: 1
    stale: Callable[[str, int], bool] = lambda kind, k: False
    counts: dict[str, int] = field(default_factory=dict)
    hit: int = 0  # messages that something has befallen

    def copies_of(self, kind: str) -> tuple[int, bool]:
        k = self.counts[kind] = self.counts.get(kind, 0) + 1
        copies, stale = self.copies(kind, k), self.stale(kind, k)
        self.hit += copies != 1 or stale
        return copies, stale


def crossed(content: Any) -> Any:
    """Content as it comes out at the other end of a wire."""
    return json.loads(json.dumps(content, allow_nan=False))


class Step:
    """Lets processes take turns within a slot, and the twin's time go on when all sleep."""

    def __init__(self, twin: Twin, processes: int) -> None:
        self._twin = twin
        self._awake = processes
        self._processes = processes
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.central_done = asyncio.Event()

    async def sleep_until(self, time_s: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((time_s, future))
        await self._maybe_advance()
        await future

    async def leave(self) -> None:
        """A process has ended."""
        self._processes -= 1
        await self._maybe_advance()

    async def _maybe_advance(self) -> None:
        if len(self._sleepers) < self._processes or not self._sleepers:
            return
        time_s = min(time_s for time_s, _ in self._sleepers)
        self.central_done.clear()
        await self._twin.sleep_until(time_s)
        due = [future for at_s, future in self._sleepers if at_s <= time_s]
        self._sleepers = [(at_s, future) for at_s, future in self._sleepers if at_s > time_s]
        for future in due:
            future.set_result(None)


class Clock:
    """The twin's time for one process of several. The centre's sleep ends its turn."""

    def __init__(self, twin: Twin, step: Step, *, central: bool) -> None:
        self._twin, self._step, self._central = twin, step, central

    def now(self) -> float:
        return self._twin.now()

    async def sleep_until(self, time_s: float) -> None:
        if self._central:
            self._step.central_done.set()
        await self._step.sleep_until(time_s)

    def thought_s(self, since_s: float, declared_s: float) -> float:
        return declared_s


class Exchange:
    """What is on its way between the processes."""

    def __init__(self, twin: Twin, weather: Weather) -> None:
        self.twin, self.weather = twin, weather
        self.testbed = twin.scenario.testbed
        nodes = range(len(self.testbed.nodes))
        self.orders: list[Orders | None] = [None for _ in nodes]  # newest that reached each node
        self.former: Any = None  # the orders sent before, for those that come late
        self.told: list[ClusterState] = []  # newest state of each node that reached the centre
        self.next: Any = None  # orders that hold from the next slot on

    async def tell_centre(self) -> None:
        """A slot has ended: what holds from now on reaches the nodes, their states the centre."""
        if self.next is not None:
            self.deliver(self.next)
            self.next = None
        whole = await self.twin.observe()
        if not self.told:
            self.told = [self._row(whole, n) for n in range(len(self.testbed.nodes))]
        for n in range(len(self.testbed.nodes)):
            copies, _ = self.weather.copies_of("state")
            for _ in range(copies):
                self.told[n] = self._row(whole, n)

    def deliver(self, sent: Any) -> None:
        """Orders on their way to the nodes' deployers."""
        for n in range(len(self.testbed.nodes)):
            copies, stale = self.weather.copies_of("orders")
            for message in [sent] * copies + [self.former] * (stale and self.former is not None):
                self.orders[n] = newer(self.orders[n], wire.orders_from_wire(self.testbed, message))

    def _row(self, whole: ClusterState, n: int) -> ClusterState:
        sent = wire.state_to_wire(self.testbed, take_rows(whole, np.array([n])))
        return wire.state_from_wire(self.testbed, crossed(sent))


class FarCluster:
    """The cluster as the centre knows it: by messages."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def observe(self) -> ClusterState:
        await self._exchange.tell_centre()
        return join_rows(self._exchange.told)

    async def telemetry(self, first_slot: int) -> Telemetry:
        testbed = self._exchange.testbed
        found = await self._exchange.twin.telemetry(first_slot)
        return wire.telemetry_from_wire(testbed, crossed(wire.telemetry_to_wire(testbed, found)))

    async def orders(self) -> Orders | None:
        return await self._exchange.twin.orders()

    async def announce(self, orders: Orders, thought_s: float) -> None:
        exchange, testbed = self._exchange, self._exchange.testbed
        sent = crossed(wire.orders_to_wire(testbed, orders))
        # To the nodes' data paths, which dispatch ...
        copies, stale = exchange.weather.copies_of("dispatch")
        for _ in range(copies):
            await exchange.twin.announce(wire.orders_from_wire(testbed, sent), thought_s)
        if stale and exchange.former is not None:
            late = wire.orders_from_wire(testbed, exchange.former)
            await exchange.twin.announce(late, thought_s)
        # ... and to the nodes' deployers, who decide on this slot by what holds in it.
        if orders.stamp.sequence:
            exchange.next = sent
        else:
            exchange.deliver(sent)
            exchange.former = sent

    async def settled(self) -> bool:
        return await self._exchange.twin.settled()


def newer(one: Orders | None, other: Orders) -> Orders:
    """The orders that a node keeps of two."""
    return other if one is None or other.stamp > one.stamp else one


class FarNode:
    """A node as its own process knows it. Its state is at hand; orders come by messages."""

    def __init__(self, exchange: Exchange, step: Step, n: int) -> None:
        self._exchange, self._step, self._n = exchange, step, n
        self._node = exchange.twin.node(np.array([n]))
        self._former: tuple[Stamp, Any, Any] | None = None

    async def observe(self) -> ClusterState:
        testbed = self._exchange.testbed
        sent = wire.state_to_wire(testbed, await self._node.observe())
        return wire.state_from_wire(testbed, crossed(sent))

    async def orders(self) -> Orders | None:
        await self._step.central_done.wait()
        found = self._exchange.orders[self._n]
        if found is None:
            found = await self._exchange.twin.orders()  # asked for again until it comes
        return found

    async def deployed(self) -> Stamp:
        return await self._node.deployed()

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        testbed, rows = self._exchange.testbed, np.array([self._n])
        sent = crossed(wire.deployment_to_wire(testbed, rows, deployment))
        copies, stale = self._exchange.weather.copies_of("deploy")
        if stale and self._former is not None:  # an older command comes again, first
            await self._deploy(*self._former)
        voided = np.zeros((1, len(testbed.lms)), np.bool_)
        for k in range(copies):
            done = await self._deploy(stamp, sent, thought_s)
            voided = done if k == 0 else voided
        if stale and self._former is not None:  # and once more, after the newer one
            await self._deploy(*self._former)
        self._former = stamp, sent, thought_s
        return voided

    async def _deploy(
        self, stamp: Stamp, sent: Any, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        rows = np.array([self._n])
        made = wire.deployment_from_wire(self._exchange.testbed, rows, sent)
        return await self._node.deploy(stamp, made, thought_s)


async def run_apart(
    twin: Twin, make_parts: MakeParts, slots: int, folder: Path, weather: Weather
) -> int:
    """Run a strategy with a process for the centre and one per node, each with parts of its own;
    journals go to ``folder``."""
    testbed = twin.scenario.testbed
    nodes = range(len(testbed.nodes))
    step, exchange = Step(twin, 1 + len(nodes)), Exchange(twin, weather)
    spools = [Spool(folder / f"{name}.jsonl", testbed) for name in ("centre", *testbed.node_names)]

    async def centre() -> int:
        parts = make_parts()
        clock = Clock(twin, step, central=True)
        ran = await run_central(
            twin.scenario, clock, FarCluster(exchange), parts.planner(), parts.scheduler(),
            spools[0], slots,
        )  # fmt: skip
        step.central_done.set()
        await step.leave()
        return ran

    async def node(n: int) -> None:
        deployer = make_parts().deployer()
        await run_node(
            twin.scenario, Clock(twin, step, central=False), FarNode(exchange, step, n),
            np.array([n]), deployer, spools[1 + n],
        )  # fmt: skip
        await step.leave()

    ran, *_ = await asyncio.gather(centre(), *(node(n) for n in nodes))
    for spool in spools:
        spool.close()
    return ran
