"""What LM pods stand on: namespace, priority class, nodes and their volumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.domain.testbed import Node
from controller.inputs.catalog import template_dir
from controller.testbed.kubernetes.pod import GPU_RESOURCE, PodValues
from tests.kubernetes.cluster import ControlPlane, fake_node

DIGEST = "sha256:" + "0" * 64
IMAGES = {"emulated": f"registry.example/edgelm-emulated@{DIGEST}"}


def values(data: Path, namespace: str, **more: Any) -> PodValues:
    return PodValues(template_dir(), IMAGES, data, namespace=namespace, **more)


def lay(plane: ControlPlane, nodes: Sequence[Node], namespace: str) -> None:
    """Make everything that the pods of these nodes need."""
    offered = [
        fake_node(one.name, cores=one.cores, ram_gb=one.ram_gb, vgpus=one.vgpus) for one in nodes
    ]
    plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "edgelm-lm"},
            "value": 1000,
            "preemptionPolicy": "Never",
        },
        *offered,
        *(volume(one.name, namespace) for one in nodes),
        *(claim(one.name, namespace) for one in nodes),
    )
    until(lambda: plane.get("pvc", "-n", namespace), _bound)
    until(lambda: plane.get("serviceaccounts", "-n", namespace), lambda found: found["items"])
    until(lambda: plane.get("nodes", *(one.name for one in nodes)), _ready)


def volume(node: str, namespace: str) -> dict[str, Any]:
    host = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
    terms = [{"matchExpressions": host}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-data-{node}"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "edgelm-local",
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": "/var/lib/edgelm"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": namespace, "name": f"edgelm-data-{node}",
            },
        },
    }  # fmt: skip


def claim(node: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"edgelm-data-{node}", "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "edgelm-local",
            "volumeName": f"{namespace}-data-{node}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def daemon(node: str, cores: float, namespace: str = "kube-system") -> dict[str, Any]:
    """Return a pod as a DaemonSet would have one on a node."""
    affinity = {
        "nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        ]
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"daemon-{node}", "namespace": namespace},
        "spec": {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": affinity}
            },
            "containers": [
                {
                    "name": "daemon",
                    "image": "nothing",
                    "resources": {"requests": {"cpu": f"{round(cores * 1000)}m"}},
                }
            ],
        },
    }


def gpus_asked(pod: dict[str, Any]) -> int:
    return int(pod["spec"]["containers"][0]["resources"].get("limits", {}).get(GPU_RESOURCE, 0))


def until(look: Any, good: Any, seconds: float = 30.0) -> Any:
    """Look until it is good; return what was seen."""
    end_s = time.monotonic() + seconds
    while True:
        found = look()
        if good(found):
            return found
        assert time.monotonic() < end_s, found
        time.sleep(0.1)


def _bound(found: dict[str, Any]) -> bool:
    return all(one["status"].get("phase") == "Bound" for one in found["items"])


def _ready(found: dict[str, Any]) -> bool:
    nodes = found.get("items", [found])
    return all(
        any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in one["status"].get("conditions", [])
        )
        for one in nodes
    )
