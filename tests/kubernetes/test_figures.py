"""What decisions cost on the API: 50 slots of Table II with six deployers, on the real scheduler.

Decisions are the twin's, slot by slot; nodes carry them out as in a run, twenty times as fast. Run
with EDGELM_FIGURES=1 -s.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import api as edgelm
from controller.domain.decisions import Deployment
from controller.domain.scenario import Scenario
from controller.domain.state import OFF, POD_PENDING
from controller.inputs.catalog import load_profile, load_testbed
from controller.testbed.kubernetes.access import Call, ClusterApi
from controller.testbed.kubernetes.pod import status_of
from controller.testbed.kubernetes.runs import RunObjects, find_owner
from controller.testbed.kubernetes.watching import Watched
from controller.testbed.node.pods import Start
from controller.twin.cluster import Twin
from tests.kubernetes.cluster import ControlPlane
from tests.kubernetes.ground import lay, values
from tests.kubernetes.loop import opened
from tests.kubernetes.nodes import NodeOnCluster

NAMESPACE = "figures"
SPEED = 20.0
SLOTS, SLOT_S = 50, 30.0 / SPEED
BARE = 20

pytestmark = pytest.mark.skipif(
    not os.environ.get("EDGELM_FIGURES"), reason="figures: EDGELM_FIGURES=1"
)


@pytest.fixture(scope="module")
def scenario(plane: ControlPlane) -> Scenario:
    made = Scenario(load_testbed("paper").to_domain(), load_profile("a5000").to_domain())
    lay(plane, made.testbed.nodes, NAMESPACE)
    return made


def decided(strategy: str, monkeypatch: pytest.MonkeyPatch) -> list[Deployment]:
    """Return what the deployers of a strategy decide in the first slots, on the twin."""
    made: list[Deployment] = []
    deploy = Twin.deploy

    async def noted(self: Twin, stamp: Any, deployment: Deployment, thought_s: Any) -> Any:
        made.append(deployment)
        return await deploy(self, stamp, deployment, thought_s)

    monkeypatch.setattr(Twin, "deploy", noted)
    edgelm.simulate(strategy, epochs=1)
    return made[:SLOTS]


class Scheduled:
    """When each pod was first seen with a node."""

    def __init__(self, api: ClusterApi) -> None:
        self.at_s: dict[str, tuple[str, float]] = {}  # uid -> name, time
        self.watched = Watched(api, Call("list", "pods", NAMESPACE), {}, self._changed)

    def _changed(self, name: str) -> None:
        pod = self.watched.objects.get(name)
        if pod is not None and status_of(pod).placed:
            self.at_s.setdefault(pod["metadata"]["uid"], (name, time.monotonic()))

    def seen(self, name: str) -> float | None:
        return next((at for one, at in self.at_s.values() if one == name), None)


@pytest.mark.parametrize("strategy", ["RL", "MA"])
def test_fifty_slots_of_six_deployers(
    plane: ControlPlane,
    scenario: Scenario,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    decisions = decided(strategy, monkeypatch)
    run_id = f"{strategy.lower()}.1"

    async def test() -> None:
        async with opened(plane) as api, opened_apart(plane) as watching:
            objects = RunObjects(api, NAMESPACE)
            await objects.begin(run_id)
            seen = Scheduled(watching)
            task = asyncio.create_task(seen.watched.run())
            rows = range(len(scenario.testbed.nodes))
            made = values(tmp_path, NAMESPACE)
            nodes = [NodeOnCluster(api, scenario, row, run_id, made) for row in rows]
            for one in nodes:
                await one.open()
            began, pending = api.calls, 0
            for wanted in decisions:
                end_s = time.monotonic() + SLOT_S
                for row, one in enumerate(nodes):
                    pairs = wanted.mode[row], wanted.cores[row], wanted.vgpus[row]
                    one.want([(int(m), float(c), int(v)) for m, c, v in zip(*pairs, strict=True)])
                await asyncio.sleep(max(0.0, end_s - time.monotonic()))
                pending += sum(one.states().count(POD_PENDING) for one in nodes)
            calls = api.calls - began
            for one in nodes:
                one.want([(OFF, 0.0, 0)] * len(scenario.testbed.lms))
            async with asyncio.timeout(60):
                while any(any(one.states()) for one in nodes):
                    await asyncio.sleep(0.1)
            left = (await api.call(Call("list", "pods", NAMESPACE)))["items"]
            delays = scheduling_delays(nodes, seen)
            bare, typed = await bare_delays(plane, api, scenario, run_id, seen, tmp_path)
            starts = sum(one.pods.starts for one in nodes)
            print(
                f"\n{strategy}: {len(decisions)} slots, {starts} starts, "
                f"{calls / len(decisions):.1f} API calls a slot, {pending} (pod, slot) pending, "
                f"leaked {len(left)}; decision to scheduled {shown(delays)}; "
                f"a bare POST {shown(bare)}; kubectl apply {shown(typed)}"
            )
            task.cancel()
            for one in nodes:
                await one.runtime.close()
            await objects.end(run_id)
            assert left == []
            assert np.median(delays) < 2 * np.median(typed)

    asyncio.run(test())


def opened_apart(plane: ControlPlane) -> Any:
    """Access whose calls are not the nodes'."""
    import contextlib

    from controller.testbed.kubernetes.access import open_api

    @contextlib.asynccontextmanager
    async def apart() -> Any:
        made = await open_api(plane.kubeconfig)
        yield made
        await made.close()

    return apart()


def scheduling_delays(nodes: list[NodeOnCluster], seen: Scheduled) -> list[float]:
    asked = sorted((at, name) for one in nodes for name, at in one.asked_s)
    delays = []
    for name, at in seen.at_s.values():
        before = [when for when, whose in asked if whose == name and when <= at]
        delays.append(at - before[-1])
    return delays


async def bare_delays(
    plane: ControlPlane,
    api: ClusterApi,
    scenario: Scenario,
    run_id: str,
    seen: Scheduled,
    root: Path,
) -> tuple[list[float], list[float]]:
    """Return delays of the same pods made by one POST, and by kubectl apply."""
    node = NodeOnCluster(api, scenario, 0, run_id, values(root, NAMESPACE))
    owner = await find_owner(api, NAMESPACE, run_id)
    assert owner is not None
    folder = root / scenario.testbed.node_names[0] / "pods" / "bare"
    arguments = ["--engine", "emulated", "--model", str(folder / "times.json")]
    pod = node.runtime._maker.make(Start(0, 1, 1.0, 0, ()), arguments, folder, owner)
    delays: tuple[list[float], list[float]] = [], []
    for number in range(BARE):
        for kind in (0, 1):
            name = f"bare-{kind}-{number}"
            one = {**pod, "metadata": {**pod["metadata"], "name": name}}
            began_s = time.monotonic()
            if kind == 0:
                await api.call(Call("create", "pods", NAMESPACE), one)
            else:
                apply = ("apply", "-f", "-")
                await asyncio.to_thread(plane.kubectl, *apply, stdin=json.dumps(one))
            async with asyncio.timeout(30):
                while (at := seen.seen(name)) is None:
                    await asyncio.sleep(0.002)
            delays[kind].append(at - began_s)
            await api.call(Call("delete", "pods", NAMESPACE, name), {"gracePeriodSeconds": 0})
    return delays


def shown(delays: list[float]) -> str:
    median, p99 = statistics.median(delays), float(np.percentile(delays, 99))
    return f"median {1000 * median:.0f} ms, p99 {1000 * p99:.0f} ms (n={len(delays)})"
