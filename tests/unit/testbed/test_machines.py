"""Use of machines in a run, from exporters on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.bootstrap.services import LiveWork
from controller.domain.phases import RUNNING
from controller.store.sqlite import open_store
from controller.telemetry.scrape import Exporter
from controller.testbed.central.conditions import Condition, Room, Survey
from controller.testbed.central.machines import watch_machines
from controller.testbed.central.service import Controller, FencingToken
from tests.samples.small import small_experiment
from tests.unit.telemetry.exporters import SAMPLES, exporter, free_port, node_exporter, text

SPEED = 300.0  # a slot takes 0.1 s


async def watched(
    folder: Path, ports: dict[Exporter, int], enough: Callable[[Any], bool], machine: str = ""
) -> Any:
    """Return controller and documents once these are enough. ``machine``: the nodes' address, as a
    cluster knows it; then their services have another."""
    one = small_experiment(target="emulated", epoch_slots=8)
    with contextlib.closing(open_store(folder / "store.sqlite")) as store:
        controller = Controller(folder, store, LiveWork)
        nodes = one.testbed.to_domain().nodes
        for node in nodes[:2]:
            service = "127.0.0.9" if machine else "127.0.0.1"
            await controller.hear(node.name, f"http://{service}:8701")
        if machine:
            known = [Condition(node.name, True, True, "", Room(), machine) for node in nodes]
            await controller.take_survey(Survey(time.time(), {one.name: one for one in known}))
        await controller.hear_player("0" * 32)
        token = FencingToken((await controller.take_lease("a test", 60.0)).fence)
        run = await controller.begin(one.run_id, one.canonical_json(), SPEED, token)
        await controller.close()  # nobody decides here
        await run.update(phase=RUNNING, began_unix_s=time.time())
        watching = asyncio.create_task(watch_machines(controller, store, ports))
        async with asyncio.timeout(10):
            while not enough(store.find("usage")):
                await asyncio.sleep(0.02)
        watching.cancel()
        return controller, store.find("usage", sort=[("slot", 1)])


def test_each_slot_has_the_use_of_each_machine(tmp_path: Path) -> None:
    answer = text((SAMPLES / "dcgm.txt").read_text())
    port = free_port()
    with node_exporter(port), exporter(answer) as dcgm:
        ports = {Exporter.NODE: port, Exporter.DCGM: dcgm}
        controller, found = asyncio.run(watched(tmp_path, ports, lambda found: len(found) >= 6))
    assert {one["node"] for one in found} == set(controller.usage)
    places = [(one["slot"], one["node"]) for one in found]
    assert len(places) == len(set(places))
    assert all(one["run"] == controller.current.run_id for one in found)
    assert all(one["faults"] == [] and one["memory_bytes"] > 0 for one in found)
    told = controller.measured.render()
    assert 'exporter="dcgm",outcome="ok"' in told
    assert 'outcome="failed"' not in told


def test_exporters_are_asked_where_the_cluster_says_that_machines_are(tmp_path: Path) -> None:
    port = free_port()
    with node_exporter(port):
        ports = {Exporter.NODE: port, Exporter.DCGM: free_port()}
        _, found = asyncio.run(
            watched(tmp_path, ports, lambda found: len(found) >= 2, machine="127.0.0.1")
        )
    assert all(one["memory_bytes"] > 0 for one in found)


def test_exporters_that_are_away_have_faults_and_no_figures(tmp_path: Path) -> None:
    ports = {Exporter.NODE: free_port(), Exporter.DCGM: free_port()}
    controller, found = asyncio.run(watched(tmp_path, ports, lambda found: len(found) >= 4))
    for one in found:
        assert one["memory_bytes"] is None
        assert any("127.0.0.1" in fault for fault in one["faults"])
    assert 'outcome="failed"' in controller.measured.render()
