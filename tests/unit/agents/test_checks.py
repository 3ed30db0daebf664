"""Section V-D's rules for planner and scheduler: each of them broken alone, and named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.agents.checks import PolicyCheck, check_routing
from controller.agents.replies import ELSEWHERE, planner_format, scheduler_format
from controller.domain.decisions import REFUSE, MacroPolicy
from tests.unit.agents.rules import cluster, problems

ALL_UP = np.ones(3, np.bool_)
Reply = dict[str, Any]


WORLD = cluster()


def policy_reply() -> Reply:
    return {
        "reason": "balance",
        "forecast": {
            lm: {"requests_per_slot": 2.0, "prompts_per_request": 3.0}
            for lm in WORLD.testbed.lm_names
        },
        "routing": {
            "lm0": {"big": 0.0, "mid": 1.0, "small": 0.0},
            "lm1": {"big": 0.25, "mid": 0.25, "small": 0.5},
            "lm2": {"big": 1.0},
        },
        "roles": {"big": ["lm1", "lm2"], "mid": ["lm0", "lm1"], "small": ["lm1"]},
    }


def planned(reply: Reply, up: Sequence[bool] = (True, True, True)) -> MacroPolicy:
    read = planner_format(WORLD).parse(json.dumps(reply))
    return PolicyCheck(WORLD)(read, np.array(up))


def test_a_policy_within_the_rules_is_taken() -> None:
    policy = planned(policy_reply())
    np.testing.assert_array_equal(policy.routing[:, 1], [0.25, 0.25, 0.5])
    np.testing.assert_array_equal(policy.roles.sum(axis=1), [2, 2, 1])
    assert policy.demand is not None
    np.testing.assert_array_equal(policy.demand.requests, [2, 2, 2])
    np.testing.assert_array_equal(policy.demand.prompts, [3, 3, 3])


def test_shares_that_miss_1_by_rounding_are_scaled() -> None:
    reply = policy_reply()
    reply["routing"]["lm1"] = {"big": 0.33, "mid": 0.33, "small": 0.33}
    np.testing.assert_allclose(planned(reply).routing.sum(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("routing.lm1", {"big": -0.25, "mid": 0.75, "small": 0.5}, "share of lm1 on big is neg"),
        ("routing.lm1", {"big": 0.5, "mid": 0.5, "small": 0.5}, "shares of lm1 sum to 1.5, not 1"),
        ("routing.lm1", {"big": 0.0, "mid": 0.0, "small": 0.0}, "shares of lm1 sum to 0, not 1"),
        ("routing.lm0", {"big": 0.5, "mid": 0.5, "small": 0.0}, "lm0 has a share on big, whose"),
        ("roles.small", ["lm0", "lm1"], "small cannot run lm0+lm1 at once"),
        ("forecast.lm0.requests_per_slot", -1.0, "forecast of lm0: "),
        ("forecast.lm0.requests_per_slot", 1e308, "forecast of lm0: "),
        ("forecast.lm0.prompts_per_request", 0.0, "forecast of lm0: "),
        ("forecast.lm0.prompts_per_request", 1e308, "forecast of lm0: "),
    ],
)
def test_a_broken_rule_of_the_planner_is_named_alone(path: str, value: Any, problem: str) -> None:
    reply = policy_reply()
    *above, last = path.split(".")
    part = reply
    for key in above:
        part = part[key]
    part[last] = value
    (found,) = problems(lambda: planned(reply))
    assert found.startswith(problem)


def test_lms_that_each_fit_a_gpu_but_not_together_are_no_role() -> None:
    lms = tuple(replace(lm, gpu_only=lm.name != "lm1") for lm in WORLD.testbed.lms)
    scenario = replace(WORLD, testbed=replace(WORLD.testbed, lms=lms))
    reply = policy_reply()
    reply["routing"]["lm0"] = {"big": 1.0}
    reply["roles"] = {"big": ["lm0", "lm2"], "mid": ["lm1"], "small": ["lm1"]}
    reply["routing"]["lm1"] = {"big": 0.0, "mid": 0.5, "small": 0.5}
    read = planner_format(scenario).parse(json.dumps(reply))
    assert problems(lambda: PolicyCheck(scenario)(read, ALL_UP)) == [
        "big cannot run lm0+lm2 at once"
    ]


def test_a_node_that_is_down_gets_no_share_while_another_host_is_up() -> None:
    found = problems(lambda: planned(policy_reply(), (True, True, False)))
    assert found == ["lm1 has a share on small, which is down"]


def test_an_lm_whose_hosts_are_all_down_may_be_planned_anywhere() -> None:
    reply = policy_reply()
    reply["routing"]["lm1"] = {"big": 0.0, "mid": 1.0, "small": 0.0}
    assert planned(reply, (False, True, True)).routing[0, 2] == 1.0


def test_all_violations_are_named_at_once() -> None:
    reply = policy_reply()
    reply["routing"]["lm0"] = {"big": -1.0, "mid": 1.0, "small": 0.0}
    reply["roles"]["small"] = ["lm0", "lm1"]
    assert len(problems(lambda: planned(reply))) == 3


ROLES = np.array([[False, True, True], [True, True, False], [False, True, False]])


def routed(changes: Mapping[tuple[str, str], str], up: Sequence[bool] = (True,) * 3) -> Any:
    hosts = {"lm0": ["big", "mid", "small"], "lm1": ["big", "mid", "small"], "lm2": ["big"]}
    names = WORLD.testbed.node_names
    table = {
        lm: dict.fromkeys(names, to) for lm, to in zip(hosts, ("mid", "mid", "big"), strict=True)
    }
    for (lm, origin), to in changes.items():
        table[lm][origin] = to
    read = scheduler_format(names, hosts, elsewhere=True).parse(json.dumps(table))
    return check_routing(WORLD, read, ROLES, np.array(up))


def test_destinations_refusals_and_elsewhere_are_read() -> None:
    to = routed({("lm1", "small"): "small", ("lm1", "big"): "refuse", ("lm2", "mid"): "elsewhere"})
    np.testing.assert_array_equal(to, [[1, REFUSE, 0], [1, 1, ELSEWHERE], [1, 2, 0]])


@pytest.mark.parametrize(
    ("changes", "up", "found"),
    [
        ({("lm0", "mid"): "big"}, (True, True, True), ["lm0 from mid to big: off-role"]),
        (
            {("lm1", "big"): "small"},
            (True, True, False),
            ["lm1 from big to small: that node is down"],
        ),
        (
            {("lm0", "mid"): "small", ("lm0", "big"): "big"},
            (True, True, True),
            ["lm0 from big to big: off-role", "lm0 from mid to small: off-role"],
        ),
    ],
)
def test_a_wrong_destination_is_named(
    changes: dict[tuple[str, str], str], up: tuple[bool, ...], found: list[str]
) -> None:
    assert problems(lambda: routed(changes, up)) == found


def test_a_role_whose_nodes_are_all_down_may_still_be_sent_to() -> None:
    assert routed({("lm1", "mid"): "small"}, (False, False, False))[1, 1] == 2


@pytest.mark.parametrize("word", ["refuse", "elsewhere"])
def test_a_shard_of_one_node_may_send_nothing_to_itself(word: str) -> None:
    alone = replace(WORLD, testbed=replace(WORLD.testbed, nodes=WORLD.testbed.nodes[:1]))
    reply = {lm: {"big": word} for lm in WORLD.testbed.lm_names}
    to = check_routing(alone, reply, ROLES[:1], ALL_UP[:1])
    assert set(to.ravel().tolist()) == {REFUSE if word == "refuse" else ELSEWHERE}


@pytest.mark.parametrize("share", [1e308, -1e308, 1e15])
def test_absurd_shares_are_refused_without_a_warning(share: float) -> None:
    reply = policy_reply()
    reply["routing"]["lm1"] = {"big": share, "mid": share, "small": share}
    assert "lm1" in str(problems(lambda: planned(reply)))


def test_absurd_forecasts_are_refused_without_a_warning() -> None:
    reply = policy_reply()
    reply["forecast"] = {
        lm: {"requests_per_slot": 1e308, "prompts_per_request": 1e308}
        for lm in WORLD.testbed.lm_names
    }
    assert "forecast of lm0" in str(problems(lambda: planned(reply)))
