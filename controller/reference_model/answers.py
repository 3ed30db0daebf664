"""SOLVER's decisions as replies to the three agents' prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import REFUSE, Demand, Deployment, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, MODES, OFF, ClusterState
from controller.policies.solver.deployer import SolverDeployer
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.planner import Held, SolverPlanner, expect
from controller.policies.solver.scheduler import SolverScheduler
from controller.reference_model.reading import (
    MISREAD,
    Json,
    UnreadablePromptError,
    block,
    demand_of,
    parse,
    policy_of,
    scenario_of,
    state_of,
)

DIGITS: Final = 6
MORE: Final = 1.15  # times the load seen: a plan with room for bursts
SITUATIONS: Final = 1000  # of a planner, kept with their replies
CONTEXTS: Final = 64  # kept ready; a campaign has a few per testbed

Reply = dict[str, Any]


def answer(messages: Sequence[Json]) -> Reply:
    """Return SOLVER's reply.

    Raises:
        UnreadablePromptError: these are not the messages of one of our agents.
    """
    context = block(messages, "context")
    agent = _agent(context or "")
    observation = parse(block(messages, "observation"), "<observation>")
    try:
        return agent(observation)
    except MISREAD as error:
        raise UnreadablePromptError(f"the observation lacks something: {error!r}") from error


def candidates(messages: Sequence[Json]) -> list[Reply]:
    """Return macro-policies that the planner would have rehearsed, the likeliest first.

    Raises:
        UnreadablePromptError: as :func:`answer`; the prompt is not a planner's.
    """
    agent = _agent(block(messages, "context") or "")
    if not isinstance(agent, Planner):
        raise UnreadablePromptError("only the planner rehearses")
    return agent.candidates(parse(block(messages, "observation"), "<observation>"))


@lru_cache(maxsize=CONTEXTS)
def _agent(context: str) -> Callable[[Json], Reply]:
    told = parse(context or None, "<context>")
    kinds: dict[str, Callable[[Scenario], Callable[[Json], Reply]]] = {
        "planner": Planner,
        "scheduler": Scheduler,
        "deployer": Deployer,
    }
    if told.get("agent") not in kinds:
        raise UnreadablePromptError(f"no such agent: {told.get('agent')!r}")
    try:
        return kinds[told["agent"]](scenario_of(told))
    except MISREAD as error:
        raise UnreadablePromptError(f"the context lacks something: {error!r}") from error


class Planner:
    """Plans from the policy in force and the load seen, as SOLVER's planner does."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._solver = SolverPlanner(scenario, SolverParameters())
        self._replies: dict[str, Reply] = {}

    def __call__(self, observation: Json) -> Reply:
        """Return the plan. It follows from the observation alone, whatever the slot, and takes a
        second to find: all seeds begin with the same one."""
        situation = json.dumps({**observation, "slot": None}, sort_keys=True)
        if situation not in self._replies:
            if len(self._replies) == SITUATIONS:
                self._replies.clear()
            self._replies[situation] = self._plan(observation)
        return self._replies[situation]

    def _plan(self, observation: Json) -> Reply:
        names, lms = self._scenario.testbed.node_names, self._scenario.testbed.lm_names
        up = np.array([name not in observation["nodes_down"] for name in names])
        seen = demand_of(lms, observation["demand"])
        held = self._held(observation)
        demand = None if seen is None else expect(seen.requests, seen.prompts)
        fresh = self._solver.replan(demand, up, held)
        kept = held is not None and fresh.policy is held.policy
        return self._reply(fresh.policy, _reason(seen, held, kept=kept))

    def candidates(self, observation: Json) -> list[Reply]:
        """Return the optimiser's answer, a plan for a somewhat higher load, and the policy in
        force."""
        found = [self(observation)]
        names = self._scenario.testbed.node_names
        up = np.array([name not in observation["nodes_down"] for name in names])
        seen = demand_of(self._scenario.testbed.lm_names, observation["demand"])
        if seen is not None:
            more = expect(seen.requests * MORE, seen.prompts)
            roomier = self._solver.replan(more, up, None).policy
            found.append(self._reply(roomier, f"Planned for {MORE - 1:.0%} more load."))
        held = self._held(observation)
        if held is not None and bool(up.all()):
            found.append(self._reply(held.policy, "The policy in force."))
        return found

    def _held(self, observation: Json) -> Held | None:
        if observation["policy"] is None:
            return None
        then = observation["nodes_down_when_decided"]
        names = self._scenario.testbed.node_names
        policy = policy_of(self._scenario, observation["policy"])
        return Held(policy, np.array([name not in then for name in names]))

    def _reply(self, policy: MacroPolicy, reason: str) -> Reply:
        names, lms = self._scenario.testbed.node_names, self._scenario.testbed.lm_names
        hosts = self._scenario.hosts()
        demand = policy.demand or Demand(np.zeros(len(lms)), np.ones(len(lms)))
        return {
            "reason": reason,
            "forecast": {
                lm: {
                    "requests_per_slot": round(float(demand.requests[i]), DIGITS),
                    "prompts_per_request": round(float(demand.prompts[i]), DIGITS),
                }
                for i, lm in enumerate(lms)
            },
            "routing": {
                lm: {
                    name: round(float(policy.routing[n, i]), DIGITS)
                    for n, name in enumerate(names)
                    if hosts[n, i]
                }
                for i, lm in enumerate(lms)
            },
            "roles": {
                name: [lm for i, lm in enumerate(lms) if policy.roles[n, i]]
                for n, name in enumerate(names)
                if hosts[n].any()
            },
        }


