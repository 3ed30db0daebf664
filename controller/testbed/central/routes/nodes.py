"""Routes of the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from controller.domain.decisions import Stamp
from controller.domain.errors import InputError, InvalidDecision
from controller.domain.phases import ENDING, RUNNING
from controller.testbed.central.routes.parts import (
    LOOK_S,
    MOST_FILE_BYTES,
    FileName,
    NodeName,
    RunKey,
    Wait,
    begun_as,
    current_run,
    unknown_run,
)
from controller.testbed.central.runs import RunAtCentre
from controller.testbed.central.service import Conflict, Controller
from controller.testbed.handshake import read_body, refuse
from controller.testbed.node.records import Record
from controller.testbed.node.wire import record_from_document


class Report(BaseModel):
    """A node's report."""

    model_config = ConfigDict(extra="forbid")

    arrivals: list[tuple[int, float]]
    records: list[dict[str, Any]]
    state: dict[str, Any] | None


def node_routes(controller: Controller) -> APIRouter:
    """Return the routes of nodes."""
    routes = APIRouter()

    @routes.get("/v1/nodes/{node}/news")
    async def news(
        node: NodeName,
        url: Annotated[str, Query(max_length=300)],
        run: Annotated[str, Query(max_length=24)] = "",
        after: Annotated[str, Query(pattern=r"^-?\d{1,9}\.\d{1,9}$")] = "-1.0",
        wait_s: Wait = 0.0,
    ) -> Response:
        """Return, as soon as there is news, the run and the newest orders (long poll)."""
        if not _is_address(url):
            return refuse(422, "url is no address of a service: give http(s)://HOST:PORT")
        try:
            await controller.hear(node, url)
        except Conflict as error:
            return refuse(409, str(error))
        slot, sequence = map(int, after.split("."))
        return JSONResponse(await _news(controller, node, url, run, Stamp(slot, sequence), wait_s))

    @routes.post("/v1/runs/{key}/nodes/{node}/reports")
    async def report(key: RunKey, node: NodeName, body: Report) -> Response:
        """Take a node's report; its records are on disk when this returns."""
        run = current_run(controller, key)
        if run is None or node not in run.heard:
            return unknown_run()
        try:
            closed = [record_from_document(one) for one in body.records]
            _check_own(run, node, closed)
            await run.take_report(node, body.model_dump(), closed)
        except (InputError, InvalidDecision) as error:
            return refuse(422, str(error))
        return JSONResponse({})

    @routes.put("/v1/runs/{key}/nodes/{node}/files/{name}")
    async def take_file(key: RunKey, node: NodeName, name: FileName, http: Request) -> Response:
        """Take a whole file of a node. Its journal comes last."""
        run = current_run(controller, key)
        if run is None or node not in run.heard:
            return unknown_run()
        content = await read_body(http, MOST_FILE_BYTES)
        if content is None:
            return refuse(413, f"a file has at most {MOST_FILE_BYTES} bytes, and comes whole")
        await run.take_file(node, name, content)
        return JSONResponse({})

    return routes


def _check_own(run: RunAtCentre, node: str, records: list[Record]) -> None:
    """Raise InputError for a record that is not this node's to close."""
    lms = run.scenario.testbed.lm_names
    for one in records:
        if one.request.origin != node:
            raise InputError("report", "has a record of another origin", field="request.origin",
                             value=one.request.origin, remedy=f"{node} closes its own")  # fmt: skip
        if one.request.lm not in lms:
            raise InputError("report", "has an unknown LM", field="request.lm",
                             value=one.request.lm, remedy=f"known: {', '.join(lms)}")  # fmt: skip


def _is_address(url: str) -> bool:
    """Return True for a URL that services and people may be sent to."""
    try:
        found = urlsplit(url)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False


async def _news(
    controller: Controller, node: str, url: str, known_run: str, after: Stamp, wait_s: float
) -> dict[str, Any]:
    """Wait until a node must hear of something: another run, newer orders."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    while True:
        run = controller.current
        wanted = run if run is not None and run.phase in (RUNNING, ENDING) else None
        if wanted is not None and node not in wanted.heard:
            wanted = None
        orders = wanted.news(after) if wanted is not None and wanted.key == known_run else None
        is_new = (wanted.key if wanted else "") != known_run
        left_s = end_s - loop.time()
        if is_new or orders is not None or left_s <= 0:
            return {
                "run": wanted and begun_as(wanted),
                "orders": orders,
                "nodes": controller.present(),
                "unix_s": time.time(),
            }
        changed = controller.told if wanted is None else wanted.changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, LOOK_S)), changed:
                await changed.wait()
        await controller.hear(node, url)
