"""What 600 nodes cost the controller: memory and time per slot, on a real API server.

Run with EDGELM_FIGURES=1 -s.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller import wire
from controller.domain.scenario import Scenario
from controller.domain.state import join_rows
from controller.inputs.catalog import load_profile, load_testbed
from controller.testbed.central.conditions import Survey, limited
from controller.testbed.central.runs import _empty_row
from controller.testbed.kubernetes.access import Call, ClusterApi
from controller.testbed.kubernetes.cluster import GATHER_S, survey_cluster
from tests.kubernetes.cluster import ControlPlane, fake_node
from tests.kubernetes.ground import until
from tests.kubernetes.loop import opened

NAMESPACE = "scale"
NODES, PODS_A_NODE = 600, 3
SLOTS, CHANGED = 10, 120  # pods that are deleted and made in each slot

pytestmark = pytest.mark.skipif(
    not os.environ.get("EDGELM_FIGURES"), reason="figures: EDGELM_FIGURES=1"
)


def pod(node: str, number: int) -> dict[str, Any]:
    resources = {"requests": {"cpu": "2", "memory": "2Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{node}-{number}", "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "lm", "image": "nothing", "resources": resources}],
        },
    }


def enlarged() -> Scenario:
    """The paper's workers a hundred times."""
    made = Scenario(load_testbed("paper").to_domain(), load_profile("a5000").to_domain())
    nodes = tuple(
        replace(one, name=f"{one.name}-{k}")
        for k in range(NODES // 6)
        for one in made.testbed.nodes
    )
    return replace(made, testbed=replace(made.testbed, nodes=nodes))


def rss_mb(pid: int | str = "self") -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_six_hundred_nodes(plane: ControlPlane) -> None:
    scenario = enlarged()
    names = scenario.testbed.node_names
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    until(lambda: plane.get("serviceaccounts", "-n", NAMESPACE), lambda found: found["items"])
    plane.apply(
        *(
            fake_node(one.name, cores=one.cores, ram_gb=one.ram_gb, vgpus=one.vgpus)
            for one in scenario.testbed.nodes
        )
    )
    before_mb = rss_mb()
    surveys: list[tuple[float, Survey]] = []

    async def take(survey: Survey) -> None:
        surveys.append((time.monotonic(), survey))

    limit = asyncio.Semaphore(20)

    async def make(api: ClusterApi, name: str) -> None:
        async with limit:
            for k in range(PODS_A_NODE):
                await api.call(Call("create", "pods", NAMESPACE), pod(name, k))

    async def test() -> tuple[list[float], float, float]:
        delays, cpu_s = [], 0.0
        async with opened(plane) as api, opened(plane) as other:
            await asyncio.gather(*(make(other, name) for name in names))
            task = asyncio.create_task(survey_cluster(api, take))
            async with asyncio.timeout(120):
                while not surveys or len(surveys[-1][1].conditions) < NODES:
                    await asyncio.sleep(0.1)
            for slot in range(SLOTS):
                changed = names[slot * CHANGED // PODS_A_NODE % NODES :][: CHANGED // PODS_A_NODE]
                for name in changed:
                    for k in range(PODS_A_NODE):
                        await other.call(
                            Call("delete", "pods", NAMESPACE, f"{name}-{k}"),
                            {"gracePeriodSeconds": 0},
                        )
                seen, began_s, began_cpu_s = len(surveys), time.monotonic(), time.process_time()
                idle = changed[-1]
                async with asyncio.timeout(60):
                    while len(surveys) == seen or _held(surveys[-1][1], idle, scenario) > 0:
                        await asyncio.sleep(0.01)
                delays.append(time.monotonic() - began_s)
                cpu_s += time.process_time() - began_cpu_s
                await asyncio.gather(*(make(other, name) for name in changed))
            task.cancel()
        return delays, cpu_s / SLOTS, rss_mb() - before_mb

    delays, cpu_s, memory_mb = asyncio.run(test())

    # A slot's reports, as nodes send them, joined and held against the survey.
    reports = [
        json.dumps(wire.state_to_wire(scenario.testbed, _empty_row(scenario, row)))
        for row in range(NODES)
    ]
    began_s = time.process_time()
    rows = [wire.state_from_wire(scenario.testbed, json.loads(text)) for text in reports]
    state = limited(join_rows(rows), scenario.testbed, surveys[-1][1].conditions)
    joined_s = time.process_time() - began_s
    assert len(state.rows) == NODES
    server_mb = rss_mb(plane._processes["kube-apiserver"].pid)
    print(
        f"\n{NODES} nodes, {NODES * PODS_A_NODE} pods, {CHANGED} of them anew in each of {SLOTS} "
        f"slots: surveyed {max(delays):.2f} s after the last change at most (of which it gathers "
        f"for {GATHER_S:g} s), {cpu_s:.2f} s of processor time a slot; reports of a slot joined in "
        f"{joined_s:.2f} s ({sum(map(len, reports)) / 1e6:.1f} MB); memory of the survey "
        f"{memory_mb:.0f} MB, of the API server {server_mb:.0f} MB"
    )


def _held(survey: Survey, name: str, scenario: Scenario) -> float:
    """Return the cores of a node that its pods request."""
    row = scenario.testbed.node_names.index(name)
    whole = scenario.testbed.nodes[row].cores
    return round(whole - survey.conditions[name].offered.cores, 3)