class Scheduler:
    """Sends each origin's requests where they are expected to be done first."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._expected: NDArray[Any] = np.zeros((0, 0))
        self._solver = SolverScheduler(scenario, SolverParameters(), lambda _: self._expected)
        self._hosts = scenario.hosts()

    def __call__(self, observation: Json) -> Reply:
        names, lms = self._scenario.testbed.node_names, self._scenario.testbed.lm_names
        expected = observation["expected_prompts"]
        self._expected = np.array([[expected[name][lm] for lm in lms] for name in names])
        down = observation["nodes_down"]
        state = state_of(self._scenario, observation["pods"], down, observation["slot"])
        policy = policy_of(self._scenario, observation["policy"])
        plan = self._solver.assign(state, policy)
        # Where a shard has none of an LM's nodes, others have.
        absent = np.logical_not((policy.roles & self._hosts).any(axis=0)).tolist()
        word = {REFUSE: "refuse", **dict(enumerate(names))}
        return {
            lm: {
                name: "elsewhere" if absent[i] else word[int(plan.destination[n, i])]
                for n, name in enumerate(names)
            }
            for i, lm in enumerate(lms)
        }


class Deployer:
    """Runs a node's role at the least cost for its share of the load."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._solver = SolverDeployer(scenario)
        self._aims: dict[tuple[Any, ...], Deployment] = {}
        self._hosts = scenario.hosts()[0]

    def __call__(self, observation: Json) -> Reply:
        lms = self._scenario.testbed.lm_names
        (name,) = self._scenario.testbed.node_names
        role = np.array([[lm in observation["role"] for lm in lms]])
        demand = demand_of(lms, observation["expected"])
        state = state_of(self._scenario, {name: observation["pods"]}, (), observation["slot"])
        key = (
            role.tobytes(),
            *(b"" if demand is None else (demand.requests.tobytes(), demand.prompts.tobytes())),
        )
        if key not in self._aims:
            policy = MacroPolicy(np.ones((1, len(lms))), role, demand)
            self._aims[key] = self._solver.aim(state.rows, policy)
        step = self._solver.approach(self._aims[key], state)
        if observation["blocked"]:
            step = _stay_or_stop(step, state)
        return {
            lm: {
                "mode": MODES[step.mode[0, i]],
                "cores": float(step.cores[0, i]),
                "vgpus": int(step.vgpus[0, i]) if step.mode[0, i] == GPU else 0,
            }
            for i, lm in enumerate(lms)
            if self._hosts[i]
        }


def _stay_or_stop(step: Deployment, state: ClusterState) -> Deployment:
    """Return the part of a step that the Pending rule lets pass: pods that would need more stay as
    they are."""
    passes = (step.mode == OFF) | (
        (step.mode == state.want_mode) & (step.cores <= state.want_cores)
    )
    return Deployment(
        mode=np.where(passes, step.mode, state.want_mode),
        cores=np.where(passes, step.cores, state.want_cores),
        vgpus=np.where(passes, step.vgpus, state.want_vgpus),
    )


def _reason(seen: Demand | None, held: Held | None, *, kept: bool) -> str:
    if seen is None:
        return "Nothing has been observed: equal loads near the highest that fits are assumed."
    if kept:
        return "The load is what the policy was made for, so it stays."
    if held is None or held.policy.demand is None:
        return "The first plan for an observed load."
    return "The load or the nodes have changed; the plan is solved anew where that pays."
