"""Nodes of a cluster as conditions, read from objects of the API.

Objects are the documents of a list or a watch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controller.testbed.central.conditions import Condition, Room
from controller.testbed.kubernetes.access import Document, quantity
from controller.testbed.kubernetes.pod import GPU_RESOURCE, LM

OVER: Final = ("Succeeded", "Failed")  # phases in which a pod holds nothing


def read_node(node: Document, pods: Iterable[Document]) -> Condition:
    """Return a node's condition. ``pods``: those of all namespaces that are bound to it."""
    spec, status = node["spec"], node["status"]
    reports = {one["type"]: one for one in status.get("conditions", ())}
    report = reports.get("Ready", {"status": "Unknown", "reason": "it has never reported"})
    ready = report["status"] == "True"
    taints = [
        one["key"] for one in spec.get("taints", ()) if one["effect"] in ("NoSchedule", "NoExecute")
    ]
    cordoned = bool(spec.get("unschedulable"))
    reason = ""
    if not ready:
        reason = f"not ready: {report.get('reason') or report['status']}"
    elif cordoned:
        reason = "cordoned"
    elif taints:
        reason = f"tainted: {', '.join(taints)}"
    others = sum((requests_of(pod) for pod in pods if _counts(pod)), Room())
    return Condition(
        name=node["metadata"]["name"],
        ready=ready,
        open=ready and not cordoned and not taints,
        reason=reason,
        offered=_room(status.get("allocatable", {})) - others,
        address=next(
            (one["address"] for one in status.get("addresses", ()) if one["type"] == "InternalIP"),
            "",
        ),
        software=_software(status.get("nodeInfo", {})),
    )


def _software(info: Document) -> str:
    kubelet = f"Kubernetes {info.get('kubeletVersion', '').lstrip('v')}".rstrip()
    runtime = info.get("containerRuntimeVersion", "").replace("://", " ")
    parts = (kubelet, runtime, info.get("osImage", ""), info.get("kernelVersion", ""))
    return ", ".join(part for part in parts if part) if info else ""


def requests_of(pod: Document) -> Room:
    """Return what the scheduler counts for a pod: its containers' requests or, where it is more,
    an init container's; plus its overhead."""
    spec = pod["spec"]
    running, starting = Room(), Room()
    for container in spec.get("initContainers", ()):
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":  # a sidecar: it runs on
            running += asked
        starting = _larger(starting, running + asked)
    for container in spec["containers"]:
        running += _asked(container)
    return _larger(starting, running) + _room(spec.get("overhead", {}))


def _counts(pod: Document) -> bool:
    """Return True for a pod that holds resources and is not an LM's."""
    return (
        LM not in pod["metadata"].get("labels", {})
        and pod.get("status", {}).get("phase") not in OVER
    )


def _asked(container: Document) -> Room:
    return _room(container.get("resources", {}).get("requests", {}))


def _room(quantities: Document) -> Room:
    return Room(
        quantity(quantities.get("cpu", "0")),
        quantity(quantities.get("memory", "0")) / 1e9,
        int(quantities.get(GPU_RESOURCE, 0)),
    )


def _larger(one: Room, other: Room) -> Room:
    return Room(
        max(one.cores, other.cores), max(one.ram_gb, other.ram_gb), max(one.vgpus, other.vgpus)
    )
