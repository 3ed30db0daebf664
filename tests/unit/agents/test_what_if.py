"""The what-if tool: candidates are checked like decisions, then rehearsed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from controller.agents.checks import PolicyCheck
from controller.agents.replies import planner_format
from controller.agents.step import Tool
from controller.agents.views import policy_json
from controller.agents.what_if import NAME, TOKENS, TRIAL_S, what_if
from controller.domain.decisions import MacroPolicy
from controller.domain.state import ClusterState
from tests.unit.agents.epochs import LEFT, before, cluster

STATE = before(4)
FORM = planner_format(cluster())
LOAD = {"requests_per_slot": 2.0, "prompts_per_request": 1.5}


class Rehearsal:
    """Remembers what it was asked, and how often."""

    def __init__(self) -> None:
        self.tried: list[tuple[MacroPolicy, ClusterState]] = []

    async def __call__(self, policy: MacroPolicy, state: ClusterState) -> Mapping[str, Any]:
        self.tried.append((policy, state))
        return {"objective": 0.25}


def candidate(**changes: Any) -> str:
    told = policy_json(cluster(), LEFT)
    told["routing"] = {
        lm: {node: shares.get(node, 0.0) for node in ("VM1", "VM2", "VM3")}
        for lm, shares in told["routing"].items()
    }
    told["forecast"] = {"LM1": LOAD, "LM2": LOAD}
    return json.dumps({"reason": "try it", **told, **changes})


def tool(rehearsal: Rehearsal) -> Tool:
    return what_if(FORM, partial(PolicyCheck(cluster()), up=STATE.up), rehearsal, STATE, 3)


def result_of(rehearsal: Rehearsal, arguments: str) -> str:
    async def call() -> str:
        return await tool(rehearsal).call(arguments)

    return asyncio.run(call())


def test_a_candidate_is_rehearsed_from_the_present_state() -> None:
    rehearsal = Rehearsal()
    assert result_of(rehearsal, candidate()) == '{"objective":0.25}'
    ((policy, state),) = rehearsal.tried
    assert state is STATE
    np.testing.assert_array_equal(policy.routing, LEFT.routing)
    np.testing.assert_array_equal(policy.roles, LEFT.roles)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("", "empty reply"),
        ("{", "no JSON object"),
        ("{}", "routing: Field required"),
        (candidate(roles={"VM1": [], "VM2": [], "VM3": []}), "LM1 has a share on VM1, whose role"),
        (candidate(reason="\ud800"), "no Unicode"),
    ],
)
def test_a_candidate_that_breaks_a_rule_is_told_so_and_not_rehearsed(
    arguments: str, problem: str
) -> None:
    rehearsal = Rehearsal()
    result = json.loads(result_of(rehearsal, arguments))
    assert problem in result["error"]
    assert rehearsal.tried == []


def test_the_tool_is_declared_with_the_schema_of_the_decision() -> None:
    made = tool(Rehearsal())
    function = made.declaration["function"]
    assert (function["name"], function["strict"]) == (NAME, True)
    assert function["parameters"] == FORM.schema
    assert (made.budget, made.tokens, made.each_s) == (3, TOKENS, TRIAL_S)
