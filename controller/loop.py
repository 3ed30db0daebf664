"""The slot loop of Figure 4: observe, decide, charge, apply, wait. Knows neither twin nor testbed.

A decision's time is data: commands carry how long it took, the twin charges it, on wall time it has
passed already. A decision that outlasts its slot is late: the previous one holds, and the requests
that waited for it have waited for the whole slot. A `Transient` fault of the world is recorded, and
the last decision holds.

:func:`run` drives both tiers in one process. On a testbed each has a process of its own:
:func:`run_central` and one :func:`run_node` per worker, which take the slot from the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    DEPLOYER,
    LATE,
    PLANNER,
    SCHEDULER,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    Stamp,
)
from controller.domain.errors import Transient
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Clock, Cluster, Deployer, Journal, Node, Planner, Scheduler

Ints = NDArray[np.int64]
T = TypeVar("T")

NO_ROWS: Final[Ints] = np.zeros(0, np.int64)
PASSED: Final = "the clock passed over this slot"
# A process may end between a command and its record. Journals keep the first of two records.
UNRECORDED: Final = "the process ended before this decision was recorded"
EPSILON_S: Final = 1e-6  # a clock that wakes a microsecond early is in time


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy = planner x scheduler x deployer."""

    planner: Planner
    scheduler: Scheduler
    deployer: Deployer


class CentralTier:
    """Planner and scheduler over a cluster, slot by slot. On the testbed: VM1."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        cluster: Cluster,
        planner: Planner,
        scheduler: Scheduler,
        journal: Journal,
    ) -> None:
        self._scenario = scenario
        self._clock = clock
        self._cluster = cluster
        self._planner = planner
        self._scheduler = scheduler
        self._journal = journal
        self.over = False  # final orders are out
        self._in_force: InForce | None = None
        self._epoch = -1  # the last one that was planned
        self._thinking: asyncio.Task[Decision[MacroPolicy] | None] | None = None

    async def resume(self) -> int:
        """Take up the orders that an earlier process announced; return the first slot without."""
        orders = await self._cluster.orders()
        if orders is None:
            return 0
        self._in_force = orders.in_force
        self.over = orders.final
        if self.over:
            return orders.stamp.slot
        self._epoch = orders.in_force.policy_slot // self._scenario.epoch_slots
        self._journal.missed(orders.stamp.slot, SCHEDULER, NO_ROWS, UNRECORDED)
        return orders.stamp.slot + 1

    async def step(self, slot: int) -> None:
        """Announce one slot's plan.

        At an epoch's first slot the planner begins to think beside scheduler and deployers; only
        where there is no policy to follow, in slot 0, the scheduler waits for it.
        """
        try:
            state = await self._cluster.observe()
            waited_s = 0.0
            if slot // self._scenario.epoch_slots > self._epoch:
                waited_s = await self._begin_planning(slot, state)
            if self._in_force is None:
                raise Transient("there is no policy to schedule by")
            await self._schedule(slot, state, self._in_force, waited_s)
        except Transient as fault:
            self._journal.missed(slot, SCHEDULER, NO_ROWS, str(fault))

    async def finish(self, slot: int) -> None:
        """End the slot: announce a policy thought of during it; it holds from the next slot on.
        The planner's call is bounded by the slot, as every call."""
        if self._thinking is None:
            return
        decision = await self._thinking
        self._thinking = None
        if decision is None or self._in_force is None or decision.value == self._in_force.policy:
            return
        self._in_force = replace(self._in_force, policy=decision.value, policy_slot=slot)
        with suppress(Transient):  # the next slot's orders carry the policy too
            orders = Orders(Stamp(slot, 1), self._in_force)
            await self._cluster.announce(orders, self._scenario.slot_s)

    async def end(self, slot: int) -> None:
        """Tell the nodes that ``slot`` and all after it are not decided any more."""
        if self._in_force is not None:
            await self._cluster.announce(Orders(Stamp(slot), self._in_force, final=True), 0.0)

    async def _begin_planning(self, slot: int, state: ClusterState) -> float:
        """Ask the planner for a new epoch's policy; return the seconds that the scheduler had to
        wait for it."""
        try:
            first_slot = max(0, slot - self._scenario.epoch_slots)
            telemetry = await self._cluster.telemetry(first_slot)
        except Transient as fault:
            self._journal.missed(slot, PLANNER, NO_ROWS, str(fault))
            return 0.0
        thinking = self._think(slot, state, telemetry)
        if self._in_force is not None:
            self._thinking = asyncio.create_task(thinking)
            return 0.0
        decision = await thinking
        if decision is None:
            return 0.0
        self._in_force = InForce(decision.value, slot)
        return min(decision.calls[0].took_s, self._scenario.slot_s)

    async def _think(
        self, slot: int, state: ClusterState, telemetry: Telemetry
    ) -> Decision[MacroPolicy] | None:
        """Return the planner's decision, the policy in force if it was late, None on a fault."""
        since_s, held = self._clock.now(), self._in_force
        try:
            decision = await self._planner.plan(state, telemetry, held)
        except Transient as fault:
            self._journal.missed(slot, PLANNER, NO_ROWS, str(fault))
            return None
        decision = _timed(decision, self._clock, since_s)
        if held is not None:
            decision = self._in_time(slot, decision, held.policy)
        self._journal.planned(slot, decision)
        self._epoch = slot // self._scenario.epoch_slots
        return decision

    async def _schedule(
        self, slot: int, state: ClusterState, in_force: InForce, waited_s: float
    ) -> None:
        since_s, slot_s = self._clock.now(), self._scenario.slot_s
        made = await self._scheduler.schedule(state, in_force)
        made = _timed(made, self._clock, since_s)
        decision = made if in_force.plan is None else self._in_time(slot, made, in_force.plan)
        if decision is made:
            in_force = InForce(in_force.policy, in_force.policy_slot, made.value, slot)
            thought_s = waited_s + made.calls[0].took_s
        else:
            thought_s = slot_s
        await self._cluster.announce(Orders(Stamp(slot), in_force), thought_s)
        self._in_force = in_force
        self._journal.scheduled(slot, decision)

    def _in_time(self, slot: int, decision: Decision[T], held: T) -> Decision[T]:
        """Return the decision to apply: ``decision``, or ``held`` marked LATE if it outlasted its
        slot."""
        slot_s, (call,) = self._scenario.slot_s, decision.calls
        if not call.outlasts(slot_s) and not _is_over(slot, self._clock, slot_s):
            return decision
        return Decision(held, (replace(call, outcome=LATE),))


