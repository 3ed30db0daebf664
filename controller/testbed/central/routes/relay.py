"""Route to the nodes' own states, for people who reach the controller alone."""

from __future__ import annotations

from typing import Final

import aiohttp
from fastapi import APIRouter
from fastapi.responses import Response

from controller.testbed.central.routes.parts import NodeName
from controller.testbed.central.service import Controller
from controller.testbed.handshake import headers, refuse
from controller.testbed.keys import Keys

TIMEOUT: Final = aiohttp.ClientTimeout(total=4.0)  # below that of who asks
MOST_BYTES: Final = 1_000_000


def relay_routes(controller: Controller, keys: Keys) -> APIRouter:
    """Return the route. On a cluster, nodes have addresses that nobody outside of it reaches."""
    routes = APIRouter()

    @routes.get("/v1/nodes/{node}/state")
    async def node_state(node: NodeName) -> Response:
        """Return what a node says of itself now."""
        url = controller.present().get(node)
        if url is None:
            return refuse(404, f"no node {node} has asked for orders lately")
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.get(f"{url}/v1/state", headers=headers(keys, node)) as answer,
            ):
                content = await answer.content.read(MOST_BYTES)
                if answer.status != 200:
                    return refuse(502, f"{node} refuses to tell its state ({answer.status})")
                return Response(content, media_type="application/json")
        except (aiohttp.ClientError, TimeoutError) as error:
            return refuse(502, f"{node} does not answer at {url}: {type(error).__name__}")

    return routes
