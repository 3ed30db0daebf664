"""Fate of each field of a call: one table. What is not in it is unknown, and refused.

Clients send fields at their defaults unasked, so a field that is not supported is accepted with the
values that change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from controller.testbed.front.errors import invalid


@dataclass(frozen=True, slots=True)
class Fate:
    """Treatment of a field: ``honoured``, ``ignored`` or ``refused``.

    ``neutral``: values with which a refused field is accepted, since they change nothing. null is
    always one.
    """

    what: str
    neutral: tuple[Any, ...] = ()


HONOURED: Final = Fate("honoured")
IGNORED: Final = Fate("ignored")


def refused(*neutral: Any) -> Fate:
    """Return the fate of a field that is not supported but with these values."""
    return Fate("refused", neutral)


_ALL: Final[dict[str, Fate]] = {
    "model": HONOURED,
    "n": HONOURED,
    "user": IGNORED,
}
_TEXT: Final[dict[str, Fate]] = {
    **_ALL,
    "seed": HONOURED,
    "stop": HONOURED,
    "stream": HONOURED,
    "stream_options": HONOURED,
    "temperature": refused(1),
    "top_p": refused(1),
    "frequency_penalty": refused(0),
    "presence_penalty": refused(0),
    "logit_bias": refused({}),
    "max_tokens": HONOURED,
}

CHAT: Final[dict[str, Fate]] = {
    **_TEXT,
    "messages": HONOURED,
    "max_completion_tokens": HONOURED,
    "metadata": IGNORED,
    "safety_identifier": IGNORED,
    "prompt_cache_key": IGNORED,
    "prompt_cache_retention": IGNORED,
    "service_tier": IGNORED,
    "store": refused(False),
    "logprobs": refused(False),
    "top_logprobs": refused(0),
    "response_format": refused({"type": "text"}),
    "modalities": refused(["text"]),
    "tools": refused([]),
    "tool_choice": refused("none", "auto"),
    "parallel_tool_calls": IGNORED,
    "functions": refused([]),
    "function_call": refused("none", "auto"),
    "reasoning_effort": refused("none"),
    "verbosity": refused("medium"),
    "audio": refused(),
    "prediction": refused(),
    "moderation": refused(),
    "web_search_options": refused(),
}

COMPLETIONS: Final[dict[str, Fate]] = {
    **_TEXT,
    "prompt": HONOURED,
    "best_of": refused(1),
    "echo": refused(False),
    "logprobs": refused(),
    "suffix": refused(""),
}

IMAGES: Final[dict[str, Fate]] = {
    **_ALL,
    "prompt": HONOURED,
    "size": HONOURED,
    "seed": HONOURED,  # beyond OpenAI's, as are steps
    "steps": HONOURED,
    "response_format": refused("b64_json"),
    "output_format": refused("png"),
    "quality": refused("auto", "standard"),
    "background": refused("auto", "opaque"),
    "moderation": IGNORED,
    "output_compression": refused(100),
    "partial_images": refused(0),
    "stream": refused(False),
    "style": refused(),
}


def honoured(table: dict[str, Fate], body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a body that are honoured and given.

    Raises:
        Refused: a field is unknown, or not supported; names it, and never its value.
    """
    kept = {}
    for name, value in body.items():
        fate = table.get(name)
        if fate is None:
            shown = name if name.isidentifier() and len(name) <= 64 else "a field"
            raise invalid("unknown_parameter", f"{shown} is unknown here", shown)
        if value is None or fate is IGNORED:
            continue
        if fate is HONOURED:
            kept[name] = value
        elif not any(_same(value, one) for one in fate.neutral):
            usual = " or ".join(map(repr, fate.neutral)) or "null"
            message = f"{name} is not supported: leave it out, or give {usual}"
            raise invalid("unsupported_parameter", message, name)
    return kept


def _same(value: Any, neutral: Any) -> bool:
    """Return True for equal values, 1.0 and 1 among them, but not True and 1."""
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)
