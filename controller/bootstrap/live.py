"""Parts of a strategy for wall time: what computes for long does so beside the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from controller.domain.decisions import Decision, Deployment, InForce, MacroPolicy, RoutingPlan
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Deployer, Planner, Scheduler


@dataclass(frozen=True, slots=True)
class PlannerInThread:
    """A planner whose optimisation or rehearsal must not hold up the slot loop's I/O."""

    planner: Planner

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        return await asyncio.to_thread(
            lambda: asyncio.run(self.planner.plan(state, telemetry, in_force))
        )


@dataclass(frozen=True, slots=True)
class SchedulerInThread:
    """A scheduler that computes for long."""

    scheduler: Scheduler

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        return await asyncio.to_thread(
            lambda: asyncio.run(self.scheduler.schedule(state, in_force))
        )


@dataclass(frozen=True, slots=True)
class DeployerInThread:
    """A deployer that computes for long."""

    deployer: Deployer

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        return await asyncio.to_thread(lambda: asyncio.run(self.deployer.deploy(state, in_force)))
