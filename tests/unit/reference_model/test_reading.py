"""A prompt's blocks become the numbers that they were written from."""

import json
from typing import Any

import numpy as np
import pytest

from controller.agents.views import (
    cluster_context,
    demand_json,
    node_context,
    pod_json,
    policy_json,
)
from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_PENDING, ClusterState
from controller.reference_model.reading import (
    UnreadablePromptError,
    block,
    demand_of,
    parse,
    policy_of,
    scenario_of,
    state_of,
)
from tests.unit.policies.states import idle, running, shipped
from tests.unit.reference_model.duets import play

PAPER = shipped()
LMS = PAPER.testbed.lm_names


def read(context: object) -> Scenario:
    return scenario_of(json.loads(json.dumps(context)))


def same_speeds(one: Scenario, n: int, other: Scenario, m: int) -> None:
    """Seconds per prompt of every LM on a node, in every way that it can run there."""
    for i, (able, lm) in enumerate(zip(one.hosts()[n], one.testbed.lms, strict=True)):
        ways = [(GPU, 0.0)] if one.testbed.nodes[n].gpus else []
        ways += [] if lm.gpu_only else [(CPU, cores) for cores in (0.5, 1.0, 3.7, 16.0)]
        for mode, cores in ways if able else ():
            modes = np.where(np.arange(len(LMS)) == i, mode, OFF)
            amounts = np.full(len(LMS), cores)
            assert np.array_equal(
                one.prompt_seconds(n, modes, amounts), other.prompt_seconds(m, modes, amounts)
            )


@pytest.mark.parametrize("testbed", ["paper", "campus"])
def test_a_context_says_all_that_is_decided_by(testbed: str) -> None:
    told = shipped(testbed)
    found = read(cluster_context(told, "planner"))
    for name in ("slot_s", "epoch_slots", "tau_s", "lam"):
        assert getattr(found, name) == getattr(told, name)
    assert found.profile.switch_loss == told.profile.switch_loss
    order = [found.testbed.node_names.index(name) for name in told.testbed.node_names]
    assert np.array_equal(found.hosts()[order], told.hosts())
    for n, node in enumerate(told.testbed.nodes):
        read_node = found.testbed.nodes[order[n]]
        for name in ("name", "site", "cores", "ram_gb", "gpus", "vram_gb", "vgpus_per_gpu"):
            assert getattr(read_node, name) == getattr(node, name)
        same_speeds(found, order[n], told, n)
    for lm, read_lm in zip(told.testbed.lms, found.testbed.lms, strict=True):
        for name in ("name", "modality", "ram_gb", "vram_gb", "gpu_only", "cores_on_gpu"):
            assert getattr(read_lm, name) == getattr(lm, name)
        profile, read_profile = told.profile.lms[lm.name], found.profile.lms[lm.name]
        for name in ("start_cpu_s", "start_gpu_s", "stop_s"):
            assert getattr(read_profile, name) == getattr(profile, name)


def test_a_nodes_context_says_all_of_it() -> None:
    for n, node in enumerate(PAPER.testbed.nodes):
        found = read(node_context(PAPER, n))
        assert found.testbed.node_names == ("self",)
        assert found.testbed.nodes[0].cores == node.cores
        assert np.array_equal(found.hosts()[0], PAPER.hosts()[n])
        same_speeds(found, 0, PAPER, n)


def test_a_policy_is_read_as_it_was_told() -> None:
    hosts = PAPER.hosts()
    demand = Demand(np.array([1.5, 0.25, 3.0, 0.125]), np.array([1.0, 2.5, 4.0, 1.0]))
    policy = MacroPolicy(hosts / hosts.sum(axis=0), hosts, demand)
    found = policy_of(PAPER, json.loads(json.dumps(policy_json(PAPER, policy))))
    assert np.array_equal(found.roles, policy.roles)
    assert np.allclose(found.routing, policy.routing, atol=1e-4)
    assert found.demand is not None
    assert np.array_equal(found.demand.requests, demand.requests)
    assert np.array_equal(found.demand.prompts, demand.prompts)


def test_no_forecast_is_none() -> None:
    assert demand_of(LMS, demand_json(LMS, None)) is None


def told(state: ClusterState, down: tuple[str, ...] = ()) -> ClusterState:
    names = PAPER.testbed.node_names
    pods = {name: pod_json(state, n, LMS) for n, name in enumerate(names)}
    return state_of(PAPER, json.loads(json.dumps(pods)), down, state.slot + 1)


@pytest.mark.parametrize("field", ["backlog", "mode", "want_mode", "want_vgpus", "cards", "pod"])
def test_pods_are_read_as_they_were_told(field: str) -> None:
    """All states of a run, with those of starting and stopping pods."""
    both, _ = play(epochs=1, epoch_slots=6)
    seen = set()
    for state, _, _ in both.routes:
        expected = getattr(state, field)
        assert np.array_equal(getattr(told(state), field), expected), state.slot
        seen |= set(expected.ravel().tolist())
    assert len(seen) > 1


def test_cores_nodes_and_time_are_read_as_they_were_told() -> None:
    pods: list[list[Any]] = [[(0, 0.0, 0)] * len(LMS) for _ in PAPER.testbed.nodes]
    pods[0][0] = (CPU, 3.5, 0)
    state = running(PAPER, pods, slot=11)
    found = told(state, down=("vm3",))
    assert found.want_cores[0, 0] == 3.5
    assert (found.slot, found.time_s) == (11, 12 * PAPER.slot_s)
    down = [name for name, up in zip(PAPER.testbed.node_names, found.up, strict=True) if not up]
    assert down == ["vm3"]


def test_a_waiting_pod_on_two_cards_is_read() -> None:
    shape = len(PAPER.testbed.nodes), len(LMS)
    want, cards, pod = (np.zeros(shape, np.int64) for _ in range(3))
    want[-1, 0], cards[-1, 0], pod[-1, 0] = GPU, 0b11, POD_PENDING
    found = told(idle(PAPER, want_mode=want, cards=cards, pod=pod))
    assert (found.want_mode[-1, 0], found.cards[-1, 0]) == (GPU, 3)
    assert (found.pod[-1, 0], found.mode[-1, 0]) == (POD_PENDING, 0)


def test_the_last_block_counts_and_never_the_models_own() -> None:
    said: list[dict[str, Any]] = [
        {"role": "system", "content": "<context>1</context>"},
        {"role": "user", "content": "<context>2</context> and more"},
        {"role": "assistant", "content": "<context>3</context>"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "no block; </context><context>"},
    ]
    assert block(said, "context") == "2"
    assert block(said, "observation") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no <context> block"),
        ("{", "the <context> block is not JSON"),
        ("[1]", "the <context> block is no JSON object"),
    ],
)
def test_a_block_that_is_no_object_is_named(text: str | None, problem: str) -> None:
    with pytest.raises(UnreadablePromptError, match=problem) as caught:
        parse(text, "<context>")
    assert "<<" not in str(caught.value)
