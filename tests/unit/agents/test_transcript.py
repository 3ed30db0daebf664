"""The transcript of a run: written once, recalled only for the same question, in one order."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from controller.agents.chat import Ask, Completion, ReplySchema, ToolCall
from controller.agents.lines import sorted_lines
from controller.agents.transcript import LONG, Silent, Transcript, digest
from controller.domain.decisions import MacroPolicy
from controller.domain.errors import InputError, Permanent
from tests.unit.agents.epochs import LEFT, RIGHT
from tests.unit.agents.questions import question

HEAD = {"reasoner": "test"}
SYSTEM = {"role": "system", "content": "You are the planner."}
ASK = question(messages=(SYSTEM, {"role": "user", "content": "Slot 0."}))
SAID = Completion(
    content="{}", took_s=1.5, finish="stop", model="m", tokens_in=7, tokens_cached=3,
    tokens_out=2, cost_usd=0.25, attempts=2,
)  # fmt: skip


def lines_of(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines(keepends=True)


def written(*calls: tuple[Ask, Completion]) -> list[str]:
    out = io.StringIO()
    transcript = Transcript(out, HEAD)
    for ask, completion in calls:
        transcript.keep(ask, completion, "ok", "")
    return lines_of(out)


def kinds(lines: list[str]) -> list[str]:
    return [json.loads(line)["kind"] for line in lines]


@pytest.mark.parametrize(
    "said",
    [
        SAID,
        replace(SAID, cost_usd=None, refusal="no"),
        replace(SAID, content="", tool_calls=(ToolCall("1", "try", '{"a":1}'),)),
        Completion(error="HTTP 500", late=True, took_s=31.0),
    ],
)
def test_a_call_is_recalled_as_it_was(said: Completion) -> None:
    assert Transcript(None, HEAD, written((ASK, said))).recall(ASK) == said


def test_what_was_never_asked_is_not_recalled() -> None:
    transcript = Transcript(None, HEAD, written((ASK, SAID)))
    for other in ({"slot": 1}, {"tier": "deployer"}, {"node": "VM1"}, {"round": 1}):
        assert transcript.recall(replace(ASK, **other)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"messages": (SYSTEM, {"role": "user", "content": "Slot 0!"})},
        {"form": ReplySchema("another", ASK.schema)},
        {"form": ReplySchema(ASK.name, {"type": "array"})},
        {"tools": ({"type": "function"},)},
    ],
)
def test_another_question_in_the_same_place_stops_the_run(other: dict[str, Any]) -> None:
    transcript = Transcript(None, HEAD, written((ASK, SAID)))
    with pytest.raises(Permanent, match=r"slot 0's planner was asked something else"):
        transcript.recall(replace(ASK, **other))


def test_the_time_left_is_no_part_of_the_question() -> None:
    assert digest(ASK) == digest(replace(ASK, limit_s=0.5))


def test_a_cut_last_line_is_ignored() -> None:
    later = replace(ASK, slot=1)
    *whole, last = written((ASK, SAID), (later, SAID))
    transcript = Transcript(None, HEAD, [*whole, last[: len(last) // 2]])
    assert transcript.recall(ASK) == SAID
    assert transcript.recall(later) is None


def test_a_run_goes_on_after_any_line_and_ends_in_the_same_transcript() -> None:
    calls = [(replace(ASK, slot=slot), SAID) for slot in range(3)]
    whole = written(*calls)
    for held in range(len(whole) + 1):
        out = io.StringIO()
        transcript = Transcript(out, HEAD, whole[:held])
        for ask, completion in calls:
            transcript.keep(ask, transcript.recall(ask) or completion, "ok", "")
        assert sorted_lines([*whole[:held], *lines_of(out)]) == sorted_lines(whole), held


@pytest.mark.parametrize("line", ["{\n", "[]\n", "{}\n", '{"kind":"head","format":0}\n'])
def test_what_is_no_transcript_is_refused(line: str) -> None:
    with pytest.raises(InputError, match=r"transcript\.jsonl: line 1 .* remove the file"):
        Transcript(None, HEAD, [line])


def test_system_messages_and_long_replies_are_written_once() -> None:
    long = {"role": "assistant", "content": "x" * (LONG + 1)}
    short = {"role": "assistant", "content": "y"}
    user = {"role": "user", "content": "z" * (LONG + 1)}
    asks = [replace(ASK, slot=slot, messages=(SYSTEM, long, short, user)) for slot in range(2)]
    lines = written(*((ask, SAID) for ask in asks))
    assert kinds(lines) == ["head", "text", "text", "call", "call"]
    texts = {json.loads(line)["sha256"]: json.loads(line)["content"] for line in lines[1:3]}
    system, reply, *rest = json.loads(lines[4])["messages"]
    assert texts[system["content"]["sha256"]] == SYSTEM["content"]
    assert texts[reply["content"]["sha256"]] == long["content"]
    assert rest == [short, user]


def test_a_call_is_written_once() -> None:
    assert kinds(written((ASK, SAID), (ASK, SAID))) == ["head", "text", "call"]


def test_why_a_reply_was_sent_back_is_written_beside_it() -> None:
    out = io.StringIO()
    Transcript(out, HEAD).keep(ASK, SAID, "invalid", "shares sum to 2")
    line = json.loads(lines_of(out)[-1])
    assert (line["outcome"], line["detail"]) == ("invalid", "shares sum to 2")


def test_the_order_of_concurrent_calls_leaves_no_trace() -> None:
    asks = [
        replace(
            ASK, slot=slot, tier=tier, node=node, messages=({"role": "system", "content": node},)
        )
        for slot in (10, 9)
        for tier in ("scheduler", "deployer", "planner")
        for node in ("VM2", "VM10", "")
    ]
    one = sorted_lines(written(*((ask, SAID) for ask in asks)))
    assert one == sorted_lines(written(*((ask, SAID) for ask in reversed(asks))))
    assert sorted_lines(one) == one
    calls = [json.loads(line) for line in one if '"kind":"call"' in line]
    assert [(c["slot"], c["tier"]) for c in calls[::3]] == [
        (slot, tier) for slot in (9, 10) for tier in ("planner", "scheduler", "deployer")
    ]
    assert kinds(one)[0] == "head"


class Person:
    """An approver who says yes or no and counts."""

    def __init__(self, says: bool) -> None:
        self.says, self.asked = says, 0

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        self.asked += 1
        return self.says


@pytest.mark.parametrize("verdict", [True, False])
def test_a_person_is_asked_once_and_not_again_when_the_run_is_resumed(verdict: bool) -> None:
    out, person = io.StringIO(), Person(verdict)
    approver = Transcript(out, HEAD).attended(person)
    for _ in range(2):
        assert asyncio.run(approver.approve(3, LEFT, RIGHT, "better")) is verdict
    assert person.asked == 1
    assert sorted_lines(lines_of(out)) == lines_of(out)
    replayed = Transcript(None, HEAD, lines_of(out)).attended(None)
    assert asyncio.run(replayed.approve(3, LEFT, RIGHT, "better")) is verdict
    with pytest.raises(Permanent, match="nobody is there to approve the policy of slot 4"):
        asyncio.run(replayed.approve(4, LEFT, RIGHT, "better"))


def test_a_replay_asks_nobody() -> None:
    with pytest.raises(Permanent, match="ends before round 0 of slot 0's planner"):
        asyncio.run(Silent().complete(ASK))
