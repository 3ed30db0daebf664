"""Classes of nodes: what a planner and a scheduler of a large cluster see, say and are held to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.agents.class_scheduler import UNPLACED, fill
from controller.agents.classes import (
    LARGE,
    MOST_GROUPS,
    ClassPolicyCheck,
    class_context,
    class_planner_format,
    class_pods_json,
    class_policy_json,
    classes_of,
)
from controller.agents.expectation import Waits
from controller.agents.prompts import to_json
from controller.agents.replies import Forecast
from controller.agents.views import cluster_context
from controller.domain.decisions import REFUSE, Demand, MacroPolicy
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, POD_READY
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.testbed import scaled
from controller.policies.intent import RandomPlanner
from tests.unit.agents.rules import cluster
from tests.unit.policies.states import idle

LMS = ("lm0", "lm1", "lm2")
UP = np.ones(20, np.bool_)


def many() -> Scenario:
    """12 nodes "small" at two sites, and 8 "big" ones with a GPU."""
    big, _, small = cluster().testbed.nodes
    nodes = [replace(small, name=f"s{k}", site="ab"[k % 2]) for k in range(12)]
    nodes += [replace(big, name=f"b{k}") for k in range(8)]
    return replace(cluster(), testbed=replace(cluster().testbed, nodes=tuple(nodes)))


def reply(*groups: tuple[str, int, dict[str, float]]) -> dict[str, Any]:
    classes: dict[str, list[Any]] = {"c1": [], "c2": [], "c3": []}
    for name, nodes, shares in groups:
        told = [{"lm": lm, "share": share} for lm, share in shares.items()]
        classes[name].append({"nodes": nodes, "lms": told})
    forecast = Forecast(requests_per_slot=1.0, prompts_per_request=2.0)
    return {"reason": "", "forecast": dict.fromkeys(LMS, forecast), "classes": classes}


GOOD = (
    ("c1", 6, {"lm0": 0.6}),
    ("c2", 4, {"lm1": 1.0}),
    ("c3", 3, {"lm2": 1.0}),
    ("c3", 5, {"lm0": 0.4}),
)


def checked(*groups: Any, up: Any = UP, former: MacroPolicy | None = None) -> MacroPolicy:
    scenario = many()
    return ClassPolicyCheck(scenario, classes_of(scenario))(reply(*groups), up, former)


def test_nodes_of_one_hardware_and_site_are_a_class() -> None:
    classes = classes_of(many())
    assert classes.names == ("c1", "c2", "c3")
    assert [len(rows) for rows in classes.rows] == [6, 6, 8]
    assert classes.down(np.arange(20) > 2) == {"c1": 2, "c2": 1}
    context = class_context(many(), "planner", classes)
    assert [one["nodes"] for one in context["classes"].values()] == [6, 6, 8]
    assert "s0" not in to_json(context)


def test_a_policy_by_class_is_one_by_node_and_back() -> None:
    made = checked(*GOOD)
    assert made.routing.sum(axis=0) == pytest.approx(1.0)
    assert made.roles.sum(axis=0).tolist() == [11, 4, 3]
    assert made.routing[:12, 0].max() == pytest.approx(0.1)
    told = class_policy_json(many(), classes_of(many()), made)["classes"]
    assert told["c1"] == [{"nodes": 6, "lms": [{"lm": "lm0", "share": 0.6}]}]
    assert sorted(one["nodes"] for one in told["c2"]) == [2, 4]
    assert {one["nodes"]: one["lms"] for one in told["c3"]} == {
        5: [{"lm": "lm0", "share": 0.4}], 3: [{"lm": "lm2", "share": 1.0}],
    }  # fmt: skip


def test_nodes_keep_their_role_where_a_group_has_it() -> None:
    former = checked(*GOOD)
    more = checked(*GOOD[:2], ("c3", 4, {"lm2": 1.0}), ("c3", 4, {"lm0": 0.4}), former=former)
    assert (former.roles != more.roles).any(axis=1).sum() == 1


def test_nodes_that_are_down_get_no_share() -> None:
    up = UP.copy()
    up[[0, 12]] = False
    former = checked(*GOOD)
    groups = (("c1", 5, {"lm0": 0.6}), *GOOD[1:3], ("c3", 4, {"lm0": 0.4}))
    made = checked(*groups, up=up, former=former)
    assert not made.routing[~up].any()
    assert np.array_equal(made.roles[~up], former.roles[~up])


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ((("c1", 7, {"lm0": 0.6}), *GOOD[1:]), "the groups of c1 have 7 nodes, 6 are up"),
        ((("c1", -1, {"lm0": 0.6}), *GOOD[1:]), "a group of c1 has less than 0 nodes"),
        ((("c1", 0, {"lm0": 0.6}), *GOOD[1:]), "lm0 has a share on a group of c1 without nodes"),
        ((("c1", 6, {"lm0": 0.3}), *GOOD[1:]), "shares of lm0 sum to 0.7, not 1"),
        ((("c1", 6, {"lm0": 0.6, "lm2": 0}), *GOOD[1:]), "lm2 cannot run on c1"),
        ((("c1", 6, {"lm0": 0.6, "lm1": 0}), *GOOD[1:]), "a node of c1 cannot run lm0+lm1 at once"),
        ((*GOOD, ("c2", 1, {"lm1": -0.5})), "share of lm1 on c2 is negative"),
    ],
)
def test_every_rule_is_named(groups: Any, problem: str) -> None:
    with pytest.raises(InvalidDecision) as caught:
        checked(*groups)
    assert problem in str(caught.value)


def test_a_policy_of_chance_does_not_lengthen_a_prompt() -> None:
    scenario, rng = many(), np.random.default_rng(0)
    drawn = asyncio.run(RandomPlanner(scenario, rng).plan(idle(scenario), None, None))  # type: ignore[arg-type]
    told = class_policy_json(scenario, classes_of(scenario), drawn.value)["classes"]
    assert max(map(len, told.values())) <= MOST_GROUPS
    assert [sum(one["nodes"] for one in groups) for groups in told.values()] == [6, 6, 8]


def test_a_prompt_is_as_long_for_600_nodes_as_for_six() -> None:
    sizes = []
    for nodes in (6, 600):
        testbed = scaled(load_testbed("paper"), nodes).to_domain()
        scenario = Scenario(testbed, load_profile("a5000").to_domain())
        classes = classes_of(scenario)
        whole = class_context(scenario, "planner", classes) if nodes > LARGE else cluster_context(
            scenario, "planner"
        )  # fmt: skip
        schema = class_planner_format(scenario, classes).schema
        sizes.append(len(to_json(whole)) + len(to_json(schema)))
    assert sizes[1] < 2 * sizes[0]


def loads() -> tuple[Scenario, MacroPolicy, Any]:
    scenario = many()
    state = idle(scenario)
    state.want_mode[:12, 0] = state.mode[:12, 0] = CPU
    state.pod[:12, 0] = POD_READY
    state.want_cores[:12, 0] = 4.0
    roles = np.zeros((20, 3), np.bool_)
    roles[:12, 0] = True
    routing = np.where(roles, 1 / 12, 1 / 20)
    return scenario, MacroPolicy(routing, roles, Demand(np.ones(3), np.ones(3))), state


def test_pods_are_told_by_role_with_the_backlog_of_all() -> None:
    scenario, policy, state = loads()
    state.backlog[:3, 0] = 4
    told = class_pods_json(scenario, classes_of(scenario), state, policy)
    (group,) = told["c1"]
    assert group["nodes"] == 6
    assert group["role"] == ["lm0"]
    assert group["pods"]["lm0"]["backlog"] == 8


def test_requests_fill_the_emptiest_nodes_first() -> None:
    scenario, policy, state = loads()
    state.backlog[:11, 0] = 1000
    waits = Waits(scenario, state, policy, np.ones((20, 3)))
    chosen = policy.roles.copy()
    made = fill(waits, chosen, [0.25, 0.0, 1.0])
    assert (made[:, 0] == REFUSE).sum() == 5
    assert set(made[made[:, 0] >= 0, 0]) == {11}
    assert (made[:, 1] == UNPLACED).all()
    assert (made[:, 2] == REFUSE).all()
