"""The trial of network policies, on a real API server whose network is played by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from controller.inputs.catalog import template_dir
from controller.testbed.kubernetes.access import MERGE, Call, ClusterApi, Missing
from controller.testbed.kubernetes.enforcement import POLICIES, Enforcement, try_policies
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.loop import opened

IMAGE = "registry.example/edgelm-services:1"


@contextlib.asynccontextmanager
async def network(api: ClusterApi, *, enforces: bool, carries: bool = True) -> AsyncIterator[None]:
    """Play the readiness of both pods on a network that enforces policies, or does not."""

    async def play() -> None:
        while True:
            for pod in (await api.call(Call("list", "pods")))["items"]:
                meta = pod["metadata"]
                if not meta["namespace"].startswith("edgelm-enforcement"):
                    continue
                policies = Call("list", "networkpolicies", meta["namespace"], group=POLICIES)
                forbidden = enforces and (await api.call(policies))["items"]
                reached = meta["name"] == "server" or (carries and not forbidden)
                ready = {"type": "Ready", "status": "True" if reached else "False"}
                status = {"phase": "Running", "podIP": "10.0.0.9", "conditions": [ready]}
                patch = Call("patch", "pods/status", meta["namespace"], meta["name"])
                with contextlib.suppress(Missing):
                    await api.call(patch, {"status": status}, kind=MERGE)
            await asyncio.sleep(0.1)

    playing = asyncio.create_task(play())
    try:
        yield
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing


async def trial(plane: ControlPlane, **how: bool) -> Enforcement:
    async with opened(plane) as api:
        async with network(api, **how):
            found = await try_policies(api, IMAGE, template_dir() / "k8s", 5.0, 3.0)
        left = (await api.call(Call("list", "namespaces")))["items"]
        mine = [one for one in left if one["metadata"]["name"].startswith("edgelm-enforcement")]
        assert all(one["metadata"].get("deletionTimestamp") for one in mine), "it is deleted"
        return found


@pytest.mark.parametrize(
    ("how", "holds", "found"),
    [
        ({"enforces": True}, True, "enforced: refused with a policy, allowed after it was deleted"),
        ({"enforces": False}, False, "nobody enforces them"),
        ({"enforces": False, "carries": False}, False, "pods do not reach each other"),
    ],
)
def test_a_trial_tells_who_enforces(
    plane: ControlPlane, how: dict[str, bool], holds: bool, found: str
) -> None:
    tried = asyncio.run(trial(plane, **how))
    assert tried.holds is holds
    assert found in tried.found
    assert bool(tried.remedy) is not holds
