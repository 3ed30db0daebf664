"""Routes of who has experiments to run."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from controller.domain.errors import InputError
from controller.domain.phases import OVER
from controller.testbed.central.routes.parts import (
    NO_LEASE,
    FileName,
    NodeName,
    RunId,
    Token,
    progress_of,
    token_of,
    unknown_run,
)
from controller.testbed.central.service import Conflict, Controller, Overtaken
from controller.testbed.handshake import PLAYED, refuse
from controller.testbed.keys import PLAYER
from controller.testbed.node.wire import to_wire


class NewRun(BaseModel):
    """A run to begin."""

    model_config = ConfigDict(extra="forbid")

    experiment: Annotated[str, Field(max_length=4 * 2**20)]  # experiment.json, canonical
    speed: Annotated[FiniteFloat, Field(gt=0, le=1000)] = 1.0


class Verdict(BaseModel):
    """A person's word on a policy."""

    model_config = ConfigDict(extra="forbid")

    approved: bool


def run_routes(controller: Controller) -> APIRouter:  # noqa: C901 - a table of routes
    """Return the routes of who has experiments to run."""
    routes = APIRouter()

    @routes.put("/v1/runs/{run_id}")
    async def begin(run_id: RunId, body: NewRun, fencing_token: Token = NO_LEASE) -> Response:
        """Begin the run of an experiment, or find it again and take it over. One that is done needs
        no lease."""
        try:
            token = token_of(fencing_token)
            run = await controller.begin(run_id, body.experiment, body.speed, token)
        except InputError as error:
            return refuse(422, str(error))
        except Overtaken as error:
            return refuse(412, str(error))
        except Conflict as error:
            return refuse(409, str(error))
        return JSONResponse(progress_of(controller, run))

    @routes.get("/v1/runs/{run_id}")
    async def look(run_id: RunId) -> Response:
        """Return how far a run is."""
        run = await asyncio.to_thread(controller.find, run_id)
        return unknown_run() if run is None else JSONResponse(progress_of(controller, run))

    @routes.post("/v1/runs/{run_id}/cancel")
    async def cancel(run_id: RunId, fencing_token: Token = NO_LEASE) -> Response:
        """End a run. ``Fencing-Token``: that of its newest PUT."""
        try:
            run = await controller.cancel(run_id, token_of(fencing_token))
        except Conflict as error:
            return refuse(409, str(error))
        return unknown_run() if run is None else JSONResponse(progress_of(controller, run))

    @routes.get("/v1/runs/{run_id}/played")
    async def played(run_id: RunId) -> Response:
        """Return when the player has handed over which request."""
        run = await asyncio.to_thread(controller.find, run_id)
        path = None if run is None else run.file(PLAYER, PLAYED)
        if path is None or not path.is_file():
            return refuse(404, "the run is unknown, or still played")
        content = await asyncio.to_thread(path.read_bytes)
        return Response(content, media_type="application/json")

    @routes.post("/v1/runs/{run_id}/approvals/{slot}")
    async def approve(
        run_id: RunId, slot: Annotated[int, Path(ge=0, lt=2**31)], body: Verdict
    ) -> Response:
        """Approve or reject the policy that was decided in a slot; ``GET /v1/state`` shows it."""
        run, approvals = controller.current, controller.approvals
        if run is None or run.run_id != run_id or run.phase in OVER or approvals is None:
            return unknown_run()
        if not approvals.answer(slot, approved=body.approved):
            return refuse(409, f"no policy of slot {slot} waits for approval, or not any more")
        return JSONResponse({})

    @routes.get("/v1/runs/{run_id}/records")
    async def records(run_id: RunId) -> Response:
        """Return the records of all closed requests, a JSON object per line."""
        run = await asyncio.to_thread(controller.find, run_id)
        if run is None:
            return unknown_run()
        lines = (json.dumps(to_wire(run.records[key])) for key in sorted(run.records))
        return Response("".join(f"{line}\n" for line in lines), media_type="application/x-ndjson")

    @routes.get("/v1/runs/{run_id}/nodes/{node}/files/{name}")
    async def file(run_id: RunId, node: NodeName, name: FileName) -> Response:
        """Return a file that a node, or ``centre``, has left."""
        run = await asyncio.to_thread(controller.find, run_id)
        path = None if run is None else run.file(node, name)
        if path is None or not path.is_file():
            return refuse(404, "no such file: the run is unknown, or its node has sent none")
        content = await asyncio.to_thread(path.read_bytes)
        return Response(content, media_type="application/x-ndjson")

    return routes
