"""Routes of who looks on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from controller import __version__
from controller.domain.errors import EdgelmError
from controller.lease import Lease
from controller.telemetry import names
from controller.telemetry.exposition import CONTENT_TYPE
from controller.testbed.central.routes.parts import (
    Wait,
    progress_of,
)
from controller.testbed.central.service import Controller

KEEP_ALIVE_S: Final = 10.0  # between two signs of life of an event stream
LOOK_S: Final = 2.0  # that a look at the state waits for the store; its readers wait for 5


def watcher_routes(controller: Controller) -> APIRouter:
    """Return the routes of who looks on."""
    routes = APIRouter()

    @routes.get("/v1/events")
    async def events(
        after: Annotated[int, Query(ge=0)] = 0,
        wait_s: Wait = 0.0,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Return the events after a number: a list (long poll), or a stream of server-sent events
        for who accepts ``text/event-stream``."""
        if "text/event-stream" in accept:
            return StreamingResponse(_stream(controller, after), media_type="text/event-stream")
        return JSONResponse(list(await controller.events_after(after, wait_s)))

    @routes.get("/v1/state")
    async def state() -> Response:
        """Return who is there and what runs. The lease is unknown, not free, while there is a
        ``store_fault``."""
        run, approvals = controller.current, controller.approvals
        fault, lease = await _look(controller)
        return JSONResponse(
            {
                "version": __version__,
                "unix_s": time.time(),
                "nodes": controller.present(),
                "store_fault": fault,
                "conditions": {node: asdict(one) for node, one in controller.conditions().items()},
                "usage": {node: one.document() for node, one in controller.usage.items()},
                "player": controller.has_player,
                "lease": lease and asdict(lease),
                "run": run and {**progress_of(controller, run), **run.orders_in_force()},
                "approval": approvals and approvals.question,
            }
        )

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        controller.measured.set(names.STORE_AWAY, bool(controller.store_fault))
        return Response(controller.measured.render(), media_type=CONTENT_TYPE)

    @routes.get("/healthz")
    async def health() -> Response:
        return JSONResponse({})

    return routes


async def _look(controller: Controller) -> tuple[str, Lease | None]:
    """Return what is wrong with the store, "" if nothing, and the testbed's lease.

    A store that is away is not asked, and one that hangs is waited for briefly: who looks on wants
    to see the rest.
    """
    if controller.store_fault:
        return controller.store_fault, None
    try:
        async with asyncio.timeout(LOOK_S):
            return "", await controller.lease()
    except TimeoutError:
        return f"the store has not answered within {LOOK_S:g} s", None
    except EdgelmError as error:
        return str(error), None


async def _stream(controller: Controller, after: int) -> AsyncIterator[str]:
    while True:
        found = await controller.events_after(after, KEEP_ALIVE_S)
        for event in found:
            after = event["number"]
            yield f"id: {after}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n"
        if not found:
            yield ": still here\n\n"
