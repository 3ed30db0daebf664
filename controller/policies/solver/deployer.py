"""The deployers: each node's best allocation for its role, reached without stranding requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import landing, sharing
from controller.domain.decisions import Call, Decision, Demand, Deployment, InForce, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, UNKNOWN, ClusterState
from controller.policies.solver.allocation import Allocation
from controller.policies.solver.node import Kind, find_kinds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class SolverDeployer:
    """Deployer of each node's best allocation for its role and its share of the load. ``kinds``:
    those of the testbed, where several deployers share them."""

    def __init__(self, scenario: Scenario, kinds: Sequence[Kind] | None = None) -> None:
        self._scenario = scenario
        found = find_kinds(scenario) if kinds is None else kinds
        self._kinds = {int(n): kind for kind in found for n in kind.rows}
        self._policy: MacroPolicy | None = None
        self._goal: Deployment | None = None
        self._several = [node.gpus > 1 for node in scenario.testbed.nodes]

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        policy = in_force.policy
        if self._goal is None or policy != self._policy:
            self._policy, self._goal = policy, self.aim(state.rows, policy)
        return Decision(self.approach(self._goal, state), (Call(),) * len(state.rows))

    def aim(self, rows: Ints, policy: MacroPolicy) -> Deployment:
        """Return the pods that the nodes ``rows`` should run under a policy."""
        chosen = [self._choose(int(n), policy) for n in rows]
        return Deployment(
            mode=np.array([a.mode for a in chosen]),
            cores=np.array([a.cores for a in chosen]),
            vgpus=np.array([a.vgpus for a in chosen]),
        )

    def approach(self, goal: Deployment, state: ClusterState) -> Deployment:
        """Return the next step towards a goal from the present state."""
        return self._regroup(_drain(goal, state), state)

    def _regroup(self, goal: Deployment, state: ClusterState) -> Deployment:
        """Return the goal, with all GPU pods off on nodes where they would not get the GPUs that
        the goal counts on. Started together afterwards, they land as expected."""
        astray = np.array(
            [
                self._several[n]
                and _astray(goal.mode[r], landing(self._scenario, n, goal.mode[r]), state, r)
                for r, n in enumerate(state.rows.tolist())
            ]
        )
        clear = astray[:, None] & (goal.mode == GPU)
        if not clear.any():
            return goal
        return Deployment(
            mode=np.where(clear, OFF, goal.mode),
            cores=np.where(clear, 0.0, goal.cores),
            vgpus=np.where(clear, 0, goal.vgpus),
        )

    def _choose(self, n: int, policy: MacroPolicy) -> Allocation:
        lms = len(self._scenario.testbed.lms)
        demand = policy.demand or Demand(np.ones(lms), np.ones(lms))
        requests = policy.routing[n] * demand.requests
        return self._kinds[n].best(policy.roles[n], requests, demand)


def _astray(mode: Ints, card: Ints, state: ClusterState, row: int) -> bool:
    """Return True if pods hold GPUs now and keeping them would group the goal's GPU pods other than
    ``card``. Return False if a pod's GPUs are unknown: no observation could show that a restart
    helped, so restarts would repeat for ever."""
    held, wanted = state.cards[row], mode == GPU
    if not held.any() or np.any(held == UNKNOWN):
        return False
    if np.any(wanted & (held == 0)) or np.any(~wanted & (held != 0)):
        return True
    together = sharing(held[None], state.mode[row][None])[0][np.ix_(wanted, wanted)]
    planned = card[wanted]
    apart = np.eye(len(planned), dtype=np.bool_)
    return not np.array_equal(together, (planned[:, None] == planned) & ~apart)


def _drain(goal: Deployment, state: ClusterState) -> Deployment:
    """Return the goal, with nodes unchanged that have requests for a pod that the goal switches
    off: queued requests cannot move to another node."""
    leaving = (goal.mode == OFF) & (state.want_mode != OFF) & (state.backlog > 0)
    keep = leaving.any(axis=1)[:, None]
    if not keep.any():
        return goal
    return Deployment(
        mode=np.where(keep, state.want_mode, goal.mode),
        cores=np.where(keep, state.want_cores, goal.cores),
        vgpus=np.where(keep, state.want_vgpus, goal.vgpus),
    )
