"""The one mechanism behind every agent: ask, parse, check, repair once, or fall back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar

from controller.agents.reasoner import Ask, Completion, Message, Reasoner
from controller.agents.replies import Format
from controller.domain.decisions import FALLBACK, LATE, OK, REPAIRED, Call
from controller.domain.errors import InvalidDecision

T = TypeVar("T")

REPAIRS: Final = 1
INVALID: Final = "invalid"  # outcome of a call whose reply was sent back or given up
TOOL: Final = "tool"  # outcome of a call that asked for tools


class Record(Protocol):
    """Where calls are written down, and read from when a run is made again."""

    def recall(self, ask: Ask) -> Completion | None:
        """What this call has brought before, if it was made before."""

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call before it answers, at most ``budget`` times."""

    declaration: Mapping[str, Any]  # as in chat completions
    call: Callable[[str], Awaitable[str]]  # JSON arguments -> JSON result; says its own errors
    budget: int


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A decision to be made: what is said to the model and what its reply must satisfy."""

    slot: int
    tier: str
    node: str
    messages: Sequence[Message]
    format: Format
    check: Callable[[dict[str, Any]], T]  # raises InvalidDecision with every violation
    tool: Tool | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The decision, or None where the fallback must serve, and how it came about."""

    value: T | None
    call: Call
    reply: Mapping[str, Any] = field(default_factory=dict)


class Step:
    """Makes decisions within a slot through a reasoner. ``reword(problems)`` is the repair
    message."""

    def __init__(
        self, reasoner: Reasoner, record: Record, limit_s: float, reword: Callable[[str], str]
    ) -> None:
        self._reasoner = reasoner
        self._record = record
        self._limit_s = limit_s
        self._reword = reword

    async def decide(self, question: Question[T]) -> Answer[T]:
        """Ask until the reply passes the check, repairs are used up or the slot is over."""
        messages, spent = list(question.messages), Call(cost_usd=0.0)
        repairs = tries = rounds = 0
        while True:
            tool = question.tool if question.tool and tries < question.tool.budget else None
            ask = Ask(
                question.slot, question.tier, question.node, rounds, messages,
                question.format.name, question.format.schema, self._limit_s - spent.took_s,
                (tool.declaration,) if tool else (),
            )  # fmt: skip
            completion = await self._complete(ask)
            spent, rounds = _add(spent, completion), rounds + 1
            if completion.error:
                self._record.keep(ask, completion, FALLBACK, completion.error)
                late = completion.late or spent.took_s > self._limit_s
                outcome = LATE if late else FALLBACK
                return Answer(None, replace(spent, outcome=outcome, detail=completion.error))
            if tool and completion.tool_calls:
                self._record.keep(ask, completion, TOOL, "")
                tries += len(completion.tool_calls)
                messages = [*messages, *await _use(tool, completion)]
                continue
            try:
                reply = question.format.parse(_text(completion))
                value = question.check(reply)
            except InvalidDecision as error:
                problems = str(error)
                self._record.keep(ask, completion, INVALID, problems)
                if repairs == REPAIRS or spent.took_s >= self._limit_s:
                    return Answer(None, replace(spent, outcome=FALLBACK, detail=problems))
                repairs += 1
                messages = [*messages, *self._send_back(completion, problems)]
                continue
            outcome = REPAIRED if repairs else OK
            self._record.keep(ask, completion, outcome, "")
            return Answer(value, replace(spent, outcome=outcome), reply)

    async def _complete(self, ask: Ask) -> Completion:
        return self._record.recall(ask) or await self._reasoner.complete(ask)

    def _send_back(self, completion: Completion, problems: str) -> list[Message]:
        return [
            {"role": "assistant", "content": completion.content or "(no reply)"},
            {"role": "user", "content": self._reword(problems)},
        ]


def _text(completion: Completion) -> str:
    """The reply's text.

    Raises:
        InvalidDecision: it was cut off, refused or never given.
    """
    if completion.finish == "length":
        # Before empty content: reasoning may have eaten the budget.
        raise InvalidDecision("the reply was cut off at the token limit; be brief")
    if completion.refusal or completion.finish == "content_filter":
        raise InvalidDecision(f"the model refused: {completion.refusal or 'content filter'}")
    if completion.tool_calls and not completion.content:
        raise InvalidDecision("no tools are left to call; reply with the decision")
    return completion.content


async def _use(tool: Tool, completion: Completion) -> list[Message]:
    """The model's tool calls and their results, as messages."""
    calls = completion.tool_calls
    said = [
        {
            "id": one.id,
            "type": "function",
            "function": {"name": one.name, "arguments": one.arguments},
        }
        for one in calls
    ]
    results = [
        {
            "role": "tool",
            "tool_call_id": one.id,
            "content": await tool.call(one.arguments)
            if k < tool.budget
            else '{"error":"the budget of trials is used up"}',
        }
        for k, one in enumerate(calls)
    ]
    return [
        {"role": "assistant", "content": completion.content or None, "tool_calls": said},
        *results,
    ]


def _add(spent: Call, completion: Completion) -> Call:
    """What has been spent on a decision so far. One unknown cost makes the sum unknown."""
    known = spent.cost_usd is not None and completion.cost_usd is not None
    return Call(
        took_s=spent.took_s + completion.took_s,
        tokens_in=spent.tokens_in + completion.tokens_in,
        tokens_out=spent.tokens_out + completion.tokens_out,
        cost_usd=(spent.cost_usd or 0.0) + (completion.cost_usd or 0.0) if known else None,
    )
