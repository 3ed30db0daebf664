"""The one mechanism behind every agent, over replies that are written down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from controller.agents.chat import Ask, Completion, ToolCall
from controller.agents.replies import deployer_format
from controller.agents.step import QUOTED, Answer, Question, Step, Tool
from controller.domain.errors import InvalidDecision
from tests.unit.agents.scripted import Unrecorded

LIMIT_S = 30.0
FORMAT = deployer_format(["LM1"])
GOOD = '{"LM1":{"mode":"cpu","cores":2,"vgpus":0}}'
GREEDY = '{"LM1":{"mode":"cpu","cores":99,"vgpus":0}}'
TOO_MUCH = "too many cores; and a second fault"
CUT_OFF = "the reply was cut off at the token limit; be brief"
SAID = ({"role": "system", "content": "Decide."}, {"role": "user", "content": "Now."})


def check(reply: dict[str, Any]) -> float:
    if reply["LM1"].cores > 8:
        raise InvalidDecision(TOO_MUCH)
    return float(reply["LM1"].cores)


def says(content: str = GOOD, **fields: Any) -> Completion:
    usage = {"took_s": 1.0, "tokens_in": 100, "tokens_out": 10, "cost_usd": 0.5, "finish": "stop"}
    return Completion(content=content, **{**usage, **fields})


def wants(*arguments: str, **fields: Any) -> Completion:
    calls = tuple(ToolCall(f"call{k}", "try", text) for k, text in enumerate(arguments))
    return says("", finish="tool_calls", tool_calls=calls, **fields)


class Script:
    """A reasoner that says these things in turn, and nothing beyond them."""

    def __init__(self, lines: Sequence[Completion]) -> None:
        self.lines = list(lines)
        self.asks: list[Ask] = []

    async def complete(self, ask: Ask) -> Completion:
        self.asks.append(ask)
        return self.lines.pop(0)


class Log(Unrecorded):
    """The outcomes of calls."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, str, str]] = []

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None:
        self.outcomes.append((ask.round, outcome, detail))


class Played:
    """A decision made over a script."""

    def __init__(self, *lines: Completion, tool: Tool | None = None) -> None:
        self.script, self.log = Script(lines), Log()
        step = Step(self.script, self.log, LIMIT_S, "Wrong: {}.".format)
        question = Question(4, "deployer", "VM1", SAID, FORMAT, check, tool)
        self.answer: Answer[float] = asyncio.run(step.decide(question))
        self.call = self.answer.call

    def messages(self, turn: int) -> list[Any]:
        return list(self.script.asks[turn].messages)


def test_a_good_reply_is_the_decision() -> None:
    played = Played(says())
    assert played.answer.value == 2.0
    assert played.answer.reply["LM1"].mode == "cpu"
    assert (played.call.outcome, played.call.detail) == ("ok", "")
    assert (played.call.took_s, played.call.cost_usd) == (1.0, 0.5)
    assert (played.call.tokens_in, played.call.tokens_out) == (100, 10)
    (ask,) = played.script.asks
    assert (ask.slot, ask.tier, ask.node, ask.round) == (4, "deployer", "VM1", 0)
    assert ask.messages == SAID
    assert (ask.name, ask.schema, ask.tools) == ("deployment", FORMAT.schema, ())
    assert played.log.outcomes == [(0, "ok", "")]


def test_the_repair_message_quotes_every_violation() -> None:
    played = Played(says(GREEDY), says())
    assert (played.call.outcome, played.answer.value) == ("repaired", 2.0)
    assert played.messages(1) == [
        *SAID,
        {"role": "assistant", "content": GREEDY},
        {"role": "user", "content": f"Wrong: {TOO_MUCH}."},
    ]
    assert played.log.outcomes == [(0, "invalid", TOO_MUCH), (1, "repaired", "")]


def test_a_reply_of_any_length_is_not_sent_back_whole() -> None:
    played = Played(says("no " * QUOTED), says())
    quoted = played.messages(1)[-2]["content"]
    assert quoted.startswith("no no ")
    assert quoted.endswith(f"(cut after {QUOTED} characters)")
    assert len(quoted) < QUOTED + 100


def test_a_refusal_of_any_length_is_quoted_in_one_line() -> None:
    played = Played(says("", refusal="no\n" * 100_000), says())
    assert played.messages(1)[-1]["content"].startswith("Wrong: the model refused: no no no")
    assert len(played.messages(1)[-1]["content"]) < 400


def test_what_breaks_the_schema_is_quoted_by_field() -> None:
    played = Played(says('{"LM1":{"mode":"tpu","cores":2},"LM2":1}'), says())
    quoted = played.messages(1)[-1]["content"]
    for field in ("LM1.mode: ", "LM1.vgpus: ", "LM2: "):
        assert field in quoted


def test_a_second_bad_reply_leaves_it_to_the_fallback() -> None:
    played = Played(says("no idea"), says(GREEDY))
    assert played.answer.value is None
    assert (played.call.outcome, played.call.detail) == ("fallback", TOO_MUCH)
    assert [outcome for _, outcome, _ in played.log.outcomes] == ["invalid", "invalid"]


def test_all_rounds_are_charged_and_shorten_the_next() -> None:
    played = Played(says(GREEDY, took_s=12.0), says(took_s=3.5, cost_usd=0.25))
    assert played.call.took_s == 15.5
    assert played.call.cost_usd == 0.75
    assert (played.call.tokens_in, played.call.tokens_out) == (200, 20)
    assert [ask.limit_s for ask in played.script.asks] == [30.0, 18.0]
    assert [ask.round for ask in played.script.asks] == [0, 1]


