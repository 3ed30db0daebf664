"""Routes of the workload's player."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from controller.domain.phases import ENDING, RUNNING
from controller.testbed.central.routes.parts import (
    LOOK_S,
    MOST_FILE_BYTES,
    Digest,
    RunKey,
    Wait,
    begun_as,
    current_run,
    unknown_run,
)
from controller.testbed.central.runs import RunAtCentre
from controller.testbed.central.service import Conflict, Controller
from controller.testbed.handshake import read_body, refuse


class Played(BaseModel):
    """Requests that the player has handed over, in the workload's order; none will follow. Or the
    ``problem`` for which it cannot."""

    model_config = ConfigDict(extra="forbid")

    scheduled_s: list[FiniteFloat] = []
    sent_s: list[FiniteFloat | None] = []
    accepted: list[bool] = []
    problem: Annotated[str, Field(max_length=1000)] = ""


def player_routes(controller: Controller) -> APIRouter:  # noqa: C901 - a table of routes
    """Return the routes of the workload's player."""
    routes = APIRouter()

    @routes.get("/v1/player/news")
    async def news(
        instance: Annotated[str, Query(pattern="^[0-9a-f]{32}$")],
        run: Annotated[str, Query(max_length=24)] = "",
        wait_s: Wait = 0.0,
    ) -> Response:
        """Return the run that is to be played, as soon as it is another one (long poll)."""
        end_s = time.monotonic() + wait_s
        while True:
            try:
                await controller.hear_player(instance)
            except Conflict as error:
                return refuse(409, str(error))
            wanted = _played_now(controller)
            left_s = end_s - time.monotonic()
            if (wanted.key if wanted else "") != run or left_s <= 0:
                sent = wanted and begun_as(wanted)
                return JSONResponse({"run": sent, "nodes": controller.addresses()})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_S)), controller.told:
                    await controller.told.wait()

    @routes.post("/v1/player/runs/{key}/played")
    async def played(key: RunKey, body: Played) -> Response:
        """Take what the player has done; it is on disk when this returns."""
        run = current_run(controller, key)
        if run is None:
            return unknown_run()
        if not len(body.scheduled_s) == len(body.sent_s) == len(body.accepted):
            return refuse(422, "scheduled_s, sent_s and accepted need one value per request")
        if body.problem:
            await controller.fail(run, body.problem)
            return JSONResponse({})
        # Those that were tried, not those whose acceptance the player saw: a node may have a
        # request although it, or the player, was killed before the answer.
        tried = sum(one is not None for one in body.sent_s)
        await run.take_played(body.model_dump_json().encode(), tried)
        return JSONResponse({})

    @routes.put("/v1/traces/{sha256}")
    async def take_trace(sha256: Digest, http: Request) -> Response:
        """Take the trace of a workload, for the player."""
        content = await read_body(http, MOST_FILE_BYTES)
        if content is None:
            return refuse(413, f"a trace has at most {MOST_FILE_BYTES} bytes, and comes whole")
        if hashlib.sha256(content).hexdigest() != sha256:
            return refuse(422, "the content has another SHA-256 than the address says")
        await controller.take_trace(sha256, content)
        return JSONResponse({})

    @routes.get("/v1/traces/{sha256}")
    async def trace(sha256: Digest) -> Response:
        """Return a trace."""
        path = controller.trace_path(sha256)
        if not path.is_file():
            return refuse(404, "there is no such trace: put it here before the run")
        return Response(await asyncio.to_thread(path.read_bytes), media_type="text/csv")

    return routes


def _played_now(controller: Controller) -> RunAtCentre | None:
    """Return the run that the player is to play, or to go on with."""
    run = controller.current
    is_on = run is not None and run.phase in (RUNNING, ENDING) and run.document["played"] is None
    return run if is_on else None
