"""The HTTP server: /v1/models and /v1/chat/completions on loopback."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final

from controller.agents.chat import REFERENCE_MODEL
from controller.agents.endpoint.call_time import LATENCY_HEADER
from controller.agents.endpoint.loopback import ATTEMPT_HEADER
from controller.domain.errors import InputError
from controller.reference_model.admission import (
    DEEPEST,
    KEEP_ALIVE_S,
    LARGEST_BODY,
    foreign,
    make_protocol,
    names_of,
    nests_too_deeply,
)
from controller.reference_model.completions import HttpReply, Latency, complete, failure
from controller.reference_model.faults import NO_FAULTS, ReplyFaults

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

CHAT: Final = "/v1/chat/completions"
MODELS: Final = "/v1/models"
_ATTEMPT: Final = ATTEMPT_HEADER.encode()
_MODEL: Final = {"id": REFERENCE_MODEL, "object": "model", "created": 0, "owned_by": "edgelm"}
_MODEL_LIST: Final = json.dumps({"object": "list", "data": [_MODEL]}).encode()
TOO_LARGE: Final = b"too large"  # in place of a body
BACKLOG: Final = 2048  # connections that wait to be taken, as uvicorn has it


def make_app(
    latency: Latency, faults: ReplyFaults = NO_FAULTS, host: str = "127.0.0.1"
) -> Application:
    """Return the server that listens on ``host`` as an ASGI application. A framework's routing
    would cost as much as an answer does, and there are three paths."""
    names = names_of(host)

    def reply_to(attempt: str, raw: bytes) -> HttpReply:
        try:
            wanted = json.loads(raw, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            return failure(400, f"the body is not JSON: {error}", latency)
        if nests_too_deeply(wanted):
            problem = f"the body nests more than {DEEPEST} times"
            return failure(400, problem, latency)
        counted = int(attempt) if attempt.isascii() and attempt.isdigit() else None
        return faults.spoil(raw, wanted, latency, partial(complete, wanted, latency), counted)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        refused = foreign(scope["headers"], names)
        reply = failure(403, refused, latency) if refused else None
        reply = reply or _route(scope["method"], scope["path"], latency)
        if reply is None:
            raw = await _body(receive)
            if raw is None:
                return
            attempt = next((v for k, v in scope["headers"] if k == _ATTEMPT), b"").decode("latin-1")
            reply = _too_large(latency) if raw is TOO_LARGE else reply_to(attempt, raw)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(reply.body)),
            LATENCY_HEADER: f"{reply.latency_s:.6f}",
            **reply.headers,
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        status = reply.status or 200
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if not reply.status:  # the fault "drop": the connection ends in the middle of the body
            half = reply.body[: len(reply.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            raise ConnectionAbortedError
        await send({"type": "http.response.body", "body": reply.body})

    return application


def _route(method: str, path: str, latency: Latency) -> HttpReply | None:
    """Return the answer to a request that asks nothing of the model; None for one that does."""
    if path == CHAT:
        allowed = "POST"
    elif path == MODELS or path.startswith(f"{MODELS}/"):
        allowed = "GET"
    else:
        return failure(404, f"no such path: {path}", latency)
    if method != allowed:
        headers = {"allow": allowed}
        return failure(405, f"{path} does not take {method}", latency, headers=headers)
    if path == CHAT:
        return None
    if path == MODELS:
        return HttpReply(200, _MODEL_LIST, 0.0, {})
    return _model(path.removeprefix(f"{MODELS}/"), latency)


async def _body(receive: Receive) -> bytes | None:
    """Return a request's body, TOO_LARGE once it is, None if the client has gone."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            return TOO_LARGE
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(latency: Latency) -> HttpReply:
    problem = f"the body is larger than {LARGEST_BODY // 10**6} MB"
    return failure(413, problem, latency, headers={"connection": "close"})


def _model(name: str, latency: Latency) -> HttpReply:
    if name != REFERENCE_MODEL:
        problem = f"the model {name!r} does not exist; this server has {REFERENCE_MODEL}"
        return failure(404, problem, latency, code="model_not_found", param="model")
    return HttpReply(200, json.dumps(_MODEL).encode(), 0.0, {})


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


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
        make_app(latency, faults, host), host=host, port=port, access_log=False,
        log_level="critical" if faults.rates else "warning",  # it would tell of every drop
        lifespan="off", timeout_graceful_shutdown=1, proxy_headers=False, server_header=False,
        date_header=False, timeout_keep_alive=KEEP_ALIVE_S, http=make_protocol(),
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
    """Return a socket that says it is TCP's. On one that does not, as uvicorn's own, asyncio leaves
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
