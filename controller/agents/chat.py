"""The seam to the model that answers an agent: one question, one completion, errors as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

REFERENCE_MODEL: Final = "edgelm-reference"  # of the run's own server: an optimiser

TOKEN_CHARACTERS: Final = 4  # the usual estimate for English and JSON; no tokens are counted

Message = Mapping[str, Any]  # of OpenAI's chat completions: role, content, ...


@dataclass(frozen=True, eq=False)
class ReplySchema:
    """The strict JSON schema of a reply: every field is required, others are forbidden. One object
    serves all calls of an agent, so that it is rendered once."""

    name: str
    json: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        """The schema as compact JSON."""
        return json.dumps(self.json, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat completion to be made. Slot, tier, node and round identify it within a run."""

    slot: int
    tier: str  # planner, scheduler or deployer: the model may differ
    node: str  # of a deployer, or the first origin of a scheduler's shard; else empty
    round: int  # 0, then 1, 2, ... for tools and repair
    messages: Sequence[Message]
    form: ReplySchema
    limit_s: float  # time left
    tools: Sequence[Mapping[str, Any]] = ()  # functions the model may call first

    @property
    def name(self) -> str:
        """The name of the reply's schema."""
        return self.form.name

    @property
    def schema(self) -> Mapping[str, Any]:
        """The reply's schema."""
        return self.form.json


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called; ``arguments`` is JSON, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply, or the reason why there is none.

    ``took_s``: seconds to charge, retries included.

    Tokens are None where the server does not report them, ``cost_usd`` also where the model's price
    is not known.
    """

    content: str = ""
    took_s: float = 0.0
    finish: str = ""  # finish_reason: stop, length, tool_calls, content_filter
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    tokens_in: int | None = 0
    tokens_cached: int = 0  # part of tokens_in
    tokens_out: int | None = 0
    cost_usd: float | None = None
    attempts: int = 1
    error: str = ""  # no reply: what happened
    late: bool = False  # no reply before the limit
    reasoned: bool = False  # there is reasoning in a field of its own


class ChatModel(Protocol):
    """A model behind an endpoint, or what stands for one."""

    async def complete(self, ask: Ask) -> Completion:
        """Return the reply to ``ask`` within ``ask.limit_s``. Faults of the other side are data."""
