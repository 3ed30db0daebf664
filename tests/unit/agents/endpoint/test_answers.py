"""What a server's bodies and headers are read as, most of them wrong in some way."""

from __future__ import annotations

import json
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
            {"content": '{"ok":true}', "reasoned": True},  # misplaced by the server
        ),
        (
            answer("", message={"reasoning": 'I think {"ok":true}'}),
            {"content": "", "reasoned": True},
        ),
        (
            answer(None, message={"reasoning": '{"ok":true}'}, finish="length"),
            {"content": "", "reasoned": True},
        ),
        (
            answer([{"type": "reasoning", "text": "{}"}, {"type": "output_text", "text": "Su"}]),
            {"content": "Su", "reasoned": True},
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


def used(tokens_in: Any, tokens_out: Any) -> dict[str, Any]:
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ([], (None, None)),
        ("12", (None, None)),
        (used(0, 0), (None, None)),
        (used(12, None), (12, None)),
        (used(-1, 3), (None, 3)),
        (used(10**30, 3), (None, 3)),
        (used(1e300, 1e-300), (None, None)),
        (used("9" * 5000, 3), (None, 3)),
        (used("many", 3), (None, 3)),
        (used(True, 3), (None, 3)),
        (used([12], {"a": 1}), (None, None)),
    ],
)
def test_usage_that_is_not_known_is_none_and_so_is_the_cost(
    usage: Any, tokens: tuple[int | None, int | None]
) -> None:
    with serving(answer(usage=usage)) as server:
        got = asked(server)
    assert (got.tokens_in, got.tokens_out, got.cost_usd, got.error) == (*tokens, None, "")
    assert got.content == '{"ok":true}'


@pytest.mark.parametrize("usage", [used("1000", "50"), used(1000.0, " 50 "), used("1e3", 50.9)])
def test_counts_in_other_spellings_are_read(usage: Any) -> None:
    with serving(answer(usage=usage)) as server:
        got = asked(server)
    assert (got.tokens_in, got.tokens_out) == (1000, 50)
    assert got.cost_usd == pytest.approx(0.0015)


def test_numbers_that_json_has_not_are_no_counts() -> None:
    body = json.dumps(completion(usage=used(1, 2))).replace(
        '"prompt_tokens": 1', '"prompt_tokens": NaN'
    )
    with serving(
        Reply(body.replace('"completion_tokens": 2', '"completion_tokens": Infinity'))
    ) as s:
        got = asked(s)
    assert (got.tokens_in, got.tokens_out, got.error) == (None, None, "")


def wrapped(**error: Any) -> Reply:
    """An error in an answer of status 200."""
    return Reply({"error": {"message": "Provider returned error", **error}, "user_id": "u"})


def in_choice(finish: str = "error", **changes: Any) -> Reply:
    """An error in a choice, after a part of the reply."""
    body = completion('{"ok":', finish=finish)
    body["choices"][0] |= changes
    return Reply(body)


PASSING = [
    wrapped(code=502),
    wrapped(code="429"),
    wrapped(code=429.0),
    wrapped(status=503),
    wrapped(code="rate_limit_exceeded"),
    wrapped(type="overloaded_error"),
    wrapped(type="server_error", code=None),
    wrapped(),
    Reply({"error": "upstream timed out"}),
    Reply({"object": "error", "message": "engine died", "code": 500}),
    in_choice(error={"code": 502, "message": "Upstream"}),
    in_choice(),
    in_choice(finish="abort"),
    Reply("<html>502 Bad Gateway</html>"),
    Reply('{"choices": [{"mess'),
    Reply({"choices": []}),
]


@pytest.mark.parametrize("fault", PASSING, ids=range(len(PASSING)))
def test_an_error_within_a_200_is_tried_again(fault: Reply) -> None:
    with serving([fault, answer()]) as server:
        got = asked(server)
        assert len(server.requests) == 2
    assert (got.content, got.attempts, got.error) == ('{"ok":true}', 2, "")


LASTING = [
    (wrapped(code=401), "the reply is an error: Provider returned error"),
    (wrapped(code="400"), "the reply is an error: Provider returned error"),
    (wrapped(type="invalid_request_error"), "the reply is an error: Provider returned error"),
    (wrapped(code="insufficient_quota"), "the reply is an error: Provider returned error"),
    (in_choice(error={"code": 403, "message": "no"}), "the reply is an error: no"),
]


@pytest.mark.parametrize(("fault", "error"), LASTING, ids=range(len(LASTING)))
def test_an_error_within_a_200_that_lasts_is_not(fault: Reply, error: str) -> None:
    with serving(fault) as server:
        got = asked(server)
        assert len(server.requests) == 1
    assert (got.content, got.error, got.late) == ("", error, False)


def test_what_a_failed_attempt_has_used_counts() -> None:
    spent = {**completion(), "error": {"code": 502}}
    with serving([Reply(spent), answer()]) as server:
        got = asked(server)
    assert (got.tokens_in, got.tokens_out) == (200, 40)
    assert got.cost_usd == pytest.approx(2 * (100 * 1.0 + 20 * 10.0) / 1e6)


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
