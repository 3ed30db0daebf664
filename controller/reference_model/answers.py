"""SOLVER's decisions as replies to the three agents' prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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
CLASS_DIGITS: Final = 4  # of shares by class: every digit is paid for
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
    by_class: dict[str, Callable[..., Callable[[Json], Reply]]] = {
        "planner": ClassPlanner,
        "scheduler": ClassScheduler,
    }
    try:
        if "classes" in told:
            return by_class[told["agent"]](scenario_of(told), sizes_of(told))
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
        up = self._up(observation)
        seen = demand_of(self._scenario.testbed.lm_names, observation["demand"])
        held = self._held(observation)
        demand = None if seen is None else expect(seen.requests, seen.prompts)
        fresh = self._solver.replan(demand, up, held)
        kept = held is not None and fresh.policy is held.policy
        return self._reply(fresh.policy, _reason(seen, held, kept=kept))

    def candidates(self, observation: Json) -> list[Reply]:
        """Return the optimiser's answer, a plan for a somewhat higher load, and the policy in
        force."""
        found, up = [self(observation)], self._up(observation)
        seen = demand_of(self._scenario.testbed.lm_names, observation["demand"])
        if seen is not None:
            more = expect(seen.requests * MORE, seen.prompts)
            roomier = self._solver.replan(more, up, None).policy
            found.append(self._reply(roomier, f"Planned for {MORE - 1:.0%} more load."))
        held = self._held(observation)
        if held is not None and bool(up.all()):
            found.append(self._reply(held.policy, "The policy in force."))
        return found

    def _up(self, observation: Json) -> NDArray[np.bool_]:
        names = self._scenario.testbed.node_names
        return np.array([name not in observation["nodes_down"] for name in names])

    def _held(self, observation: Json) -> Held | None:
        then = observation.get("nodes_down_when_decided")
        if observation["policy"] is None or then is None:
            return None  # who was up then is unknown after a restart, or if the guard decided
        names = self._scenario.testbed.node_names
        policy = policy_of(self._scenario, observation["policy"])
        return Held(policy, np.array([name not in then for name in names]))

    def _reply(self, policy: MacroPolicy, reason: str) -> Reply:
        names, lms = self._scenario.testbed.node_names, self._scenario.testbed.lm_names
        hosts = self._scenario.hosts()
        return {
            "reason": reason,
            "forecast": _forecast(lms, policy, DIGITS),
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


class ClassPlanner(Planner):
    """A planner for classes of nodes. It solves for all nodes; those of a class have no names."""

    def __init__(self, scenario: Scenario, sizes: Mapping[str, int]) -> None:
        super().__init__(scenario)
        self._rows = rows_of(sizes)

    def _up(self, observation: Json) -> NDArray[np.bool_]:
        return _up_by_class(self._rows, observation["down"])

    def _held(self, observation: Json) -> Held | None:
        if observation["policy"] is None:
            return None
        lms, told = self._scenario.testbed.lm_names, observation["policy"]
        routing = np.zeros(self._scenario.hosts().shape)
        roles = np.zeros(routing.shape, np.bool_)
        for name, rows in self._rows.items():
            first = 0
            for group in told["classes"][name]:
                nodes = rows[first : first + group["nodes"]]
                first += group["nodes"]
                for one in group["lms"]:
                    i = lms.index(one["lm"])
                    roles[nodes, i] = True
                    routing[nodes, i] = one["share"] / len(nodes)
        routing /= np.maximum(routing.sum(axis=0), 1e-9)  # shares are rounded
        up = self._up(observation) if observation["same_nodes_up"] else None
        return Held(MacroPolicy(routing, roles, demand_of(lms, told["forecast"])), up)

    def _reply(self, policy: MacroPolicy, reason: str) -> Reply:
        lms = self._scenario.testbed.lm_names
        classes = {}
        for name, rows in self._rows.items():
            shares = np.round(policy.routing[rows] * len(policy.routing), 3)
            facts = np.hstack([policy.roles[rows], shares])
            _, first, of = np.unique(facts, axis=0, return_index=True, return_inverse=True)
            groups = []
            for g, row in enumerate(first.tolist()):
                nodes = rows[of.reshape(-1) == g]
                share = policy.routing[nodes].sum(axis=0)
                told = [
                    {"lm": lm, "share": round(float(share[i]), CLASS_DIGITS)}
                    for i, lm in enumerate(lms)
                    if policy.roles[rows[row], i]
                ]
                groups += [{"nodes": len(nodes), "lms": told}] if told else []
            classes[name] = groups
        return {
            "reason": reason,
            "forecast": _forecast(lms, policy, CLASS_DIGITS),
            "classes": classes,
        }


class ClassScheduler:
    """A scheduler for classes: as :class:`Scheduler`, with every node of a group as loaded as their
    mean."""

    def __init__(self, scenario: Scenario, sizes: Mapping[str, int]) -> None:
        self._scenario = scenario
        self._rows = rows_of(sizes)
        self._expected: NDArray[Any] = np.zeros((0, 0))
        self._solver = SolverScheduler(scenario, SolverParameters(), lambda _: self._expected)

    def __call__(self, observation: Json) -> Reply:
        testbed = self._scenario.testbed
        lms, names = testbed.lm_names, testbed.node_names
        up = _up_by_class(self._rows, observation["down"])
        pods: dict[str, Json] = {}
        roles = np.zeros((len(names), len(lms)), np.bool_)
        for name, groups in observation["classes"].items():
            first = 0
            for group in groups:
                nodes = self._rows[name][first : first + group["nodes"]]
                first += group["nodes"]
                roles[nodes] = [lm in group["role"] for lm in lms]
                for k, n in enumerate(nodes.tolist()):
                    pods[names[n]] = {
                        lm: {**pod, "backlog": (pod["backlog"] + k) // len(nodes)}
                        for lm, pod in group["pods"].items()
                    }
        down = [name for name, is_up in zip(names, up.tolist(), strict=True) if not is_up]
        state = state_of(self._scenario, pods, down, observation["slot"])
        total = np.array([observation["expected_prompts"][lm] for lm in lms])
        self._expected = np.tile(total / len(names), (len(names), 1))
        policy = MacroPolicy(
            self._routing(observation["shares"], roles),
            roles,
            demand_of(lms, observation["forecast"]),
        )
        destination = self._solver.assign(state, policy).destination
        return {lm: self._row(destination[:, i], roles[:, i] & up) for i, lm in enumerate(lms)}

    def _routing(self, shares: Json, roles: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return (N, I) shares, those of a class evenly on its nodes whose role has the LM."""
        routing = np.zeros(roles.shape)
        for i, lm in enumerate(self._scenario.testbed.lm_names):
            for name, share in shares[lm].items():
                rows = self._rows[name]
                nodes = rows[roles[rows, i]]
                routing[nodes, i] = share / max(1, len(nodes))
        return routing

    def _row(self, destination: NDArray[np.int64], able: NDArray[np.bool_]) -> Reply:
        taken = destination[destination >= 0]
        to = [
            name
            for name, rows in self._rows.items()
            if able[rows].any() and np.isin(rows, taken).any()
        ]
        return {"to": to, "refuse": round(1 - len(taken) / len(destination), CLASS_DIGITS)}


def sizes_of(context: Json) -> dict[str, int]:
    """Return the number of nodes of each class."""
    return {name: int(group["nodes"]) for name, group in context["classes"].items()}


def rows_of(sizes: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each class's nodes, class after class."""
    ends = np.cumsum(list(sizes.values()))
    return {
        name: np.arange(end - size, end)
        for (name, size), end in zip(sizes.items(), ends.tolist(), strict=True)
    }


def _up_by_class(rows: Mapping[str, NDArray[np.int64]], down: Json) -> NDArray[np.bool_]:
    """Return (N,) the nodes that are up; the last ones of a class are those that are not."""
    up = np.ones(sum(map(len, rows.values())), np.bool_)
    for name, count in down.items():
        up[rows[name][len(rows[name]) - count :]] = False
    return up


def _forecast(lms: Sequence[str], policy: MacroPolicy, digits: int) -> Reply:
    demand = policy.demand or Demand(np.zeros(len(lms)), np.ones(len(lms)))
    return {
        lm: {
            "requests_per_slot": round(float(demand.requests[i]), digits),
            "prompts_per_request": round(float(demand.prompts[i]), digits),
        }
        for i, lm in enumerate(lms)
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
