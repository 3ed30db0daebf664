"""The one mechanism behind every agent: ask, parse, check, repair once, or fall back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar

from controller.agents.chat import Ask, ChatModel, Completion, Message, ToolCall
from controller.agents.endpoint.answers import CUT_OFF, one_line
from controller.agents.replies import EMPTY_AFTER_REASONING, Format
from controller.domain.decisions import FALLBACK, LATE, OK, REPAIRED, Call, plus
from controller.domain.errors import InvalidDecision

T = TypeVar("T")

REPAIRS: Final = 1
INVALID: Final = "invalid"  # outcome of a call whose reply was sent back or given up
TOOL: Final = "tool"  # outcome of a call that asked for tools
QUOTED: Final = 64_000  # characters of a reply that is sent back; none at 600 nodes is longer
_USED_UP: Final = '{"error":"the budget of trials is used up"}'
_UNKNOWN: Final = '{"error":"no such tool"}'


class CallLog(Protocol):
    """A log of calls, which answers them when a run is made again."""

    def recall(self, ask: Ask) -> Completion | None:
        """Return the completion of a call that was made before, or None."""

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call before it answers, at most ``budget`` times and while the
    decision has cost less than ``tokens``. Each call that is run is charged ``each_s``."""

    declaration: Mapping[str, Any]  # as in chat completions
    call: Callable[[str], Awaitable[str]]  # JSON arguments -> JSON result; says its own errors
    budget: int
    tokens: int
    each_s: float

    @property
    def name(self) -> str:
        return str(self.declaration["function"]["name"])


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A decision to be made: the messages to the model and the check that its reply must pass."""

    slot: int
    tier: str
    node: str
    messages: Sequence[Message]
    format: Format
    check: Callable[[dict[str, Any]], T]  # raises InvalidDecision with every violation
    tool: Tool | None = None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A decision, None where the fallback must serve, with the account of its calls."""

    value: T | None
    call: Call
    reply: Mapping[str, Any] = field(default_factory=dict)


class Step:
    """A maker of decisions within a slot. ``reword(problems)`` renders the repair message."""

    def __init__(
        self, model: ChatModel, log: CallLog, limit_s: float, reword: Callable[[str], str]
    ) -> None:
        self._model = model
        self._log = log
        self._limit_s = limit_s
        self._reword = reword

    async def decide(self, question: Question[T]) -> Answer[T]:
        """Ask until the reply passes the check, repairs are used up or the slot is over."""
        course = _Course(question, list(question.messages), Call(cost_usd=0.0))
        while True:
            answer = await self._advance(course)
            if answer is not None:
                return answer

    async def _advance(self, course: _Course[T]) -> Answer[T] | None:
        """Make one call and judge it; return None if another call must follow."""
        tool = course.tool_on_offer()
        ask = course.next_ask(tool, self._limit_s)
        completion = self._log.recall(ask) or await self._model.complete(ask)
        course.spent = _add(course.spent, completion)
        if completion.error:
            return self._give_up(course, ask, completion)
        if tool and completion.tool_calls:
            self._log.keep(ask, completion, TOOL, "")
            await course.use(tool, completion)
            return None
        return self._judge(course, ask, completion)

    def _give_up(self, course: _Course[T], ask: Ask, completion: Completion) -> Answer[T]:
        """Return the fallback's turn: the call has brought no reply."""
        late = completion.late or course.spent.took_s > self._limit_s
        outcome = LATE if late else FALLBACK
        self._log.keep(ask, completion, outcome, completion.error)
        return course.answer(outcome, detail=completion.error)

    def _judge(self, course: _Course[T], ask: Ask, completion: Completion) -> Answer[T] | None:
        """Return the decision or the fallback's turn, or None after sending the reply back."""
        question = course.question
        try:
            reply = question.format.parse(_text(completion))
            value = question.check(reply)
        except InvalidDecision as error:
            problems = str(error)
            self._log.keep(ask, completion, INVALID, problems)
            if course.repairs == REPAIRS or course.spent.took_s >= self._limit_s:
                return course.answer(FALLBACK, detail=problems)
            course.send_back(completion, self._reword(problems))
            return None
        outcome = REPAIRED if course.repairs else OK
        self._log.keep(ask, completion, outcome, "")
        return course.answer(outcome, value, reply)


