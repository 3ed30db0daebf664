"""Bodies and headers of a server of unknown quality to completions and failures; never raises."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.agents.chat import Completion, ToolCall
from controller.agents.endpoint.call_time import LATENCY_HEADER
from controller.agents.endpoint.prices import Price, Prices

SHOWN = 300  # characters of a server's message that ours quote
REASONING_FIELDS = ("reasoning_content", "reasoning")  # beside content, of several servers
KEPT = 4000  # characters of a body that are searched for complaints


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A 2xx answer of whatever content."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt without a completion."""

    error: str  # one line
    status: int = 0  # 0: no HTTP answer
    code: str = ""
    param: str = ""  # which the server names as the culprit
    text: str = ""  # the beginning of the body
    wait_s: float | None = None  # how long the server wants to be left alone
    declared: str | None = None  # the latency header
    late: bool = False

    @property
    def passing(self) -> bool:
        """Worth another attempt."""
        if self.late or self.code == "insufficient_quota":
            return False
        return self.status in (0, 408, 409, 429) or self.status >= 500


def read_failure(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Return the failure that an HTTP answer other than 200 is."""
    text = body[:KEPT].decode("utf-8", "replace")
    error = _member(_decode(body), "error")
    fields = error if isinstance(error, dict) else {}
    message = fields.get("message") or (error if isinstance(error, str) else text)
    return Failure(
        f"HTTP {status}: {one_line(message) or 'no message'}",
        status,
        code=str(fields.get("code") or ""),
        param=str(fields.get("param") or ""),
        text=text,
        wait_s=retry_after_s(headers, time.time()) if status in (429, 503) else None,
        declared=headers.get(LATENCY_HEADER),
    )


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds the server wants to be left alone; None where it does not say, or not
    clearly."""
    for name, per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            value = float(headers.get(name, "")) / per_second
        except ValueError:
            continue
        if math.isfinite(value):
            return max(0.0, value)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - now_s)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def read_completion(body: bytes, model: str, prices: Prices) -> Completion:
    """Return the completion in a 200 answer of ``model``. A body that is no chat completion
    becomes a completion with ``error``; what it says about usage counts all the same."""
    data = _decode(body)
    if not isinstance(data, dict):
        return Completion(model=model, error=f"the reply is not a JSON object: {_quote(body)}")
    reported = _text(data.get("model")) or model
    spent = _usage(data.get("usage"), prices.of(model, reported))
    problem, message = _message(data)
    calls = _tool_calls(message.get("tool_calls")) if not problem else ()
    if isinstance(calls, str):
        problem, calls = calls, ()
    content, refusal = message.get("content"), _text(message.get("refusal"))
    if isinstance(content, list):
        refusal = refusal or _joined(content, "refusal")
        content = _joined(content, "text")
    elif not problem and not isinstance(content, str | None):
        problem = f"the reply's content is not text: {one_line(json.dumps(content))}"
    if problem:
        return Completion(model=reported, error=problem, **spent)
    return Completion(
        content=_text(content),
        finish=_text(data["choices"][0].get("finish_reason")),
        refusal=refusal,
        tool_calls=calls,
        model=reported,
        reasoned=any(message.get(field) for field in REASONING_FIELDS),
        **spent,
    )


def _joined(parts: list[Any], kind: str) -> str:
    """Join the texts of a content's parts of a kind; other parts hold reasoning or media."""
    texts = (part if isinstance(part, str) else _member(part, kind) for part in parts)
    return "".join(map(_text, texts))


def _message(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return (what is wrong, the first choice's message)."""
    choices = data.get("choices")
    if error := data.get("error"):
        return f"the reply is an error: {one_line(_member(error, 'message') or error)}", {}
    if not isinstance(choices, list) or not choices:
        return "the reply has no choices", {}
    message = _member(choices[0], "message")
    if not isinstance(message, dict):
        return "the reply's first choice has no message", {}
    return "", message


def _tool_calls(calls: Any) -> tuple[ToolCall, ...] | str:
    """Return the functions to call, or what is wrong with them."""
    if not calls:
        return ()
    if not isinstance(calls, list):
        return "the reply's tool_calls are not a list"
    read = []
    for number, call in enumerate(calls):
        function = _member(call, "function")
        name, arguments = _member(function, "name"), _member(function, "arguments")
        if not isinstance(name, str):
            return f"the reply's tool_calls[{number}] names no function"
        if not isinstance(arguments, str):  # some servers decode them
            arguments = json.dumps(arguments)
        identity = _text(_member(call, "id")) or f"call-{number}"
        read.append(ToolCall(identity, _text(name), _text(arguments)))
    return tuple(read)


def _usage(usage: Any, price: Price | None) -> dict[str, Any]:
    tokens_in = _count(_member(usage, "prompt_tokens"))
    tokens_out = _count(_member(usage, "completion_tokens"))
    cached = _count(_member(_member(usage, "prompt_tokens_details"), "cached_tokens"))
    thought = _count(_member(_member(usage, "completion_tokens_details"), "reasoning_tokens"))
    # Most servers count reasoning in completion_tokens; those that do not show it in the total.
    if thought and _count(_member(usage, "total_tokens")) == tokens_in + tokens_out + thought:
        tokens_out += thought
    cost = None if price is None else price.cost_usd(tokens_in, cached, tokens_out)
    if price is not None and not price.free and not tokens_in + tokens_out:
        cost = None  # nothing was reported, which is not nothing spent
    return {
        "tokens_in": tokens_in,
        "tokens_cached": min(cached, tokens_in),
        "tokens_out": tokens_out,
        "cost_usd": cost,
    }


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _member(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _text(value: Any) -> str:
    """Return text that can be written as UTF-8: JSON can smuggle in halves of surrogate pairs."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _quote(body: bytes) -> str:
    return one_line(body[:KEPT].decode("utf-8", "replace")) or "it is empty"


def one_line(text: object) -> str:
    """Return at most SHOWN characters, printable."""
    line = " ".join(_text(str(text)).split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in line[:SHOWN])
    return shown + "..." if len(line) > SHOWN else shown
