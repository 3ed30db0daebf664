"""LM pods and what befalls them. Pods of ``clockwork`` move by hand, those of ``pods`` by kwok."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.domain.scenario import Scenario
from controller.domain.state import CPU, OFF, POD_OFF, POD_READY, POD_STARTING, POD_STOPPING
from controller.testbed.kubernetes import pods as pods_module
from controller.testbed.kubernetes import resize as resize_module
from controller.testbed.kubernetes.access import MERGE, Call, ClusterApi, Document
from controller.testbed.kubernetes.resize import STRATEGIC
from controller.testbed.kubernetes.runs import RunObjects
from controller.testbed.node.runtime import PodNews
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import lay, values
from tests.kubernetes.loop import opened
from tests.kubernetes.nodes import NodeOnCluster
from tests.reference.worlds import Model, node, world
from tests.waiting import waits

BY_HAND, BY_KWOK = "clockwork", "pods"
SETTLED_S = 60.0
NOTHING = (OFF, 0.0, 0)
ONE = [(CPU, 2.0, 0), NOTHING]


@pytest.fixture(scope="module")
def scenario(plane: ControlPlane) -> Scenario:
    made = world([node(cores=8.0, ram_gb=10.0)], [Model(ram_gb=1.0)] * 2, tau_s=1.0)
    named = tuple(replace(one, name="befallen") for one in made.testbed.nodes)
    made = replace(made, testbed=replace(made.testbed, nodes=named))
    for namespace in (BY_HAND, BY_KWOK):
        lay(plane, made.testbed.nodes, namespace)
    return made


class Place:
    """A namespace with a run in it."""

    def __init__(
        self, api: ClusterApi, scenario: Scenario, run_id: str, namespace: str, root: Path
    ) -> None:
        self.api, self.scenario, self.run_id, self.namespace = api, scenario, run_id, namespace
        self.root = root
        self.objects = RunObjects(api, namespace)
        self.nodes: list[NodeOnCluster] = []

    async def node(self, wishes: Any = None, **options: Any) -> NodeOnCluster:
        made = NodeOnCluster(
            self.api, self.scenario, 0, self.run_id, values(self.root, self.namespace), **options
        )
        self.nodes.append(made)
        await made.open(wishes)
        return made

    async def pod(self, one: NodeOnCluster, lm: int = 0) -> Document:
        name = one.runtime._maker.name_of(lm)
        return await self.api.call(Call("get", "pods", self.namespace, name))

    async def pods(self) -> list[Document]:
        found = await self.api.call(Call("list", "pods", self.namespace))
        return list(found["items"])

    async def report(self, one: NodeOnCluster, lm: int = 0, **status: Any) -> None:
        """Report a pod's status, as its kubelet would."""
        name = one.runtime._maker.name_of(lm)
        call = Call("patch", "pods/status", self.namespace, name)
        await self.api.call(call, {"status": status}, kind=STRATEGIC)

    async def report_ready(self, one: NodeOnCluster, ready: bool = True) -> None:
        condition = {"type": "Ready", "status": str(ready)}
        await self.report(one, phase="Running", podIP="10.0.0.9", conditions=[condition])


@contextlib.asynccontextmanager
async def place(
    plane: ControlPlane, scenario: Scenario, run_id: str, namespace: str, root: Path
) -> AsyncIterator[Place]:
    async with opened(plane) as api:
        made = Place(api, scenario, run_id, namespace, root)
        await made.objects.begin(run_id)
        try:
            yield made
        finally:
            for one in made.nodes:
                await one.runtime.close()
            await api.call(Call("deletecollection", "pods", namespace), {"gracePeriodSeconds": 0})
            await made.objects.end(run_id)


async def until(happened: Any, seconds: float = SETTLED_S) -> None:
    async with asyncio.timeout(seconds):
        while not happened():
            await asyncio.sleep(0.02)


async def until_true(asked: Any) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not await asked():
            await asyncio.sleep(0.1)


