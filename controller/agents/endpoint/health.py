"""Health check of a model endpoint before a run: reachability, key, models."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NoReturn

from controller.agents.chat import Ask, Completion, ReplySchema
from controller.agents.endpoint.address import KEY_VARIABLE, SOURCE
from controller.agents.endpoint.answers import CUT_OFF, Failure, HttpAnswer, one_line
from controller.domain.errors import InputError, Permanent

if TYPE_CHECKING:
    from controller.agents.endpoint.endpoint import Endpoint, Tools

ATTEMPTS: Final = 2  # per model; few, so that a mistyped address is reported soon
LIST_S: Final = 5.0  # for the list of models
LISTED: Final = 8  # models that a message names
LOADING_S: Final = 300.0  # that a model which loads is waited for
LOOK_S: Final = 2.0  # between two questions to it
SLOW_S: Final = 10.0  # without an answer, after which that is said
_LOADING: Final = re.compile(
    r"\bloading\b|being loaded|warm(?:ing|s)?[ -]?up|not (?:yet )?(?:ready|loaded)|starting"
    r"|initiali[sz]|cold start|in progress|please wait",
    re.IGNORECASE,
)
_BLIND: Final = (400, 404, 405, 415, 422, 500, 501)  # statuses of servers that refuse options
# The features that the formats of the agents have: a server that does not know one says so here.
_SCHEMA: Final = {
    "$defs": {
        "Check": {
            "type": "object",
            "properties": {
                "state": {"type": "string", "enum": ["good", "bad"]},
                "load": {"type": "number"},
                "count": {"type": "integer"},
            },
            "required": ["state", "load", "count"],
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "check": {"$ref": "#/$defs/Check"},
        "names": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
    },
    "required": ["ok", "check", "names"],
    "additionalProperties": False,
}
_FORM: Final = ReplySchema("health", _SCHEMA)
_ANSWER: Final = '{"ok":true,"check":{"state":"good","load":0.5,"count":1},"names":["a"]}'
_MESSAGES: Final = (
    {"role": "system", "content": "This is a health check."},
    {"role": "user", "content": f"Reply with this JSON object: {_ANSWER}"},
)


async def check_endpoint(
    endpoint: Endpoint, limit_s: float, tools: Tools, say: Callable[[str], None]
) -> None:
    """Send each model one small request as the agents' are: with a schema, roles and options like
    theirs, and with ``tools`` to the planner's model. In up to ATTEMPTS attempts within ``limit_s``
    seconds per model; one that says that it loads has LOADING_S.

    Raises:
        InputError: the server cannot be reached, is no chat-completions endpoint, rejects key,
            model or options, or leaves its answer empty beside its reasoning.
        Permanent: no answer within ``limit_s``, or a failure that the user cannot correct here (a
            rate limit, a status of 5xx).
    """
    if not endpoint.has_key and endpoint.address.encrypted and not endpoint.address.loopback:
        raise InputError(
            SOURCE,
            f"needs a key, and {KEY_VARIABLE} is empty",
            field="key",
            remedy=f"export {KEY_VARIABLE}=... (your provider's key), or use --reasoner reference",
        )
    for tier, model in _distinct(endpoint):
        offered = tuple(tools) if model == endpoint.models.planner else ()
        ask = Ask(0, tier, "", 0, _MESSAGES, _FORM, limit_s, offered)
        completion, failure = await _loaded(endpoint, ask, say)
        if completion.late:
            raise Permanent(
                f"{SOURCE}: {model} at {endpoint.address.url} did not answer within {limit_s:g} s; "
                "try again later, or choose a faster model"
            )
        if failure is not None:
            completion = await _descended(endpoint, ask, failure)
        empty = not completion.content.strip() and completion.finish not in CUT_OFF
        if completion.reasoned and empty:
            raise InputError(
                SOURCE,
                f"{model} at {endpoint.address.url} leaves its answer empty: all of its text is in "
                "the reasoning field",
                field="model",
                value=model,
                remedy="start the server without a parser for reasoning, or choose a model without "
                "reasoning",
            )


async def _loaded(
    endpoint: Endpoint, ask: Ask, say: Callable[[str], None]
) -> tuple[Completion, Failure | None]:
    """Return the answer of a model, after it has loaded."""
    model, url = endpoint.models.of(ask.tier), endpoint.address.url
    endpoint.transport.open()  # the first import takes seconds, which are not the model's
    loop = asyncio.get_running_loop()
    until_s = loop.time() + LOADING_S
    slow = loop.call_later(SLOW_S, say, f"waiting for {model} at {url} to answer")
    told = False
    try:
        while True:
            completion, failure = await endpoint.exchange(ask, ATTEMPTS)
            if failure is None or not _loads(failure) or loop.time() > until_s:
                return completion, failure
            slow.cancel()
            if not told:
                say(f"waiting for {model} at {url} to load ({failure.error})")
            told = True
            await asyncio.sleep(LOOK_S if failure.wait_s is None else min(failure.wait_s, 30.0))
    finally:
        slow.cancel()


def _loads(failure: Failure) -> bool:
    passing = failure.status in (409, 425, 429) or failure.status >= 500
    return passing and bool(_LOADING.search(failure.text)) and "fail" not in failure.text.lower()


async def _descended(endpoint: Endpoint, ask: Ask, failure: Failure) -> Completion:
    """Return the completion of a request with less in it, or raise what the failure means."""
    model = endpoint.models.of(ask.tier)
    known = await _models(endpoint) if failure.status == 404 else []
    refused = failure.status in _BLIND and (failure.status != 404 or model in known)
    if refused and not _names_model(failure) and endpoint.may_descend(failure):
        completion = await endpoint.descend(ask, failure)
        if completion is not None:
            return completion
    return await _explain(endpoint, model, failure)


def _distinct(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    models = {endpoint.models.of(tier): tier for tier in ("deployer", "scheduler", "planner")}
    return ((tier, model) for model, tier in models.items())


async def _explain(endpoint: Endpoint, model: str, failure: Failure) -> NoReturn:
    url = endpoint.address.url
    if failure.malformed:
        _refuse_server(endpoint, failure.error)
    match failure.status:
        case 0:
            raise InputError(
                SOURCE,
                f"cannot be reached: {failure.error}",
                field="url",
                value=url,
                remedy="start the server or correct the address",
            )
        case 401 | 403:
            _refuse_key(endpoint, failure)
        case 404 | 405 | 400 | 415 | 422:
            await _explain_refusal(endpoint, model, failure)
        case status if 300 <= status < 400:
            _refuse_server(endpoint, f"it redirects ({failure.error})")
    raise Permanent(
        f"{SOURCE}: {url} cannot answer for {model}: {failure.error}; {_see(endpoint)}, then start "
        "again"
    )


def _see(endpoint: Endpoint) -> str:
    if endpoint.address.loopback:
        return "see the server's log"
    return "see the provider's status and your account's limits"


def _refuse_key(endpoint: Endpoint, failure: Failure) -> NoReturn:
    if not endpoint.has_key:
        problem, remedy = (
            f"requires a key, and {KEY_VARIABLE} is empty",
            f"export {KEY_VARIABLE}=...",
        )
    else:
        problem = f"does not accept the key in {KEY_VARIABLE}"
        remedy = "check that the key is valid, is this provider's, and may use the model"
    raise InputError(
        SOURCE, f"{endpoint.address.url} {problem} ({failure.error})", field="key", remedy=remedy
    )


def _names_model(failure: Failure) -> bool:
    return failure.code == "model_not_found" or failure.param == "model"


async def _explain_refusal(endpoint: Endpoint, model: str, failure: Failure) -> NoReturn:
    known = await _models(endpoint)
    unknown = failure.status == 404 and (model in failure.text or known)
    if model not in known and (_names_model(failure) or unknown):
        more = ", ..." if len(known) > LISTED else ""
        listed = f"choose one such as {', '.join(known[:LISTED])}{more}" if known else ""
        raise InputError(
            SOURCE,
            f"{endpoint.address.url} has no such model ({failure.error})",
            field="model",
            value=model,
            remedy=listed or "see the provider's list of models",
        )
    if failure.status in (404, 405) and model not in known:
        _refuse_server(endpoint, failure.error)
    given = endpoint.given()
    raise InputError(
        SOURCE,
        f"{endpoint.address.url} rejects the request to {model} ({failure.error})",
        field="options" if given else "model",
        value=None if given else model,
        remedy=f"correct the {' or '.join(given)} that you gave, or choose another model"
        if given
        else f"no option was given: choose another model or server, or {_see(endpoint)}",
    )


def _refuse_server(endpoint: Endpoint, why: str) -> NoReturn:
    raise InputError(
        SOURCE,
        f"does not support OpenAI's chat completions: {why}",
        field="url",
        value=endpoint.address.url,
        remedy="give the address under which /chat/completions is found, often ending in /v1",
    )


async def _models(endpoint: Endpoint) -> list[str]:
    """Return the names that the server lists; empty if it has no such list."""
    answer = await endpoint.transport.get("/models", LIST_S)
    if not isinstance(answer, HttpAnswer):
        return []
    try:
        rows = json.loads(answer.body)["data"]
        return [one_line(row["id"]) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