@dataclass(slots=True)
class _Course(Generic[T]):
    """The state of a decision between two calls."""

    question: Question[T]
    messages: list[Message]
    spent: Call
    rounds: int = 0
    repairs: int = 0
    trials: int = 0

    def tool_on_offer(self) -> Tool | None:
        """Return the tool while its budgets last."""
        tool, spent = self.question.tool, self.spent
        used = (spent.tokens_in or 0) + (spent.tokens_out or 0)  # unknown: the budget alone binds
        if tool and self.trials < tool.budget and used < tool.tokens:
            return tool
        return None

    def next_ask(self, tool: Tool | None, limit_s: float) -> Ask:
        question, turn = self.question, self.rounds
        self.rounds += 1
        return Ask(
            slot=question.slot,
            tier=question.tier,
            node=question.node,
            round=turn,
            messages=tuple(self.messages),
            form=question.format.form,
            limit_s=limit_s - self.spent.took_s,
            tools=(tool.declaration,) if tool else (),
        )

    async def use(self, tool: Tool, completion: Completion) -> None:
        """Run the model's tool calls while the budget lasts. A name that the model made up counts
        against it and takes no time."""
        said, results = [], []
        for one in completion.tool_calls:
            function = {"name": one.name, "arguments": one.arguments}
            said.append({"id": one.id, "type": "function", "function": function})
            result = await self._result(tool, one)
            results.append({"role": "tool", "tool_call_id": one.id, "content": result})
        content = completion.content or None
        asked = {"role": "assistant", "content": content, "tool_calls": said}
        self.messages += [asked, *results]

    async def _result(self, tool: Tool, one: ToolCall) -> str:
        if self.trials == tool.budget:
            return _USED_UP
        self.trials += 1
        if one.name != tool.name:
            return _UNKNOWN
        self.spent = replace(self.spent, took_s=self.spent.took_s + tool.each_s)
        return await tool.call(one.arguments)

    def send_back(self, completion: Completion, problems: str) -> None:
        """Append the reply and its problems, for the model to repair."""
        self.repairs += 1
        content = completion.content or "(no reply)"
        if len(content) > QUOTED:
            content = f"{content[:QUOTED]} (cut after {QUOTED} characters)"
        self.messages += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": problems},
        ]

    def answer(
        self,
        outcome: str,
        value: T | None = None,
        reply: Mapping[str, Any] | None = None,
        *,
        detail: str = "",
    ) -> Answer[T]:
        return Answer(value, replace(self.spent, outcome=outcome, detail=detail), reply or {})


def _text(completion: Completion) -> str:
    """Return the text of a reply.

    Raises:
        InvalidDecision: it was cut off, refused or never given.
    """
    if completion.finish in CUT_OFF:
        # Before empty content: reasoning may have eaten the budget.
        raise InvalidDecision("the reply was cut off at the token limit; be brief")
    if completion.refusal or completion.finish == "content_filter":
        refusal = one_line(completion.refusal) or "content filter"
        raise InvalidDecision(f"the model refused: {refusal}")
    if completion.tool_calls and not completion.content:
        raise InvalidDecision("no function may be called now; reply with the decision as JSON")
    if completion.reasoned and not completion.content.strip():
        raise InvalidDecision(EMPTY_AFTER_REASONING)
    return completion.content


def _add(spent: Call, completion: Completion) -> Call:
    """Return the sum of what a decision has cost. One unknown part makes it unknown."""
    return Call(
        took_s=spent.took_s + completion.took_s,
        tokens_in=plus(spent.tokens_in, completion.tokens_in),
        tokens_out=plus(spent.tokens_out, completion.tokens_out),
        cost_usd=plus(spent.cost_usd, completion.cost_usd),
    )
