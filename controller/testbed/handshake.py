"""Handshake of the services: one version, known callers, one name for each file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from controller import __version__
from controller.testbed.keys import OPERATOR, Keys

VERSION: Final = "Edgelm-Version"
# Files of a run that a node, or the centre, leaves and the controller keeps.
CENTRE: Final = "centre"  # among the names of nodes
JOURNAL: Final = "journal.jsonl"
TRANSCRIPT: Final = "transcript.jsonl"
PLAYED: Final = "played.json"  # of the player
KEPT_TRACES: Final = 8  # at the controller and at the player, which get 512 MB at most with each

OPEN_PATHS: Final = ("/healthz", "/metrics", "/openapi.json")

May = Callable[[str, Request], bool]  # True if a caller may ask this


def headers(keys: Keys, other: str) -> dict[str, str]:
    """Return the headers with which one service asks another."""
    token = keys.token_for(other)
    return {VERSION: __version__, **({"Authorization": f"Bearer {token}"} if token else {})}


def caller_of(request: Request) -> str:
    """Return the name of who has been let in."""
    return str(request.scope["state"]["caller"])


def refusal(request: Request, keys: Keys, may: May) -> Response | None:
    """Return the refusal of a request, or None and note the caller for :func:`caller_of`.

    People may ask without a version; a service of another one is refused, since what it sends may
    mean something else.
    """
    if request.scope["path"] in OPEN_PATHS:
        return None
    caller = keys.caller(request.headers.get("authorization", "").removeprefix("Bearer "))
    if caller is None:
        return refuse(401, "the token is missing or foreign: give --keys of this testbed")
    if caller != OPERATOR and not may(caller, request):
        return refuse(403, f"{caller} may not do this: its keys are for its own work")
    request.scope.setdefault("state", {})["caller"] = caller
    version = request.headers.get(VERSION, __version__)
    if version != __version__:
        problem = f"this service is edgelm {__version__}, you are {version}: install one version"
        return refuse(426, problem)
    return None


def refuse(status: int, problem: str, retry_after_s: float | None = None) -> Response:
    """Return an answer that says what is wrong."""
    retry = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return JSONResponse({"problem": problem}, status, headers=retry)


async def read_body(request: Request, most_bytes: int) -> bytes | None:
    """Return a body, None if it is too large or its sender has gone."""
    if int(request.headers.get("content-length") or 0) > most_bytes:
        return None
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most_bytes:
                return None
            parts.append(part)
    except ClientDisconnect:
        return None
    return b"".join(parts)


class Gate:
    """ASGI middleware that lets in whom :func:`refusal` does not refuse."""

    def __init__(self, app: Callable[..., Awaitable[None]], keys: Keys, may: May) -> None:
        self._app, self._keys, self._may = app, keys, may

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            refused = refusal(Request(scope), self._keys, self._may)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)
