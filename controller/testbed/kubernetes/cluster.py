"""The cluster's nodes as the controller sees them, kept fresh by watches."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from controller.testbed.central.conditions import Survey
from controller.testbed.kubernetes.access import Call, ClusterApi, Document
from controller.testbed.kubernetes.nodes import read_node
from controller.testbed.kubernetes.watching import Watched

GATHER_S: Final = 0.5  # that changes are gathered for, before they are read together
LOOK_S: Final = 10.0  # at most from one survey to the next
CONTROL_PLANE: Final = "node-role.kubernetes.io/control-plane"


async def survey_cluster(api: ClusterApi, take: Callable[[Survey], Awaitable[None]]) -> None:
    """Give ``take`` the conditions of all nodes whenever they change, until cancelled.

    While the API server is away nothing is given: the last survey grows old by itself.
    """
    changed = asyncio.Event()

    def note(name: str) -> None:
        del name
        changed.set()

    nodes = Watched(api, Call("list", "nodes"), {}, note, keep=_node)
    pods = Watched(api, Call("list", "pods"), {}, note, keep=_pod, by="uid")
    async with asyncio.TaskGroup() as tasks:
        for one in (nodes, pods):
            tasks.create_task(one.run())
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_S)
            await asyncio.sleep(GATHER_S)
            changed.clear()
            age_s = max(nodes.age_s, pods.age_s)
            if age_s != float("inf"):
                bound = list(pods.objects.values())
                await take(_survey(list(nodes.objects.values()), bound, time.time() - age_s))


def _survey(nodes: Sequence[Document], pods: Sequence[Document], unix_s: float) -> Survey:
    on: dict[str, list[Document]] = {}
    for pod in pods:
        on.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    return Survey(
        unix_s,
        {
            one.name: one
            for one in (read_node(node, on.get(node["metadata"]["name"], ())) for node in nodes)
        },
    )


# Of thousands of objects only what is read is kept.


def _node(whole: Document) -> Document:
    status: dict[str, Any] = whole.get("status", {})
    return {
        "metadata": _metadata(whole),
        "spec": _picked(whole["spec"], "taints", "unschedulable"),
        "status": {
            **_picked(status, "addresses", "allocatable"),
            "conditions": [one for one in status.get("conditions", ()) if one["type"] == "Ready"],
        },
    }


def _pod(whole: Document) -> Document:
    kept = _picked(whole["spec"], "nodeName", "overhead")
    for containers in ("containers", "initContainers"):
        kept[containers] = [
            _picked(one, "resources", "restartPolicy") for one in whole["spec"].get(containers, ())
        ]
    status = _picked(whole.get("status", {}), "phase")
    return {"metadata": _metadata(whole), "spec": kept, "status": status}


def _metadata(whole: Document) -> Document:
    return _picked(whole["metadata"], "name", "uid", "resourceVersion", "labels")


def _picked(whole: Document, *fields: str) -> Document:
    return {field: whole[field] for field in fields if field in whole}
