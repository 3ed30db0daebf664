"""HTTP of an LM server. Every route answers at once; the worker computes."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.requests import Request as HttpRequest

from lm_server.checkpoint import Checkpoint, Progress
from lm_server.messages import Request, problems
from lm_server.serving import Serving

MOST_BYTES: Final = 16 * 2**20  # of a request's body
RETRY_S: Final = 5


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

    async def submit(self, http: HttpRequest) -> Response:
        """Accept a batch of prompts: 202 when it is on disk, 200 if it was there already."""
        try:
            request = Request.model_validate_json(await _read(http)).model_dump()
        except TooLarge:
            return _refuse(413, f"a body has at most {MOST_BYTES} bytes: split the request")
        except ValidationError as error:
            found = problems(error.errors(include_input=False, include_url=False))
            return JSONResponse({"problems": found}, 422)
        known = self._checkpoint.requests.get(request["id"])
        if known is not None:
            if _plain(known.request) != _plain(request):
                return _refuse(409, "another request has this id: give each its own")
            return JSONResponse(self._view(known))
        refusal = self._refusal(len(request["prompts"]))
        if refusal is not None:
            return refusal
        # Not in a thread: of two equal requests at once, the second must find the first.
        progress = self._checkpoint.accept(request)
        self._serving.add(progress)
        return JSONResponse(self._view(progress), 202)

    async def look(self, request_id: str) -> Response:
        """Return how far a request is."""
        progress = self._checkpoint.requests.get(request_id)
        return _unknown() if progress is None else JSONResponse(self._view(progress))

    async def cancel(self, request_id: str) -> Response:
        """End a request; the engine is free within one token, step or slice."""
        progress = self._checkpoint.requests.get(request_id)
        if progress is None:
            return _unknown()
        if progress.failure is None:
            await self._serving.cancel(progress)
        return JSONResponse(self._view(progress), 202)

    async def result(self, request_id: str, index: int) -> Response:
        """Return the result of a recorded prompt."""
        known = request_id in self._checkpoint.requests
        content = self._checkpoint.result(request_id, index) if known else None
        if content is None:
            return _refuse(404, "no such result: it is not computed, or was removed")
        kind = "image/png" if content.startswith(b"\x89PNG") else "text/plain; charset=utf-8"
        return Response(content, media_type=kind)

    async def health(self) -> Response:
        """Fail if the worker hangs. One that is loading, or being restarted, does not."""
        silent_s = self._serving.silent_s
        status = 200 if silent_s < self._silent_s else 503
        return JSONResponse({"silent_s": round(silent_s, 3)}, status)

    async def ready(self) -> Response:
        """Succeed while requests are taken."""
        engine = self._serving.loaded
        ready = engine is not None and not self._serving.draining
        emulated = engine.emulated if engine else None
        return JSONResponse({"ready": ready, "emulated": emulated}, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Return the metrics in Prometheus' text format."""
        return PlainTextResponse(_metrics(self._serving), media_type="text/plain; version=0.0.4")

    def _refusal(self, prompts: int) -> Response | None:
        if self._serving.draining:
            return _refuse(503, "the server is shutting down: send it to another", RETRY_S)
        if not self._checkpoint.has_room:
            return _refuse(503, "the disk is nearly full: free space for results", RETRY_S)
        if self._serving.waiting_prompts + prompts > self._most_waiting:
            return _refuse(429, f"{self._most_waiting} prompts wait: try again later", RETRY_S)
        return None

    def _view(self, progress: Progress) -> dict[str, Any]:
        """Return what a client may know of a request: no contents."""
        engine = self._serving.loaded
        return {
            "id": progress.request["id"],
            "state": "open" if progress.failure is None else progress.failure or "done",
            "prompts": len(progress.request["prompts"]),
            "recorded": sorted(progress.recorded),
            "recomputed_prompts": progress.recomputed,
            "emulated": engine.emulated if engine else None,
        }


def make_app(front: Front) -> FastAPI:
    """Return the application of a front."""
    app = FastAPI(title="edgelm LM server", version="1", docs_url=None, redoc_url=None)
    schema = {"application/json": {"schema": Request.model_json_schema()}}
    body = {"requestBody": {"required": True, "content": schema}}
    one = "/v1/requests/{request_id}"
    app.add_api_route("/v1/requests", front.submit, methods=["POST"], openapi_extra=body)
    app.add_api_route(one, front.look, methods=["GET"])
    app.add_api_route(one, front.cancel, methods=["DELETE"])
    app.add_api_route(one + "/results/{index}", front.result, methods=["GET"])
    app.add_api_route("/healthz", front.health, methods=["GET"])
    app.add_api_route("/readyz", front.ready, methods=["GET"])
    app.add_api_route("/metrics", front.metrics, methods=["GET"])
    return app


async def _read(http: HttpRequest) -> bytes:
    """Return the body; raise TooLarge before it is all in memory."""
    parts, size = [], 0
    async for part in http.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise TooLarge
        parts.append(part)
    return b"".join(parts)


def _plain(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _refuse(status: int, problem: str, retry_s: int | None = None) -> Response:
    headers = {"Retry-After": str(retry_s)} if retry_s else None
    return JSONResponse({"problem": problem}, status, headers)


def _unknown() -> Response:
    return _refuse(404, "no request of this id is known: it was never sent, or is forgotten")


def _metrics(serving: Serving) -> str:
    """Return the metrics in Prometheus' text format."""
    counts = serving.counts
    rows: list[tuple[str, str, str, dict[str, float]]] = [
        ("edgelm_engine_threads", "gauge", "Threads that the CPU quota allows.",
         {"": serving.threads}),
        ("edgelm_engine_busy_seconds_total", "counter", "Time that the engine computed.",
         {"": serving.busy_s}),
        ("edgelm_engine_prompts_total", "counter", "Prompts computed.", {"": counts["prompts"]}),
        ("edgelm_engine_errors_total", "counter", "Batches that the engine failed.",
         {"": counts["engine_errors"]}),
        ("edgelm_worker_restarts_total", "counter", "Worker processes that were lost.",
         {"": counts["worker_restarts"]}),
        ("edgelm_queue_prompts", "gauge", "Prompts that are not computed yet.",
         {"": serving.waiting_prompts}),
        ("edgelm_requests_ended_total", "counter", "Requests by how they ended.",
         {f'{{outcome="{one}"}}': counts[f"requests_{one}"]
          for one in ("done", "deadline", "cancelled", "engine_error")}),
    ]  # fmt: skip
    lines = []
    for name, kind, help_text, samples in rows:
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value:g}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"
