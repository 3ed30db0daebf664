"""The HTTP server: /v1/models and /v1/chat/completions on loopback."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from controller.agents.chat import REFERENCE_MODEL
from controller.agents.endpoint.loopback import ATTEMPT_HEADER
from controller.agents.endpoint.pace import LATENCY_HEADER
from controller.domain.errors import InputError
from controller.reference_model.completions import HttpReply, Latency, complete, failure
from controller.reference_model.faults import NO_FAULTS, ReplyFaults

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


BACKLOG: Final = 2048  # connections that wait to be taken, as uvicorn has it


def make_app(latency: Latency, faults: ReplyFaults = NO_FAULTS) -> Starlette:
    """The server's routes."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def respond(reply: HttpReply) -> Response:
        if not reply.status:
            return _cut_short(reply)
        headers = {LATENCY_HEADER: f"{reply.latency_s:.6f}", **reply.headers}
        return Response(reply.body, reply.status, headers, media_type="application/json")

    async def chat(request: Request) -> Response:
        raw = await request.body()
        try:
            wanted = json.loads(raw)
        except ValueError as error:
            return respond(failure(400, f"the body is not JSON: {error}", latency))
        counted = request.headers.get(ATTEMPT_HEADER, "")
        attempt = int(counted) if counted.isascii() and counted.isdigit() else None
        good = partial(complete, wanted, latency)
        return respond(faults.spoil(raw, wanted, latency, good, attempt))

    async def models(_: Request) -> Response:
        known = {"id": REFERENCE_MODEL, "object": "model", "owned_by": "edgelm"}
        return JSONResponse({"object": "list", "data": [known]})

    async def nothing(request: Request, _: Exception) -> Response:
        return respond(failure(404, f"no such path: {request.url.path}", latency))

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
        ],
        exception_handlers={404: nothing},
    )


def _cut_short(reply: HttpReply) -> Response:
    """The connection drops in the middle of the body."""
    from starlette.responses import StreamingResponse

    async def half() -> AsyncIterator[bytes]:
        yield reply.body[: len(reply.body) // 2]
        raise ConnectionAbortedError

    return StreamingResponse(half(), headers={"content-length": str(len(reply.body))})


def serve(
    host: str, port: int, latency: Latency, faults: ReplyFaults, ready: Callable[[str], None],
    *, with_parent: bool = False,
) -> None:  # fmt: skip
    """Serve until interrupted; ``ready(url)`` is called when the socket listens. Port 0 takes a
    free one. ``with_parent``: end when standard input does, as it does when its owner dies.

    Raises:
        InputError: the address cannot be listened on.
    """
    import uvicorn

    config = uvicorn.Config(
        make_app(latency, faults), host=host, port=port, access_log=False,
        log_level="critical" if faults.rates else "warning",  # it would tell of every drop
        lifespan="off", timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    try:
        listener = _listen(host, port)
    except socket.gaierror as error:
        raise InputError(
            "edgelm reasoner", "is no address of this machine", field="--host", value=host,
            remedy="give one that it has, such as 127.0.0.1",
        ) from error  # fmt: skip
    except OSError as error:
        raise InputError(
            "edgelm reasoner", "cannot listen on the address", field="--port", value=port,
            remedy="another process may have it: give another port, or 0 for a free one",
        ) from error  # fmt: skip
    if with_parent:
        threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}/v1")
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that says it is TCP's. On one that does not, as uvicorn's own, asyncio leaves
    Nagle's algorithm on, and every answer waits 40 ms for the client's acknowledgement."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # from here on a connection waits instead of being refused
    except OSError:
        listener.close()
        raise
    return listener


def _end_with_input(server: Any) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    server.should_exit = True
    threading.Timer(3.0, os._exit, (0,)).start()  # a request may be in the middle of a solve
