"""Handshake of the services: one version, one token, one name for each file."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from controller import __version__

VERSION: Final = "Edgelm-Version"
# Files of a run that a node, or the centre, leaves and the controller keeps.
CENTRE: Final = "centre"  # among the names of nodes
JOURNAL: Final = "journal.jsonl"
TRANSCRIPT: Final = "transcript.jsonl"

OPEN_PATHS: Final = ("/healthz", "/readyz", "/metrics", "/openapi.json")

Next = Callable[[Request], Awaitable[Response]]


def headers(token: str) -> dict[str, str]:
    """Return the headers with which one service asks another."""
    return {VERSION: __version__, **({"Authorization": f"Bearer {token}"} if token else {})}


def refusal(request: Request, token: str) -> Response | None:
    """Return why a request is not let in, or None.

    People may ask without a version; a service of another one is refused, since what it sends may
    mean something else.
    """
    if request.url.path in OPEN_PATHS:
        return None
    if token:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return refuse(401, "the token is missing or foreign: give the one of this testbed")
    version = request.headers.get(VERSION, __version__)
    if version != __version__:
        problem = f"this service is edgelm {__version__}, you are {version}: install one version"
        return refuse(426, problem)
    return None


def refuse(status: int, problem: str, retry_after_s: float | None = None) -> Response:
    """Return an answer that says what is wrong."""
    retry = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return JSONResponse({"problem": problem}, status, headers=retry)


class Gate:
    """ASGI middleware that lets in whom :func:`refusal` does not refuse."""

    def __init__(self, app: Callable[..., Awaitable[None]], token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            refused = refusal(Request(scope), self._token)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)
