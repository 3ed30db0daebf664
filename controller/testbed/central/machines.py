"""Use of the nodes' machines, read from their exporters once a slot (section V-D)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from controller.domain.errors import EdgelmError
from controller.domain.phases import RUNNING
from controller.ports import Store
from controller.telemetry import names
from controller.telemetry.scrape import PORTS, Exporter, Reading, Scraper, Target, targets
from controller.telemetry.usage import NodeUsage, Usage
from controller.testbed.central.service import Controller

PERIOD_S: Final = 5.0  # between two rounds while no run has slots
COLLECTION: Final = "usage"

log = logging.getLogger("edgelm.controller")


async def watch_machines(
    controller: Controller, store: Store, ports: Mapping[Exporter, int] = PORTS
) -> None:
    """Keep the controller's ``usage`` fresh until cancelled; store a run's, a document a slot.

    Exporters are asked at the machines' addresses, where those are not known at the nodes'
    services, which on a cluster have addresses of their own; DCGM's where the run's testbed has
    GPUs. What does not answer has a fault in place of figures.
    """
    usage = Usage()
    async with aiohttp.ClientSession() as session:
        scraper = Scraper((), session)
        while True:
            run = controller.current
            if run is not None and run.phase == RUNNING:
                await run.clock.sleep_until(0.0)
            scraper.targets = _targets(controller, ports)
            readings = await scraper.round()
            _count(controller, readings)
            controller.usage = usage.update(readings)
            if run is None or run.phase != RUNNING:
                await asyncio.sleep(PERIOD_S)
                continue
            slot = int(run.clock.now() // run.scenario.slot_s)
            try:
                await asyncio.to_thread(_keep, store, run.run_id, slot, controller.usage)
            except EdgelmError as error:  # a run does not end for want of its telemetry
                log.warning("use of machines in slot %d is not kept: %s", slot, error)
            await run.clock.sleep_until((slot + 1) * run.scenario.slot_s)


def _targets(controller: Controller, ports: Mapping[Exporter, int]) -> tuple[Target, ...]:
    run = controller.current
    with_gpus = [one.name for one in run.scenario.testbed.nodes if one.gpus] if run else []
    conditions = controller.conditions()
    hosts = {
        name: (conditions[name].address if name in conditions else "")
        or urlsplit(url).hostname
        or ""
        for name, url in controller.present().items()
    }
    return tuple(targets(hosts, with_gpus, ports))


def _count(controller: Controller, readings: list[Reading]) -> None:
    for one in readings:
        controller.measured.add(
            names.SCRAPES,
            target=one.target.node,
            exporter=one.target.exporter,
            outcome="failed" if one.fault else "ok",
        )


def _keep(store: Store, run_id: str, slot: int, usage: Mapping[str, NodeUsage]) -> None:
    documents = {
        f"{run_id}.{slot:07d}.{node}": {"run": run_id, "slot": slot, **one.document()}
        for node, one in usage.items()
    }
    store.put_many(COLLECTION, documents)
