"""The slot loop of Figure 4: observe, decide, charge, apply, wait. Knows neither twin nor testbed.

A decision's time is data: ``route`` and ``deploy`` are told how long it took, the twin charges it,
on wall time it has passed already. A decision that outlasts its slot is late: the previous one
holds, and the requests that waited for it have waited for the whole slot.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    LATE,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
    in_force,
)
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Clock, Cluster, Deployer, Journal, Node, Planner, Scheduler


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy = planner x scheduler x deployer."""

    planner: Planner
    scheduler: Scheduler
    deployer: Deployer


class CentralTier:
    """Planner and scheduler over a cluster, slot by slot. On the testbed: VM1."""

    def __init__(
        self, scenario: Scenario, cluster: Cluster, strategy: Strategy, journal: Journal
    ) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._strategy = strategy
        self._journal = journal
        self._plan: RoutingPlan | None = None
        self._policy: MacroPolicy | None = None
        self._thinking: asyncio.Task[tuple[MacroPolicy, Call]] | None = None

    async def step(self, slot: int) -> MacroPolicy:
        """One slot's plan; returns the policy in force. At an epoch's first slot the planner
        begins to think beside scheduler and deployers; only in slot 0, where there is no policy to
        follow, the scheduler waits for it."""
        state = await self._cluster.observe()
        waited_s = 0.0
        if slot % self._scenario.epoch_slots == 0 or self._policy is None:
            window = max(0, slot - self._scenario.epoch_slots)
            thinking = self._think(slot, state, await self._cluster.telemetry(window))
            if self._policy is None:
                self._policy, call = await thinking
                waited_s = min(call.took_s, self._scenario.slot_s)
            else:
                self._thinking = asyncio.create_task(thinking)
        await self._schedule(slot, state, self._policy, waited_s)
        return self._policy

    async def finish(self) -> None:
        """End the slot: a policy thought of during it holds from the next slot on. The planner's
        call is bounded by the slot, as every call."""
        if self._thinking is not None:
            self._policy, _ = await self._thinking
            self._thinking = None

    async def _think(
        self, slot: int, state: ClusterState, telemetry: Telemetry
    ) -> tuple[MacroPolicy, Call]:
        decision = await self._strategy.planner.plan(state, telemetry)
        decision = in_force(decision, self._scenario.slot_s, self._policy)
        self._journal.planned(slot, decision)
        return decision.value, decision.calls[0]

    async def _schedule(
        self, slot: int, state: ClusterState, policy: MacroPolicy, waited_s: float
    ) -> None:
        made = await self._strategy.scheduler.schedule(state, policy)
        decision = in_force(made, self._scenario.slot_s, self._plan)
        thought_s = waited_s + made.calls[0].took_s if decision is made else self._scenario.slot_s
        self._plan = decision.value
        await self._cluster.route(self._plan, thought_s)
        self._journal.scheduled(slot, decision)


class NodeTier:
    """The deployers of the nodes a process controls. On the testbed: one node's own service."""

    def __init__(
        self, scenario: Scenario, node: Node, deployer: Deployer, journal: Journal
    ) -> None:
        self._slot_s = scenario.slot_s
        self._node = node
        self._deployer = deployer
        self._journal = journal

    async def step(self, slot: int, policy: MacroPolicy) -> None:
        """One slot: decide on every row and deploy those in time."""
        state = await self._node.observe()
        decision = await self._deployer.deploy(state, policy)
        calls = decision.calls
        thought_s = np.array([call.took_s for call in calls])
        late = np.array([call.outlasts(self._slot_s) for call in calls])
        if np.count_nonzero(late):
            calls = tuple(
                replace(call, outcome=LATE) if missed else call
                for call, missed in zip(calls, late, strict=True)
            )
            decision = Decision(_hold(decision.value, state, late), calls)
            thought_s[late] = np.nan
        voided = await self._node.deploy(decision.value, thought_s)
        self._journal.deployed(slot, state, decision, voided)


def _hold(deployment: Deployment, state: ClusterState, rows: NDArray[np.bool_]) -> Deployment:
    """The deployment with ``rows`` left as they are wanted now."""
    keep = rows[:, None]
    return Deployment(
        mode=np.where(keep, state.want_mode, deployment.mode),
        cores=np.where(keep, state.want_cores, deployment.cores),
        vgpus=np.where(keep, state.want_vgpus, deployment.vgpus),
    )


async def run(
    scenario: Scenario,
    clock: Clock,
    cluster: Cluster,
    node: Node,
    strategy: Strategy,
    journal: Journal,
    slots: int,
) -> int:
    """Both tiers in one process for ``slots`` slots, then on without arrivals until every request
    is decided. Returns the number of slots run."""
    central = CentralTier(scenario, cluster, strategy, journal)
    local = NodeTier(scenario, node, strategy.deployer, journal)
    slot = 0
    while slot < slots or not await cluster.settled():
        policy = await central.step(slot)
        await local.step(slot, policy)
        await central.finish()
        slot += 1
        await clock.sleep_until(slot * scenario.slot_s)
        journal.observed(await cluster.observe())
    return slot
