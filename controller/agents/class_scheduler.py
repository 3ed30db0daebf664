"""The scheduling agent of a large cluster: it names classes of nodes, and water-filling over their
headroom makes that one destination per origin.

Its prompt and reply do not grow with the cluster: per LM, the classes that take its requests, and
the share that is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from controller.agents.classes import Classes, class_context, class_pods_json, classes_of
from controller.agents.expectation import Waits
from controller.agents.prompts import Prompts
from controller.agents.replies import Format, listed, record
from controller.agents.step import Question, Step
from controller.agents.traffic import Traffic
from controller.agents.views import DIGITS, Json, SchedulerView, SystemView, demand_json
from controller.domain.decisions import REFUSE, Decision, InForce, MacroPolicy, RoutingPlan
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.ports import Scheduler

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ClassSchedulerAgent:
    """Observes, asks, checks; falls back to ``fallback``'s plan."""

    def __init__(
        self, scenario: Scenario, step: Step, prompts: Prompts, fallback: Scheduler
    ) -> None:
        self._scenario = scenario
        self._step = step
        self._prompts = prompts
        self._fallback = fallback
        self._classes = classes_of(scenario)
        self._traffic = Traffic((len(scenario.testbed.nodes), len(scenario.testbed.lms)))
        self._format = class_scheduler_format(scenario, self._classes)
        view = SystemView(class_context(scenario, "scheduler", self._classes))
        self._system = prompts.render("scheduler/classes.j2", view)

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        policy = in_force.policy
        self._traffic.note(state, in_force)
        drift = self._traffic.drift()
        view = SchedulerView(self._observe(state, policy, np.round(drift, 2).tolist()))
        usable = self._usable(state, policy)
        answer = await self._step.decide(
            Question(
                slot=state.slot + 1,
                tier="scheduler",
                node="",
                messages=[
                    {"role": "system", "content": self._system},
                    {"role": "user", "content": self._prompts.render("scheduler/user.j2", view)},
                ],
                format=self._format,
                check=partial(self._check, usable),
            )
        )
        call = replace(answer.call, drift=round(float(drift.mean()), 4))
        if answer.value is None:
            return Decision((await self._fallback.schedule(state, in_force)).value, (call,))
        waits = Waits(self._scenario, state, policy, self._traffic.expected)
        destination = fill(waits, usable & answer.value[0], answer.value[1])
        lost = destination == UNPLACED
        if lost.any():
            planned = (await self._fallback.schedule(state, in_force)).value.destination
            destination = np.where(lost, planned, destination)
        return Decision(RoutingPlan(destination), (call,))

    def _usable(self, state: ClusterState, policy: MacroPolicy) -> Bools:
        """Return (N, I) the nodes whose role has the LM, those that are up if any is."""
        meant = policy.roles & self._scenario.hosts()
        alive = meant & state.up[:, None]
        return np.where(alive.any(axis=0), alive, meant)

    def _observe(self, state: ClusterState, policy: MacroPolicy, drift: list[float]) -> Json:
        lms, classes = self._scenario.testbed.lm_names, self._classes
        expected = np.round(self._traffic.expected.sum(axis=0), DIGITS).tolist()
        shares = {
            lm: {
                name: round(float(policy.routing[rows, i].sum()), DIGITS)
                for name, rows in zip(classes.names, classes.rows, strict=True)
                if policy.routing[rows, i].any()
            }
            for i, lm in enumerate(lms)
        }
        return {
            "slot": state.slot + 1,
            "shares": shares,
            "forecast": demand_json(lms, policy.demand),
            "drift": dict(zip(lms, drift, strict=True)),
            "down": classes.down(state.up),
            "expected_prompts": dict(zip(lms, expected, strict=True)),
            "classes": class_pods_json(self._scenario, classes, state, policy),
        }

    def _check(self, usable: Bools, reply: Mapping[str, Any]) -> tuple[Bools, list[float]]:
        """Return ((N, I) the nodes of the classes named, (I,) the shares refused).

        Raises:
            InvalidDecision: naming every wrong entry.
        """
        chosen, problems = np.zeros(usable.shape, np.bool_), list[str]()
        refused: list[float] = []
        for i, lm in enumerate(self._scenario.testbed.lm_names):
            refuse, named = reply[lm]["refuse"], reply[lm]["to"]
            if not 0 <= refuse <= 1:
                problems.append(f"{lm}: refuse is a share between 0 and 1, not {refuse:g}")
            for name in named:
                rows = self._classes.rows[self._classes.names.index(name)]
                chosen[rows, i] = True
                if not usable[rows, i].any():
                    problems.append(f"{lm} to {name}: no node there has it in its role and is up")
            if not named and refuse < 1 and usable[:, i].any():
                problems.append(f"{lm}: name a class, or refuse all of it")
            refused.append(float(refuse))
        if problems:
            raise InvalidDecision(listed(problems))
        return chosen, refused


