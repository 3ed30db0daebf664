"""HTTP of the controller: runs, nodes, events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from controller import __version__
from controller.domain.decisions import Stamp
from controller.domain.errors import InputError, InvalidDecision, Transient
from controller.telemetry.exposition import CONTENT_TYPE
from controller.testbed.central.runs import ENDING, OVER, RUNNING, RunAtCentre
from controller.testbed.central.service import Conflict, Controller
from controller.testbed.handshake import Gate, read_body, refuse
from controller.testbed.keys import NAME, Keys
from controller.testbed.node.records import Record
from controller.testbed.node.wire import record_from_document, to_wire

MOST_WAIT_S: Final = 30.0
MOST_FILE_BYTES: Final = 512 * 2**20
LOOK_S: Final = 1.0  # after which a long poll looks again, whether it was woken or not
OF_NODES: Final = re.compile(r"^/v1/(runs/[^/]+/)?nodes/(?P<node>[^/]+)/(news|reports|files)")
KEEP_ALIVE_S: Final = 10.0  # between two signs of life of an event stream

RunId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
NodeName = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]
FileName = Literal["journal.jsonl", "transcript.jsonl"]  # JOURNAL and TRANSCRIPT of handshake.py
Wait = Annotated[float, Query(ge=0, le=MOST_WAIT_S)]


class NewRun(BaseModel):
    """A run to begin."""

    model_config = ConfigDict(extra="forbid")

    experiment: Annotated[str, Field(max_length=4 * 2**20)]  # experiment.json, canonical
    speed: Annotated[FiniteFloat, Field(gt=0, le=1000)] = 1.0


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
        413: "The body is too large.",
        422: "What was sent cannot be read, or cannot be run.",
        426: "The other service is of another version.",
        503: "The store is away; try again.",
    }.items()
}


class Played(BaseModel):
    """Number of requests that the workload's player has handed to nodes; none will follow."""

    model_config = ConfigDict(extra="forbid")

    requests: Annotated[int, Field(ge=0)]


class Verdict(BaseModel):
    """A person's word on a policy."""

    model_config = ConfigDict(extra="forbid")

    approved: bool


class Report(BaseModel):
    """A node's report."""

    model_config = ConfigDict(extra="forbid")

    arrivals: list[tuple[int, float]]
    records: list[dict[str, Any]]
    state: dict[str, Any] | None


def make_app(controller: Controller, keys: Keys) -> Gate:
    """Return the ASGI application of the controller."""
    app = FastAPI(title="edgelm controller", version=__version__, responses=REFUSALS)
    for routes in (_runs, _nodes, _watchers):
        app.include_router(routes(controller))

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


def _runs(controller: Controller) -> APIRouter:  # noqa: C901 - a table of routes
    """Return the routes of who has experiments to run."""
    routes = APIRouter()

    @routes.put("/v1/runs/{run_id}")
    async def begin(run_id: RunId, body: NewRun) -> Response:
        """Begin the run of an experiment, or find it again."""
        try:
            run = await controller.begin(run_id, body.experiment, body.speed)
        except InputError as error:
            return refuse(422, str(error))
        except Conflict as error:
            return refuse(409, str(error))
        return JSONResponse({**run.progress(), "token": run.document["token"]})

    @routes.get("/v1/runs/{run_id}")
    async def look(run_id: RunId) -> Response:
        """Return how far a run is."""
        run = await asyncio.to_thread(controller.find, run_id)
        return _unknown_run() if run is None else JSONResponse(run.progress())

    @routes.post("/v1/runs/{run_id}/cancel")
    async def cancel(run_id: RunId, fencing_token: Annotated[str, Header()] = "") -> Response:
        """End a run. ``Fencing-Token``: what PUT returned."""
        try:
            run = await controller.cancel(run_id, fencing_token)
        except Conflict as error:
            return refuse(409, str(error))
        return _unknown_run() if run is None else JSONResponse(run.progress())

    @routes.post("/v1/runs/{run_id}/played")
    async def played(run_id: RunId, body: Played) -> Response:
        """Note that the workload's player is done."""
        run = _current(controller, run_id)
        if run is None:
            return _unknown_run()
        await run.update(played=body.requests)
        return JSONResponse({})

    @routes.post("/v1/runs/{run_id}/approvals/{slot}")
    async def approve(
        run_id: RunId, slot: Annotated[int, Path(ge=0, lt=2**31)], body: Verdict
    ) -> Response:
        """Approve or reject the policy that was decided in a slot; ``GET /v1/state`` shows it."""
        if _current(controller, run_id) is None or controller.approvals is None:
            return _unknown_run()
        if not controller.approvals.answer(slot, approved=body.approved):
            return refuse(409, f"no policy of slot {slot} waits for approval, or not any more")
        return JSONResponse({})

    @routes.get("/v1/runs/{run_id}/records")
    async def records(run_id: RunId) -> Response:
        """Return the records of all closed requests, a JSON object per line."""
        run = await asyncio.to_thread(controller.find, run_id)
        if run is None:
            return _unknown_run()
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


