"""What a node offers LM pods, read from objects of the API."""

from __future__ import annotations

from typing import Any

import pytest

from controller.testbed.central.conditions import Condition, Room
from controller.testbed.kubernetes.nodes import read_node, requests_of


def node(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "vm3"},
        "spec": spec,
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "vm3"},
                {"type": "InternalIP", "address": "10.0.0.13"},
            ],
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
        "vm3", ready=True, open=True, reason="", offered=Room(14.0, 21.5, 2), address="10.0.0.13"
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


def test_versions_of_what_runs_a_node_are_known() -> None:
    there = node()
    assert read_node(there, []).software == ""
    there["status"]["nodeInfo"] = {
        "kubeletVersion": "v1.36.3", "containerRuntimeVersion": "containerd://2.1.4",
        "osImage": "Ubuntu 24.04 LTS", "kernelVersion": "6.8.0-60",
    }  # fmt: skip
    assert read_node(there, []).software == (
        "Kubernetes 1.36.3, containerd 2.1.4, Ubuntu 24.04 LTS, 6.8.0-60"
    )
