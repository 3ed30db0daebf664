"""Request options that a server accepts, learned from its errors: a rejected option is sent in
another form, or omitted, from then on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from controller.agents.chat import Ask, Message
from controller.agents.endpoint.answers import Failure

SCHEMA: Final = "json_schema"
OBJECT_SCHEMA: Final = "json_object with a schema"  # llama-cpp-python, Together, Fireworks
OBJECT: Final = "json_object"
PROSE: Final = "no response_format"
_WEAKER_FORMAT: Final = {SCHEMA: OBJECT_SCHEMA, OBJECT_SCHEMA: OBJECT, OBJECT: PROSE}
OPENAI_LENGTH: Final = "max_completion_tokens"
# Names of the token limit. Servers other than OpenAI's get both: some ignore what they do not know.
LENGTHS: Final = ("max_tokens", OPENAI_LENGTH)

# Statuses by which servers refuse an option: some of them answer 404 or a 500 of their own.
REFUSALS: Final = (400, 404, 405, 415, 422, 500, 501)
_FORMAT: Final = (
    r"response[_ ]?format|json[_ ]?schema|json[_ ]?object|json[_ ]mode|structured[_ ]output"
    r"|guided[_ ]|grammar|response mime type"
)
_TOOLS: Final = r"\btools?\b|\btool[_ ](?:use|call|choice)|function[_ -]?call"
_SYSTEM: Final = (
    r"system[_ ](?:role|message|prompt|instruction)|role[^.]{0,20}\bsystem\b|developer instruction"
    r"|roles must alternate|only user(?:,| and) assistant|'system'|\"system\""
)
_UNKNOWN: Final = re.compile(
    r"unsupported|not[_ ](?:\w+ ){0,2}support|n't (?:\w+ )?support|unknown|unrecogni[sz]ed"
    r"|unexpected|not permitted|not allowed|extra|deprecated"
    r"|not (?:\w+ )?(?:available|enabled|implemented)"
    r"|only the default|can(?:not|'t) be|can(?:not|'t) (?:handle|use)|no endpoints|invalid role"
    r"|must alternate|\bonly user|incompatible|--enable-|requires|input should be|is not one of"
    r"|not (?:a )?valid|no such",
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

    format: str = SCHEMA  # or OBJECT_SCHEMA, OBJECT, PROSE
    lengths: tuple[str, ...] = LENGTHS  # names under which the token limit is sent
    temperature: bool = True  # it is sent
    reasoning_effort: bool = True  # it is sent
    tools: bool = True  # they are offered
    system: bool = True  # its messages have a role of their own
    stream: bool = True  # that it is off is sent

    def members(self, options: Options) -> dict[str, Any]:
        """Return the options as members of the request."""
        found: dict[str, Any] = {}
        if self.temperature and options.temperature is not None:
            found["temperature"] = options.temperature
        if self.reasoning_effort and options.reasoning_effort is not None:
            found["reasoning_effort"] = options.reasoning_effort
        if options.max_tokens is not None:
            found |= dict.fromkeys(self.lengths, options.max_tokens)
        if self.stream:
            found["stream"] = False  # some servers stream unless told not to
        return found

    def without(self, complaint: Failure, options: Options, ask: Ask) -> Dialect | None:
        """Return the next dialect to try after a refusal: what the error names is sent in another
        form, or not. None if it names nothing that was sent.

        Any complaint about the response format with 400 or 422 counts. All else does only if the
        error says that it is not supported: a value out of range is the user's mistake, and a
        server's trouble is none of the request's.
        """
        if complaint.status not in REFUSALS:
            return None
        culprit = self._culprit(complaint, options, ask)
        clear = _UNKNOWN.search(f"{complaint.code} {complaint.text}")
        if not clear and (culprit != "format" or complaint.status not in (400, 422)):
            return None
        return self.less(culprit)

    def alternatives(self, options: Options, ask: Ask) -> Iterator[Dialect]:
        """Yield the dialects that send one thing less, the weakest formats included, and at last
        the one that sends next to nothing: for a server that refuses and does not say what."""
        bare = self
        for name in self._patterns(options, ask):
            weaker = list(self._weakened(name))
            yield from weaker
            bare = list(bare._weakened(name))[-1]
        yield bare

    def _weakened(self, name: str) -> Iterator[Dialect]:
        """Yield all weaker forms of one thing, down to its absence."""
        weaker = self.less(name)
        while weaker is not None:
            yield weaker
            weaker = weaker.less(name)

    def blamed(self, complaint: Failure, options: Options) -> bool:
        """Return True if a refusal names an option that the user has given."""
        given = [name for name in self.members(options) if name != "stream"]
        return bool(_first({name: rf"\b{name}\b" for name in given}, complaint.text))

    def less(self, name: str) -> Dialect | None:
        """Return the dialect with the next weaker form of one thing; None where there is none."""
        if name == "format":
            weaker = _WEAKER_FORMAT.get(self.format)
            return replace(self, format=weaker) if weaker else None
        if name in self.lengths:
            return replace(self, lengths=tuple(one for one in self.lengths if one != name))
        if name in _SWITCHES and getattr(self, name):
            return replace(self, **{name: False})  # type: ignore[arg-type]
        return None

    def _patterns(self, options: Options, ask: Ask) -> dict[str, str]:
        """Return what the request has that can be left out, with what errors call it."""
        found = {name: rf"\b{name}\b" for name in self.members(options)}
        if self.tools and has_tools(ask):
            found["tools"] = _TOOLS
        if self.format != PROSE:
            found["format"] = _FORMAT
        if self.system and any(one.get("role") == "system" for one in ask.messages):
            found["system"] = _SYSTEM
        return found

    def _culprit(self, complaint: Failure, options: Options, ask: Ask) -> str:
        patterns = self._patterns(options, ask)
        if named := _first(patterns, complaint.param):
            return named
        told = [one for one in ("tools", "format") if _first(_only(patterns, one), complaint.error)]
        if len(told) == 2:
            return "tools"  # they do not go together: the schema is worth more
        return _first(patterns, complaint.text)

    def difference(self, before: Dialect) -> str:
        """Return the changes from ``before`` in a few words: "no temperature sent"."""
        found = []
        if self.format != before.format:
            found.append(f"asked for {self.format} instead of {before.format}")
        if self.lengths != before.lengths:
            left = (
                f"no {' or '.join(one for one in before.lengths if one not in self.lengths)} sent"
            )
            found.append(left if self.lengths else f"{left}: replies have no limit")
        found += [
            words
            for name, words in _SWITCHES.items()
            if getattr(before, name) > getattr(self, name)
        ]
        return ", ".join(found)


# What can be switched off, and the words for it.
_SWITCHES: Final = {
    "temperature": "no temperature sent",
    "reasoning_effort": "no reasoning_effort sent",
    "tools": "no tools offered",
    "system": "system text sent within the user's message",
    "stream": "no stream option sent",
}


def has_tools(ask: Ask) -> bool:
    """Return True if the request offers tools or tells of their results."""
    return bool(ask.tools) or any(one.get("role") == "tool" for one in ask.messages)


def render_options(dialect: Dialect, options: Options, model: str, ask: Ask) -> str:
    """Return model, options, response format and tools as JSON members, without the braces."""
    members: dict[str, Any] = {"model": model, **dialect.members(options)}
    if dialect.format == SCHEMA:
        described = {"name": ask.name, "strict": True, "schema": ask.schema}
        members["response_format"] = {"type": SCHEMA, "json_schema": described}
    elif dialect.format == OBJECT_SCHEMA:
        members["response_format"] = {"type": OBJECT, "schema": ask.schema}
    elif dialect.format == OBJECT:
        members["response_format"] = {"type": OBJECT}
    if ask.tools and dialect.tools:
        members["tools"] = ask.tools
    return _dump(members)[1:-1]


def render_messages(dialect: Dialect, ask: Ask) -> str:
    """Return the messages as JSON. A schema that is not sent as response_format, or may be ignored
    there, is appended to the last one."""
    messages = ask.messages
    if not dialect.tools:
        messages = [_told(message) for message in messages]
    if not dialect.system:
        messages = [
            {**one, "role": "user"} if one.get("role") == "system" else one for one in messages
        ]
    if not (dialect.tools and dialect.system):
        messages = _alternating(messages)
    if dialect.format == SCHEMA:
        return _dump(messages)
    *others, last = messages
    return _dump([*others, _with_text(last, _instruction(ask.schema))])


def _told(message: Message) -> Message:
    """Return a message about tools in words: their calls are the model's, results the user's."""
    if message.get("role") == "tool":
        return {"role": "user", "content": f"The function returned: {message.get('content')}"}
    if calls := message.get("tool_calls"):
        said = [f"{one['function']['name']}({one['function']['arguments']})" for one in calls]
        text = "\n".join([*filter(None, [message.get("content")]), *said])
        return {"role": "assistant", "content": text}
    return message


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with neighbours of one role joined: many chat templates want turns."""
    joined: list[Message] = []
    for message in messages:
        content = message.get("content")
        before = joined[-1] if joined else {}
        if before.get("role") == message.get("role") and isinstance(content, str):
            joined[-1] = _with_text(before, content)
        else:
            joined.append(message)
    return joined


def _only(patterns: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: patterns[name]} if name in patterns else {}


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
