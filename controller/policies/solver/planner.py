"""The planner: forecast, solve, and change plans only where that pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Call, Decision, Demand, InForce, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, ClusterState, Telemetry
from controller.policies.solver.allocation import SHORTAGE, cost
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.program import Plan, Program

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The policy in force and the nodes that were up when it was made."""

    policy: MacroPolicy
    up: Bools | None  # (N,); None if unknown


class SolverPlanner:
    """Planner that forecasts and solves once an epoch, and keeps the old plan unless the new one
    pays for its start-ups within the epoch."""

    def __init__(self, scenario: Scenario, parameters: SolverParameters) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._program = Program(scenario)
        self._hosts = scenario.hosts()
        self._made: Held | None = None  # the last policy decided here

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        former = self._former(in_force)
        held = self._made = self.replan(forecast(telemetry), state.up, former)
        p = self._parameters
        return Decision(held.policy, (Call(p.decision_s if held is former else p.planning_s),))

    def _former(self, in_force: InForce | None) -> Held | None:
        """Return the policy in force with the nodes that were up when it was made; these are
        unknown (None) if another process made it."""
        if in_force is None:
            return None
        if self._made is not None and self._made.policy == in_force.policy:
            return self._made
        return Held(in_force.policy, None)

    def replan(self, seen: Demand | None, up: Bools, held: Held | None) -> Held:
        """Return the next policy, a function of the arguments alone. ``seen`` is None before
        anything has arrived; ``up`` (N,) are the nodes that are up now."""
        if held is not None and (seen is None or not self._moved(seen, up, held)):
            return held
        demand = seen or self._first_demand(up)
        former = self._plan_of(held.policy) if held else None
        current = list(former.allocation) if former else self._program.nothing()
        plan = self._program.solve(demand, up, current)
        same_up = held is not None and held.up is not None and np.array_equal(up, held.up)
        if former and same_up and not self._pays(plan, former, demand):
            plan = former
        return Held(_policy(plan, demand, self._hosts, guessed=seen is None), up.copy())

    def _plan_of(self, policy: MacroPolicy) -> Plan:
        """Return the plan behind a policy: the allocations that the deployers choose for it."""
        lms = len(self._scenario.testbed.lms)
        demand = policy.demand or Demand(np.ones(lms), np.ones(lms))
        served = np.ones(lms) if policy.served is None else policy.served
        requests = policy.routing * demand.requests * served
        chosen = [
            self._program.best(n, policy.roles[n], requests[n], demand)
            for n in range(len(requests))
        ]
        return Plan(tuple(chosen), requests)

    def _moved(self, demand: Demand, up: Bools, held: Held) -> bool:
        """Return True if the nodes that are up have changed, or the demand by more than chance."""
        assumed = held.policy.demand
        if assumed is None or held.up is None or not np.array_equal(up, held.up):
            return True
        return self._differs(
            assumed.requests, demand.requests, np.ones(len(demand.requests))
        ) or self._differs(
            assumed.requests * assumed.prompts, demand.requests * demand.prompts, assumed.prompts
        )

    def _differs(self, then: Floats, now: Floats, each: Floats) -> bool:
        """Return True if a rate (I,) has changed by more than chance and ``replan_above``.
        Arrivals come in units of ``each`` (I,)."""
        chance = 3 * np.sqrt(then * each / self._scenario.epoch_slots)
        limit = np.maximum(self._parameters.replan_above * then, chance)
        return bool(np.any(np.abs(now - then) > limit))

    def _first_demand(self, up: Bools) -> Demand:
        """Return the load to prepare for before anything was seen: equal requests of single prompts
        for all LMs, nearly as many as the cluster can serve."""
        ones = np.ones(len(self._scenario.testbed.lms))
        highest = self._program.highest_load(ones, up)
        return Demand(self._parameters.first_load * highest * ones, ones)

    def _pays(self, fresh: Plan, held: Plan, demand: Demand) -> bool:
        """Return True if the fresh plan saves more requests in the system over an epoch than wait
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
        """Return the requests in the system under a plan; requests beyond it count as waiting
        SHORTAGE slots, as in ``cost``."""
        loss = self._scenario.profile.switch_loss
        unplaced = np.maximum(0.0, demand.requests - requests.sum(axis=0)).sum()
        return SHORTAGE * float(unplaced) + sum(
            cost(allocation, requests[n], demand.prompts, self._scenario.slot_s, loss)
            for n, allocation in enumerate(plan.allocation)
        )


def forecast(telemetry: Telemetry) -> Demand | None:
    """Return the window's mean load; None if nothing arrived."""
    slots = telemetry.last_slot - telemetry.first_slot + 1
    requests, prompts = telemetry.arrived_requests, telemetry.arrived_prompts
    if slots <= 0 or not requests.any():
        return None
    return expect(requests / slots, prompts / np.maximum(1, requests))


def expect(requests: Floats, prompts: Floats) -> Demand:
    """Return the demand to plan for after ``requests`` (I,) a slot of ``prompts`` (I,) each. An LM
    without arrivals keeps 1 % of all requests, so that it has a pod when it returns."""
    trickle = 0.01 * requests.sum()
    return Demand(np.maximum(requests, trickle), np.where(requests > 0, prompts, 1.0))


def _policy(plan: Plan, demand: Demand, hosts: Bools, *, guessed: bool) -> MacroPolicy:
    """Return the plan as routing shares and roles. An LM that the plan cannot serve gets equal
    shares on all its hosts. With a guessed demand, ``served`` stays None."""
    served = plan.requests.sum(axis=0)
    requests = np.where(served > 0, plan.requests, hosts)
    return MacroPolicy(
        routing=requests / requests.sum(axis=0),
        roles=np.array([allocation.active for allocation in plan.allocation]),
        demand=demand,
        served=None if guessed else np.minimum(1.0, served / demand.requests),
    )
