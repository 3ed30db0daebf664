"""Cores of a running pod, changed in place (beta in Kubernetes 1.33, stable since 1.35)."""

from __future__ import annotations

import asyncio
from typing import Final

from controller.domain.errors import EdgelmError, Transient
from controller.testbed.kubernetes.access import Call, ClusterApi, Document, quantity
from controller.testbed.kubernetes.pod import cpu
from controller.testbed.kubernetes.watching import Watched

PATIENCE_S: Final = 10.0
LOOK_S: Final = 0.5  # without news of the pod
STRATEGIC: Final = "application/strategic-merge-patch+json"
SUBRESOURCE: Final = "pods/resize"
PENDING: Final = "PodResizePending"
IN_PROGRESS: Final = "PodResizeInProgress"


async def can_resize(api: ClusterApi) -> bool:
    """Return True if the cluster has the subresource.

    Raises:
        EdgelmError: as :meth:`ClusterApi.call`.
    """
    found = await api.call(Call("list", ""))
    return any(one["name"] == SUBRESOURCE for one in found["resources"])


async def resize(
    api: ClusterApi, watched: Watched, pod: Document, cores: float, changed: asyncio.Event
) -> str:
    """Give a pod other cores; return "" when its container has them, else why it keeps its own.

    A resize that is infeasible, or takes longer than ``PATIENCE_S``, is undone in the spec, where
    it would otherwise come true at the container's next restart (kubernetes #126033).

    Args:
        changed: set at each news of the pod.
    """
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    before = pod["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    call = Call("patch", SUBRESOURCE, namespace, name)
    try:
        watched.note(await api.call(call, _cores(cpu(cores)), kind=STRATEGIC))
    except EdgelmError as error:  # beyond allocatable it is refused at once
        return str(error)
    why = await _follow(watched, name, cpu(cores), changed)
    while why and name in watched.objects:
        try:
            watched.note(await api.call(call, _cores(before), kind=STRATEGIC))
            break
        except Transient:
            await asyncio.sleep(LOOK_S)
        except EdgelmError as error:
            return f"{why}; and it could not be undone: {error}"
    return why


async def _follow(watched: Watched, name: str, wanted: str, changed: asyncio.Event) -> str:
    """Wait until the kubelet has done it; return why it has not."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                changed.clear()
                pod = watched.objects.get(name)
                if pod is None:
                    return "the pod is gone"
                conditions = {one["type"]: one for one in pod["status"].get("conditions", [])}
                waits = conditions.get(PENDING, {})
                if waits.get("reason") == "Infeasible":
                    return f"infeasible: {waits.get('message', 'no reason given')}"
                if not waits and IN_PROGRESS not in conditions and _has(pod, wanted):
                    return ""
                await changed.wait()
    except TimeoutError:
        return f"not done within {PATIENCE_S:g} s"


def _has(pod: Document, wanted: str) -> bool:
    """Return True if the kubelet reports these cores of the container."""
    for one in pod["status"].get("containerStatuses", []):
        limits = (one.get("resources") or {}).get("limits") or {}
        if "cpu" in limits and abs(quantity(limits["cpu"]) - quantity(wanted)) < 1e-6:
            return True
    return False


def _cores(amount: str) -> Document:
    resources = {"requests": {"cpu": amount}, "limits": {"cpu": amount}}
    return {"spec": {"containers": [{"name": "lm", "resources": resources}]}}
