"""What a node offers LM pods, read from objects of the API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.domain.state import CPU, POD_READY
from controller.inputs.catalog import load_testbed
from controller.testbed.kubernetes.nodes import (
    Condition,
    Room,
    differences,
    limited,
    read_node,
    requests_of,
)
from tests.unit.policies.states import idle, shipped


def node(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "vm3"},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "15500m", "memory": "22G", "nvidia.com/gpu": "2"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            ],
        },
    }


def pod(*requests: dict[str, str], phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    containers = [{"resources": {"requests": one}} for one in requests]
    return {
        "metadata": {"name": "daemon", **metadata},
        "spec": {"containers": containers},
        "status": {"phase": phase},
    }


def test_daemons_are_taken_from_what_a_node_can_allocate() -> None:
    daemons = [pod({"cpu": "250m", "memory": "500M"}, {"cpu": "250m"}), pod({"cpu": "1"})]
    assert read_node(node(), daemons) == Condition(
        "vm3", ready=True, open=True, reason="", offered=Room(14.0, 21.5, 2)
    )


def test_pods_of_lms_and_those_that_are_over_take_nothing() -> None:
    lm = pod({"cpu": "8", "nvidia.com/gpu": "1"}, labels={"edgelm/lm": "LM1"})
    over = [pod({"cpu": "2"}, phase=phase) for phase in ("Succeeded", "Failed")]
    assert read_node(node(), [lm, *over]).offered == Room(15.5, 22.0, 2)


def test_a_pods_request_is_the_larger_of_its_start_and_its_run() -> None:
    one = pod({"cpu": "1", "memory": "1G"})
    one["spec"]["initContainers"] = [
        {"resources": {"requests": {"cpu": "500m"}}, "restartPolicy": "Always"},
        {"resources": {"requests": {"cpu": "3"}}},
    ]
    one["spec"]["overhead"] = {"cpu": "100m"}
    assert requests_of(one) == Room(3.6, 1.0, 0)


@pytest.mark.parametrize(
    ("change", "ready", "reason"),
    [
        ({"unschedulable": True}, True, "cordoned"),
        ({"taints": [{"key": "disk", "effect": "NoSchedule"}]}, True, "tainted: disk"),
        ({"taints": [{"key": "slow", "effect": "PreferNoSchedule"}]}, True, ""),
    ],
)
def test_a_closed_node_says_why(change: dict[str, Any], ready: bool, reason: str) -> None:
    found = read_node(node(**change), [])
    assert (found.ready, found.open, found.reason) == (ready, not reason, reason)


def test_a_node_whose_kubelet_is_silent_is_not_ready() -> None:
    lost = node()
    lost["status"]["conditions"][1] = {
        "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"
    }  # fmt: skip
    found = read_node(lost, [])
    assert (found.ready, found.open) == (False, False)
    assert found.reason == "not ready: NodeStatusUnknown"
    lost["status"]["conditions"] = []
    assert "never reported" in read_node(lost, []).reason


def test_differences_name_node_figure_and_remedy() -> None:
    testbed = load_testbed("paper").to_domain()
    good = {
        one.name: Condition(one.name, True, True, "", Room(one.cores, one.ram_gb, one.vgpus))
        for one in testbed.nodes
    }
    assert differences(testbed, good) == []
    bad = dict(good)
    del bad["vm2"]
    bad["vm3"] = replace(good["vm3"], offered=Room(12.0, 21.0, 2))
    bad["vm4"] = replace(good["vm4"], open=False, reason="cordoned")
    bad["vm7"] = replace(good["vm7"], offered=Room(15.0, 20.5, 0))
    assert differences(testbed, bad) == [
        "vm2: in the testbed file, not in the cluster",
        "vm3: LM pods can have 12 cores, the testbed file says 15: raise edgelm_reserved.cores "
        "by 3",
        "vm4: cordoned",
        "vm7: LM pods can have 20.5 GB, the testbed file says 21: raise edgelm_reserved.ram_gb "
        "by 0.5",
        "vm7: nvidia.com/gpu is 0, the testbed file says 4 (2 GPUs in 2 slices): look at the "
        "device plugin there",
    ]


def test_deciders_see_what_the_cluster_knows_better() -> None:
    scenario = shipped()
    testbed = scenario.testbed
    state = idle(scenario)
    row = testbed.node_names.index("vm3")
    state.mode[row, 0], state.pod[row, 0], state.cores[row, 0] = CPU, POD_READY, 4.0
    found = {
        "vm3": Condition("vm3", True, True, "", Room(10.0, 11.0, 2)),
        "vm4": Condition("vm4", True, False, "cordoned", Room(15.0, 21.0, 2)),
        "vm5": Condition("vm5", False, False, "not ready: Unknown", Room(15.0, 21.0, 2)),
    }
    seen = limited(state, testbed, found)
    rows = [testbed.node_names.index(name) for name in ("vm2", "vm3", "vm4", "vm5")]
    assert seen.up[rows].tolist() == [True, True, True, False]
    assert seen.free_cores[rows].tolist() == [state.free_cores[rows[0]], 6.0, 0.0, 0.0]
    assert seen.free_ram_gb[row] == 8.0  # 11 GB less LM1's 3
    assert seen.free_vgpus[rows].tolist() == [0, 2, 0, 0]
    assert np.array_equal(seen.pod, state.pod)
    assert state.up.all()
