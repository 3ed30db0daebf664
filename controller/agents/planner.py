"""The planning agent: once an epoch, a policy from telemetry and past cases (section IV-A)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from controller.agents.cases import sentence
from controller.agents.checks import PolicyCheck
from controller.agents.endpoint.answers import one_line
from controller.agents.memory import CaseMemory
from controller.agents.performance import demand
from controller.agents.prompts import Prompts
from controller.agents.replies import planner_format
from controller.agents.step import Question, Step
from controller.agents.views import (
    PlannerView,
    SystemView,
    cluster_context,
    demand_json,
    policy_json,
)
from controller.agents.what_if import Rehearse, what_if
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
        self._format = planner_format(scenario)
        self._check = PolicyCheck(scenario)
        self._known = SystemView(cluster_context(scenario, "planner"))

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        check = partial(self._check, up=state.up)
        self._up[state.slot + 1] = state.up.tolist()
        views = {"system": self._known, "user": await self._view(state, telemetry, in_force)}
        answer = await self._step.decide(
            Question(
                slot=state.slot + 1,
                tier="planner",
                node="",
                messages=[
                    {"role": role, "content": self._prompts.render(f"planner/{role}.j2", view)}
                    for role, view in views.items()
                ],
                format=self._format,
                check=check,
                tool=what_if(self._format, check, self._rehearse, state, self._trials),
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
        observation: dict[str, Any] = {
            "slot": state.slot + 1,
            "nodes_down": [name for name in names if name not in up],
            "demand": demand_json(lms, seen) if arrived else None,
            "policy": policy_json(self._scenario, in_force.policy) if in_force else None,
        }
        if in_force and in_force.policy_slot in self._up:
            then = zip(names, self._up[in_force.policy_slot], strict=True)
            observation["nodes_down_when_decided"] = [name for name, was_up in then if not was_up]
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
