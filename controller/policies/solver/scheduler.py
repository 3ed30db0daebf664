"""The scheduler: every request goes to the node with the earliest expected completion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import sharing
from controller.domain.decisions import (
    REFUSE,
    Call,
    Decision,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.scenario import Scenario
from controller.domain.state import OFF, POD_READY, POD_STARTING, ClusterState
from controller.policies.solver.allocation import MAX_LOAD
from controller.policies.solver.parameters import NEVER, SolverParameters

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

AHEAD = 2.0  # a wait of so many requests of mean size is always accepted, however slow they are
IN_TIME = 0.9  # share of tau; a completion expected later is too likely to miss the deadline


class SolverScheduler:
    """Scheduler by earliest expected completion over the pods that run or start, slowest LMs first.

    ``foresight(slot)`` gives the prompts (N, I) that will be born in a slot, which no contestant
    knows. It turns SOLVER into the diagnostic ORACLE, whose lead measures the worth of that
    information."""

    def __init__(
        self,
        scenario: Scenario,
        parameters: SolverParameters,
        foresight: Callable[[int], Ints] | None = None,
    ) -> None:
        self._foresight = foresight
        self._scenario = scenario
        self._parameters = parameters
        self._call = (Call(parameters.decision_s),)
        shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        self._expected = np.full(shape, np.nan)  # prompts a slot by origin
        self._batch = np.ones(shape[1])  # prompts a request
        self._limit_s = np.full(shape[1], parameters.refuse_above * scenario.tau_s)
        self._wanted: tuple[Ints, Floats] | None = None
        self._prompt_s: Floats = np.full(shape, np.inf)
        self._sharing = np.zeros((*shape, shape[1]), np.bool_)  # two pods on one GPU
        lms = [scenario.profile.lms[lm.name] for lm in scenario.testbed.lms]
        self._start_s = np.array([[0.0, lm.start_cpu_s, lm.start_gpu_s] for lm in lms])
        self._stop_s = np.array([lm.stop_s for lm in lms])

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        return Decision(self.assign(state, in_force.policy), self._call)

    def assign(self, state: ClusterState, policy: MacroPolicy) -> RoutingPlan:
        """Return the plan for the slot after ``state``; learns from the arrivals in it."""
        self._learn(state, policy)
        self._read_pods(state)
        speed_s = np.where(np.isfinite(self._prompt_s), self._prompt_s, 0.0)
        work_s = np.asarray(state.backlog * speed_s, np.float64)  # (N, I) ahead of a newcomer
        destination = np.zeros(work_s.shape, np.int64)
        usable = np.isfinite(self._prompt_s) & state.up[:, None] & policy.roles
        for i in np.argsort(-np.where(usable, self._prompt_s, 0.0).max(axis=0)):
            nodes = np.flatnonzero(usable[:, i])
            if len(nodes) == 0:
                nodes = self._expect_pods(int(i), state, policy, speed_s)
            self._assign(int(i), nodes, work_s, speed_s, state, destination)
        return RoutingPlan(destination)

    def _expect_pods(
        self, i: int, state: ClusterState, policy: MacroPolicy, speed_s: Floats
    ) -> Ints:
        """Return the nodes meant for LM i while no pod of it is wanted yet, as in the first slot.
        Set their speed in ``speed_s`` to the one that serves their share of the load."""
        share = policy.routing[:, i] * (policy.roles[:, i] & state.up)
        if not share.any():
            share = policy.routing[:, i]
        nodes = np.flatnonzero(share)
        prompts = share[nodes] * max(1e-9, self._expected[:, i].sum())
        speed_s[nodes, i] = self._scenario.slot_s / prompts
        return nodes

    def _assign(
        self,
        i: int,
        nodes: Ints,
        work_s: Floats,
        speed_s: Floats,
        state: ClusterState,
        destination: Ints,
    ) -> None:
        """Give the origins of LM i their destinations one by one, largest first, adding each to
        its destination's work."""
        own_s, prompt_s = work_s[nodes, i], speed_s[nodes, i]
        others_s = work_s[nodes] * self._sharing[nodes, i]
        crowd = others_s / np.maximum(1e-9, self._batch * speed_s[nodes])  # requests there
        delay_s = self._delay_s(state)[nodes, i]
        limit_s = np.maximum(self._limit_s[i], AHEAD * self._batch[i] * prompt_s)
        for origin in np.argsort(-self._expected[:, i], kind="stable"):
            service_s = self._expected[origin, i] * prompt_s
            ahead_s = own_s + service_s
            overlap_s = np.minimum(ahead_s[:, None], others_s)
            done_s = delay_s + ahead_s + overlap_s.sum(axis=1)
            before_s = np.minimum(own_s[:, None], others_s)
            held_up_s = ((overlap_s - before_s) * crowd).sum(axis=1)
            waits = done_s - service_s <= limit_s
            eligible = waits & (done_s <= IN_TIME * self._scenario.tau_s)
            if not eligible.any() and self._parameters.refusal == NEVER:
                eligible = np.full(len(nodes), True)
            if not eligible.any():
                destination[origin, i] = REFUSE
                continue
            best = int(np.argmin(np.where(eligible, done_s + held_up_s, np.inf)))
            destination[origin, i] = nodes[best]
            own_s[best] = ahead_s[best]
        work_s[nodes, i] = own_s

    def _delay_s(self, state: ClusterState) -> Floats:
        """Return (N, I) seconds until the pod serves, if it does not yet."""
        lms = np.arange(len(self._stop_s))
        start_s = self._start_s[lms, state.want_mode]
        stop_s = np.where(state.mode != OFF, self._stop_s, 0.0)
        delay_s = np.where(state.pod == POD_STARTING, start_s, start_s + stop_s)
        return np.where(state.pod == POD_READY, 0.0, delay_s)

    def _learn(self, state: ClusterState, policy: MacroPolicy) -> None:
        """Update the estimates of prompts (by origin, and per request) and the limits of waits."""
        if policy.demand is not None:
            self._batch = policy.demand.prompts
        if policy.served is not None:
            p, tau_s = self._parameters, self._scenario.tau_s
            share = np.where(policy.served < MAX_LOAD, p.refuse_saturated, p.refuse_above)
            self._limit_s = share * tau_s
        if np.isnan(self._expected).any():
            demand = policy.demand
            each = np.ones(len(self._batch)) if demand is None else demand.requests * demand.prompts
            self._expected = np.tile(each / len(state.backlog), (len(state.backlog), 1))
        if self._foresight is not None:
            self._expected = self._foresight(state.slot + 1).astype(np.float64)
        elif state.arrived_requests.any():
            keep = self._parameters.memory
            self._expected = keep * self._expected + (1 - keep) * state.arrived_prompts

    def _read_pods(self, state: ClusterState) -> None:
        """Read the pods' present GPU sharing (the worst case where GPUs are unknown) and the speeds
        of the wanted pods."""
        self._sharing = sharing(state.cards, state.mode)
        wanted = state.want_mode, state.want_cores
        if self._wanted is not None and all(map(np.array_equal, self._wanted, wanted)):
            return
        self._wanted = wanted
        for n, (mode, cores) in enumerate(zip(*wanted, strict=True)):
            self._prompt_s[n] = self._scenario.prompt_seconds(n, mode, cores)
