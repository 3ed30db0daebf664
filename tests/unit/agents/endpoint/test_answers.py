"""What a server's bodies and headers are read as, most of them wrong in some way."""

from __future__ import annotations

from typing import Any

import pytest

from controller.agents.chat import ToolCall
from controller.agents.endpoint.answers import Failure, read_failure, retry_after_s
from tests.unit.agents.questions import asked, question
from tests.unit.agents.servers import Reply, answer, completion, serving


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer("", finish="length"), {"content": "", "finish": "length"}),
        (answer('{"o', finish="length"), {"content": '{"o', "finish": "length"}),
        (answer(None, message={"refusal": "I won't."}), {"content": "", "refusal": "I won't."}),
        (answer(None), {"content": ""}),
        (answer("", finish="content_filter"), {"finish": "content_filter"}),
        (answer("Sure! {}"), {"content": "Sure! {}"}),
        (
            answer(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "{}"}]},
                    {"type": "text", "text": "Su"},
                    "re",
                    {"type": "text", "text": "!"},
                    None,
                ]
            ),
            {"content": "Sure!"},
        ),
        (answer([{"type": "refusal", "refusal": "No."}]), {"content": "", "refusal": "No."}),
        (answer([]), {"content": ""}),
        (
            answer(None, message={"reasoning_content": '{"ok":true}'}),
            {"content": "", "reasoned": True},
        ),
        (answer("x", message={"reasoning": "Hm."}), {"content": "x", "reasoned": True}),
        (answer("\ud800", finish=None), {"content": "?", "finish": ""}),
    ],
)
def test_poor_replies_are_returned_as_they_are_and_counted(
    reply: Reply, expected: dict[str, Any]
) -> None:
    with serving(reply) as server:
        got = asked(server)
        assert len(server.requests) == 1
    assert {name: getattr(got, name) for name in expected} == expected
    assert (got.error, got.tokens_in, got.tokens_out) == ("", 100, 20)


def test_tool_calls_are_returned_as_the_model_wrote_them() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "try", "arguments": "{oops"}},
        {"type": "function", "function": {"name": "try", "arguments": {"x": 1}}},
    ]
    message = {"tool_calls": calls}
    with serving(answer(None, message=message, finish="tool_calls")) as server:
        got = asked(server)
    assert got.tool_calls == (ToolCall("a", "try", "{oops"), ToolCall("call-1", "try", '{"x": 1}'))
    assert got.finish == "tool_calls"


@pytest.mark.parametrize("usage", [None, {}, [], {"prompt_tokens": "12"}, {"prompt_tokens": -1}])
def test_missing_usage_is_no_tokens_and_an_unknown_cost(usage: Any) -> None:
    with serving(answer(usage=usage)) as server:
        got = asked(server)
    assert (got.tokens_in, got.tokens_out, got.cost_usd, got.error) == (0, 0, None, "")
    assert got.content == '{"ok":true}'


def test_reasoning_that_is_only_in_the_total_counts_as_output() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 100},
        "total_tokens": 115,
    }
    with serving(answer(usage=usage)) as server:
        assert asked(server).tokens_out == 105


def test_a_model_without_a_price_costs_unknown() -> None:
    with serving(answer(model="other")) as server:
        assert asked(server, model="another").cost_usd is None


MALFORMED = [
    Reply(""),
    Reply("<html><body>Welcome</body></html>", headers={"content-type": "text/html"}),
    Reply("null"),
    Reply("[]"),
    Reply('{"choices":'),
    Reply("[" * 100_000),
    Reply(b"\xff\xfe\x00{"),
    Reply({}),
    Reply({"choices": None}),
    Reply({"choices": []}),
    Reply({"choices": ["x"]}),
    Reply({"choices": [{}]}),
    Reply({"choices": [{"message": "hi"}]}),
    Reply({"choices": {"0": 1}}),
    Reply({"error": {"message": "overloaded"}}),
    Reply({"error": "overloaded"}),
    answer(12),
    answer(None, message={"tool_calls": "x"}),
    answer(None, message={"tool_calls": [None]}),
    answer(None, message={"tool_calls": [{"function": {"arguments": "{}"}}]}),
    Reply("", status=204),
    Reply("{}", headers={"content-encoding": "gzip"}),
    Reply("moved", 302, headers={"location": "https://elsewhere.example/"}),
]


@pytest.mark.parametrize("reply", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_replies_are_errors_not_exceptions(reply: Reply) -> None:
    with serving(reply) as server:
        got = asked(server, question(limit_s=1.0))
    assert got.error
    assert len(got.error) < 500
    assert "\n" not in got.error
    assert not got.content
    assert not got.late


@pytest.mark.parametrize("field", ["model", "finish_reason", "refusal", "id", "usage"])
@pytest.mark.parametrize("value", [None, 12, [1], {"a": 1}, True])
def test_wrong_types_beside_the_content_do_no_harm(field: str, value: Any) -> None:
    body = completion()
    choice = body["choices"][0]
    holder = {"finish_reason": choice, "refusal": choice["message"]}.get(field, body)
    holder[field] = value
    with serving(Reply(body)) as server:
        got = asked(server)
    assert (got.content, got.error) == ('{"ok":true}', "")


NOW_S = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:30 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:30 GMT"}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == wait_s


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"no\\nway"}}', "HTTP 400: no way"),
        (b'{"error":"no way"}', "HTTP 400: no way"),
        (
            b'{"object":"error","message":"no way"}',
            'HTTP 400: {"object":"error","message":"no way"}',
        ),
        (b"", "HTTP 400: no message"),
        (b"<html>\n<h1>Bad</h1>", "HTTP 400: <html> <h1>Bad</h1>"),
        (b"\x1b[31mred\x00", "HTTP 400: ?[31mred?"),
        (b"\xff", "HTTP 400: \ufffd"),
        (b'{"error":{"message":["x"],"code":5}}', "HTTP 400: ['x']"),
    ],
)
def test_messages_of_failures_are_one_printable_line(body: bytes, error: str) -> None:
    assert read_failure(400, {}, body).error == error


def test_long_messages_are_shortened() -> None:
    assert len(read_failure(500, {}, b"x" * 10**6).error) < 400


def test_only_those_who_may_ask_for_a_wait_get_it() -> None:
    assert read_failure(429, {"retry-after": "3"}, b"").wait_s == 3.0
    assert read_failure(503, {"retry-after": "3"}, b"").wait_s == 3.0
    assert read_failure(500, {"retry-after": "3"}, b"").wait_s is None


def test_a_late_failure_is_final() -> None:
    assert Failure("gone").passing
    assert not Failure("gone", late=True).passing
