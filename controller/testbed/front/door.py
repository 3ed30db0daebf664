"""Front door: a user's call becomes a request of the run, and its outcome the answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from controller.domain.testbed import Lm
from controller.testbed.front import answers, reading
from controller.testbed.front.errors import Refused, failed, invalid, no_run
from controller.testbed.front.users import Users
from controller.testbed.handshake import read_body
from controller.testbed.node.executor import Ended, checksum_of
from controller.testbed.node.records import Record, Request

MOST_BYTES: Final = 10 * 2**20  # of a body: the largest image, and the largest text beside it
SMALL_BYTES: Final = 2**16  # are read at once; larger bodies in a thread
BODY_S: Final = 60.0  # real seconds that a body may take
RETRY_S: Final = 2.0
CLIENT_GONE: Final = 499  # nobody reads it

log = logging.getLogger("edgelm.front")

T = TypeVar("T")


class Calls(Protocol):
    """The executor of a run, as calls need it."""

    async def call(self, request: Request, payload: bytes) -> tuple[Record, bytes | None]: ...


class RunOfCalls(Protocol):
    """The run that a node works for, as calls need it."""

    @property
    def node(self) -> str: ...

    @property
    def executor(self) -> Calls: ...

    @property
    def lms(self) -> Sequence[Lm]: ...

    @property
    def began_unix_s(self) -> float: ...

    @property
    def takes_calls(self) -> bool: ...

    def now_s(self) -> float: ...

    def slot_of(self, time_s: float) -> int: ...

    def slot_left_s(self) -> float: ...

    async def new_call_id(self) -> int: ...


class Holder(Protocol):
    """The node's service, as its front door needs it."""

    @property
    def current(self) -> RunOfCalls | None: ...

    @property
    def has_room(self) -> bool: ...


class ClientGone(Exception):
    """The end of a caller's connection before the answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Reading and answering of the calls of one kind."""

    read: Callable[[dict[str, Any], Sequence[Lm]], reading.Call]
    write: Callable[[reading.Call, int, float, bytes], Response]


CHAT: Final = Endpoint(reading.read_chat, answers.chat)
COMPLETION: Final = Endpoint(reading.read_completion, answers.completion)
IMAGES: Final = Endpoint(reading.read_image, answers.images)


class FrontDoor:
    """The front door of one node."""

    def __init__(self, holder: Holder, users: Users) -> None:
        self._holder, self._users = holder, users

    async def serve(self, http: HttpRequest, endpoint: Endpoint) -> Response:
        """Return the answer to a call; ends the request if the caller goes away."""
        return await self._answered(self._serve(http, endpoint))

    async def models(self, http: HttpRequest, name: str | None = None) -> Response:
        """Return the LMs of the run, or one of them."""
        return await self._answered(self._models(http, name))

    async def _answered(self, work: Coroutine[Any, Any, Response]) -> Response:
        """Return what comes of a call; of what goes wrong here, its kind alone is logged."""
        try:
            return await work
        except Refused as refusal:
            return refusal.response()
        except Ended:
            message = "the run has ended before the answer"
            return Refused(503, "run_ended", message, retry_after_s=RETRY_S).response()
        except ClientGone:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            log.error("a call failed: %s", type(error).__name__)
            return Refused(500, "internal_error", "the front door failed on this").response()

    async def _models(self, http: HttpRequest, name: str | None) -> Response:
        self._users.user_of(http.headers.get("authorization", ""))
        run = self._run()
        if name is not None:
            return JSONResponse(answers.model(reading.look_up(run.lms, name), run.began_unix_s))
        found = [answers.model(lm, run.began_unix_s) for lm in run.lms]
        return JSONResponse({"object": "list", "data": found})

    async def _serve(self, http: HttpRequest, endpoint: Endpoint) -> Response:
        user = self._users.user_of(http.headers.get("authorization", ""))
        with self._users.under_way(user):
            self._run()  # nobody sends a body in vain
            call = await self._read(http, endpoint)
            return await _while_there(http, self._make(call, endpoint))

    def _run(self) -> RunOfCalls:
        run = self._holder.current
        if run is None:
            raise no_run(RETRY_S)
        if not run.takes_calls:
            message = "the run takes no more calls: it waits for the last answers"
            raise Refused(503, "run_ending", message, retry_after_s=RETRY_S)
        if not self._holder.has_room:
            message = "the node's disk is nearly full"
            raise Refused(503, "no_room", message, retry_after_s=10 * RETRY_S)
        return run

    async def _read(self, http: HttpRequest, endpoint: Endpoint) -> reading.Call:
        if http.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            # A page in a browser can send anything else without being asked first.
            raise Refused(415, "unsupported_media_type", "send Content-Type: application/json")
        content = await _body(http)
        lms = self._run().lms

        def parsed() -> reading.Call:
            try:
                body = json.loads(content)
            except (ValueError, RecursionError):
                raise invalid("invalid_json", "the body is not JSON") from None
            return endpoint.read(body, lms)

        return parsed() if len(content) < SMALL_BYTES else await asyncio.to_thread(parsed)

    async def _make(self, call: reading.Call, endpoint: Endpoint) -> Response:
        """Let the run answer a call."""
        run = self._run()
        payload = json.dumps({"prompts": call.prompts}, separators=(",", ":")).encode()
        born_s = max(0.0, run.now_s())
        request = Request(
            request_id=await run.new_call_id(),
            lm=call.lm,
            origin=run.node,
            prompts=len(call.prompts),
            slot=run.slot_of(born_s),
            born_s=born_s,
            payload_bytes=len(payload),
            checksum=checksum_of(payload),
        )
        born_unix_s = time.time()
        try:
            record, results = await run.executor.call(request, payload)
        except ValueError as error:
            raise invalid("invalid_value", str(error)) from None
        if record.failure is not None or results is None:
            answer = failed(record.failure or "unfinished", call.lm, run.slot_left_s()).response()
        else:
            answer = endpoint.write(call, request.request_id, born_unix_s, results)
        answer.headers["x-request-id"] = str(request.request_id)
        return answer


async def _body(http: HttpRequest) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            content = await read_body(http, MOST_BYTES)
    except TimeoutError:
        message = f"the body took longer than {BODY_S:g} s"
        raise Refused(408, "request_timeout", message) from None
    except ValueError:
        raise invalid("invalid_value", "Content-Length is no number") from None
    if content is None:
        message = f"a body has at most {MOST_BYTES} bytes"
        raise Refused(413, "request_too_large", message)
    return content


async def _while_there(http: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of work, which ends with the caller's connection.

    Raises:
        ClientGone: that has ended.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
