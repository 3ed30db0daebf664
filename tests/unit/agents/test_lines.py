"""Transcripts as they come back: cut, damaged, or written by something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.agents.chat import Completion, ToolCall
from controller.agents.lines import CallLine, read_lines, whole_lines
from controller.domain.errors import InputError

HEAD = {"kind": "head", "format": 1}
TEXT = {"kind": "text", "sha256": "0" * 64, "content": "You plan."}
REPLY = {"content": "{}", "finish": "stop", "refusal": "", "model": "m", "error": "", "late": False}
CALL = {
    "kind": "call", "slot": 0, "tier": "deployer", "node": "VM1", "round": 0, "asked": "0" * 16,
    "reply": REPLY, "took_s": 1.5, "tokens_in": 7, "tokens_cached": 3, "tokens_out": 2,
    "cost_usd": None, "attempts": 2,
}  # fmt: skip
APPROVAL = {"kind": "approval", "slot": 3, "approved": True}


def read(*lines: dict[str, Any]) -> list[Any]:
    return [line for _, line in read_lines(json.dumps(line) + "\n" for line in lines)]


def refused(*lines: dict[str, Any]) -> str:
    with pytest.raises(InputError, match="remove the file") as caught:
        read(*lines)
    return str(caught.value)


def test_a_line_says_what_it_holds_and_may_hold_more() -> None:
    tool = {"id": "1", "name": "try", "arguments": "{}"}
    lines = read(HEAD | {"reasoner": {}}, TEXT, CALL | {"reply": REPLY | {"tool_calls": [tool]}})
    assert lines[1].content == "You plan."
    assert isinstance(lines[2], CallLine)
    assert lines[2].key == (0, "deployer", "VM1", 0)
    assert lines[2].completion() == Completion(
        content="{}", took_s=1.5, finish="stop", tool_calls=(ToolCall("1", "try", "{}"),),
        model="m", tokens_in=7, tokens_cached=3, tokens_out=2, attempts=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "field"), [(line, field) for line in (HEAD, TEXT, CALL, APPROVAL) for field in line]
)
def test_a_line_without_one_of_its_fields_is_refused(line: dict[str, Any], field: str) -> None:
    said = refused(HEAD, {name: value for name, value in line.items() if name != field})
    assert "transcript.jsonl: line 2 is no line of a transcript: " in said
    assert field in said


@pytest.mark.parametrize("field", REPLY)
def test_a_reply_without_one_of_its_fields_is_refused(field: str) -> None:
    reply = {name: value for name, value in REPLY.items() if name != field}
    assert f"reply.{field}: Field required" in refused(CALL | {"reply": reply})


@pytest.mark.parametrize(
    "line",
    [
        HEAD | {"format": 2},
        TEXT | {"sha256": None},
        TEXT | {"kind": "letter"},
        APPROVAL | {"approved": "yes"},
        CALL | {"slot": "0"},
        CALL | {"tier": "oracle"},
        CALL | {"took_s": float("nan")},
        CALL | {"reply": []},
        CALL | {"reply": REPLY | {"tool_calls": [{"id": "1"}]}},
    ],
)
def test_a_line_with_a_wrong_value_is_refused(line: dict[str, Any]) -> None:
    assert "line 1 is no line of a transcript" in refused(line)


def test_a_file_cut_within_a_letter_ends_before_its_line() -> None:
    content = 'one\n"Größe\u2028"\ntwö\n'.encode()
    for size in range(len(content) + 1):
        whole = content[: content.rfind(b"\n", 0, size) + 1].decode()
        assert "".join(whole_lines(content[:size])) == whole
    assert whole_lines(content) == ["one\n", '"Größe\u2028"\n', "twö\n"]


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"line 2 is no line of a transcript: 'utf-8' codec"):
        whole_lines(b"one\n\xff\ntwo\n")
