"""The scheduler's view of the traffic: prompts to expect by origin, and the split so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.arrivals import expect
from controller.domain.decisions import InForce, MacroPolicy
from controller.domain.state import ClusterState

Floats = NDArray[np.float64]


class Traffic:
    """Arrivals by origin, and prompts sent under the policy in force by destination."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.expected: Floats = np.ones(shape)  # (N, I) prompts a slot by origin
        self._sent: Floats = np.zeros(shape)  # (N, I) prompts by destination
        self._policy: MacroPolicy | None = None

    def note(self, state: ClusterState, in_force: InForce) -> None:
        """Count a slot that has ended in ``state``; the policy in force holds in the next."""
        arrived, policy = state.arrived_prompts, in_force.policy
        before = None if self._policy is None else self.expected
        self.expected = expect(before, arrived, policy.demand)
        if in_force.plan is not None:
            origin, lm = np.nonzero((arrived > 0) & (in_force.plan.destination >= 0))
            to = in_force.plan.destination[origin, lm]
            np.add.at(self._sent, (to, lm), arrived[origin, lm])
        if policy != self._policy:
            self._policy = policy
            self._sent[:] = 0.0

    def drift(self) -> Floats:
        """Return (I,) distance of the split so far from the planned one: the share of an LM's
        prompts that went elsewhere than meant (total variation), 0 before any was sent."""
        if self._policy is None:
            return np.zeros(self._sent.shape[1])
        total = self._sent.sum(axis=0)
        shares = np.divide(self._sent, total, out=self._policy.routing.copy(), where=total > 0)
        return np.asarray(np.abs(shares - self._policy.routing).sum(axis=0) / 2)