def test_a_pod_is_what_was_asked_for(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "asked.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)
            pod = await there.pod(one)
            asked = pod["spec"]["containers"][0]["resources"]
            assert asked["requests"] == asked["limits"] == {"cpu": "2", "memory": "953Mi"}
            assert pod["status"]["qosClass"] == "Guaranteed"
            assert pod["spec"]["nodeName"] == "befallen"
            assert one.runtime.url_of("lm0") == f"http://{pod['status']['podIP']}:8001"
            assert one.runtime.url_of("lm1") is None

    asyncio.run(test())


def test_gpus_of_a_pod_are_seen_and_not_assumed(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    seen: dict[str, dict[int, str]] = {}
    values_of = partial(values, tmp_path, BY_HAND, weights=tmp_path)

    async def test() -> None:
        async with place(plane, scenario, "seen.1", BY_HAND, tmp_path) as there:
            one = NodeOnCluster(
                there.api, scenario, 0, "seen.1", values_of(gpus_of_pods=lambda: seen)
            )
            there.nodes.append(one)
            await one.open()
            one.want(ONE)
            name = one.runtime._maker.name_of(0)
            await until(lambda: name in one.runtime._watched.objects)
            assert one.runtime.gpus_of(0, [0]) is None, "the device plugin has chosen, who knows"
            seen[(await there.pod(one))["metadata"]["uid"]] = {1: "GPU-b", 0: "GPU-a"}
            await until(lambda: one.runtime.gpus_of(0, [0]) == [0, 1])

            async def noted() -> bool:
                annotations = (await there.pod(one))["metadata"]["annotations"]
                return bool(annotations.get("edgelm/gpus") == "GPU-b,GPU-a")

            await until_true(noted)
            emulated = NodeOnCluster(there.api, scenario, 0, "seen.1", values(tmp_path, BY_HAND))
            assert emulated.runtime.gpus_of(0, [0]) == [0], "its engine has what the node gives it"

    asyncio.run(test())


def test_pod_security_restricted_admits_it(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    label = "pod-security.kubernetes.io/enforce"
    plane.kubectl("label", "namespace", BY_KWOK, f"{label}=restricted")

    async def test() -> None:
        async with place(plane, scenario, "restricted.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)

    try:
        asyncio.run(test())
    finally:
        plane.kubectl("label", "namespace", BY_KWOK, f"{label}-")


def test_without_the_runs_object_nothing_starts(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "ownerless.1", BY_KWOK, tmp_path) as there:
            await there.objects.end("ownerless.1")
            one = await there.node()
            one.want(ONE)
            await until(lambda: "the run has no object" in one.runtime.reasons().get("lm0", ""))
            assert await there.pods() == []
            await there.objects.begin("ownerless.1")
            await until(lambda: one.is_settled)

    asyncio.run(test())


def test_the_end_of_a_run_collects_its_pods(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    """Also of a node that was killed and comes back no more."""

    async def test() -> None:
        async with place(plane, scenario, "collected.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)
            kill(one)
            await there.objects.end("collected.1")

            async def none() -> bool:
                return not await there.pods()

            await until_true(none)

    asyncio.run(test())


def test_a_later_run_sweeps_what_a_killed_controller_left(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "killed.1", BY_KWOK, tmp_path) as there:
            await there.objects.begin("killed.1")  # twice is once
            await there.objects.begin("later.1")
            found = await there.api.call(Call("list", "configmaps", BY_KWOK))
            names = {one["metadata"]["name"] for one in found["items"]}
            assert "run-later-1" in names
            assert "run-killed-1" not in names
            await there.objects.end("later.1")
            await there.objects.end("later.1")

    asyncio.run(test())


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 1.0])
def test_a_node_service_killed_in_mid_start_doubles_nothing(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path, after_s: float
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "adopted.1", BY_KWOK, tmp_path) as there:
            first = await there.node()
            both = [(CPU, 2.0, 0), (CPU, 3.0, 0)]
            first.want(both)
            await asyncio.sleep(after_s)
            kill(first)
            uids = {one["metadata"]["uid"] for one in await there.pods()}
            second = await there.node(both)
            await until(lambda: second.is_settled)
            pods = await there.pods()
            assert len(pods) == 2
            assert uids <= {one["metadata"]["uid"] for one in pods}, "those there were adopted"
            if after_s == 1.0:
                assert second.pods.starts == 0
            await until(lambda: second.runtime.url_of("lm1") is not None)

    asyncio.run(test())


def test_a_pod_of_other_resources_is_stopped_after_a_restart(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "changed.1", BY_KWOK, tmp_path) as there:
            first = await there.node()
            first.want(ONE)
            await until(lambda: first.is_settled)
            kill(first)
            second = await there.node([(CPU, 3.0, 0), NOTHING])
            await until(lambda: second.is_settled)
            pod = await there.pod(second)
            assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "3"

    asyncio.run(test())


@pytest.mark.parametrize(
    "reason", ["UnexpectedAdmissionError", "OutOfcpu", "NodeAffinity", "Evicted"]
)
def test_a_failed_pod_is_made_anew(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path, reason: str
) -> None:
    async def test() -> None:
        async with place(plane, scenario, f"failed-{reason.lower()}.1", BY_HAND, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.runtime._watched.objects)
            first = await there.pod(one)
            await there.report(one, phase="Failed", reason=reason, message="by the test")
            await until(lambda: (0, PodNews.GONE) in one.heard)
            assert one.states()[0] == POD_STARTING, "it holds its resources and starts again"

            async def anew() -> bool:
                found = await there.pods()
                return [p["metadata"]["uid"] for p in found] not in ([], [first["metadata"]["uid"]])

            await until_true(anew)
            await there.report_ready(one)
            await until(lambda: one.is_settled)

    asyncio.run(test())


def test_a_pod_that_somebody_deletes_starts_again(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "drained.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)
            first = await there.pod(one)
            name = first["metadata"]["name"]
            await there.api.call(Call("delete", "pods", BY_KWOK, name))
            await until(lambda: (0, PodNews.GONE) in one.heard)
            await until(lambda: one.is_settled)
            assert (await there.pod(one))["metadata"]["uid"] != first["metadata"]["uid"]

    asyncio.run(test())


def test_a_container_that_restarts_is_lost_and_ready_again(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "lost.1", BY_HAND, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.runtime._watched.objects)
            await there.report_ready(one)
            await until(lambda: one.is_settled)
            await there.report_ready(one, ready=False)
            await until(lambda: one.states()[0] == POD_STARTING)
            assert one.runtime.url_of("lm0") is None
            await there.report_ready(one)
            await until(lambda: one.is_settled)
            assert one.pods.starts == 1
            assert one.runtime.url_of("lm0") == "http://10.0.0.9:8001"

    asyncio.run(test())


def test_a_leftover_of_the_same_name_is_waited_for(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "leftover.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)
            kept = {"metadata": {"finalizers": ["example.org/kept"]}}
            name = one.runtime._maker.name_of(0)
            call = Call("patch", "pods", BY_KWOK, name)
            await there.api.call(call, kept, kind=MERGE)
            kill(one)
            await there.api.call(Call("delete", "pods", BY_KWOK, name))
            second = await there.node([(CPU, 1.0, 0), NOTHING])
            await until(lambda: second.is_settled)
            pod = await there.pod(second)
            assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"

    asyncio.run(test())


def test_a_pod_that_no_kubelet_ends_is_deleted_by_force(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its grace and tau: a dead node must not be frozen for ever."""
    monkeypatch.setattr(pods_module, "GRACE_MARGIN_S", -28.0)  # of a grace of 30 s

    async def test() -> None:
        async with place(plane, scenario, "frozen.1", BY_HAND, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.runtime._watched.objects)
            await there.report_ready(one)
            await until(lambda: one.is_settled)
            one.want([NOTHING, NOTHING])
            await asyncio.sleep(1.0)
            assert one.states()[0] == POD_STOPPING
            await until(lambda: one.states()[0] == POD_OFF, 20.0)
            assert one.runtime.forced == 1
            assert await there.pods() == []

    asyncio.run(test())


@waits
def test_pods_run_on_while_the_api_is_away(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    async def test() -> None:
        async with place(plane, scenario, "away.1", BY_KWOK, tmp_path) as there:
            one = await there.node()
            one.want(ONE)
            await until(lambda: one.is_settled)
            uid = (await there.pod(one))["metadata"]["uid"]
            plane.stop("kube-apiserver")
            one.want([(CPU, 2.0, 0), (CPU, 1.0, 0)])  # nobody hears it yet
            await until(lambda: "does not answer" in one.runtime.reasons().get("lm1", ""))
            assert one.runtime.url_of("lm0") is not None
            await asyncio.sleep(3)
            await asyncio.to_thread(plane.start_api_server)
            await until(lambda: one.is_settled, 120.0)  # scheduler and kwok come back in their time
            assert (await there.pod(one))["metadata"]["uid"] == uid

    asyncio.run(test())


# Cores in place


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize_module, "PATIENCE_S", 1.0)


async def resizing(there: Place, cores: float) -> NodeOnCluster:
    one = await there.node(resizes=True)
    one.want(ONE)
    await until(lambda: one.runtime._watched.objects)
    await there.report_ready(one)
    await until(lambda: one.is_settled)
    one.want([(CPU, cores, 0), NOTHING])

    async def asked() -> bool:
        pod = await there.pod(one)
        return bool(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == f"{cores:g}")

    await until_true(asked)
    return one


def test_cores_change_in_place(plane: ControlPlane, scenario: Scenario, tmp_path: Path) -> None:
    async def test() -> None:
        async with place(plane, scenario, "resized.1", BY_HAND, tmp_path) as there:
            one = await resizing(there, 4.0)
            assert one.states()[0] == POD_READY
            assert one.pods.free()[0] == 4.0
            has = {"name": "lm", "image": "", "imageID": "", "ready": True, "restartCount": 0}
            has["resources"] = {"limits": {"cpu": "4", "memory": "953Mi"}}
            await there.report(one, containerStatuses=[has])
            await until(lambda: (0, PodNews.RESIZED) in one.heard)
            assert one.pods.starts == 1

            # A node service that is started anew knows it.
            kill(one)
            second = await there.node([(CPU, 4.0, 0), NOTHING], resizes=True)
            await until(lambda: second.is_settled)
            assert second.pods.starts == 0

    asyncio.run(test())


@pytest.mark.parametrize("how", ["infeasible", "slow"])
def test_a_resize_that_does_not_come_true_is_undone(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path, how: str, impatient: None
) -> None:
    async def test() -> None:
        async with place(plane, scenario, f"undone-{how}.1", BY_HAND, tmp_path) as there:
            one = await resizing(there, 4.0)
            if how == "infeasible":
                why = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
                await there.report(one, conditions=[why])
            await until(lambda: (0, PodNews.NOT_RESIZED) in one.heard)
            pod = await there.pod(one)
            assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "2"
            # Then the usual path: a stop and a start.
            assert one.states()[0] == POD_STOPPING
            assert one.pods.free()[0] == 6.0

    asyncio.run(test())


def test_a_resize_needs_room(plane: ControlPlane, scenario: Scenario, tmp_path: Path) -> None:
    async def test() -> None:
        async with place(plane, scenario, "roomless.1", BY_KWOK, tmp_path) as there:
            one = await there.node(resizes=True)
            one.want([(CPU, 2.0, 0), (CPU, 5.0, 0)])
            await until(lambda: one.is_settled)
            one.want([(CPU, 4.0, 0), (CPU, 5.0, 0)])
            assert one.states()[0] == POD_STOPPING

    asyncio.run(test())


def kill(one: NodeOnCluster) -> None:
    """End a node's tasks at once, and nothing else, as kill -9 does."""
    runtime = one.runtime
    tasks = [runtime._watching, *runtime._telling]
    tasks += [task for kept in runtime._kept for task in (kept.task, kept.resizing)]
    for task in filter(None, tasks):
        task.cancel()
    runtime._watched.objects.clear()
