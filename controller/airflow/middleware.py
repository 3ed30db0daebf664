"""What Airflow lacks when a run is asked for: it refuses unknown parameters, and names the run by
what it is."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from controller.airflow.params import parameters, unknown_keys

NAMING: Final = ("campaign", "strategy")  # parameters of which a run's id is made
DIGITS: Final = 6
MOST_BYTES: Final = 2**20  # of a request's body
_RUNS: Final = re.compile(r"/api/v2/dags/([^/]+)/dagRuns/?$")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class NewRuns:
    """ASGI middleware around all of Airflow's API. A ``POST`` of a run of one of edgelm's DAGs with
    keys that are no parameters gets a 400 that names them, before anything is created; one without
    an id gets an id of its campaign and a short hash. Whoever has not logged in gets Airflow's own
    answer, and so does every other request, byte for byte.

    Args:
        app: what is within.
        is_known: see :func:`is_known`.
    """

    def __init__(self, app: App, is_known: Callable[[Scope], Awaitable[bool]]) -> None:
        self._app, self._is_known = app, is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dag_id = _dag_of(scope)
        if dag_id is None or not await self._is_known(scope):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            problem = f"A run's request has at most {MOST_BYTES} bytes, and comes whole."
            await _answer(send, 413, problem)
            return
        found = unknown_keys(dag_id, _conf(body))
        if found:
            await _answer(send, 400, " ".join(f"{one}." for one in found))
            return
        named = _named(dag_id, body)
        if named != body:
            length = (b"content-length", str(len(named)).encode())
            others = [one for one in scope["headers"] if one[0] != length[0]]
            scope = {**scope, "headers": [*others, length]}
        await self._app(scope, _replayed(named, receive), send)


def _dag_of(scope: Scope) -> str | None:
    """Return the DAG whose run a request begins, if the DAG is edgelm's."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    found = _RUNS.search(scope["path"])
    return found[1] if found and found[1] in parameters() else None


async def is_known(scope: Scope) -> bool:
    """Return True if Airflow knows who asks."""
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
    from fastapi import HTTPException, Request

    request = Request(scope)
    try:
        await get_user(request, None, await bearer_scheme(request))
    except HTTPException:
        return False
    return True


async def _read(receive: Receive) -> bytes | None:
    """Return a request's body; None if it is too long, or its sender has left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _named(dag_id: str, body: bytes) -> bytes:
    """Return a request with an id for its run: campaign or strategy, and six digits of a hash. One
    that has an id, or that Airflow refuses, stays as it is."""
    document, known = _document(body), parameters()[dag_id]
    first = next((name for name in NAMING if name in known), None)
    if not document or document.get("dag_run_id") or first is None:
        return body
    value = str(_conf(body).get(first, known[first]["default"]))
    digest = hashlib.sha256(body + str(time.time_ns()).encode()).hexdigest()[:DIGITS]
    return json.dumps({**document, "dag_run_id": f"{value}-{digest}"}).encode()


def _document(body: bytes) -> dict[str, Any]:
    """Return a request's JSON object; nothing of one that Airflow itself refuses."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _conf(body: bytes) -> dict[str, Any]:
    """Return the ``conf`` of a request; nothing of one that Airflow itself refuses."""
    conf = _document(body).get("conf")
    return conf if isinstance(conf, dict) else {}


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once more, and then what comes after it."""
    left = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again


async def _answer(send: Send, status: int, detail: str) -> None:
    """Send an error in the shape of Airflow's own."""
    content = json.dumps({"detail": detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
