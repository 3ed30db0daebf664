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
_USED_UP: Final = '{"error":"the budget of trials is used up"}'


class Record(Protocol):
    """Where calls are written down, and read from when a run is made again."""

    def recall(self, ask: Ask) -> Completion | None:
        """What this call has brought before, if it was made before."""

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call before it answers, at most ``budget`` times and while the
    decision has cost less than ``tokens``. Each call is charged ``each_s``."""

    declaration: Mapping[str, Any]  # as in chat completions
    call: Callable[[str], Awaitable[str]]  # JSON arguments -> JSON result; says its own errors
    budget: int
    tokens: int
    each_s: float


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
        repairs = trials = rounds = 0
        while True:
            tool = _offered(question.tool, trials, spent)
            ask = self._ask(question, messages, rounds, spent, tool)
            completion = self._record.recall(ask) or await self._reasoner.complete(ask)
            spent, rounds = _add(spent, completion), rounds + 1
            if completion.error:
                late = completion.late or spent.took_s > self._limit_s
                outcome = LATE if late else FALLBACK
                self._record.keep(ask, completion, outcome, completion.error)
                return Answer(None, replace(spent, outcome=outcome, detail=completion.error))
            if tool and completion.tool_calls:
                self._record.keep(ask, completion, TOOL, "")
                messages += await _use(tool, completion, tool.budget - trials)
                trials += len(completion.tool_calls)
                spent = replace(
                    spent, took_s=spent.took_s + tool.each_s * len(completion.tool_calls)
                )
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
                messages += self._send_back(completion, problems)
                continue
            outcome = REPAIRED if repairs else OK
            self._record.keep(ask, completion, outcome, "")
            return Answer(value, replace(spent, outcome=outcome), reply)

    def _ask(
        self,
        question: Question[T],
        messages: Sequence[Message],
        rounds: int,
        spent: Call,
        tool: Tool | None,
    ) -> Ask:
        return Ask(
            slot=question.slot,
            tier=question.tier,
            node=question.node,
            round=rounds,
            messages=tuple(messages),
            name=question.format.name,
            schema=question.format.schema,
            limit_s=self._limit_s - spent.took_s,
            tools=(tool.declaration,) if tool else (),
        )

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


def _offered(tool: Tool | None, trials: int, spent: Call) -> Tool | None:
    """The tool while its budgets last."""
    if tool and trials < tool.budget and spent.tokens_in + spent.tokens_out < tool.tokens:
        return tool
    return None


async def _use(tool: Tool, completion: Completion, budget: int) -> list[Message]:
    """The model's tool calls and the results of the first ``budget``, as messages."""
    said, results = [], []
    for k, one in enumerate(completion.tool_calls):
        function = {"name": one.name, "arguments": one.arguments}
        said.append({"id": one.id, "type": "function", "function": function})
        result = await tool.call(one.arguments) if k < budget else _USED_UP
        results.append({"role": "tool", "tool_call_id": one.id, "content": result})
    asked = {"role": "assistant", "content": completion.content or None, "tool_calls": said}
    return [asked, *results]


def _add(spent: Call, completion: Completion) -> Call:
    """What has been spent on a decision so far. One unknown cost makes the sum unknown."""
    known = spent.cost_usd is not None and completion.cost_usd is not None
    return Call(
        took_s=spent.took_s + completion.took_s,
        tokens_in=spent.tokens_in + completion.tokens_in,
        tokens_out=spent.tokens_out + completion.tokens_out,
        cost_usd=(spent.cost_usd or 0.0) + (completion.cost_usd or 0.0) if known else None,
    )