@pytest.mark.parametrize("costs", [(None, 0.5), (0.5, None)])
def test_one_unknown_cost_makes_the_sum_unknown(costs: tuple[float | None, float | None]) -> None:
    played = Played(says(GREEDY, cost_usd=costs[0]), says(cost_usd=costs[1]))
    assert played.call.cost_usd is None


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (says("", finish="length"), CUT_OFF),
        (says(GOOD, finish="length"), CUT_OFF),
        (says(""), "empty reply"),
        (says("", refusal="I would rather not"), "the model refused: I would rather not"),
        (says("", finish="content_filter"), "the model refused: content filter"),
        (wants("{}"), "no function may be called now; reply with the decision as JSON"),
    ],
)
def test_a_reply_without_a_decision_is_sent_back(reply: Completion, problem: str) -> None:
    played = Played(reply, says())
    assert played.call.outcome == "repaired"
    assert played.messages(1)[-1]["content"] == f"Wrong: {problem}."
    assert played.messages(1)[-2]["content"] == (reply.content or "(no reply)")


def test_an_error_leaves_it_to_the_fallback_at_once() -> None:
    played = Played(says("", error="HTTP 500: down", took_s=4.0, cost_usd=0.0))
    assert played.answer.value is None
    assert (played.call.outcome, played.call.detail) == ("fallback", "HTTP 500: down")
    assert played.call.took_s == 4.0
    assert played.log.outcomes == [(0, "fallback", "HTTP 500: down")]


def test_no_reply_within_the_slot_is_late() -> None:
    played = Played(says("", error="no reply in time", late=True, took_s=30.5))
    assert played.answer.value is None
    assert played.call.outcome == "late"
    assert played.call.took_s > LIMIT_S


def test_a_repair_that_outlasts_the_slot_is_late_by_the_sum_of_both() -> None:
    played = Played(says(GREEDY, took_s=25.0), says("", error="dropped", took_s=6.0))
    assert (played.call.outcome, played.call.took_s) == ("late", 31.0)


def test_nothing_is_sent_back_when_the_slot_is_over() -> None:
    played = Played(says(GREEDY, took_s=LIMIT_S))
    assert (played.call.outcome, played.call.detail) == ("fallback", TOO_MUCH)


class Trials:
    """What a tool was called with."""

    def __init__(self, budget: int, tokens: int = 10_000) -> None:
        self.seen: list[str] = []
        declaration = {"type": "function", "function": {"name": "try"}}
        self.tool = Tool(declaration, self._call, budget, tokens, each_s=0.25)

    async def _call(self, arguments: str) -> str:
        self.seen.append(arguments)
        return f"result of {arguments}"


def test_results_of_tools_are_in_the_messages_and_their_time_is_charged() -> None:
    trials = Trials(budget=3)
    played = Played(wants("a", "b"), says(), tool=trials.tool)
    assert played.call.outcome == "ok"
    assert played.call.took_s == 2.5
    assert played.script.asks[0].tools == (trials.tool.declaration,)
    asked, *results = played.messages(1)[2:]
    assert (asked["role"], asked["content"]) == ("assistant", None)
    assert [one["function"]["arguments"] for one in asked["tool_calls"]] == ["a", "b"]
    assert results == [
        {"role": "tool", "tool_call_id": "call0", "content": "result of a"},
        {"role": "tool", "tool_call_id": "call1", "content": "result of b"},
    ]
    assert played.log.outcomes == [(0, "tool", ""), (1, "ok", "")]


def test_trials_beyond_the_budget_are_not_run_and_the_tool_is_withdrawn() -> None:
    trials = Trials(budget=3)
    played = Played(wants("a", "b"), wants("c", "d"), says(), tool=trials.tool)
    assert trials.seen == ["a", "b", "c"]
    assert "used up" in played.messages(2)[-1]["content"]
    assert played.call.took_s == 3.0 + 3 * 0.25  # what was not run took no time
    assert [len(ask.tools) for ask in played.script.asks] == [1, 1, 0]


def test_a_tool_that_nobody_offered_is_not_run() -> None:
    """It counts against the budget, or a model could go on asking for it."""
    trials = Trials(budget=2)
    made_up = says("", tool_calls=(ToolCall("x", "rm", "a"), ToolCall("y", "try", "b")))
    played = Played(made_up, says(), tool=trials.tool)
    assert trials.seen == ["b"]
    unknown, known = played.messages(1)[-2:]
    assert (unknown["tool_call_id"], unknown["content"]) == ("x", '{"error":"no such tool"}')
    assert (known["tool_call_id"], known["content"]) == ("y", "result of b")
    assert played.script.asks[1].tools == ()
    assert played.call.took_s == 2.25


def test_the_tool_is_withdrawn_when_the_tokens_are_spent() -> None:
    trials = Trials(budget=9, tokens=200)
    played = Played(wants("a"), wants("b"), wants("c"), says(), tool=trials.tool)
    assert trials.seen == ["a", "b"]
    assert [len(ask.tools) for ask in played.script.asks] == [1, 1, 0, 0]
    assert played.call.outcome == "repaired"


def test_an_answer_that_is_empty_after_reasoning_is_sent_back_with_the_reason() -> None:
    played = Played(says("", reasoned=True), says())
    assert played.call.outcome == "repaired"
    assert "empty after its reasoning" in played.messages(1)[-1]["content"]
