"""The deployer's rules (section V-D and Eq. 1): each of them broken alone, and named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from controller.agents.checks import check_pods
from controller.agents.replies import deployer_format
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, MODES, OFF, POD_PENDING, POD_STOPPING, ClusterState
from tests.reference.worlds import ABSENT, Pod, on_cpu, on_gpu
from tests.unit.agents.rules import cluster, problems
from tests.unit.policies.states import idle, rows_of, running, with_cores_on_gpu

WORLD = cluster()
BIG, MID, SMALL = range(3)
ALL = (True, True, True)
NONE = (False, False, False)
OFF_OFF_OFF = (ABSENT, ABSENT, ABSENT)


def chosen(
    pods: Sequence[Pod],
    n: int = BIG,
    *,
    state: ClusterState | None = None,
    role: Sequence[bool] = ALL,
    scenario: Scenario = WORLD,
) -> Any:
    """What the check makes of these pods (mode, cores, vGPUs) by LM on node n."""
    lms = scenario.testbed.lm_names
    reply = {
        lm: {"mode": MODES[mode], "cores": cores, "vgpus": vgpus}
        for lm, (mode, cores, vgpus) in zip(lms, pods, strict=True)
    }
    read = deployer_format(lms).parse(json.dumps(reply))
    seen = rows_of(state or idle(scenario), [n])
    return check_pods(scenario, read, seen, 0, np.array(role))


def test_pods_within_the_rules_are_taken() -> None:
    mode, cores, vgpus = chosen([on_cpu(4), on_gpu(), on_gpu()])
    np.testing.assert_array_equal(mode, [CPU, GPU, GPU])
    np.testing.assert_array_equal(cores, [4, 0, 0])
    np.testing.assert_array_equal(vgpus, [0, 1, 1])


def test_amounts_that_a_mode_has_no_use_for_are_dropped() -> None:
    scenario = with_cores_on_gpu(WORLD, 1.5)
    _, cores, vgpus = chosen([(OFF, 3, 1), (CPU, 2, 7), (GPU, 99, 1)], scenario=scenario)
    np.testing.assert_array_equal(cores, [0, 2, 1.5])
    np.testing.assert_array_equal(vgpus, [0, 0, 1])


def test_an_lm_that_is_not_asked_about_is_off() -> None:
    read = deployer_format(["lm1"]).parse('{"lm1":{"mode":"cpu","cores":1,"vgpus":0}}')
    mode, _, _ = check_pods(WORLD, read, idle(WORLD), MID, np.array(ALL))
    np.testing.assert_array_equal(mode, [OFF, CPU, OFF])


@pytest.mark.parametrize(
    ("n", "pods", "problem"),
    [
        (MID, (on_gpu(), ABSENT, ABSENT), "lm0 cannot run on gpu here"),
        (BIG, (ABSENT, ABSENT, on_cpu(1)), "lm2 cannot run on cpu here"),
        (BIG, (on_cpu(0), ABSENT, ABSENT), "lm0 on cpu needs cores, 0.1 or more"),
        (BIG, (on_cpu(-2), ABSENT, ABSENT), "lm0 on cpu needs cores, 0.1 or more"),
        (BIG, (on_gpu(0), ABSENT, ABSENT), "lm0 on gpu needs 1 vgpu or more"),
        (BIG, (on_gpu(-(10**30)), ABSENT, ABSENT), "lm0 on gpu needs 1 vgpu or more"),
        (MID, (on_cpu(4.5), on_cpu(4), ABSENT), "cores needed 8.5, the node has 8"),
        (SMALL, (on_cpu(1), on_cpu(1), ABSENT), "ram_gb needed 12, the node has 8"),
        (BIG, (ABSENT, on_gpu(2), on_gpu(1)), "vgpus needed 3, the node has 2"),
        (BIG, (ABSENT, on_gpu(2**62), on_gpu(2**62)), "vgpus needed 2e+06, the node has 2"),
        (
            BIG,
            (on_gpu(), ABSENT, on_gpu()),
            "the pods on GPUs do not fit the memory of one GPU if all are on it",
        ),
    ],
)
def test_a_broken_budget_is_named_alone(n: int, pods: Sequence[Pod], problem: str) -> None:
    assert problems(lambda: chosen(pods, n)) == [problem]


def test_cores_beside_gpus_count() -> None:
    scenario = with_cores_on_gpu(WORLD, 1.0)
    chosen([on_cpu(7), on_gpu(), ABSENT], scenario=scenario)
    found = problems(lambda: chosen([on_cpu(7.5), on_gpu(), ABSENT], scenario=scenario))
    assert found == ["cores needed 8.5, the node has 8"]


def test_all_violations_are_named_at_once() -> None:
    assert len(problems(lambda: chosen([on_gpu(), on_cpu(0), on_gpu()], MID))) == 3


RUNNING = running(WORLD, [[on_cpu(4), on_gpu(), ABSENT], OFF_OFF_OFF, OFF_OFF_OFF])
STAY = [on_cpu(4), on_gpu(), ABSENT]
LESS = [on_cpu(2), ABSENT, ABSENT]
MORE = [
    ("lm0", [on_cpu(4.5), on_gpu(), ABSENT]),
    ("lm1", [on_cpu(4), on_gpu(2), ABSENT]),
    ("lm1", [on_cpu(4), on_cpu(1), ABSENT]),
    ("lm2", [ABSENT, on_gpu(), on_gpu()]),
]


@pytest.mark.parametrize("pods", [STAY, LESS, OFF_OFF_OFF])
def test_off_role_pods_may_stay_shrink_or_stop(pods: Sequence[Pod]) -> None:
    mode, _, _ = chosen(pods, state=RUNNING, role=NONE)
    np.testing.assert_array_equal(mode, [pod[0] for pod in pods])


@pytest.mark.parametrize(("lm", "pods"), MORE)
def test_off_role_pods_may_not_start_move_or_grow(lm: str, pods: Sequence[Pod]) -> None:
    found = problems(lambda: chosen(pods, state=RUNNING, role=NONE))
    assert found == [f"{lm} is off-role: it may only stay as it is or stop"]
    chosen(pods, state=RUNNING, role=ALL)


@pytest.mark.parametrize("pod", [POD_PENDING, POD_STOPPING])
def test_while_a_pod_is_pending_or_stopping_none_may_need_more(pod: int) -> None:
    waiting = replace(RUNNING, pod=RUNNING.pod.copy())
    waiting.pod[BIG, 1] = pod
    for allowed in (STAY, LESS, OFF_OFF_OFF):
        chosen(allowed, state=waiting)
    for lm, pods in MORE:
        found = problems(partial(chosen, pods, state=waiting))
        assert found == [f"{lm}: while a pod is pending or stopping, only stay or stop"]


def test_a_pod_that_waits_elsewhere_holds_up_nobody() -> None:
    waiting = replace(RUNNING, pod=RUNNING.pod.copy())
    waiting.pod[MID, 1] = POD_PENDING
    chosen(MORE[0][1], state=waiting)


@pytest.mark.parametrize("cores", [1e308, -1e308])
def test_absurd_cores_are_refused_without_a_warning(cores: float) -> None:
    assert "cores" in str(problems(lambda: chosen([on_cpu(cores), on_cpu(cores), ABSENT])))
