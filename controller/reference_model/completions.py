"""A request for a chat completion to its answer: status, body, declared latency."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controller.agents.chat import REFERENCE_MODEL as MODEL
from controller.agents.chat import TOKEN_CHARACTERS
from controller.reference_model.answers import answer
from controller.reference_model.reading import MISREAD, UnreadablePromptError, block
from controller.reference_model.rehearsing import best_tried, try_first
from controller.reference_model.schemas import least

Json = Mapping[str, Any]

# Options that would change what a reply looks like, with their only value here. Those that steer
# how a language model samples (temperature, top_p, seed, stop, max_tokens, ...) say nothing to an
# optimiser and are ignored.
_REFUSED: Mapping[str, Any] = {
    "n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"], "audio": None,
    "functions": None, "function_call": None, "store": False,
}  # fmt: skip
_FORMATS = ("text", "json_object", "json_schema")


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that an answer declares: the order of hosted language models, so that what
    is decided here is charged as theirs would be. An assumption, no measurement."""

    first_token_s: float = 0.4
    token_s: float = 0.01

    def of(self, tokens_out: int) -> float:
        return self.first_token_s + self.token_s * tokens_out


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer."""

    status: int
    body: bytes
    latency_s: float
    headers: Mapping[str, str]


def complete(request: object, latency: Latency) -> HttpReply:
    """Answer a request to /v1/chat/completions."""
    try:
        wanted = _checked(request)
        with np.errstate(all="ignore"):  # numbers of a stranger's prompt
            message = _message(wanted)
    except _BadRequest as error:
        return failure(error.status, str(error), latency, code=error.code, param=error.param)
    text = message["content"] or json.dumps(message.get("tool_calls"))
    tokens_in = tokens(json.dumps(wanted, ensure_ascii=False))
    tokens_out = tokens(text)
    return HttpReply(200, body_of(message, tokens_in, tokens_out), latency.of(tokens_out), {})


def body_of(message: Json, tokens_in: int, tokens_out: int, finish: str = "") -> bytes:
    """Return a chat.completion object with one choice."""
    return _dump(
        {
            "id": "chatcmpl-edgelm",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "refusal": None, **message},
                    "finish_reason": finish
                    or ("tool_calls" if "tool_calls" in message else "stop"),
                    "logprobs": None,
                }
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        }
    )


def failure(
    status: int, message: str, latency: Latency, *, code: str | None = None,
    param: str | None = None, headers: Json | None = None,
) -> HttpReply:  # fmt: skip
    """Return an error as OpenAI's API words it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return HttpReply(status, _dump({"error": error}), latency.first_token_s, dict(headers or {}))


def tokens(text: str) -> int:
    return -(-len(text) // TOKEN_CHARACTERS)


class _BadRequest(Exception):
    def __init__(self, problem: str, param: str = "", status: int = 400, code: str = "") -> None:
        super().__init__(problem)
        self.param, self.status, self.code = param or None, status, code or None


def _checked(request: object) -> Json:
    if not isinstance(request, dict):
        raise _BadRequest("the body must be a JSON object")
    if request.get("model") != MODEL:
        raise _BadRequest(
            f"the model {request.get('model')!r} does not exist; this server has {MODEL}",
            "model", 404, "model_not_found",
        )  # fmt: skip
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise _BadRequest("messages must be a list of objects", "messages")
    if request.get("stream"):
        raise _BadRequest("streaming is not supported", "stream")
    for name, usual in _REFUSED.items():
        if request.get(name, usual) not in (usual, None):
            raise _BadRequest(f"{name} other than {usual!r} is not supported", name)
    form = request.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") not in _FORMATS):
        raise _BadRequest(f"response_format must have a type of {', '.join(_FORMATS)}",
                          "response_format")  # fmt: skip
    tools = request.get("tools")
    if tools is not None and not (
        isinstance(tools, list)
        and all(isinstance(one, dict) and isinstance(one.get("function"), dict) for one in tools)
    ):
        raise _BadRequest("tools must be a list of functions", "tools")
    return request


def _message(request: Json) -> dict[str, Any]:
    """Return the assistant's message."""
    messages: Sequence[Json] = request["messages"]
    try:
        if block(messages, "context") is None:
            return {"content": json.dumps(_made_up(request))}
        calls = try_first(messages, request.get("tools") or ())
        if calls:
            return {"content": None, "tool_calls": calls}
        reply = best_tried(messages) or answer(messages)
        return {"content": json.dumps(reply, separators=(",", ":"))}
    except (UnreadablePromptError, UnicodeError) as error:
        raise _BadRequest(str(error), "messages") from error
    except MISREAD as error:
        problem = f"the prompt's blocks have another shape: {error!r}"
        raise _BadRequest(problem, "messages") from error


def _made_up(request: Json) -> Any:
    form = request.get("response_format")
    try:
        if isinstance(form, dict) and form.get("type") == "json_schema":
            return least(form["json_schema"]["schema"])
    except MISREAD as error:
        raise _BadRequest(f"unknown schema: {error}", "response_format") from error
    return {"note": "this is an optimiser that answers edgelm's agents, not a language model"}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
