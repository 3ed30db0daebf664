"""HTTP of a node: clients' requests, transfers and results of other nodes."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controller.domain.errors import InputError
from controller.telemetry.exposition import CONTENT_TYPE
from controller.testbed.handshake import Gate, caller_of, read_body, refuse
from controller.testbed.keys import CONTROLLER, OPERATOR, PLAYER, Keys
from controller.testbed.node import events
from controller.testbed.node.calls import FIRST_CALL, is_call
from controller.testbed.node.executor import Ended, Executor, checksum_of
from controller.testbed.node.peers import ATTEMPT, CHECKSUM, HOST, OUTCOME, REASONS, REQUEST
from controller.testbed.node.records import Request
from controller.testbed.node.wire import outcome_from_wire, request_from_wire

MOST_BYTES: Final = 64 * 2**20  # of a body
RETRY_S: Final = 2.0
STATE: Final = "/v1/state"
NO_ROOM: Final = "the node's disk is nearly full: free space, what it has taken goes on"
OF_PLAYER: Final = re.compile(r"^/v1/runs/[^/]+/requests$")
BETWEEN_NODES: Final = re.compile(r"^/v1/runs/[^/]+/(transfers|results|requests/\d+/cancel)$")
STATUS: Final = {reason: status for status, reason in REASONS.items()}


class Submission(BaseModel):
    """A client's request. ``prompts`` go to the LM's server as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Annotated[int, Field(ge=0, lt=FIRST_CALL)]
    lm: str
    prompts: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=64)]
    born_s: FiniteFloat | None = None  # the run's clock; of a player that knows when it was due


class RunAtNode(Protocol):
    """The run that a node works for."""

    @property
    def run_id(self) -> str: ...

    @property
    def executor(self) -> Executor: ...

    def now_s(self) -> float: ...

    def slot_of(self, time_s: float) -> int: ...

    def fault_of(self, lm: str, prompts: list[dict[str, Any]]) -> str:
        """Return what is wrong with prompts for an LM, "" if nothing is."""
        ...

    @property
    def node(self) -> str: ...


class Holder(Protocol):
    """The node's service, as far as its HTTP needs it."""

    @property
    def current(self) -> RunAtNode | None: ...

    @property
    def has_room(self) -> bool: ...

    def describe(self) -> dict[str, Any]: ...

    async def metrics(self) -> str: ...