def _nodes(controller: Controller) -> APIRouter:
    """Return the routes of nodes."""
    routes = APIRouter()

    @routes.get("/v1/nodes/{node}/news")
    async def news(
        node: NodeName,
        url: Annotated[str, Query(max_length=300)],
        run: Annotated[str, Query(max_length=12)] = "",
        after: Annotated[str, Query(pattern=r"^-?\d{1,9}\.\d{1,9}$")] = "-1.0",
        wait_s: Wait = 0.0,
    ) -> Response:
        """Return, as soon as there is news, the run and the newest orders (long poll)."""
        if not _is_address(url):
            return refuse(422, "url is no address of a service: give http(s)://HOST:PORT")
        try:
            await controller.hear(node, url)
        except Conflict as error:
            return refuse(409, str(error))
        slot, sequence = map(int, after.split("."))
        return JSONResponse(await _news(controller, node, url, run, Stamp(slot, sequence), wait_s))

    @routes.post("/v1/runs/{run_id}/nodes/{node}/reports")
    async def report(run_id: RunId, node: NodeName, body: Report) -> Response:
        """Take a node's report; its records are on disk when this returns."""
        run = _current(controller, run_id)
        if run is None or node not in run.heard:
            return _unknown_run()
        try:
            closed = [record_from_document(one) for one in body.records]
            _check_own(run, node, closed)
            await run.take_report(node, body.model_dump(), closed)
        except (InputError, InvalidDecision) as error:
            return refuse(422, str(error))
        return JSONResponse({})

    @routes.put("/v1/runs/{run_id}/nodes/{node}/files/{name}")
    async def take_file(run_id: RunId, node: NodeName, name: FileName, http: Request) -> Response:
        """Take a whole file of a node. Its journal comes last."""
        run = _current(controller, run_id)
        if run is None or node not in run.heard:
            return _unknown_run()
        content = await read_body(http, MOST_FILE_BYTES)
        if content is None:
            return refuse(413, f"a file has at most {MOST_FILE_BYTES} bytes, and comes whole")
        await run.take_file(node, name, content)
        return JSONResponse({})

    return routes


def _watchers(controller: Controller) -> APIRouter:
    """Return the routes of who looks on."""
    routes = APIRouter()

    @routes.get("/v1/events")
    async def events(
        after: Annotated[int, Query(ge=0)] = 0,
        wait_s: Wait = 0.0,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        """Return the events after a number: a list (long poll), or a stream of server-sent events
        for who accepts ``text/event-stream``."""
        if "text/event-stream" in accept:
            return StreamingResponse(_stream(controller, after), media_type="text/event-stream")
        return JSONResponse(list(await controller.events_after(after, wait_s)))

    @routes.get("/v1/state")
    async def state() -> Response:
        """Return who is there and what runs."""
        run, approvals = controller.current, controller.approvals
        return JSONResponse(
            {
                "version": __version__,
                "unix_s": time.time(),
                "nodes": controller.present(),
                "store_fault": controller.store_fault,
                "usage": {node: one.document() for node, one in controller.usage.items()},
                "run": run and {**run.progress(), **run.orders_in_force()},
                "approval": approvals and approvals.question,
            }
        )

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(controller.measured.render(), media_type=CONTENT_TYPE)

    @routes.get("/healthz")
    async def health() -> Response:
        return JSONResponse({})

    return routes


def _check_own(run: RunAtCentre, node: str, records: list[Record]) -> None:
    """Raise InputError for a record that is not this node's to close."""
    lms = run.scenario.testbed.lm_names
    for one in records:
        if one.request.origin != node:
            raise InputError("report", "has a record of another origin", field="request.origin",
                             value=one.request.origin, remedy=f"{node} closes its own")  # fmt: skip
        if one.request.lm not in lms:
            raise InputError("report", "has an unknown LM", field="request.lm",
                             value=one.request.lm, remedy=f"known: {', '.join(lms)}")  # fmt: skip


def _is_address(url: str) -> bool:
    """Return True for a URL that services and people may be sent to."""
    try:
        found = urlsplit(url)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False


def _may(caller: str, http: Request) -> bool:
    """Return True if a node asks for its own part."""
    own = OF_NODES.match(http.scope["path"])
    return own is not None and own["node"] == caller


async def _news(
    controller: Controller, node: str, url: str, known_run: str, after: Stamp, wait_s: float
) -> dict[str, Any]:
    """Wait until a node must hear of something: another run, newer orders."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + wait_s
    while True:
        run = controller.current
        wanted = run if run is not None and run.phase in (RUNNING, ENDING) else None
        if wanted is not None and node not in wanted.heard:
            wanted = None
        orders = wanted.news(after) if wanted is not None and wanted.run_id == known_run else None
        is_new = (wanted.run_id if wanted else "") != known_run
        left_s = end_s - loop.time()
        if is_new or orders is not None or left_s <= 0:
            return {
                "run": wanted
                and {
                    "id": wanted.run_id,
                    "experiment": wanted.document["experiment"],
                    "began_unix_s": wanted.document["began_unix_s"],
                    "speed": wanted.document["speed"],
                },
                "orders": orders,
                "nodes": controller.present(),
                "unix_s": time.time(),
            }
        changed = controller.told if wanted is None else wanted.changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_s, LOOK_S)), changed:
                await changed.wait()
        await controller.hear(node, url)


async def _stream(controller: Controller, after: int) -> AsyncIterator[str]:
    while True:
        found = await controller.events_after(after, KEEP_ALIVE_S)
        for event in found:
            after = event["number"]
            yield f"id: {after}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n"
        if not found:
            yield ": still here\n\n"


def _current(controller: Controller, run_id: str) -> RunAtCentre | None:
    run = controller.current
    return run if run is not None and run.run_id == run_id and run.phase not in OVER else None


def _unknown_run() -> Response:
    return refuse(404, "this run is unknown here, or over")
