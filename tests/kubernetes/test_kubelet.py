"""An LM pod on a real kubelet: the image, a local volume, probes, kills and cores in place.

Run with EDGELM_POD_IMAGE=localhost:5000/edgelm-emulated@sha256:... -s, as root.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controller.domain.state import CPU, OFF, POD_OFF, POD_READY, POD_STARTING
from controller.testbed.emulation import EmulatedEngines
from controller.testbed.kubernetes.pod import UID, PodValues
from controller.testbed.kubernetes.resize import resize
from controller.testbed.kubernetes.runs import RunObjects
from controller.testbed.node.pods import Start
from controller.testbed.node.runtime import PodNews
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import claim, template_dir, until, volume
from tests.kubernetes.kubelet import Kubelet, kubelet, processes_with
from tests.kubernetes.loop import opened
from tests.kubernetes.nodes import NodeOnCluster
from tests.reference.worlds import Model, node, world

IMAGE = os.environ.get("EDGELM_POD_IMAGE", "")
NAMESPACE, NODE = "edgelm-lms", "here"
NOTHING = (OFF, 0.0, 0)
PROMPTS = 6
DEADLINE_S = time.time() + 600

pytestmark = pytest.mark.skipif(not IMAGE, reason="a real kubelet: EDGELM_POD_IMAGE=NAME@DIGEST")


@pytest.fixture(autouse=True)
def _stay_on_this_machine() -> None:
    """Pods have addresses of their own."""


@pytest.fixture(scope="module")
def machine(plane: ControlPlane) -> Iterator[Kubelet]:
    with kubelet(plane, NODE) as made:
        os.chown(made.data, UID, UID)
        level = "pod-security.kubernetes.io/enforce"
        meta = {"name": NAMESPACE, "labels": {level: "restricted"}}
        disk = volume(NODE, NAMESPACE)
        disk["spec"]["local"]["path"] = str(made.data)
        plane.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": meta},
            {
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": "edgelm-lm"}, "value": 1000,
            },
            disk,
            claim(NODE, NAMESPACE),
        )  # fmt: skip
        until(lambda: plane.get("serviceaccounts", "-n", NAMESPACE), lambda found: found["items"])
        yield made


async def wait(happened: Any, said: Any = lambda: "", seconds: float = 60.0) -> float:
    """Wait; return the seconds that it took."""
    began_s = time.monotonic()
    while not happened():
        assert time.monotonic() < began_s + seconds, said()
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


def test_a_pod_through_kills_and_a_resize(plane: ControlPlane, machine: Kubelet) -> None:
    asyncio.run(_test(plane, machine))


async def _test(plane: ControlPlane, machine: Kubelet) -> None:
    made = world([node(cores=1.5, ram_gb=3.0)], [Model(ram_gb=0.5, start_s=1.0, stop_s=0.5)])
    scenario = replace(
        made, testbed=replace(made.testbed, nodes=(replace(made.testbed.nodes[0], name=NODE),))
    )
    data = machine.data
    values = PodValues(template_dir(), {"emulated": IMAGE}, data, namespace=NAMESPACE)
    async with opened(plane) as api, aiohttp.ClientSession() as session:
        objects = RunObjects(api, NAMESPACE)
        await objects.begin("kubelet.1")
        one = NodeOnCluster(api, scenario, 0, "kubelet.1", values, resizes=True, speed=1.0)
        one.runtime._run = replace(one.runtime._run, engine=as_the_pods_user(one, scenario))
        await one.open()
        one.want([(CPU, 0.5, 0)])
        print(f"\nfirst start (image pulled) {await wait(lambda: one.is_settled):.1f} s")
        one.want([NOTHING])

        def said() -> str:
            kept = one.runtime._kept[0]
            shown = plane.kubectl("get", "pods", "-n", NAMESPACE, "-o", "yaml")
            log = (machine.folder / "kubelet.log").read_text()[-3000:]
            return f"{kept} {one.heard} {one.runtime._watched.age_s} {shown} {log}"

        print(f"stop {await wait(lambda: one.states() == [POD_OFF], said):.1f} s")
        one.want([(CPU, 0.5, 0)])
        start_s = await wait(lambda: one.is_settled)
        print(f"start {start_s:.1f} s")
        pod = next(iter(one.runtime._watched.objects.values()))
        assert pod["status"]["qosClass"] == "Guaranteed"
        folder = data / NODE / "pods" / "lm0"
        written = {path.stat().st_uid for path in folder.iterdir()}
        assert written == {UID}, "the pod's user writes the checkpoint"
        assert len(list(folder.iterdir())) > 1

        # kill -9 of the container in mid-prompt
        await submit(session, url(one), "killed")
        await recorded(session, one, "killed", 2)
        servers = processes_with(f"--data {folder}")
        assert servers
        for pid in servers:
            os.kill(pid, signal.SIGKILL)
        await wait(lambda: one.states() == [POD_STARTING])
        print(f"ready after kill -9 in {await wait(lambda: one.is_settled):.1f} s")
        assert one.pods.starts == 2, "the kubelet has restarted it in place"
        await submit(session, url(one), "killed")
        view = await recorded(session, one, "killed", PROMPTS)
        check(view)

        # kill -9 of the kubelet in mid-prompt
        await submit(session, url(one), "headless")
        await recorded(session, one, "headless", 1)
        uid = pod["metadata"]["uid"]
        machine.kill()
        view = await recorded(session, one, "headless", PROMPTS)
        check(view)
        assert view["recomputed_prompts"] == 0
        await asyncio.to_thread(machine.start)
        await asyncio.sleep(3)
        pod = next(iter(one.runtime._watched.objects.values()))
        assert (pod["metadata"]["uid"], one.states()) == (uid, [POD_READY])

        # Cores in place
        assert quota(folder) == 0.5
        one.want([(CPU, 1.0, 0)])
        seconds = await wait(lambda: (0, PodNews.RESIZED) in one.heard)
        assert quota(folder) == 1.0
        print(f"cores in place {seconds:.2f} s, a stop and a start {start_s:.1f} s and more")
        assert one.pods.starts == 2
        news = asyncio.Event()
        why = await resize(api, one.runtime._watched, pod, 100.0, news)
        print(f"100 cores: {why}")
        assert why
        pod = next(iter(one.runtime._watched.objects.values()))
        assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"
        assert quota(folder) == 1.0
        await one.runtime.close()
        await objects.end("kubelet.1")


def as_the_pods_user(one: NodeOnCluster, scenario: Any) -> Any:
    """Return an engine whose files are the node service's, which has the pods' user."""
    run = one.runtime._run
    emulated = EmulatedEngines(scenario, 0, run.folder / "gpus", 1.0)

    def engine(start: Start, folder: Path) -> Any:
        made = emulated(start, folder)
        top = run.folder
        for path in (top, *top.rglob("*")):
            os.chown(path, UID, UID)
        return made

    return engine


def url(one: NodeOnCluster) -> str:
    found = one.runtime.url_of("lm0")
    assert found is not None
    return found


async def submit(session: aiohttp.ClientSession, url: str, key: str) -> None:
    prompts = [{"text": "a prompt", "seed": k, "output_tokens": 4} for k in range(PROMPTS)]
    body = {"id": key, "prompts": prompts, "deadline_unix_s": DEADLINE_S}
    async with session.post(f"{url}/v1/requests", json=body) as answer:
        assert answer.status < 300, await answer.text()


async def recorded(
    session: aiohttp.ClientSession, one: NodeOnCluster, key: str, count: int
) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            async with session.get(f"{url(one)}/v1/requests/{key}") as answer:
                view: dict[str, Any] = await answer.json()
            if len(view["recorded"]) >= count:
                return view
            await asyncio.sleep(0.1)


def check(view: dict[str, Any]) -> None:
    """Nothing lost, nothing recorded twice, one batch at most computed again."""
    print(f"{view['recomputed_prompts']} recomputed of {PROMPTS}")
    done = [prompt for batch in view["batches"] for prompt in batch["prompts"]]
    assert sorted(done) == list(range(PROMPTS))
    assert view["recomputed_prompts"] <= 1


def quota(folder: Path) -> float:
    """Return the cores that the kernel gives a pod's server."""
    pid = processes_with(f"--data {folder}")[0]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            group = Path("/sys/fs/cgroup/cpu") / path.strip("/")
            return int((group / "cpu.cfs_quota_us").read_text()) / int(
                (group / "cpu.cfs_period_us").read_text()
            )
        if not controllers:
            group = Path("/sys/fs/cgroup") / path.strip("/")
            if (group / "cpu.max").exists():
                most, period = (group / "cpu.max").read_text().split()
                return int(most) / int(period)
    raise AssertionError("no quota")
