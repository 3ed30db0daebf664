"""HTTP of an LM server. The routes never compute; those that wait do so for the worker."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.requests import Request as HttpRequest
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from lm_server.checkpoint import Checkpoint, Progress
from lm_server.messages import MOST_PROMPTS, MOST_WAIT_S, Request, problems
from lm_server.metrics import metrics
from lm_server.serving import SMALL_BYTES, Serving
from lm_server.views import media_type, results, view

MOST_BYTES: Final = 16 * 2**20  # of a request's body
MOST_DISCARDED: Final = 4 * MOST_BYTES  # read on, so that the client meets the answer
RETRY_S: Final = 5
OPEN_PATHS: Final = ("/healthz", "/readyz")  # kubelet's probes carry no token

CONTENTS: Final = {  # of a good answer, by path
    "/v1/requests/{request_id}/results/{index}": ("text/plain", "image/png"),
    "/metrics": ("text/plain",),
}

Wait = Annotated[float, Query(ge=0, le=MOST_WAIT_S, allow_inf_nan=False)]
After = Annotated[int, Query(ge=0, le=MOST_PROMPTS)]


class TooLarge(Exception):
    """A body beyond MOST_BYTES."""


class Front:
    """The routes of one server.

    Args:
        silent_s: seconds without a beat of the worker after which /healthz fails.
        most_waiting: prompts in the queue, beyond which requests are refused.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        serving: Serving,
        *,
        silent_s: float = 5.0,
        most_waiting: int = 256,
    ) -> None:
        self._checkpoint, self._serving = checkpoint, serving
        self._silent_s, self._most_waiting = silent_s, most_waiting
        self._accepting = asyncio.Lock()

    async def submit(
        self, http: HttpRequest, wait_s: Wait = 0.0, attached: bool = False
    ) -> Response:
        """Accept a batch of prompts: 202 when it is on disk, 200 if it was there already.

        With ``wait_s``, answer when it is over or the time is up. With ``attached``, answer when
        it is over, and cancel it if the client goes away before.
        """
        try:
            body = await _read(http)  # with images it is large, and takes its time
            is_small = len(body) < SMALL_BYTES
            request, digest = _check(body) if is_small else await asyncio.to_thread(_check, body)
        except TooLarge:
            return _refuse(413, f"a body has at most {MOST_BYTES} bytes: split the request")
        except ValidationError as error:
            return _wrong(error.errors(include_input=False, include_url=False))
        async with self._accepting:  # of two equal requests at once, the second finds the first
            progress = self._checkpoint.requests.get(request["id"])
            is_new = progress is None
            if progress is None:
                refusal = self._refusal(len(request["prompts"]))
                if refusal is not None:
                    return refusal
                try:
                    progress = await asyncio.to_thread(
                        self._checkpoint.accept, request, digest, attached=attached
                    )
                except OSError as error:
                    return self._full(error.strerror)
                self._serving.add(progress)
        if progress.digest != digest:
            return _refuse(409, "another request has this id: give each its own")
        del body, request  # its contents are on disk; the wait may be long
        if attached:
            await self._attend(http, progress, cancel=is_new)
        elif wait_s:
            await self._serving.wait(progress, progress.prompts, wait_s)
        return JSONResponse(view(progress, self._serving), 202 if is_new else 200)

    async def look(self, request_id: str, after: After = 0, wait_s: Wait = 0.0) -> Response:
        """Return how far a request is.

        With ``wait_s``, answer when more than ``after`` prompts are recorded, the request is over,
        or the time is up.
        """
        progress = self._checkpoint.requests.get(request_id)
        if progress is None:
            return _unknown()
        if wait_s:
            await self._serving.wait(progress, after, wait_s)
        return JSONResponse(view(progress, self._serving))

    async def cancel(self, request_id: str) -> Response:
        """End a request; the engine is free within one token, step or slice."""
        progress = self._checkpoint.requests.get(request_id)
        if progress is None:
            return _unknown()
        if progress.failure is None:
            await self._serving.cancel(progress)
        return JSONResponse(view(progress, self._serving), 202)

    async def result(self, request_id: str, index: int) -> Response:
        """Return the result of a recorded prompt."""
        content = await asyncio.to_thread(self._checkpoint.result, request_id, index)
        if content is None:
            return _refuse(404, "no such result: it is not computed, or was removed")
        return Response(content, media_type=media_type(content))

    async def results(self, request_id: str) -> Response:
        """Return the results of all recorded prompts, in base64."""
        progress = self._checkpoint.requests.get(request_id)
        if progress is None:
            return _unknown()
        return JSONResponse(await asyncio.to_thread(results, self._checkpoint, progress))

    async def health(self) -> Response:
        """Fail if the worker hangs. One that is loading, or being restarted, does not."""
        silent_s = self._serving.silent_s
        status = 200 if silent_s < self._silent_s else 503
        return JSONResponse({"silent_s": round(silent_s, 3)}, status)

    async def ready(self) -> Response:
        """Succeed while requests are taken."""
        ready = self._serving.is_loaded and not self._serving.draining
        engine = self._serving.engine
        emulated = engine.emulated if engine else None
        return JSONResponse({"ready": ready, "emulated": emulated}, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Return the metrics in Prometheus' text format."""
        return PlainTextResponse(metrics(self._serving), media_type="text/plain; version=0.0.4")

    async def _attend(self, http: HttpRequest, progress: Progress, *, cancel: bool) -> None:
        """Wait until a request is over, or its client is gone."""
        over = asyncio.create_task(self._serving.wait(progress, progress.prompts, None))
        gone = asyncio.create_task(_gone(http))
        try:
            await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
            if cancel and not over.done():
                await self._serving.cancel(progress)
        finally:
            over.cancel()
            gone.cancel()

    def _refusal(self, prompts: int) -> Response | None:
        if self._serving.draining:
            return _refuse(503, "the server is shutting down: send it to another", RETRY_S)
        if self._serving.disk_error:
            return self._full(self._serving.disk_error)
        if not self._checkpoint.has_room:
            return self._full("less than --floor-gb is free")
        if self._serving.waiting_prompts + prompts > self._most_waiting:
            return _refuse(429, f"{self._most_waiting} prompts wait: try again later", RETRY_S)
        return None

    def _full(self, why: str | None) -> Response:
        folder = self._checkpoint.folder
        return _refuse(503, f"cannot store a request ({why}): free space in {folder}", RETRY_S)


class WithToken:
    """ASGI application that wants a bearer token for everything but probes."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = _refuse(401, "this server wants its token: Authorization: Bearer TOKEN")
                refusal.headers["WWW-Authenticate"] = "Bearer"
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_app(front: Front, token: str = "") -> ASGIApp:
    """Return the application of a front; with a token, clients need it."""
    app = FastAPI(title="edgelm LM server", version="1", docs_url=None, redoc_url=None)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(405, _wrong_method)
    schema = Request.model_json_schema()
    schema["properties"]["prompts"]["items"] = schema.pop("$defs")["Prompt"]
    content = {"application/json": {"schema": schema}}
    body = {"requestBody": {"required": True, "content": content}}
    requests, one = "/v1/requests", "/v1/requests/{request_id}"
    for path, method, route, status, others, extra in (
        (requests, "POST", front.submit, 202, (200, 409, 413, 422, 429, 503), body),
        (one, "GET", front.look, 200, (404, 422), None),
        (one, "DELETE", front.cancel, 202, (404, 422), None),
        (one + "/results", "GET", front.results, 200, (404, 422), None),
        (one + "/results/{index}", "GET", front.result, 200, (404, 422), None),
        ("/healthz", "GET", front.health, 200, (503,), None),
        ("/readyz", "GET", front.ready, 200, (503,), None),
        ("/metrics", "GET", front.metrics, 200, (), None),
    ):
        answers: dict[int | str, dict[str, Any]] = {code: _documented(code) for code in others}
        kinds = CONTENTS.get(path, ("application/json",))
        answers[status] = {"content": {kind: {} for kind in kinds}}
        app.add_api_route(
            path,
            route,
            methods=[method],
            status_code=status,
            response_class=Response,
            responses=answers,
            openapi_extra=extra,
        )
    return WithToken(app, token) if token else app


async def _wrong_method(http: HttpRequest, _: Exception) -> Response:
    answer = _refuse(405, "this path does not take this method: see Allow")
    matching = [one for one in http.app.routes if one.matches(http.scope)[0] != Match.NONE]
    methods: set[str] = set().union(*(one.methods for one in matching))
    answer.headers["Allow"] = ", ".join(sorted(methods))
    return answer


def _documented(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"description": HTTPStatus(status).phrase, "content": content}


async def _wrong_parameter(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # what it is registered for
    return _wrong(error.errors())


async def _gone(http: HttpRequest) -> None:
    """Wait until the client has closed its connection; its body has been read."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _read(http: HttpRequest) -> bytes:
    """Return the body; raise TooLarge where it is, with nothing of it in memory."""
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size <= MOST_BYTES:
            parts.append(part)
            continue
        parts.clear()
        if size > MOST_DISCARDED:
            break
    if size > MOST_BYTES:
        raise TooLarge
    return b"".join(parts)


def _check(body: bytes) -> tuple[dict[str, Any], str]:
    """Return a request and its digest, by which a repetition is known.

    Raises:
        ValidationError: it is not one.
    """
    request = Request.model_validate_json(body).model_dump()
    plain = json.dumps(request, sort_keys=True).encode()
    return request, hashlib.sha256(plain).hexdigest()


def _refuse(status: int, problem: str, retry_s: int | None = None) -> Response:
    headers = {"Retry-After": str(retry_s)} if retry_s else None
    return JSONResponse({"problem": problem}, status, headers)


def _wrong(errors: Any) -> Response:
    return JSONResponse({"problems": problems(errors)}, 422)


def _unknown() -> Response:
    return _refuse(404, "no request of this id is known: it was never sent, or is forgotten")