class NodeTier:
    """The deployers of the nodes ``rows`` that a process controls. On the testbed: one node's."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        node: Node,
        rows: Ints,
        deployer: Deployer,
        journal: Journal,
    ) -> None:
        self._slot_s = scenario.slot_s
        self._clock = clock
        self._node = node
        self._rows = rows
        self._deployer = deployer
        self._journal = journal

    async def resume(self) -> int:
        """Return the first slot without a deployment."""
        last = (await self._node.deployed()).slot
        if last >= 0:
            self._journal.missed(last, DEPLOYER, self._rows, UNRECORDED)
        return last + 1

    async def step(self, slot: int) -> bool:
        """Decide on every row for one slot and deploy; return False if the run is over."""
        try:
            orders = await self._node.orders()
            if orders is None:
                raise Transient("no orders have reached the node yet")
            if orders.final and slot >= orders.stamp.slot:
                return False
            state = await self._node.observe()
            since_s = self._clock.now()
            decision = await self._deployer.deploy(state, orders.in_force)
            decision = _timed(decision, self._clock, since_s)
            took_s = [call.took_s for call in decision.calls]
            over = _is_over(slot, self._clock, self._slot_s)
            if over or max(took_s) > self._slot_s:
                late = [over or call.outlasts(self._slot_s) for call in decision.calls]
                decision = self._hold(decision, state, late)
                took_s = [min(one, self._slot_s) for one in took_s]
            voided = await self._node.deploy(Stamp(slot), decision.value, np.array(took_s))
        except Transient as fault:
            self._journal.missed(slot, DEPLOYER, self._rows, str(fault))
        else:
            self._journal.deployed(slot, state, decision, voided)
        return True

    async def observe(self) -> None:
        """Record how a slot has ended; a node that does not answer leaves a gap."""
        try:
            self._journal.observed(await self._node.observe())
        except Transient:
            return

    async def ended(self, slot: int) -> int:
        """Return ``slot``, or the first slot after the run if that is earlier."""
        with suppress(Transient):
            orders = await self._node.orders()
            if orders is not None and orders.final:
                return min(slot, orders.stamp.slot)
        return slot

    def _hold(
        self, decision: Decision[Deployment], state: ClusterState, late: list[bool]
    ) -> Decision[Deployment]:
        """Return the decision with late rows left as they are wanted now."""
        keep, made = np.array(late)[:, None], decision.value
        held = Deployment(
            mode=np.where(keep, state.want_mode, made.mode),
            cores=np.where(keep, state.want_cores, made.cores),
            vgpus=np.where(keep, state.want_vgpus, made.vgpus),
        )
        calls = tuple(
            replace(call, outcome=LATE) if missed else call
            for call, missed in zip(decision.calls, late, strict=True)
        )
        return Decision(held, calls)


async def run(
    scenario: Scenario,
    clock: Clock,
    cluster: Cluster,
    node: Node,
    strategy: Strategy,
    journal: Journal,
    slots: int,
) -> int:
    """Drive both tiers in one process for ``slots`` slots, then on without arrivals until every
    request is decided. Return the number of slots run."""
    central = CentralTier(scenario, clock, cluster, strategy.planner, strategy.scheduler, journal)
    rows = np.arange(len(scenario.testbed.nodes))
    local = NodeTier(scenario, clock, node, rows, strategy.deployer, journal)
    slot = 0
    while slot < slots or not await _settled(cluster):
        await central.step(slot)
        await local.step(slot)
        await central.finish(slot)
        slot += 1
        await clock.sleep_until(slot * scenario.slot_s)
        with suppress(Transient):  # a cluster that does not answer leaves a gap
            journal.observed(await cluster.observe())
    return slot


async def run_central(
    scenario: Scenario,
    clock: Clock,
    cluster: Cluster,
    planner: Planner,
    scheduler: Scheduler,
    journal: Journal,
    slots: int,
) -> int:
    """Drive planner and scheduler by the clock, from the slot that it says, until ``slots`` slots
    are over and every request is decided. Return the number of slots run.

    A slot is decided once, also by a process that restarts in its middle; a slot that the clock
    has passed over is recorded as missed.
    """
    central = CentralTier(scenario, clock, cluster, planner, scheduler, journal)
    slot = await _answer(central.resume, clock, scenario.slot_s)
    while not central.over:
        current = await _reach(slot, clock, scenario.slot_s)
        for missed in range(slot, current):
            journal.missed(missed, SCHEDULER, NO_ROWS, PASSED)
        slot = current
        if slot >= slots and await _settled(cluster):
            await _answer(partial(central.end, slot), clock, scenario.slot_s)
            return slot
        await central.step(slot)
        await central.finish(slot)
        slot += 1
    return slot


async def run_node(
    scenario: Scenario,
    clock: Clock,
    node: Node,
    rows: Ints,
    deployer: Deployer,
    journal: Journal,
) -> int:
    """Drive the deployers of the nodes ``rows`` by the clock until the final orders; otherwise as
    :func:`run_central`."""
    local = NodeTier(scenario, clock, node, rows, deployer, journal)
    slot = await _answer(local.resume, clock, scenario.slot_s)
    while True:
        current = await local.ended(await _reach(slot, clock, scenario.slot_s))
        for missed in range(slot, current):
            journal.missed(missed, DEPLOYER, rows, PASSED)
        if current > 0:
            await local.observe()
        slot = current
        if not await local.step(slot):
            return slot
        slot += 1


async def _reach(slot: int, clock: Clock, slot_s: float) -> int:
    """Wait for the beginning of ``slot``; return the slot that the clock says then."""
    if clock.now() < slot * slot_s - EPSILON_S:
        await clock.sleep_until(slot * slot_s)
    return max(slot, int((clock.now() + EPSILON_S) // slot_s))


async def _answer(ask: Callable[[], Awaitable[T]], clock: Clock, slot_s: float) -> T:
    """Return the answer of a cluster; if it does not answer, ask again in the next slot."""
    while True:
        try:
            return await ask()
        except Transient:
            await clock.sleep_until((clock.now() // slot_s + 1) * slot_s)


async def _settled(cluster: Cluster) -> bool:
    try:
        return await cluster.settled()
    except Transient:
        return False


def _is_over(slot: int, clock: Clock, slot_s: float) -> bool:
    """Return True if a decision comes after its slot, however short it was: on wall time, what
    comes before it takes time too."""
    return clock.now() > (slot + 1) * slot_s + EPSILON_S


def _timed(decision: Decision[T], clock: Clock, since_s: float) -> Decision[T]:
    """Return the decision with the seconds that it took by the clock."""
    for call in decision.calls:
        if clock.thought_s(since_s, call.took_s) != call.took_s:
            break
    else:
        return decision  # virtual time: all as declared, nothing to copy
    now = (replace(call, took_s=clock.thought_s(since_s, call.took_s)) for call in decision.calls)
    return Decision(decision.value, tuple(now))
