"""Health check of a model endpoint before a run: reachability, key, models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NoReturn

from controller.agents.chat import Ask, ReplySchema
from controller.agents.endpoint.address import KEY_VARIABLE, SOURCE
from controller.agents.endpoint.answers import Failure, HttpAnswer, one_line
from controller.domain.errors import InputError, Permanent

if TYPE_CHECKING:
    from controller.agents.endpoint.endpoint import Endpoint

ATTEMPTS: Final = 2  # per model; few, so that a mistyped address is reported soon
LIST_S: Final = 5.0  # for the list of models
LISTED: Final = 8  # models that a message names
_SCHEMA: Final = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
_FORM: Final = ReplySchema("health", _SCHEMA)
_MESSAGES: Final = (
    {"role": "system", "content": "This is a health check."},
    {"role": "user", "content": 'Reply with the JSON object {"ok": true}.'},
)


async def check_endpoint(endpoint: Endpoint, limit_s: float) -> None:
    """Send each model one small request, in up to ATTEMPTS attempts within ``limit_s`` seconds per
    model.

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
        ask = Ask(0, tier, "", 0, _MESSAGES, _FORM, limit_s)
        completion, failure = await endpoint.exchange(ask, ATTEMPTS)
        if completion.late:
            raise Permanent(
                f"{SOURCE}: {model} at {endpoint.address.url} did not answer within {limit_s:g} s; "
                "try again later, or choose a faster model"
            )
        if failure is not None:
            await _explain(endpoint, model, failure)
        if completion.error:
            _refuse_server(endpoint, completion.error)
        if completion.reasoned and not completion.content.strip() and completion.finish != "length":
            raise InputError(
                SOURCE,
                f"{model} at {endpoint.address.url} leaves its answer empty: all of its text is in "
                "the reasoning field",
                field="model",
                value=model,
                remedy="start the server without a parser for reasoning, or choose a model without "
                "reasoning",
            )


def _distinct(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    models = {endpoint.models.of(tier): tier for tier in ("deployer", "scheduler", "planner")}
    return ((tier, model) for model, tier in models.items())


async def _explain(endpoint: Endpoint, model: str, failure: Failure) -> NoReturn:
    url = endpoint.address.url
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
        case 404 | 405 | 400 | 422:
            await _explain_refusal(endpoint, model, failure)
        case status if 300 <= status < 400:
            _refuse_server(endpoint, f"it redirects ({failure.error})")
    raise Permanent(
        f"{SOURCE}: {url} cannot answer for {model}: {failure.error}; "
        "see the provider's status and your account's limits, then start again"
    )


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


async def _explain_refusal(endpoint: Endpoint, model: str, failure: Failure) -> NoReturn:
    about_model = failure.code == "model_not_found" or failure.param == "model"
    known = await _models(endpoint)
    if about_model or (failure.status == 404 and (model in failure.text or known)):
        more = ", ..." if len(known) > LISTED else ""
        listed = f"choose one such as {', '.join(known[:LISTED])}{more}" if known else ""
        raise InputError(
            SOURCE,
            f"{endpoint.address.url} has no such model ({failure.error})",
            field="model",
            value=model,
            remedy=listed or "see the provider's list of models",
        )
    if failure.status in (404, 405):
        _refuse_server(endpoint, failure.error)
    raise InputError(
        SOURCE,
        f"{endpoint.address.url} rejects the request to {model} ({failure.error})",
        field="options",
        remedy="correct the temperature, reasoning effort or token limit that it names",
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
