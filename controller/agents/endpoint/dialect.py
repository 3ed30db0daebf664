"""Request options that a server accepts, learned from its errors: a rejected option is sent in
another form, or omitted, from then on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.agents.chat import Ask, Message
from controller.agents.endpoint.answers import Failure

SCHEMA, OBJECT, PROSE = "json_schema", "json_object", "no response_format"
_WEAKER_FORMAT = {SCHEMA: OBJECT, OBJECT: PROSE}
_WEAKER_LENGTH = {"max_completion_tokens": "max_tokens", "max_tokens": ""}

_FORMAT = r"response[_ ]?format|json[_ ]?schema|json[_ ]mode|structured[_ ]output"
_UNKNOWN = re.compile(
    r"unsupported|not[_ ]support|n't support|unknown|unrecogni[sz]ed|unexpected|not permitted"
    r"|not allowed|extra|not available|deprecated|only the default",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of every completion; None is not sent: the server's default applies."""

    temperature: float | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """Names and forms in which one model takes options."""

    format: str = SCHEMA  # or OBJECT, PROSE
    length: str = "max_completion_tokens"  # name of the token limit; "" does not send it
    temperature: bool = True  # it is sent
    reasoning_effort: bool = True  # it is sent

    def members(self, options: Options) -> dict[str, Any]:
        """Return the options as members of the request."""
        found: dict[str, Any] = {}
        if self.temperature and options.temperature is not None:
            found["temperature"] = options.temperature
        if self.reasoning_effort and options.reasoning_effort is not None:
            found["reasoning_effort"] = options.reasoning_effort
        if self.length and options.max_tokens is not None:
            found[self.length] = options.max_tokens
        return found

    def without(self, complaint: Failure, options: Options) -> Dialect | None:
        """Return the next dialect to try after a rejection (HTTP 400 or 422): the option that the
        error names is downgraded or dropped. None if there is no such option.

        Any complaint about the response format downgrades it. The other options are dropped only
        if the error says that they are not supported: a value out of range is the user's mistake.
        """
        if complaint.status not in (400, 422):
            return None
        patterns = {name: rf"\b{name}\b" for name in self.members(options)} | {"format": _FORMAT}
        culprit = _first(patterns, complaint.param) or _first(patterns, complaint.text)
        if culprit == "format":
            weaker = _WEAKER_FORMAT.get(self.format)
            return replace(self, format=weaker) if weaker else None
        if not culprit or not _UNKNOWN.search(f"{complaint.code} {complaint.text}"):
            return None
        if culprit == self.length:
            return replace(self, length=_WEAKER_LENGTH[culprit])
        if culprit == "temperature":
            return replace(self, temperature=False)
        return replace(self, reasoning_effort=False)

    def difference(self, before: Dialect) -> str:
        """Return the change from ``before`` in a few words: "no temperature sent"."""
        if self.format != before.format:
            return f"asked for {self.format} instead of {before.format}"
        if self.length != before.length:
            return (
                f"{before.length} sent as {self.length}" if self.length else "no token limit sent"
            )
        left_out = "temperature" if before.temperature > self.temperature else "reasoning_effort"
        return f"no {left_out} sent"


def render_options(dialect: Dialect, options: Options, model: str, ask: Ask) -> str:
    """Return model, options, response format and tools as JSON members, without the braces."""
    members: dict[str, Any] = {"model": model, **dialect.members(options)}
    if dialect.format == SCHEMA:
        described = {"name": ask.name, "strict": True, "schema": ask.schema}
        members["response_format"] = {"type": SCHEMA, "json_schema": described}
    elif dialect.format == OBJECT:
        members["response_format"] = {"type": OBJECT}
    if ask.tools:
        members["tools"] = ask.tools
    return _dump(members)[1:-1]


def render_messages(dialect: Dialect, ask: Ask) -> str:
    """Return the messages as JSON. A schema that is not sent as response_format is
    appended to the last one."""
    if dialect.format == SCHEMA:
        return _dump(ask.messages)
    *others, last = ask.messages
    return _dump([*others, _with_text(last, _instruction(ask.schema))])


def _instruction(schema: Mapping[str, Any]) -> str:
    return f"Reply with one JSON object that follows this JSON Schema: {_dump(schema)}"


def _with_text(message: Message, text: str) -> Message:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": f"{content}\n\n{text}"}
    return {**message, "content": [*(content or ()), {"type": "text", "text": text}]}


def _first(patterns: Mapping[str, str], text: str) -> str:
    """Return the name that occurs first in the text, "" without any. Errors name the rejected
    option first, then alternatives or the whole request."""
    found = {
        match.start(): name
        for name, pattern in patterns.items()
        if (match := re.search(pattern, text, re.IGNORECASE))
    }
    return found[min(found)] if found else ""


def _dump(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), default=_plain)


def _plain(data: object) -> object:
    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, Sequence):
        return list(data)
    raise TypeError(f"{type(data).__name__} is not JSON")
