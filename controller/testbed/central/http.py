"""The controller's HTTP: who may ask what, over all routes."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from controller import __version__
from controller.domain.errors import Transient
from controller.testbed.central.routes.lease import lease_routes
from controller.testbed.central.routes.nodes import node_routes
from controller.testbed.central.routes.player import player_routes
from controller.testbed.central.routes.relay import relay_routes
from controller.testbed.central.routes.runs import run_routes
from controller.testbed.central.routes.watchers import watcher_routes
from controller.testbed.central.service import Controller
from controller.testbed.handshake import Gate, refuse
from controller.testbed.keys import PLAYER, Keys

OF_NODES: Final = re.compile(r"^/v1/(runs/[^/]+/)?nodes/(?P<node>[^/]+)/(news|reports|files)")
TRACES: Final = "/v1/traces/"


class Refusal(BaseModel):
    """Reason of a refusal: ``problems`` for what has the wrong shape."""

    problem: str = ""
    problems: list[dict[str, str]] = []


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "The body is no text.",
        401: "The token is missing or foreign.",
        403: "The caller may not do this.",
        404: "The run, or the file, is unknown.",
        409: "Somebody else has the testbed, the name or the token.",
        412: "A later attempt of the same holder has the run.",
        413: "The body is too large.",
        422: "What was sent cannot be read, or cannot be run.",
        426: "The other service is of another version.",
        502: "The node does not answer.",
        503: "The store is away; try again.",
    }.items()
}


def make_app(controller: Controller, keys: Keys) -> Gate:
    """Return the ASGI application of the controller."""
    app = FastAPI(title="edgelm controller", version=__version__, responses=REFUSALS)
    for routes in (lease_routes, run_routes, player_routes, node_routes, watcher_routes):
        app.include_router(routes(controller))
    app.include_router(relay_routes(controller, keys))

    @app.exception_handler(RequestValidationError)
    async def invalid(http: Request, error: RequestValidationError) -> Response:
        """Say what is wrong without the values, which may be anything."""
        del http
        found = [
            {"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()
        ]
        return JSONResponse({"problems": found}, 422)

    @app.exception_handler(Transient)
    async def away(http: Request, error: Transient) -> Response:
        """Say that the store is away."""
        del http
        return refuse(503, str(error))

    return Gate(app, keys, _may)


def _may(caller: str, http: Request) -> bool:
    """Return True if a node or the player asks for its own part."""
    if caller == PLAYER:
        path, method = http.scope["path"], http.method
        return path.startswith("/v1/player/") or (method == "GET" and path.startswith(TRACES))
    own = OF_NODES.match(http.scope["path"])
    return own is not None and own["node"] == caller
