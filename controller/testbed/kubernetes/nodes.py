"""Nodes of a cluster: whether pods can run there, and how much is left for those of LMs.

Objects are those of the API as plain dictionaries, as a list or a watch returns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from kubernetes.utils.quantity import parse_quantity

from controller.domain.state import POD_READY, POD_STARTING, POD_STOPPING, ClusterState
from controller.domain.testbed import Node, Testbed

GPU: Final = "nvidia.com/gpu"
LM_LABEL: Final = "edgelm/lm"  # of the pods that deployers start
OVER: Final = ("Succeeded", "Failed")  # phases in which a pod holds nothing
SLACK: Final = 1e-6

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Room:
    """Resources of a node or a pod."""

    cores: float = 0.0
    ram_gb: float = 0.0
    vgpus: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.cores + other.cores, self.ram_gb + other.ram_gb, self.vgpus + other.vgpus)

    def __sub__(self, other: Room) -> Room:
        return Room(self.cores - other.cores, self.ram_gb - other.ram_gb, self.vgpus - other.vgpus)


@dataclass(frozen=True, slots=True)
class Condition:
    """State of one node.

    Attributes:
        ready: its kubelet reports, and says that pods can run.
        open: new pods may be scheduled there: neither cordoned nor tainted.
        reason: why it is not ready or not open; "" if it is both.
        offered: for LM pods: what the node can allocate less the requests of all other pods.
    """

    name: str
    ready: bool
    open: bool
    reason: str
    offered: Room


def read_node(node: Object, pods: Iterable[Object]) -> Condition:
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
    )


def requests_of(pod: Object) -> Room:
    """Return what the scheduler counts for a pod: its containers' requests or, where it is more,
    an init container's; plus its overhead."""
    spec = pod["spec"]
    running = Room()
    starting = Room()
    for container in spec.get("initContainers", ()):
        asked = _asked(container)
        if container.get("restartPolicy") == "Always":  # a sidecar: it runs on
            running += asked
        starting = _larger(starting, running + asked)
    for container in spec["containers"]:
        running += _asked(container)
    return _larger(starting, running) + _room(spec.get("overhead", {}))


def differences(testbed: Testbed, found: Mapping[str, Condition]) -> list[str]:
    """Return where the cluster offers LM pods less than the testbed file promises, a sentence per
    node; an empty list if strategies can have what they plan with."""
    said = []
    for node in testbed.nodes:
        condition = found.get(node.name)
        if condition is None:
            said.append(f"{node.name}: in the testbed file, not in the cluster")
            continue
        if not condition.open:
            said.append(f"{node.name}: {condition.reason}")
        said += [f"{node.name}: {one}" for one in _shortages(node, condition.offered)]
    return said


def _shortages(node: Node, offered: Room) -> Iterable[str]:
    if offered.cores < node.cores - SLACK:
        yield (
            f"LM pods can have {max(0.0, offered.cores):g} cores, the testbed file says "
            f"{node.cores:g}: raise edgelm_reserved.cores by {node.cores - offered.cores:.3g}"
        )
    if offered.ram_gb < node.ram_gb - SLACK:
        yield (
            f"LM pods can have {max(0.0, offered.ram_gb):.4g} GB, the testbed file says "
            f"{node.ram_gb:g}: raise edgelm_reserved.ram_gb by {node.ram_gb - offered.ram_gb:.3g}"
        )
    if offered.vgpus != node.vgpus:
        yield (
            f"nvidia.com/gpu is {offered.vgpus}, the testbed file says {node.vgpus} "
            f"({node.gpus} GPUs in {node.vgpus_per_gpu} slices): look at the device plugin there"
        )


def limited(state: ClusterState, testbed: Testbed, found: Mapping[str, Condition]) -> ClusterState:
    """Return the state with what the cluster knows better than a node's own service.

    A node that is not ready is not up. One that is closed, or full of other people's pods, has
    less room for new pods; those that run go on. Nodes that ``found`` lacks stay as they are.
    """
    lms_ram_gb = np.array([lm.ram_gb for lm in testbed.lms])
    up = state.up.copy()
    cores, ram_gb = state.free_cores.copy(), state.free_ram_gb.copy()
    vgpus = state.free_vgpus.copy()
    for k, row in enumerate(state.rows.tolist()):
        condition = found.get(testbed.node_names[row])
        if condition is None:
            continue
        up[k] &= condition.ready
        if not condition.open:
            cores[k], ram_gb[k], vgpus[k] = 0.0, 0.0, 0
            continue
        holding = np.isin(state.pod[k], (POD_STARTING, POD_READY, POD_STOPPING))
        left = condition.offered - Room(
            float(state.cores[k][holding].sum()),
            float(lms_ram_gb[holding].sum()),
            int(state.vgpus[k][holding].sum()),
        )
        cores[k] = min(cores[k], max(0.0, left.cores))
        ram_gb[k] = min(ram_gb[k], max(0.0, left.ram_gb))
        vgpus[k] = min(vgpus[k], max(0, left.vgpus))
    return replace(state, up=up, free_cores=cores, free_ram_gb=ram_gb, free_vgpus=vgpus)


def _counts(pod: Object) -> bool:
    """Return True for a pod that holds resources and is not an LM's."""
    return (
        LM_LABEL not in pod["metadata"].get("labels", {})
        and pod.get("status", {}).get("phase") not in OVER
    )


def _asked(container: Object) -> Room:
    return _room(container.get("resources", {}).get("requests", {}))


def _room(quantities: Object) -> Room:
    return Room(
        _number(quantities.get("cpu", 0)),
        _number(quantities.get("memory", 0)) / 1e9,
        int(quantities.get(GPU, 0)),
    )


def _number(quantity: str | int) -> float:
    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call]


def _larger(one: Room, other: Room) -> Room:
    return Room(
        max(one.cores, other.cores), max(one.ram_gb, other.ram_gb), max(one.vgpus, other.vgpus)
    )
