"""What agents observe: plain data, names instead of indices, and no free text from files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.agents.prompts import to_json
from controller.agents.views import (
    cluster_context,
    demand_json,
    deployer_observation,
    node_context,
    pod_json,
    policy_json,
)
from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, POD_STOPPING
from tests.reference.worlds import ABSENT, on_cpu, on_gpu
from tests.unit.agents.rules import MARK, cluster, marked
from tests.unit.policies.states import idle, open_policy, rows_of, running, shipped

WORLD = cluster()
LMS = WORLD.testbed.lm_names
NOTHING = [ABSENT, ABSENT, ABSENT]
DEMAND = Demand(np.array([8.0, 4.0, 2.0]), np.array([1.5, 1.0, 3.0]))
POLICY = MacroPolicy(
    routing=np.array([[0.0, 1 / 3, 1.0], [1.0, 1 / 3, 0.0], [0.0, 1 / 3, 0.0]]),
    roles=np.array([[False, True, True], [True, True, False], [False, True, False]]),
    demand=DEMAND,
)


def contexts(scenario: Scenario) -> list[Any]:
    nodes = range(len(scenario.testbed.nodes))
    return [
        cluster_context(scenario, "planner"),
        cluster_context(scenario, "scheduler"),
        *(node_context(scenario, n) for n in nodes),
    ]


@pytest.mark.parametrize("scenario", [WORLD, shipped(), shipped("campus")])
def test_contexts_are_json_and_name_no_hardware_model(scenario: Scenario) -> None:
    told = to_json(contexts(marked(scenario)))
    assert MARK not in told
    assert told == to_json(contexts(scenario))
    assert '"cpu1"' in told
    assert '"gpu1"' in told


def test_curves_of_hardware_that_is_not_there_are_left_out() -> None:
    scenario = shipped()
    used = {node.gpu for node in scenario.testbed.nodes if node.gpu}
    for lm in cluster_context(scenario, "planner")["lms"].values():
        assert sum(alias.startswith("gpu") for alias in lm["seconds_per_prompt"]) <= len(used)
    (small,) = node_context(WORLD, 2)["nodes"]
    assert "gpu" not in small
    assert set(node_context(WORLD, 2)["lms"]["lm0"]["seconds_per_prompt"]) == {"cpu1"}


def test_equal_nodes_are_one_group_and_share_a_deployers_prompt() -> None:
    nodes = WORLD.testbed.nodes
    twins = (*nodes, replace(nodes[1], name="twin"))
    scenario = replace(WORLD, testbed=replace(WORLD.testbed, nodes=twins))
    groups = cluster_context(scenario, "planner")["nodes"]
    assert [group["names"] for group in groups] == [["big"], ["mid", "twin"], ["small"]]
    assert node_context(scenario, 1) == node_context(scenario, 3)
    assert "mid" not in to_json(node_context(scenario, 1))


def test_a_policy_is_told_by_names_and_without_zeros() -> None:
    assert policy_json(WORLD, POLICY) == {
        "routing": {
            "lm0": {"mid": 1.0},
            "lm1": {"big": 0.3333, "mid": 0.3333, "small": 0.3333},
            "lm2": {"big": 1.0},
        },
        "roles": {"big": ["lm1", "lm2"], "mid": ["lm0", "lm1"], "small": ["lm1"]},
        "forecast": demand_json(LMS, DEMAND),
    }
    assert policy_json(WORLD, replace(POLICY, demand=None))["forecast"] is None


def test_pods_that_are_wanted_or_held_are_told() -> None:
    ready = running(WORLD, [[on_cpu(4), on_gpu(), ABSENT], NOTHING, NOTHING])
    cpu = {"backlog": 0, "wanted": "cpu", "state": "ready", "cores": 4.0}
    gpu = {"backlog": 0, "wanted": "gpu", "state": "ready", "cores": 0.0, "vgpus": 1, "gpus": [0]}
    assert pod_json(ready, 0, LMS) == {"lm0": cpu, "lm1": gpu}
    assert pod_json(ready, 1, LMS) == {}
    stopping = replace(
        ready,
        pod=np.where(ready.mode == GPU, POD_STOPPING, ready.pod),
        want_mode=np.where(ready.mode == GPU, OFF, ready.mode),
        want_vgpus=np.zeros_like(ready.vgpus),
    )
    gpu = {"backlog": 0, "wanted": "off", "state": "stopping", "held": "gpu", "gpus": [0]}
    assert pod_json(stopping, 0, LMS) == {"lm0": cpu, "lm1": gpu}


def test_a_backlog_without_a_pod_is_told() -> None:
    state = idle(WORLD, backlog=[[0, 0, 7], [0, 0, 0], [0, 0, 0]])
    assert pod_json(state, 0, LMS) == {"lm2": {"backlog": 7, "wanted": "off", "state": "off"}}


def test_a_deployer_sees_its_own_row_of_a_state_that_holds_no_other() -> None:
    pods = [NOTHING, [on_cpu(3), on_cpu(2), ABSENT], NOTHING]
    state = running(WORLD, pods, slot=6, backlog=[[9, 9, 9], [1, 2, 0], [9, 9, 9]])
    seen = deployer_observation(WORLD, rows_of(state, [1]), 0, POLICY)
    assert seen == deployer_observation(WORLD, state, 1, POLICY)
    assert seen == {
        "slot": 7,
        "node": "mid",
        "role": ["lm0", "lm1"],
        "expected": {
            "lm0": {"requests_per_slot": 8.0, "prompts_per_request": 1.5},
            "lm1": {"requests_per_slot": 1.3333, "prompts_per_request": 1.0},
            "lm2": {"requests_per_slot": 0.0, "prompts_per_request": 3.0},
        },
        "pods": {
            "lm0": {"backlog": 1, "wanted": "cpu", "state": "ready", "cores": 3.0},
            "lm1": {"backlog": 2, "wanted": "cpu", "state": "ready", "cores": 2.0},
        },
        "free": {"cores": 3.0, "ram_gb": 88.0, "vgpus": 0},
        "blocked": False,
    }
    assert json.loads(to_json(seen)) == seen


def test_without_a_forecast_nothing_is_expected() -> None:
    assert deployer_observation(WORLD, idle(WORLD), 0, open_policy(WORLD))["expected"] is None


def test_a_blocked_node_is_told_so() -> None:
    state = idle(WORLD)
    state.pod[1, 0] = POD_STOPPING
    seen = [deployer_observation(WORLD, state, row, POLICY)["blocked"] for row in range(3)]
    assert seen == [False, True, False]


def test_contexts_state_the_problem() -> None:
    context = cluster_context(replace(WORLD, tau_s=100.0, lam=0.25), "planner")
    assert context["agent"] == "planner"
    assert (context["deadline_s"], context["lambda"]) == (100.0, 0.25)
    assert (context["slot_s"], context["epoch_slots"]) == (10.0, 4)
    assert set(context["lms"]) == set(LMS)
    assert context["lms"]["lm2"]["gpu_only"] is True
