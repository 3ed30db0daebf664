"""What the scheduler knows of the traffic: prompts to expect by origin, and the split so far."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import MacroPolicy, RoutingPlan
from controller.domain.state import ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MEMORY: Final = 0.9  # what the estimate of prompts by origin keeps from slot to slot


class Traffic:
    """Arrivals by origin, and prompts sent under the policy in force by destination."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.expected: Floats = np.full(shape, np.nan)  # (N, I) prompts a slot by origin
        self._sent: Floats = np.zeros(shape)  # (N, I) prompts by destination
        self._policy: MacroPolicy | None = None
        self._plan: RoutingPlan | None = None

    def note(self, state: ClusterState, policy: MacroPolicy) -> None:
        """A slot has ended in ``state``; ``policy`` holds in the next."""
        arrived = state.arrived_prompts
        if self._plan is not None:
            origin, lm = np.nonzero((arrived > 0) & (self._plan.destination >= 0))
            to = self._plan.destination[origin, lm]
            np.add.at(self._sent, (to, lm), arrived[origin, lm])
        if policy is not self._policy:
            self._policy = policy
            self._sent[:] = 0.0
        if np.isnan(self.expected).any():
            self.expected = _first(policy, arrived.shape)
        elif arrived.any():
            self.expected = MEMORY * self.expected + (1 - MEMORY) * arrived

    def planned(self, plan: RoutingPlan) -> None:
        """The plan for the slot that begins."""
        self._plan = plan

    def drift(self) -> Floats:
        """(I,) distance of the split so far from the planned one: the share of an LM's prompts
        that went elsewhere than meant (total variation), 0 before any was sent."""
        if self._policy is None:
            return np.zeros(self._sent.shape[1])
        total = self._sent.sum(axis=0)
        shares = np.divide(self._sent, total, out=self._policy.routing.copy(), where=total > 0)
        return np.asarray(np.abs(shares - self._policy.routing).sum(axis=0) / 2)


def _first(policy: MacroPolicy, shape: tuple[int, ...]) -> Floats:
    """Before anything has arrived: the forecast, spread evenly over the origins."""
    demand = policy.demand
    each = np.ones(shape[1]) if demand is None else demand.requests * demand.prompts
    return np.tile(each / shape[0], (shape[0], 1))
