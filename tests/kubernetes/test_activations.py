"""Random activations beside other people's pods: nothing leaks, nothing is overbooked."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_PENDING, POD_READY
from controller.inputs.catalog import load_profile, load_testbed
from controller.testbed.kubernetes.access import Call, ClusterApi
from controller.testbed.kubernetes.pod import quantity, status_of
from controller.testbed.kubernetes.runs import RunObjects
from controller.testbed.kubernetes.watching import Watched
from controller.testbed.node.pods import Wish
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import daemon, lay, values
from tests.kubernetes.loop import opened
from tests.kubernetes.nodes import NodeOnCluster

NAMESPACE = "activations"
ACTIVATIONS = int(os.environ.get("EDGELM_ACTIVATIONS", "150"))
RUN = "activations.1"
DAEMON_CORES = 0.4
SETTLED_S = 60.0


@pytest.fixture(scope="module")
def scenario(plane: ControlPlane) -> Iterator[Scenario]:
    """Table II, with a DaemonSet's pods on each node."""
    made = Scenario(load_testbed("paper").to_domain(), load_profile("a5000").to_domain())
    lay(plane, made.testbed.nodes, NAMESPACE)
    plane.apply(*(daemon(one.name, DAEMON_CORES) for one in made.testbed.nodes))
    yield made
    plane.kubectl("delete", "pods", "-n", "kube-system", "--all", "--force", "--grace-period=0")


def wishes(scenario: Scenario, row: int, chance: random.Random) -> list[Wish]:
    """Random pods of a node, often more than fit."""
    node, made = scenario.testbed.nodes[row], []
    for i, lm in enumerate(scenario.testbed.lms):
        kinds = [OFF] + [CPU] * scenario.on_cpu(row, i) + [GPU] * (2 * scenario.on_gpu(row, i))
        mode = chance.choice(kinds)
        if mode == CPU:
            made.append((CPU, float(chance.choice([1, 2, 4, 6, 8])), 0))
        elif mode == GPU:
            made.append((GPU, lm.cores_on_gpu, chance.randint(1, node.vgpus)))
        else:
            made.append((OFF, 0.0, 0))
    return made


class Bookkeeper:
    """Everybody's pods on each node against what it has."""

    def __init__(self, api: ClusterApi, offered: dict[str, dict[str, str]]) -> None:
        self._offered = {
            node: {name: quantity(amount) for name, amount in one.items()}
            for node, one in offered.items()
        }
        self.overbooked: list[str] = []
        self.watched = Watched(api, Call("list", "pods"), {}, lambda name: self._check())

    def _check(self) -> None:
        booked: dict[tuple[str, str], float] = {}
        for pod in self.watched.objects.values():
            node = pod["spec"].get("nodeName")
            for one in pod["spec"]["containers"] if node in self._offered else ():
                for name, amount in one["resources"].get("requests", {}).items():
                    booked[node, name] = booked.get((node, name), 0.0) + quantity(amount)
        for (node, name), amount in booked.items():
            if amount > self._offered[node].get(name, 0.0) * (1 + 1e-9):
                self.overbooked.append(f"{node}: {amount} {name}")