class NodeHttp:
    """The routes of a node. Those of a run answer 409 if the node works for another one."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder

    async def submit(self, http: HttpRequest) -> Response:
        """Take a client's request: 202 once it is on disk."""
        run = self._run(http)
        if run is None:
            return _other_run()
        if not self._holder.has_room:
            return refuse(503, NO_ROOM, RETRY_S)
        body = await read_body(http, MOST_BYTES)
        if body is None:
            return _too_large()
        try:
            sent = Submission.model_validate_json(body)
        except ValidationError as error:
            return _invalid(error)
        fault = run.fault_of(sent.lm, sent.prompts)
        if fault:
            return refuse(422, fault)
        payload = json.dumps({"prompts": sent.prompts}, separators=(",", ":")).encode()
        now_s = run.now_s()
        born_s = min(now_s, now_s if sent.born_s is None else sent.born_s)
        request = Request(
            request_id=sent.request_id,
            lm=sent.lm,
            origin=run.node,
            prompts=len(sent.prompts),
            slot=run.slot_of(born_s),
            born_s=born_s,
            payload_bytes=len(payload),
            checksum=checksum_of(payload),
        )
        reason = await run.executor.bear(request, payload)
        if reason:
            return refuse(422, reason)
        return JSONResponse({"request_id": sent.request_id}, 202)

    async def transfer(self, http: HttpRequest) -> Response:
        """Take a request from its origin: 200 once it is on disk."""
        run = self._run(http)
        if run is None:
            return _other_run()
        if not self._holder.has_room:  # as if the queue were full: the origin tries again
            return refuse(STATUS[events.FULL], NO_ROOM, RETRY_S)
        payload = await read_body(http, MOST_BYTES)
        if payload is None:
            return _too_large()
        try:
            request = request_from_wire(http.headers.get(REQUEST, ""))
            attempt = int(http.headers.get(ATTEMPT, ""))
        except (InputError, ValueError) as error:
            return refuse(422, str(error))
        if not _is_from(http, request.origin):
            return refuse(403, f"a request of {request.origin} comes from there alone")
        if run.executor.origin_of(request.request_id) not in (None, request.origin):
            return refuse(422, "another origin has a request of this id here")
        refusal = await run.executor.take_transfer(request, attempt, payload)
        if refusal is None:
            return JSONResponse({})
        retry_s = refusal.retry_after_s if refusal.reason == events.FULL else None
        return refuse(STATUS.get(refusal.reason, 422), refusal.reason, retry_s)

    async def result(self, http: HttpRequest) -> Response:
        """Take a result, or a verdict, from its host: 200 once it is on disk."""
        run = self._run(http)
        if run is None:
            return _other_run()
        result = await read_body(http, MOST_BYTES)
        if result is None:
            return _too_large()
        if checksum_of(result) != http.headers.get(CHECKSUM):
            return refuse(400, events.CHECKSUM)
        try:
            outcome = outcome_from_wire(http.headers.get(OUTCOME, ""))
        except InputError as error:
            return refuse(422, str(error))
        host = http.headers.get(HOST, "")
        if not _is_from(http, host):
            return refuse(403, f"a result of {host} comes from there alone")
        if run.executor.host_of(outcome.request_id) not in (None, host):
            return refuse(403, f"the request was not sent to {host}")
        await run.executor.take_result(outcome, host, result)
        return JSONResponse({})

    async def cancel(self, http: HttpRequest) -> Response:
        """End a request of this origin, or one that this node hosts."""
        run = self._run(http)
        if run is None:
            return _other_run()
        key = http.path_params["request_id"]
        if _is_from(http, run.executor.origin_of(key) or run.node):
            run.executor.post(events.Cancelled(run.now_s(), key))
            return JSONResponse({}, 202)
        return refuse(403, "a request is ended by its origin alone")

    async def results(self, http: HttpRequest) -> Response:
        """Return the results of a request that was born here and is over, but for a call's: they
        are its caller's alone."""
        run = self._run(http)
        if run is None:
            return _other_run()
        key = http.path_params["request_id"]
        content = None if is_call(key) else run.executor.result(key)
        if not content:
            return refuse(404, "no results: the request is unknown, not over, or has failed")
        return Response(content, media_type="application/json")

    async def health(self, http: HttpRequest) -> Response:
        del http
        return JSONResponse({})

    async def state(self, http: HttpRequest) -> Response:
        """Return what the node does now."""
        del http
        return JSONResponse(self._holder.describe())

    async def metrics(self, http: HttpRequest) -> Response:
        """Return the metrics in Prometheus' text format."""
        del http
        return PlainTextResponse(await self._holder.metrics(), media_type=CONTENT_TYPE)

    def _run(self, http: HttpRequest) -> RunAtNode | None:
        current = self._holder.current
        return current if current and current.run_id == http.path_params["run_id"] else None


def make_app(holder: Holder, keys: Keys) -> Gate:
    """Return the ASGI application of a node."""
    routes = NodeHttp(holder)
    run = "/v1/runs/{run_id}"
    one = run + "/requests/{request_id:int}"
    app = Starlette(
        routes=[
            Route(f"{run}/requests", routes.submit, methods=["POST"]),
            Route(f"{one}/cancel", routes.cancel, methods=["POST"]),
            Route(f"{one}/results", routes.results),
            Route(f"{run}/transfers", routes.transfer, methods=["POST"]),
            Route(f"{run}/results", routes.result, methods=["POST"]),
            Route("/healthz", routes.health),
            Route(STATE, routes.state),
            Route("/metrics", routes.metrics),
        ],
        exception_handlers={Ended: _ended},
    )
    return Gate(app, keys, _may)


def _may(caller: str, http: HttpRequest) -> bool:
    """Return True for requests of the player, for what nodes send each other (whose it is, the
    routes check), and for the controller's look at the state."""
    if caller == CONTROLLER:
        return http.method == "GET" and http.scope["path"] == STATE
    between = OF_PLAYER if caller == PLAYER else BETWEEN_NODES
    return http.method == "POST" and between.match(http.scope["path"]) is not None


def _is_from(http: HttpRequest, node: str) -> bool:
    return caller_of(http) in (OPERATOR, node)


async def _ended(http: HttpRequest, error: Exception) -> Response:
    del http, error
    return _other_run()


def _other_run() -> Response:
    return refuse(409, "this node does not work for that run")


def _too_large() -> Response:
    return refuse(413, f"a body has at most {MOST_BYTES} bytes: split the request")


def _invalid(error: ValidationError) -> Response:
    found = error.errors(include_input=False, include_url=False)  # values are contents
    problems = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in found]
    return JSONResponse({"problems": problems}, 422)
