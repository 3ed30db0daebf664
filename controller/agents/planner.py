"""The planning agent: once an epoch, a policy from telemetry and past cases (section IV-A)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from controller.agents.cases import sentence
from controller.agents.checks import PolicyCheck
from controller.agents.classes import (
    LARGE,
    ClassPolicyCheck,
    class_context,
    class_planner_format,
    class_policy_json,
    classes_of,
)
from controller.agents.endpoint.answers import one_line
from controller.agents.memory import CaseMemory
from controller.agents.performance import demand
from controller.agents.prompts import Prompts
from controller.agents.replies import planner_format
from controller.agents.step import Question, Step
from controller.agents.views import (
    Json,
    PlannerView,
    SystemView,
    cluster_context,
    demand_json,
    policy_json,
)
from controller.agents.what_if import Check, Rehearse, what_if
from controller.domain.decisions import Decision, InForce, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Planner


class PlannerAgent:
    """Observes, asks, checks; falls back to ``fallback``'s policy.

    ``baseline`` says in a sentence what random policies achieve; it is measured at first use.
    Up to ``trials`` candidates may be tried with ``rehearse`` before it answers.
    """

    def __init__(
        self,
        scenario: Scenario,
        step: Step,
        prompts: Prompts,
        memory: CaseMemory,
        fallback: Planner,
        baseline: Callable[[], Awaitable[str]],
        rehearse: Rehearse,
        trials: int,
    ) -> None:
        self._scenario = scenario
        self._step = step
        self._prompts = prompts
        self._memory = memory
        self._up: dict[int, list[bool]] = {}  # slot of a decision -> nodes that were up
        self._fallback = fallback
        self._baseline = baseline
        self._random = ""  # what it said
        self._rehearse = rehearse
        self._trials = trials
        large = len(scenario.testbed.nodes) > LARGE
        self._words: ByNode | ByClass = ByClass(scenario) if large else ByNode(scenario)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        check = self._words.check(state, in_force)
        self._up[state.slot + 1] = state.up.tolist()
        view = await self._view(state, telemetry, in_force)
        said = {
            "system": self._prompts.render(self._words.template, self._words.known),
            "user": self._prompts.render("planner/user.j2", view),
        }
        answer = await self._step.decide(
            Question(
                slot=state.slot + 1,
                tier="planner",
                node="",
                messages=[{"role": role, "content": text} for role, text in said.items()],
                format=self._words.format,
                check=check,
                tool=what_if(self._words.format, check, self._rehearse, state, self._trials),
            )
        )
        if answer.value is None:
            fallback = await self._fallback.plan(state, telemetry, in_force)
            return Decision(fallback.value, (answer.call,))
        reason = one_line(answer.reply["reason"])  # shown on terminals: no control characters
        return Decision(answer.value, (replace(answer.call, detail=reason),))

    async def _view(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> PlannerView:
        names, lms = self._scenario.testbed.node_names, self._scenario.testbed.lm_names
        seen = demand(telemetry)
        arrived = bool(telemetry.arrived_requests.any())
        up = [name for name, is_up in zip(names, state.up.tolist(), strict=True) if is_up]
        then = self._up.get(in_force.policy_slot) if in_force else None
        observation: dict[str, Any] = {
            "slot": state.slot + 1,
            "demand": demand_json(lms, seen) if arrived else None,
            "policy": self._words.policy(in_force.policy) if in_force else None,
            **self._words.nodes_down(state.up.tolist(), then),
        }
        self._random = self._random or await self._baseline()
        past, latest = self._memory.recall(seen, up), self._memory.latest
        return PlannerView(
            observation=observation,
            epoch=(state.slot + 1) // self._scenario.epoch_slots,
            baseline=self._random,
            last=sentence(latest) if latest else "",
            best=[str(case) for case in past.best],
            worst=[str(case) for case in past.worst],
            nearest=[str(case) for case in past.nearest],
            what_if=self._trials,
        )


class ByNode:
    """Words for a cluster of few nodes: shares and roles node by node."""

    template = "planner/system.j2"

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._check = PolicyCheck(scenario)
        self.format = planner_format(scenario)
        self.known = SystemView(cluster_context(scenario, "planner"))

    def check(self, state: ClusterState, in_force: InForce | None) -> Check:
        del in_force
        return partial(self._check, up=state.up)

    def policy(self, policy: MacroPolicy) -> Json:
        return policy_json(self._scenario, policy)

    def nodes_down(self, up: list[bool], then: list[bool] | None) -> Json:
        """Return the nodes that are down, and those that were when the policy was decided."""
        names = self._scenario.testbed.node_names
        found = {"nodes_down": [n for n, is_up in zip(names, up, strict=True) if not is_up]}
        if then is not None:
            were = [n for n, was_up in zip(names, then, strict=True) if not was_up]
            found["nodes_down_when_decided"] = were
        return found


class ByClass:
    """Words for a large cluster: groups of nodes within classes of one hardware and site."""

    template = "planner/classes.j2"

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._classes = classes_of(scenario)
        self._check = ClassPolicyCheck(scenario, self._classes)
        self.format = class_planner_format(scenario, self._classes)
        self.known = SystemView(class_context(scenario, "planner", self._classes))

    def check(self, state: ClusterState, in_force: InForce | None) -> Check:
        former = in_force.policy if in_force else None
        return partial(self._check, up=state.up, former=former)

    def policy(self, policy: MacroPolicy) -> Json:
        return class_policy_json(self._scenario, self._classes, policy)

    def nodes_down(self, up: list[bool], then: list[bool] | None) -> Json:
        """Return the number of nodes that are down by class, and if they are the same as when the
        policy was decided."""
        return {"down": self._classes.down(np.array(up)), "same_nodes_up": up == then}