def test_random_activations_leak_nothing_and_overbook_nothing(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    found = plane.get("nodes")["items"]
    offered = {one["metadata"]["name"]: one["status"]["allocatable"] for one in found}

    async def test() -> None:
        async with opened(plane) as api:
            objects, chance = RunObjects(api, NAMESPACE), random.Random(1)  # noqa: S311
            await objects.begin(RUN)
            books = Bookkeeper(api, offered)
            watching = asyncio.create_task(books.watched.run())
            nodes = [
                NodeOnCluster(api, scenario, row, RUN, values(tmp_path, NAMESPACE))
                for row in range(len(scenario.testbed.nodes))
            ]
            for one in nodes:
                await one.open()
            began_s, waited, void = time.monotonic(), 0, 0
            while sum(one.pods.starts for one in nodes) < ACTIVATIONS:
                for row, one in enumerate(nodes):
                    void += sum(one.want(wishes(scenario, row, chance)))
                await asyncio.sleep(chance.choice([0.0, 0.05, 0.3]))
                waited += sum(one.states().count(POD_PENDING) for one in nodes)
            for one in nodes:
                one.want([(OFF, 0.0, 0)] * len(scenario.testbed.lms))
            await until(lambda: all(not any(one.states()) for one in nodes))
            left = await api.call(Call("list", "pods", NAMESPACE))
            starts = sum(one.pods.starts for one in nodes)
            print(f"\n{starts} activations in {time.monotonic() - began_s:.1f} s, {void} void, "
                  f"{waited} seen pending, leaked {len(left['items'])}, "
                  f"over-allocated {len(books.overbooked)}")  # fmt: skip
            assert left["items"] == []
            assert books.overbooked == []
            for one in nodes:
                assert one.pods.free() == pytest.approx(
                    (one.pods._node.cores, one.pods._node.ram_gb, one.pods._node.vgpus)
                )
                await one.runtime.close()
            watching.cancel()
            await objects.end(RUN)

    asyncio.run(test())


def test_somebody_elses_pod_lets_ours_wait_and_blocks_the_node(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    """The testbed file has room, the cluster has not: pending, void, ready when room is made."""
    row = scenario.testbed.node_names.index("vm3")
    stranger = daemon("vm3", 10.0, "default")

    async def test() -> None:
        async with opened(plane) as api:
            objects = RunObjects(api, NAMESPACE)
            await objects.begin("waits.1")
            node = NodeOnCluster(api, scenario, row, "waits.1", values(tmp_path, NAMESPACE))
            await node.open()
            await asyncio.to_thread(plane.apply, stranger)
            nothing = (OFF, 0.0, 0)
            await placed(api, "default", "daemon-vm3")
            assert node.want([(CPU, 8.0, 0), nothing, nothing, nothing]) == [False] * 4
            await until(lambda: node.states()[0] == POD_PENDING)
            assert node.pods.free()[0] == pytest.approx(15.0), "it holds nothing"
            assert node.want([(CPU, 8.0, 0), (CPU, 1.0, 0), nothing, nothing]) == [
                False,
                True,
                False,
                False,
            ]
            # Why, for people: in the node's state, on the pod and in its events.
            await until(lambda: "Insufficient cpu" in node.runtime.reasons().get("LM1", ""))
            name = node.runtime._maker.name_of(0)
            describe = plane.kubectl, "describe", "pod", name, "-n", NAMESPACE
            await until_thread(lambda: "edgelm: " in describe[0](*describe[1:]))
            assert "edgelm/waits:" in describe[0](*describe[1:])
            # Given up while it waits: deleted.
            assert node.want([nothing] * 4) == [False] * 4
            await until(lambda: not any(node.states()))
            assert (await api.call(Call("list", "pods", NAMESPACE)))["items"] == []
            # Wanted again; the stranger goes.
            node.want([(CPU, 8.0, 0), nothing, nothing, nothing])
            await until(lambda: node.states()[0] == POD_PENDING)
            await asyncio.to_thread(plane.kubectl, "delete", "pod", "daemon-vm3", "--force")
            await until(lambda: node.states()[0] == POD_READY)
            assert node.runtime.reasons() == {}
            await node.runtime.close()
            await objects.end("waits.1")

    asyncio.run(test())


def test_a_pod_that_can_never_fit_says_so(
    plane: ControlPlane, scenario: Scenario, tmp_path: Path
) -> None:
    """Two vGPUs where the device plugin offers one: the testbed file and the cluster disagree."""
    row = scenario.testbed.node_names.index("vm4")
    offers = {"status": {"allocatable": {"nvidia.com/gpu": "1"}}}
    patch = ("patch", "node", "vm4", "--subresource=status", "--type=merge", "-p")

    async def test() -> None:
        async with opened(plane) as api:
            objects = RunObjects(api, NAMESPACE)
            await objects.begin("never.1")
            node = NodeOnCluster(api, scenario, row, "never.1", values(tmp_path, NAMESPACE))
            await node.open()
            node.want([(GPU, 1.0, 2)] + [(OFF, 0.0, 0)] * 3)
            await until(lambda: "never fits" in node.runtime.reasons().get("LM1", ""))
            assert (
                "asks for 2 nvidia.com/gpu, and the whole node has 1"
                in node.runtime.reasons()["LM1"]
            )
            assert node.states()[0] == POD_PENDING
            await until_event(api, "NeverFits")
            await node.runtime.close()
            await objects.end("never.1")

    plane.kubectl(*patch, json.dumps(offers))
    try:
        asyncio.run(test())
    finally:
        offers["status"]["allocatable"]["nvidia.com/gpu"] = "2"
        plane.kubectl(*patch, json.dumps(offers))


async def until(happened: Any) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not happened():
            await asyncio.sleep(0.02)


async def until_thread(happened: Any) -> None:
    async with asyncio.timeout(SETTLED_S):
        while not await asyncio.to_thread(happened):
            await asyncio.sleep(0.2)


async def until_event(api: ClusterApi, reason: str) -> None:
    """Await an event of the node service with this reason; other tests' events stand there too."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            found = await api.call(Call("list", "events", NAMESPACE))
            if any(
                one["source"].get("component") == "edgelm-node" and one["reason"] == reason
                for one in found["items"]
            ):
                return
            await asyncio.sleep(0.1)


async def placed(api: ClusterApi, namespace: str, name: str) -> None:
    async with asyncio.timeout(SETTLED_S):
        while True:
            pod = await api.call(Call("get", "pods", namespace, name))
            if status_of(pod).placed:
                return
            await asyncio.sleep(0.05)
