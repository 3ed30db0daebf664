"""Bodies and headers of a server of unknown quality to completions and failures; never raises."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from controller.agents.chat import Completion, ToolCall
from controller.agents.endpoint.call_time import LATENCY_HEADER
from controller.agents.endpoint.prices import Price, Prices

SHOWN = 300  # characters of a server's message that ours quote
KEPT = 4000  # characters of a body that are searched for complaints
MOST_TOKENS: Final = 1_000_000_000  # of one call; what is reported beyond is no count
LONGEST_COUNT: Final = 20  # digits of a count that is written as text
# Fields beside content in which servers put a model's reasoning.
REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
# Types of a content's parts that hold the answer; others hold reasoning or media.
ANSWER_PARTS: Final = (None, "text", "output_text")
CUT_OFF: Final = ("length", "max_tokens", "model_length")  # finish reasons at the token limit
_BROKEN_OFF: Final = ("error", "abort")  # finish reasons of a generation that failed
# Words of an error that has no status of its own, and the status that stands for them.
_STATUS_OF: Final = {
    "quota": 429, "rate": 429, "too_many": 429, "overloaded": 503, "unavailable": 503,
    "timeout": 504, "auth": 401, "permission": 403, "not_found": 404, "invalid": 400,
    "unsupported": 400, "bad_request": 400,
}  # fmt: skip
_UNKNOWN_STATUS: Final = 502  # of an error that says nothing more: the server's side failed


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost of a call; None where the server does not say."""

    tokens_in: int | None = None
    tokens_cached: int = 0
    tokens_out: int | None = None
    cost_usd: float | None = None


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
    malformed: bool = False  # HTTP 200 with something other than a chat completion
    usage: Usage | None = None  # that it reports all the same

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
    return _failure(status, f"HTTP {status}", error, text, headers)


def _failure(status: int, label: str, error: Any, text: str, headers: Mapping[str, str]) -> Failure:
    fields = error if isinstance(error, dict) else {}
    message = fields.get("message") or (error if isinstance(error, str) else text)
    return Failure(
        f"{label}: {one_line(message) or 'no message'}",
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


def read_completion(
    body: bytes, model: str, prices: Prices, headers: Mapping[str, str] | None = None
) -> Completion | Failure:
    """Return the completion in a 200 answer of ``model``, or the failure that the answer is: an
    error in place of a completion counts as an HTTP answer of its code, anything else as malformed.
    What either says about usage counts."""
    data = _decode(body)
    if not isinstance(data, dict):
        return Failure(f"the reply is not a JSON object: {_quote(body)}", malformed=True)
    reported = _text(data.get("model")) or model
    usage = _usage(data.get("usage"), prices.of(model, reported))
    if (failure := _embedded(data, headers or {})) is not None:
        return replace(failure, usage=usage)
    found = _reply(data)
    if isinstance(found, str):
        return Failure(found, malformed=True, usage=usage)
    return replace(found, model=reported, **asdict(usage))


def _embedded(data: dict[str, Any], headers: Mapping[str, str]) -> Failure | None:
    """Return the error in the body, or in its first choice, as the failure that it stands for."""
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = data.get("error") or _member(choice, "error")
    if not error and data.get("object") == "error":
        error = data
    if not error and _member(choice, "finish_reason") in _BROKEN_OFF:
        error = {"message": f"finish_reason is {choice['finish_reason']!r}"}  # type: ignore[index]
    if not error:
        return None
    text = json.dumps(error)[:KEPT]
    return _failure(_status_of(error), "the reply is an error", error, text, headers)


def _status_of(error: Any) -> int:
    """Return the HTTP status that an error in a body names, by number or in words."""
    names = ("code", "status", "status_code", "http_status", "type")
    values = [_member(error, name) for name in names]
    for value in values:
        number = _count(value)
        if number is not None and 400 <= number <= 599:
            return number
    said = " ".join(value.lower() for value in values if isinstance(value, str))
    return next((status for word, status in _STATUS_OF.items() if word in said), _UNKNOWN_STATUS)


def _reply(data: dict[str, Any]) -> Completion | str:
    """Return the first choice without its usage, or what is wrong with it."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        return "the reply has no choices"
    message = _member(choices[0], "message")
    if not isinstance(message, dict):
        return "the reply's first choice has no message"
    calls = _tool_calls(message.get("tool_calls"))
    if isinstance(calls, str):
        return calls
    content, refusal = message.get("content"), _text(message.get("refusal"))
    reasoned = any(message.get(field) for field in REASONING_FIELDS)
    if isinstance(content, list):
        refusal = refusal or _joined(content, "refusal", ("refusal",))
        reasoned = reasoned or any(_member(p, "type") not in ANSWER_PARTS for p in content)
        content = _joined(content, "text", ANSWER_PARTS)
    elif not isinstance(content, str | None):
        return f"the reply's content is not text: {one_line(json.dumps(content))}"
    finish = _text(choices[0].get("finish_reason"))
    text = _text(content)
    if not (text.strip() or calls or refusal or finish in CUT_OFF):
        text = _misplaced(message) or text
    return Completion(
        content=text, finish=finish, refusal=refusal, tool_calls=calls, reasoned=reasoned
    )


def _misplaced(message: Mapping[str, Any]) -> str:
    """Return the answer that a server has put into a field for reasoning: one JSON object that is
    all of its text. An object among other text there is an idea, and no answer."""
    for field in REASONING_FIELDS:
        text = _text(message.get(field))
        if isinstance(_decode(text.encode()), dict):
            return text
    return ""


def _joined(parts: list[Any], field: str, kinds: tuple[str | None, ...]) -> str:
    """Join the texts of a content's parts of these types."""
    return "".join(
        _text(part if isinstance(part, str) else _member(part, field))
        for part in parts
        if _member(part, "type") in kinds
    )


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


def _usage(usage: Any, price: Price | None) -> Usage:
    tokens_in = _count(_member(usage, "prompt_tokens"))
    tokens_out = _count(_member(usage, "completion_tokens"))
    cached = _count(_member(_member(usage, "prompt_tokens_details"), "cached_tokens")) or 0
    thought = _count(_member(_member(usage, "completion_tokens_details"), "reasoning_tokens"))
    if tokens_in is None or tokens_out is None or not tokens_in + tokens_out:
        # An answer takes tokens: none at all are none that were counted.
        free = price is not None and price.free
        tokens_in, tokens_out = tokens_in or None, tokens_out or None
        return Usage(tokens_in, min(cached, tokens_in or 0), tokens_out, 0.0 if free else None)
    # Most servers count reasoning in completion_tokens; those that do not show it in the total.
    if thought and _count(_member(usage, "total_tokens")) == tokens_in + tokens_out + thought:
        tokens_out += thought
    cost = None if price is None else price.cost_usd(tokens_in, cached, tokens_out)
    return Usage(tokens_in, min(cached, tokens_in), tokens_out, cost)


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _member(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, dict) else None


def _count(value: Any) -> int | None:
    """Return a count of tokens, also one written as text or with a decimal point; None for what is
    none, or none that anybody can have used."""
    if isinstance(value, str) and len(value) <= LONGEST_COUNT:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in (int, float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value)


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
