"""The planner: forecast, solve, and change plans only where that pays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Call, Decision, Demand, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, ClusterState, Telemetry
from controller.policies.solver.allocation import SHORTAGE, cost
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.program import Plan, Program

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
        self._up = np.ones(len(scenario.testbed.nodes), np.bool_)
        self._policy: MacroPolicy | None = None

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        seen = _forecast(telemetry)
        if self._policy is not None and (seen is None or not self._moved(seen, state)):
            return Decision(self._policy, (Call(self._parameters.decision_s),))
        demand = seen or self._first_demand(state.up)
        current = list(self._plan.allocation) if self._plan else self._program.nothing()
        fresh = self._program.solve(demand, state.up, current)
        lost_or_found = not np.array_equal(state.up, self._up)
        if self._plan is None or lost_or_found or self._pays(fresh, self._plan, demand):
            self._plan = fresh
        self._demand, self._up = seen, state.up.copy()
        self._policy = _policy(self._plan, demand, self._hosts, guessed=seen is None)
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
        """Requests in the system under a plan; those it has no place for count as in ``cost``."""
        loss = self._scenario.profile.switch_loss
        unplaced = np.maximum(0.0, demand.requests - requests.sum(axis=0)).sum()
        return SHORTAGE * float(unplaced) + sum(
            cost(allocation, requests[n], demand.prompts, self._scenario.slot_s, loss)
            for n, allocation in enumerate(plan.allocation)
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


def _policy(plan: Plan, demand: Demand, hosts: Bools, *, guessed: bool) -> MacroPolicy:
    """The plan as routing shares and roles. An LM that the plan cannot serve is meant for all
    nodes that could host it. A guessed demand says nothing of what can be served."""
    served = plan.requests.sum(axis=0)
    requests = np.where(served > 0, plan.requests, hosts)
    return MacroPolicy(
        routing=requests / requests.sum(axis=0),
        roles=np.array([allocation.active for allocation in plan.allocation]),
        demand=demand,
        served=None if guessed else np.minimum(1.0, served / demand.requests),
    )
