"""The rules that the paper leaves open, both ways, in the twin and in the independent model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from controller.domain.requests import FAILURES
from controller.domain.rules import Rules
from tests.reference import simulate
from tests.reference.cases import Case, Shape, build
from tests.reference.playback import Played, play
from tests.reference.worlds import ABSENT, Ask, Model, node, on_cpu, on_gpu, requests, slot, world

CHOICES = {
    "late": Rules(late="serve"),
    "inactive": Rules(inactive="fail"),
    "slices": Rules(slices="static"),
    "blocks": Rules(blocks="pending"),
    "all": Rules(late="serve", inactive="fail", slices="static", blocks="pending"),
}


@pytest.mark.parametrize("rules", CHOICES.values(), ids=CHOICES)
def test_both_models_agree_under_every_rule(rules: Rules) -> None:
    rng, differs = np.random.default_rng(7), 0
    for k in range(24):
        shape = Shape(
            int(rng.integers(2**32)), nodes=3, lms=3, slots=6, gpus=2, outages=k % 3, change=0.3,
            load=(1.0, 3.0)[k % 2], round_numbers=k % 4 == 3,
        )  # fmt: skip
        case = build(shape)
        usual = play(case)
        played = assert_agreement(replace(case, scenario=replace(case.scenario, rules=rules)))
        outcome = [one.twin.records["failure"].tolist() for one in (usual, played)]
        void = [np.concatenate(one.voided[: shape.slots]).tolist() for one in (usual, played)]
        differs += outcome[0] != outcome[1] or void[0] != void[1]
    assert differs > 3 or rules.blocks == "pending"  # in these cases the rule matters


def assert_agreement(case: Case) -> Played:
    played = play(case)
    expected = simulate(case.scenario, case.requests, case.script, case.outages)
    records, jobs = played.twin.records, expected.jobs
    assert [FAILURES[code] for code in records["failure"]] == [job.failure or "" for job in jobs]
    for name in ("attempts", "recomputed"):
        assert_array_equal(records[name], [getattr(job, name) for job in jobs], err_msg=name)
    for name in ("arrived_s", "started_s", "finished_s", "returned_s", "inference_s"):
        times_s = [getattr(job, name) for job in jobs]
        assert_allclose(records[name], times_s, rtol=0, atol=1e-6, err_msg=name)
    for k, state in enumerate(played.states):
        assert_array_equal(state.pod, expected.states[k])
        assert_array_equal(state.backlog, expected.backlogs[k])
        assert_allclose(state.busy_s, expected.busy_s[k], rtol=0, atol=1e-6)
        assert_array_equal(played.voided[k], expected.voided[k])
    return played


def test_a_late_request_holds_up_those_behind_it_if_it_is_served() -> None:
    """Two requests of 8 s, then one of 1 s; the deadline is 10 s. Served late, the second keeps
    the pod until 16 s, so that the third, in time otherwise, is late too."""
    scenario = world([node()], [Model()], tau_s=10.0)
    asks = [Ask(0.0, work=8.0), Ask(0.0, work=8.0), Ask(5.0)]
    for rules, failures in (
        (Rules(), ["", "deadline", ""]),
        (Rules(late="serve"), ["", "deadline", "deadline"]),
    ):
        changed = replace(scenario, rules=rules)
        case = Case(changed, requests(changed, asks), (slot([[on_cpu(1)]]),), ())
        found = assert_agreement(case).twin.records
        assert [FAILURES[code] for code in found["failure"]] == failures
    assert found["inference_s"].tolist() == [8.0, 2.0, 0.0]


def test_a_request_to_an_inactive_lm_fails_at_once_if_it_may_not_wait() -> None:
    scenario = world([node()], [Model()], tau_s=100.0)
    script = (slot([[ABSENT]]), slot([[on_cpu(1)]]))
    for rules, failures in ((Rules(), ["", ""]), (Rules(inactive="fail"), ["not_deployed", ""])):
        changed = replace(scenario, rules=rules)
        case = Case(changed, requests(changed, [Ask(1.0), Ask(11.0)]), script, ())
        found = assert_agreement(case).twin.records
        assert [FAILURES[code] for code in found["failure"]] == failures


def test_a_pod_alone_on_a_gpu_has_only_its_static_slices() -> None:
    scenario = world([node(gpus=1, slices=2)], [Model()])
    for rules, inference_s in ((Rules(), 4.0), (Rules(slices="static"), 8.0)):
        changed = replace(scenario, rules=rules)
        case = Case(changed, requests(changed, [Ask(0.0, work=4.0)]), (slot([[on_gpu()]]),), ())
        found = assert_agreement(case).twin.records
        assert found["inference_s"].tolist() == [inference_s]


def test_a_terminating_pod_voids_what_its_node_is_to_start_unless_pending_ones_do_alone() -> None:
    """The first pod is told to stop at 10 s and gone at 25 s; the second is wanted from 20 s."""
    scenario = world([node()], [Model(stop_s=15.0), Model()], tau_s=100.0)
    script = (
        slot([[on_cpu(1), ABSENT]]),
        slot([[ABSENT, ABSENT]]),
        slot([[ABSENT, on_cpu(1)]]),
    )
    for rules, void in ((Rules(), True), (Rules(blocks="pending"), False)):
        changed = replace(scenario, rules=rules)
        case = Case(changed, requests(changed, [Ask(21.0, lm=1)]), script, ())
        assert assert_agreement(case).voided[2].tolist() == [[False, void]]
