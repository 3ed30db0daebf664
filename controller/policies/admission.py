"""Scheduling without refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from controller.domain.decisions import REFUSE, Decision, InForce, RoutingPlan
from controller.domain.state import ClusterState
from controller.ports import Scheduler


class UnrefusingScheduler:
    """Scheduler that sends what another one refuses to the nodes that a second one names."""

    def __init__(self, scheduler: Scheduler, instead: Scheduler) -> None:
        self._scheduler, self._instead = scheduler, instead

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        decision = await self._scheduler.schedule(state, in_force)
        destination = decision.value.destination
        refused = destination == REFUSE
        if not refused.any():
            return decision
        named = (await self._instead.schedule(state, in_force)).value.destination
        return replace(decision, value=RoutingPlan(np.where(refused, named, destination)))