def class_scheduler_format(scenario: Scenario, classes: Classes) -> Format:
    """Return the format of, by LM, the classes that take its requests and the share refused."""
    lms = scenario.testbed.lm_names
    able = {lm: [n for n, can in zip(classes.names, classes.hosts[:, i], strict=True) if can]
            for i, lm in enumerate(lms)}  # fmt: skip
    table = {
        lm: record(
            f"Plan{k}",
            {"to": list[Literal[tuple(names)]], "refuse": float},  # type: ignore[misc]
        )
        for k, (lm, names) in enumerate(able.items())
    }
    return Format("routing_plan", record("RoutingPlan", table))


UNPLACED = -2  # beside REFUSE: no pod is there or expected


def fill(waits: Waits, chosen: Bools, refused: list[float]) -> Ints:
    """Return (N, I) destinations: origin by origin, largest first, the chosen node on which it is
    done first and holds up others least; the last origins are refused, up to the share ``refused``
    (I,) of the prompts. UNPLACED where no chosen node has or expects a pod."""
    expected, prompt_s = waits.expected, np.where(chosen, waits.prompt_s, np.inf)
    able = np.isfinite(prompt_s)
    work_s = waits.waiting_s()
    destination = np.full(chosen.shape, UNPLACED, np.int64)
    slowest_first = np.argsort(-np.where(able, prompt_s, 0.0).max(axis=0))
    for i in slowest_first.tolist():
        origins = np.argsort(-expected[:, i], kind="stable")
        before = np.cumsum(expected[origins, i])
        taken = before <= (1 - refused[i]) * before[-1] + 1e-9
        destination[origins[~taken], i] = REFUSE
        nodes = np.flatnonzero(able[:, i])
        if len(nodes):
            _fill_one(i, nodes, origins[taken], waits, work_s, destination)
    return destination


def _fill_one(
    i: int, nodes: Ints, origins: Ints, waits: Waits, work_s: NDArray[np.float64],
    destination: Ints,
) -> None:  # fmt: skip
    own_s, prompt_s = work_s[nodes, i], waits.prompt_s[nodes, i]
    beside = np.flatnonzero(waits.sharing[nodes, i].any(axis=0))  # LMs on the same GPUs
    others_s = (work_s[nodes] * waits.sharing[nodes, i])[:, beside]
    crowd = others_s / waits.request_s[nodes][:, beside]  # requests there
    delay_s = waits.delay_s[nodes, i]
    for origin in origins.tolist():
        ahead_s = own_s + waits.expected[origin, i] * prompt_s
        cost_s = delay_s + ahead_s
        if len(beside):
            overlap_s = np.minimum(ahead_s[:, None], others_s)
            more_s = overlap_s - np.minimum(own_s[:, None], others_s)
            cost_s = cost_s + overlap_s.sum(axis=1) + (more_s * crowd).sum(axis=1)
        best = int(cost_s.argmin())
        destination[origin, i] = nodes[best]
        own_s[best] = ahead_s[best]
    work_s[nodes, i] = own_s
