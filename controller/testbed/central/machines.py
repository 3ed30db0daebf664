"""Use of the nodes' machines, read from their exporters once a slot (section V-D)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from controller.domain.errors import EdgelmError
from controller.ports import Store
from controller.telemetry import names
from controller.telemetry.scrape import PORTS, Exporter, Reading, Scraper, Target
from controller.telemetry.usage import Usage
from controller.testbed.central.runs import RUNNING
from controller.testbed.central.service import Controller

PERIOD_S: Final = 30.0  # between two rounds while no run has slots
COLLECTION: Final = "usage"

log = logging.getLogger("edgelm.controller")


async def watch_machines(
    controller: Controller, store: Store, ports: Mapping[Exporter, int] = PORTS
) -> None:
    """Keep the controller's ``usage`` fresh until cancelled; a run's is stored, a slot a document.

    Exporters are asked where the nodes' services are, DCGM's where the run's testbed has GPUs. What
    does not answer has a fault in place of figures.
    """
    usage = Usage()
    async with aiohttp.ClientSession() as session:
        scraper = Scraper((), session)
        while True:
            targets = _targets(controller, ports)
            if targets != scraper.targets:
                scraper = Scraper(targets, session)
            readings = await scraper.round()
            _count(controller, readings)
            controller.usage = usage.update(readings)
            run = controller.current
            if run is None or run.phase != RUNNING:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PERIOD_S), controller.told:
                        await controller.told.wait()
                continue
            slot = int(run.clock.now() // run.scenario.slot_s)
            try:
                for node, one in controller.usage.items():
                    document = {"run": run.run_id, "slot": slot, **one.document()}
                    key = f"{run.run_id}.{slot:07d}.{node}"
                    await asyncio.to_thread(store.put, COLLECTION, key, document)
            except EdgelmError as error:  # a run does not end for want of its telemetry
                log.warning("use of machines in slot %d is not kept: %s", slot, error)
            await run.clock.sleep_until((slot + 1) * run.scenario.slot_s)


def _targets(controller: Controller, ports: Mapping[Exporter, int]) -> tuple[Target, ...]:
    run = controller.current
    with_gpus = {one.name for one in run.scenario.testbed.nodes if one.gpus} if run else set()
    return tuple(
        Target(name, exporter, f"http://{urlsplit(url).hostname}:{port}/metrics")
        for name, url in sorted(controller.present().items())
        for exporter, port in ports.items()
        if exporter is not Exporter.DCGM or name in with_gpus
    )


def _count(controller: Controller, readings: list[Reading]) -> None:
    for one in readings:
        controller.measured.add(
            names.SCRAPES,
            target=one.target.node,
            exporter=one.target.exporter,
            outcome="failed" if one.fault else "ok",
        )
