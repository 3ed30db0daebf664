"""The scheduling agent: once a slot, destinations for the requests to come (section IV-B 1).

A large cluster is split into shards, groups of neighbouring nodes that are decided on concurrently,
each by a call of bounded size. A shard sends its requests to its own nodes, or "elsewhere": then
the planned split says where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.agents.checks import check_routing
from controller.agents.prompts import Prompts
from controller.agents.replies import ELSEWHERE, Format, scheduler_format
from controller.agents.step import Answer, Question, Step
from controller.agents.together import together
from controller.agents.traffic import Traffic
from controller.agents.views import (
    DIGITS,
    Json,
    SchedulerView,
    SystemView,
    cluster_context,
    pod_json,
    policy_json,
)
from controller.domain.decisions import (
    FALLBACK,
    LATE,
    OK,
    REPAIRED,
    Call,
    Decision,
    InForce,
    MacroPolicy,
    RoutingPlan,
    total,
)
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.ports import Scheduler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SHARD_NODES: Final = 16  # nodes decided on together
_WORSE: Final = (OK, REPAIRED, FALLBACK, LATE)


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Nodes decided on by one call. ``scenario`` has these nodes alone."""

    rows: Ints
    scenario: Scenario
    whole: bool  # the cluster is one shard
    format: Format
    system: str


class SchedulerAgent:
    """Observes, asks, checks; falls back to ``fallback``'s plan."""

    def __init__(
        self, scenario: Scenario, step: Step, prompts: Prompts, fallback: Scheduler
    ) -> None:
        self._step = step
        self._prompts = prompts
        self._fallback = fallback
        self._traffic = Traffic((len(scenario.testbed.nodes), len(scenario.testbed.lms)))
        self._shards = [_shard(scenario, rows, prompts) for rows in split(scenario, SHARD_NODES)]
        self._told: dict[int, tuple[MacroPolicy, Json]] = {}

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        policy = in_force.policy
        self._traffic.note(state, in_force)
        drift = self._traffic.drift()
        answers = await together(
            self._ask(k, state, policy, drift) for k in range(len(self._shards))
        )
        destination = np.full(policy.routing.shape, ELSEWHERE, np.int64)
        for shard, answer in zip(self._shards, answers, strict=True):
            if answer.value is not None:
                destination[shard.rows] = answer.value
        if np.any(destination == ELSEWHERE):
            planned = (await self._fallback.schedule(state, in_force)).value.destination
            destination = np.where(destination == ELSEWHERE, planned, destination)
        call = _merge([answer.call for answer in answers], float(drift.mean()))
        return Decision(RoutingPlan(destination), (call,))

    async def _ask(
        self, k: int, state: ClusterState, policy: MacroPolicy, drift: Floats
    ) -> Answer[Ints]:
        shard = self._shards[k]
        view = SchedulerView(self._observe(k, state, policy, drift))
        names = shard.scenario.testbed.node_names
        return await self._step.decide(
            Question(
                slot=state.slot + 1,
                tier="scheduler",
                node="" if shard.whole else names[0],
                messages=[
                    {"role": "system", "content": shard.system},
                    {"role": "user", "content": self._prompts.render("scheduler/user.j2", view)},
                ],
                format=shard.format,
                check=partial(_check, shard, policy, state),
            )
        )

    def _observe(self, k: int, state: ClusterState, policy: MacroPolicy, drift: Floats) -> Json:
        shard, rows = self._shards[k], self._shards[k].rows.tolist()
        testbed = shard.scenario.testbed
        told = self._told.get(k)
        if told is None or told[0] != policy:
            mine = MacroPolicy(policy.routing[shard.rows], policy.roles[shard.rows], policy.demand)
            told = self._told[k] = policy, policy_json(shard.scenario, mine)
        names, lms = testbed.node_names, testbed.lm_names
        expected = np.round(self._traffic.expected[shard.rows], DIGITS).tolist()
        return {
            "slot": state.slot + 1,
            "policy": told[1],
            "drift": dict(zip(lms, np.round(drift, 2).tolist(), strict=True)),
            "nodes_down": [name for name, n in zip(names, rows, strict=True) if not state.up[n]],
            "expected_prompts": {
                name: dict(zip(lms, row, strict=True))
                for name, row in zip(names, expected, strict=True)
            },
            "pods": {name: pod_json(state, n, lms) for name, n in zip(names, rows, strict=True)},
        }


def split(scenario: Scenario, size: int) -> list[Ints]:
    """Return the rows of all nodes if they are at most ``size``, else groups of so many nodes of a
    site."""
    nodes = scenario.testbed.nodes
    if len(nodes) <= size:
        return [np.arange(len(nodes))]
    sites: dict[str, list[int]] = {}
    for n, node in enumerate(nodes):
        sites.setdefault(node.site, []).append(n)
    return [
        np.array(rows[k : k + size]) for rows in sites.values() for k in range(0, len(rows), size)
    ]


def _shard(scenario: Scenario, rows: Ints, prompts: Prompts) -> Shard:
    testbed = scenario.testbed
    nodes = tuple(testbed.nodes[n] for n in rows.tolist())
    mine = replace(scenario, testbed=replace(testbed, nodes=nodes))
    hosts, whole = mine.hosts(), len(rows) == len(testbed.nodes)
    choices = {
        lm: [node.name for node, can in zip(nodes, hosts[:, i], strict=True) if can]
        for i, lm in enumerate(testbed.lm_names)
    }
    view = SystemView({**cluster_context(mine, "scheduler"), "shard": not whole})
    return Shard(
        rows,
        mine,
        whole,
        scheduler_format(mine.testbed.node_names, choices, elsewhere=not whole),
        prompts.render("scheduler/system.j2", view),
    )


def _check(
    shard: Shard, policy: MacroPolicy, state: ClusterState, reply: Mapping[str, Any]
) -> Ints:
    """Return (len(rows), I) destinations as rows of the whole testbed, REFUSE or ELSEWHERE."""
    roles, up = policy.roles[shard.rows], state.up[shard.rows]
    local = check_routing(shard.scenario, reply, roles, up)
    return np.where(local >= 0, shard.rows[np.maximum(local, 0)], local)


def _merge(calls: Sequence[Call], drift: float) -> Call:
    """Return one call for concurrent ones: it took as long as the longest, and is as good as the
    worst."""
    worst = max(calls, key=lambda call: _WORSE.index(call.outcome))
    return Call(
        took_s=max(call.took_s for call in calls),
        outcome=worst.outcome,
        detail=worst.detail,
        drift=round(drift, 4),
        tokens_in=total(call.tokens_in for call in calls),
        tokens_out=total(call.tokens_out for call in calls),
        cost_usd=total(call.cost_usd for call in calls),
    )
