"""SOLVER: the strong baseline that anyone would try before a language model.

The planner fits allocations and flows to the observed load once an epoch
(:mod:`controller.policies.plan`). Each deployer picks, for the role and the share of the load that
the policy gives its node, the allocation with the lowest expected number of requests in the system.
The scheduler sends each request where it is expected to be done first, counting what it holds up
there, and refuses it at the door if even that is far beyond what a stable system would show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    REFUSE,
    Call,
    Decision,
    Demand,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.scenario import Scenario
from controller.domain.state import (
    GPU,
    OFF,
    POD_READY,
    POD_STARTING,
    ClusterState,
    Telemetry,
)
from controller.policies.allocation import (
    Allocation,
    cost,
    enumerate_allocations,
    likely_cards,
    prompt_seconds,
)
from controller.policies.plan import Plan, Program

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SolverParameters:
    """``refuse_above``: expected completion, as a share of tau, beyond which a request is refused;
    a stable queue hardly ever gets there, an overloaded one soon. ``replan_above``: relative change
    of any LM's demand that is worth solving again. ``first_load``: share of the highest load with
    equal requests for all LMs that the first plan, which has seen nothing yet, is made for.
    ``decision_s``: charged for each scheduler decision, as measured by ``edgelm bench`` at 6 nodes
    and rounded up; ``planning_s`` likewise for the planner."""

    refuse_above: float = 0.25
    replan_above: float = 0.1
    first_load: float = 0.9
    memory: float = 0.9  # of the estimate of prompts by origin, kept from slot to slot
    decision_s: float = 0.005
    planning_s: float = 2.0


class SolverPlanner:
    """Once an epoch: forecast, solve, and keep the old plan unless the new one pays for its
    start-ups within the epoch."""

    def __init__(self, scenario: Scenario, parameters: SolverParameters) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._program = Program(scenario)
        self._hosts = scenario.hosts()
        self._plan: Plan | None = None
        self._demand: Demand | None = None
        self._up: Bools | None = None
        self._policy: MacroPolicy | None = None

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        demand = _forecast(telemetry)
        first = self._plan is None or self._policy is None
        if demand is None and first:
            demand = self._first_demand(state.up)
        if demand is None or not (first or self._moved(demand, state)):
            assert self._policy is not None  # noqa: S101  a first plan was made above
            return Decision(self._policy, (Call(self._parameters.decision_s),))
        current = list(self._plan.allocation) if self._plan else self._program.nothing()
        fresh = self._program.solve(demand, state.up, current)
        lost_or_found = not np.array_equal(state.up, self._up)
        if self._plan is None or lost_or_found or self._pays(fresh, self._plan, demand):
            self._plan = fresh
        self._demand, self._up = demand, state.up.copy()
        self._policy = _policy(self._plan, demand, self._hosts)
        return Decision(self._policy, (Call(self._parameters.planning_s),))

    def _moved(self, demand: Demand, state: ClusterState) -> bool:
        """The world is no longer what the plan was made for, by more than chance would do."""
        if self._demand is None or not np.array_equal(state.up, self._up):
            return True
        then, now = (d.requests * d.prompts for d in (self._demand, demand))
        chance = 3 * np.sqrt(then * self._demand.prompts / self._scenario.epoch_slots)
        limit = np.maximum(self._parameters.replan_above * then, chance)
        return bool(np.any(np.abs(now - then) > limit))

    def _first_demand(self, up: Bools) -> Demand:
        """The load to prepare for before anything was seen: equal requests of single prompts for
        all LMs, nearly as many as the cluster can serve."""
        ones = np.ones(len(self._scenario.testbed.lms))
        highest = self._program.highest_load(ones, up)
        return Demand(self._parameters.first_load * highest * ones, ones)

    def _pays(self, fresh: Plan, held: Plan, demand: Demand) -> bool:
        """Requests in the system that the fresh plan saves over an epoch exceed those that wait
        while its pods start."""
        slot_s, lms = self._scenario.slot_s, self._scenario.testbed.lms
        total = np.maximum(held.requests.sum(axis=0), 1e-9)
        rescaled = held.requests * (demand.requests / total)
        saved = self._cost(held, rescaled, demand) - self._cost(fresh, fresh.requests, demand)
        waiting = 0.0
        for n, (new, old) in enumerate(zip(fresh.allocation, held.allocation, strict=True)):
            for i, lm in enumerate(lms):
                if new.mode[i] == OFF or (
                    new.mode[i] == old.mode[i] and new.cores[i] == old.cores[i]
                ):
                    continue
                profile = self._scenario.profile.lms[lm.name]
                start_s = profile.start_gpu_s if new.mode[i] == GPU else profile.start_cpu_s
                away = (start_s + (profile.stop_s if old.mode[i] != OFF else 0.0)) / slot_s
                waiting += fresh.requests[n, i] * away * (away + 1) / 2
        return saved * self._scenario.epoch_slots > waiting

    def _cost(self, plan: Plan, requests: Floats, demand: Demand) -> float:
        loss = self._scenario.profile.switch_loss
        return sum(
            cost(allocation, requests[n], demand.prompts, self._scenario.slot_s, loss)
            for n, allocation in enumerate(plan.allocation)
        )


class SolverDeployer:
    """Each node: the best allocation for its role and its share of the load."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._allocations = {
            int(n): allocations
            for rows, allocations in enumerate_allocations(scenario)
            for n in rows
        }
        self._policy: MacroPolicy | None = None
        self._goal: Deployment | None = None
        self._several = [node.gpus > 1 for node in scenario.testbed.nodes]

    async def deploy(self, state: ClusterState, policy: MacroPolicy) -> Decision[Deployment]:
        if self._goal is None or policy is not self._policy:
            chosen = [self._choose(int(n), policy) for n in state.rows]
            self._policy = policy
            self._goal = Deployment(
                mode=np.array([a.mode for a in chosen]),
                cores=np.array([a.cores for a in chosen]),
                vgpus=np.array([a.vgpus for a in chosen]),
            )
        deployment = self._regroup(_drain(self._goal, state), state)
        return Decision(deployment, (Call(),) * len(state.rows))

    def _regroup(self, goal: Deployment, state: ClusterState) -> Deployment:
        """The goal, but where its pods would not get the GPUs that it counts on, all of the node's
        GPU pods are stopped first: started together they land as expected."""
        astray = np.array(
            [
                self._several[n] and _astray(goal.mode[r], self._cards(n, goal.mode[r]), state, r)
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

    def _cards(self, n: int, mode: Ints) -> Ints:
        node = self._scenario.testbed.nodes[n]
        return likely_cards(mode, node.gpus, node.vgpus_per_gpu)

    def _choose(self, n: int, policy: MacroPolicy) -> Allocation:
        lms = len(self._scenario.testbed.lms)
        demand = policy.demand or Demand(np.ones(lms), np.ones(lms))
        requests = policy.routing[n] * demand.requests
        in_role = [a for a in self._allocations[n] if np.array_equal(a.active, policy.roles[n])]
        within = in_role or [
            a for a in self._allocations[n] if not np.any(a.active & ~policy.roles[n])
        ]
        slot_s, loss = self._scenario.slot_s, self._scenario.profile.switch_loss
        return min(within, key=lambda a: cost(a, requests, demand.prompts, slot_s, loss))


class SolverScheduler:
    """Earliest expected completion over the pods that run or start, slowest LMs first.

    ``foresight(slot)`` gives the prompts (N, I) that will be born in a slot, which no contestant
    knows: it turns SOLVER into the diagnostic ORACLE, whose lead is what that information is
    worth."""

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
        self._wanted: tuple[Ints, Floats] | None = None
        self._prompt_s = np.full(shape, np.inf)
        self._sharing = np.zeros((*shape, shape[1]), np.bool_)  # two pods on one GPU
        lms = [scenario.profile.lms[lm.name] for lm in scenario.testbed.lms]
        self._start_s = np.array([[0.0, lm.start_cpu_s, lm.start_gpu_s] for lm in lms])
        self._stop_s = np.array([lm.stop_s for lm in lms])

    async def schedule(self, state: ClusterState, policy: MacroPolicy) -> Decision[RoutingPlan]:
        self._learn(state, policy)
        self._read_pods(state)
        speed_s = np.where(np.isfinite(self._prompt_s), self._prompt_s, 0.0)
        work_s = state.backlog * speed_s  # (N, I) ahead of a newcomer
        destination = np.zeros(work_s.shape, np.int64)
        usable = np.isfinite(self._prompt_s) & state.up[:, None] & policy.roles
        for i in np.argsort(-np.where(usable, self._prompt_s, 0.0).max(axis=0)):
            nodes = np.flatnonzero(usable[:, i])
            if len(nodes) == 0:  # none wanted yet: those meant to have it, else those that could
                nodes = np.flatnonzero(policy.roles[:, i] & state.up)
            if len(nodes) == 0:
                nodes = np.flatnonzero(policy.routing[:, i])
            self._assign(int(i), nodes, work_s, speed_s, state, destination)
        return Decision(RoutingPlan(destination), self._call)

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
        limit_s = self._parameters.refuse_above * self._scenario.tau_s
        for origin in np.argsort(-self._expected[:, i], kind="stable"):
            ahead_s = own_s + self._expected[origin, i] * prompt_s
            overlap_s = np.minimum(ahead_s[:, None], others_s)
            done_s = delay_s + ahead_s + overlap_s.sum(axis=1)
            before_s = np.minimum(own_s[:, None], others_s)
            held_up_s = ((overlap_s - before_s) * crowd).sum(axis=1)
            best = int(np.argmin(done_s + held_up_s))
            if done_s[best] > limit_s:
                destination[origin, i] = REFUSE
                continue
            destination[origin, i] = nodes[best]
            own_s[best] = ahead_s[best]
        work_s[nodes, i] = own_s

    def _delay_s(self, state: ClusterState) -> Floats:
        """(N, I) until the pod serves, if it does not yet."""
        lms = np.arange(len(self._stop_s))
        start_s = self._start_s[lms, state.want_mode]
        stop_s = np.where(state.mode != OFF, self._stop_s, 0.0)
        delay_s = np.where(state.pod == POD_STARTING, start_s, start_s + stop_s)
        return np.where(state.pod == POD_READY, 0.0, delay_s)

    def _learn(self, state: ClusterState, policy: MacroPolicy) -> None:
        """Update the estimates of prompts by origin and of prompts a request."""
        if policy.demand is not None:
            self._batch = policy.demand.prompts
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
        """GPU sharing as it is, speeds of the pods as wanted."""
        shared = (state.cards[:, :, None] & state.cards[:, None, :]) != 0
        self._sharing = shared & ~np.eye(shared.shape[1], dtype=np.bool_)
        wanted = state.want_mode, state.want_cores
        if self._wanted is not None and all(map(np.array_equal, self._wanted, wanted)):
            return
        self._wanted = wanted
        for n, (mode, cores) in enumerate(zip(*wanted, strict=True)):
            self._prompt_s[n] = prompt_seconds(self._scenario, n, mode, cores)


def _astray(mode: Ints, card: Ints, state: ClusterState, row: int) -> bool:
    """Pods hold GPUs now, and keeping them would group the goal's GPU pods other than ``card``."""
    held, wanted = state.cards[row], mode == GPU
    if not held.any():
        return False
    if np.any(wanted & (held == 0)) or np.any(~wanted & (held != 0)):
        return True
    a, b = held[wanted], card[wanted]
    return not np.array_equal((a[:, None] & a) != 0, b[:, None] == b)


def _drain(goal: Deployment, state: ClusterState) -> Deployment:
    """The goal, but a node with requests for a pod that it would switch off stays as it is until
    they are done: requests do not move."""
    leaving = (goal.mode == OFF) & (state.want_mode != OFF) & (state.backlog > 0)
    keep = leaving.any(axis=1)[:, None]
    if not keep.any():
        return goal
    return Deployment(
        mode=np.where(keep, state.want_mode, goal.mode),
        cores=np.where(keep, state.want_cores, goal.cores),
        vgpus=np.where(keep, state.want_vgpus, goal.vgpus),
    )


def _forecast(telemetry: Telemetry) -> Demand | None:
    """The window's mean load; None if nothing arrived. An LM without arrivals keeps a trickle, so
    that some pod is there when it returns."""
    slots = telemetry.last_slot - telemetry.first_slot + 1
    requests, prompts = telemetry.arrived_requests, telemetry.arrived_prompts
    if slots <= 0 or not requests.any():
        return None
    trickle = 0.01 * requests.sum() / slots
    return Demand(
        requests=np.maximum(requests / slots, trickle),
        prompts=np.where(requests > 0, prompts / np.maximum(1, requests), 1.0),
    )


def _policy(plan: Plan, demand: Demand, hosts: Bools) -> MacroPolicy:
    """The plan as routing shares and roles. An LM that the plan cannot serve is meant for all
    nodes that could host it."""
    requests = np.where(plan.requests.sum(axis=0) > 0, plan.requests, hosts)
    return MacroPolicy(
        routing=requests / requests.sum(axis=0),
        roles=np.array([allocation.active for allocation in plan.allocation]),
        demand=demand,
    )
