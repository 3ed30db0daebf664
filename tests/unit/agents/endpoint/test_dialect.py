"""Servers that know less than was asked of them: what they refuse is left out from then on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from controller.agents.chat import Completion
from controller.agents.endpoint.endpoint import Endpoint, Models
from tests.unit.agents.questions import KEY, PRICES, SCHEMA, question, with_endpoint
from tests.unit.agents.servers import Reply, Request, Script, answer, complaint, serving

TEXT = "response_format.type 'json_schema' is not supported by this model"
INSTRUCTION = (
    'Reply with one JSON object that follows this JSON Schema: {"type":"object",'
    '"properties":{"ok":{"type":"boolean"}},"required":["ok"]}'
)


def knowing(*formats: str, status: int = 400, text: str = TEXT) -> Script:
    """A server that knows these formats only."""

    def script(request: Request) -> Reply:
        asked = request.body.get("response_format", {})
        wanted = asked.get("type", "none") + (" with a schema" if "schema" in asked else "")
        return answer() if wanted in formats else complaint(status, text)

    return script


def refusing(name: str, text: str, **fields: Any) -> Script:
    """A server that does not know a parameter."""
    return lambda request: complaint(400, text, **fields) if name in request.body else answer()


async def twice(one: Endpoint) -> tuple[list[Completion], list[str]]:
    got = [await one.complete(question(slot=slot)) for slot in range(2)]
    return got, list(one.notes)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 501])
def test_json_mode_where_schemas_are_not_known(status: int) -> None:
    with serving(knowing("json_object", status=status)) as server:
        got, notes = with_endpoint(server, twice)
        first, second, third, fourth = server.asked()
    assert [(one.content, one.attempts, one.error) for one in got] == [('{"ok":true}', 1, "")] * 2
    assert first["response_format"]["type"] == "json_schema"
    assert second["response_format"] == {"type": "json_object", "schema": SCHEMA}
    assert third["response_format"] == fourth["response_format"] == {"type": "json_object"}
    assert first["messages"] == [{"role": "user", "content": "How are you?"}]
    assert second["messages"][-1]["content"] == f"How are you?\n\n{INSTRUCTION}"
    why = f"(HTTP {status}: {TEXT})"
    assert notes == [
        f"test-model: asked for json_object with a schema instead of json_schema {why}",
        f"test-model: asked for json_object instead of json_object with a schema {why}",
    ]


def test_json_mode_with_a_schema() -> None:
    with serving(knowing("json_object with a schema", status=500)) as server:
        got, notes = with_endpoint(server, twice)
        assert len(server.requests) == 3
    assert all(one.content and one.attempts == 1 for one in got)
    assert len(notes) == 1


def test_prose_where_json_mode_is_not_known_either() -> None:
    with serving(knowing("none")) as server:
        got, notes = with_endpoint(server, twice)
        bodies = server.asked()
    assert len(bodies) == 5
    assert "response_format" not in bodies[-1]
    assert bodies[-1]["messages"][-1]["content"].endswith(INSTRUCTION)
    assert all(one.content and one.attempts == 1 for one in got)
    assert len(notes) == 3


def test_a_server_that_refuses_every_format_is_an_error_in_the_end() -> None:
    with serving(complaint(400, TEXT)) as server:
        got, _ = with_endpoint(server, twice)
        assert len(server.requests) == 5
    assert [one.error for one in got] == [f"HTTP 400: {TEXT}"] * 2


def test_calls_under_way_together_fall_back_one_step_together() -> None:
    def script(request: Request) -> Reply:
        reply = knowing("json_object")(request)
        return Reply(reply.body, reply.status, delay_s=0.2)

    async def use(one: Endpoint) -> tuple[list[Completion], list[str]]:
        calls = (one.complete(question(round=number)) for number in range(6))
        return await asyncio.gather(*calls), one.notes

    with serving(script) as server:
        got, notes = with_endpoint(server, use)
        formats = [body["response_format"]["type"] for body in server.asked()]
    assert formats == ["json_schema"] * 6 + ["json_object"] * 12
    assert len(notes) == 2
    assert all(one.content and one.attempts == 1 for one in got)


def test_each_model_has_its_own_dialect() -> None:
    def script(request: Request) -> Reply:
        return (knowing("json_object") if request.body["model"] == "old" else answer_all)(request)

    def answer_all(_request: Request) -> Reply:
        return answer()

    async def go(url: str) -> None:
        one = Endpoint(url, Models("new", "old", "new"), key=KEY, prices=PRICES)
        for tier in ("planner", "scheduler", "deployer", "scheduler"):
            await one.complete(question(tier=tier))
        await one.close()

    with serving(script) as server:
        asyncio.run(go(server.url))
        said = [(body["model"], body["response_format"]["type"]) for body in server.asked()]
    assert said == [
        ("new", "json_schema"),
        ("old", "json_schema"),
        ("old", "json_object"),
        ("old", "json_object"),
        ("new", "json_schema"),
        ("old", "json_object"),
    ]


def test_the_callers_messages_stay_as_they_are() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}]},
    ]
    before = json.dumps(messages)

    async def use(one: Endpoint) -> Completion:
        return await one.complete(question(messages=messages))

    with serving(knowing("json_object")) as server:
        with_endpoint(server, use)
        sent = server.asked()[-1]["messages"]
    assert json.dumps(messages) == before
    assert sent == [
        messages[0],
        {
            "role": "user",
            "content": [*messages[1]["content"], {"type": "text", "text": INSTRUCTION}],
        },
    ]


OPTIONS = {"temperature": 0.2, "reasoning_effort": "low", "max_tokens": 50}


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0.2 with this model. "
            "Only the default (1) value is supported.",
            {"param": "temperature", "code": "unsupported_value"},
        ),
        ("temperature", "temperature: Extra inputs are not permitted", {}),
        ("reasoning_effort", "Unrecognized request argument supplied: reasoning_effort", {}),
        ("reasoning_effort", "unknown parameter", {"param": "reasoning_effort"}),
        ("max_completion_tokens", "Unknown field max_completion_tokens, use max_tokens", {}),
        ("max_tokens", "'max_tokens' is unsupported. Use 'max_completion_tokens' instead", {}),
    ],
)
def test_a_parameter_that_is_not_supported_is_left_out(
    name: str, text: str, fields: dict[str, str]
) -> None:
    with serving(refusing(name, text, **fields)) as server:
        got, notes = with_endpoint(server, twice, **OPTIONS)
        first, second, third = server.asked()
    assert name in first
    assert second.keys() == third.keys()
    assert set(first) - set(second) == {name}
    assert set(second) <= set(first)
    assert second["response_format"] == first["response_format"]
    assert all(one.content and one.attempts == 1 for one in got)
    assert len(notes) == 1


def test_complaints_that_repeat_the_request_are_understood() -> None:
    def script(request: Request) -> Reply:
        problem = {"loc": ["body", "reasoning_effort"], "msg": "Extra inputs are not permitted"}
        detail = [{**problem, "input": request.body}]
        return Reply({"detail": detail}, 422) if "reasoning_effort" in request.body else answer()

    with serving(script) as server:
        got, _ = with_endpoint(server, twice, **OPTIONS)
        assert len(server.requests) == 3
        assert server.asked()[-1]["response_format"]["type"] == "json_schema"
    assert all(one.content for one in got)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2.",
        "This model's maximum context length is 8192 tokens",
        "messages: unexpected role",
    ],
)
def test_other_complaints_change_nothing(text: str) -> None:
    with serving(complaint(400, text)) as server:
        got, notes = with_endpoint(server, twice, **OPTIONS)
        assert len(server.requests) == 2
        assert server.asked()[0]["temperature"] == 0.2
    assert [one.error for one in got] == [f"HTTP 400: {text}"] * 2
    assert notes == []


def test_a_server_that_knows_next_to_nothing_is_learnt_within_one_call() -> None:
    known = {"model", "messages"}

    def script(request: Request) -> Reply:
        extra = sorted(set(request.body) - known)
        return complaint(400, f"unknown field: {extra[0]}") if extra else answer()

    with serving(script) as server:
        got, notes = with_endpoint(server, twice, **OPTIONS)
        assert set(server.asked()[-1]) == known
    assert all(one.content and one.attempts == 1 for one in got)
    assert len(notes) == 8


TOOL = {"type": "function", "function": {"name": "try", "parameters": {"type": "object"}}}
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "How are you?"}


@pytest.mark.parametrize(
    "fault",
    [
        complaint(400, "registry/library/x does not support tools"),
        complaint(404, "No endpoints found that support tool use."),
        complaint(400, '"auto" tool choice requires --enable-auto-tool-choice'),
        complaint(422, "tools: Extra inputs are not permitted"),
        complaint(500, "function calling is not supported"),
        complaint(400, "Function calling with response_format json_schema is unsupported"),
        complaint(400, "json mode cannot be combined with tool/function calling"),
        Reply({"error": {"code": 400, "message": "tools are not supported"}}),
    ],
)
def test_tools_that_are_not_supported_are_not_offered(fault: Reply) -> None:
    with serving(lambda request: fault if "tools" in request.body else answer()) as server:
        got, notes = with_endpoint(
            server, lambda one: noted(one, question(tools=(TOOL,), messages=[SYSTEM, USER]))
        )
        assert len(server.requests) == 2
        assert server.asked()[-1]["response_format"]["type"] == "json_schema"
    assert got.content
    assert [note.partition(" (")[0] for note in notes] == ["test-model: no tools offered"]


async def noted(one: Endpoint, asked: Any) -> tuple[Completion, list[str]]:
    return await one.complete(asked), one.notes


def test_results_of_tools_are_told_in_words_where_the_role_is_not_known() -> None:
    def script(request: Request) -> Reply:
        known = {"system", "user", "assistant"}
        wrong = [one for one in request.body["messages"] if one["role"] not in known]
        return complaint(400, "tool role is not supported") if wrong else answer()

    call = {"id": "a", "type": "function", "function": {"name": "try", "arguments": "{}"}}
    messages = [
        SYSTEM,
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": '{"objective":0.1}'},
    ]
    with serving(script) as server:
        got, _ = with_endpoint(server, lambda one: noted(one, question(messages=messages)))
        sent = server.asked()[-1]["messages"]
    assert got.content
    assert sent == [
        SYSTEM,
        USER,
        {"role": "assistant", "content": "try({})"},
        {"role": "user", "content": 'The function returned: {"objective":0.1}'},
    ]


@pytest.mark.parametrize(
    "fault",
    [
        complaint(400, "System role not supported"),
        complaint(500, "System role not supported"),
        complaint(400, "Only user and assistant roles are supported!"),
        complaint(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        complaint(422, "messages.0.role: Input should be 'user' or 'assistant', not 'system'"),
        complaint(400, "invalid role: system"),
    ],
)
def test_a_system_text_goes_into_the_users_message_where_it_must(fault: Reply) -> None:
    def script(request: Request) -> Reply:
        roles = [one["role"] for one in request.body["messages"]]
        return fault if roles != ["user"] else answer()

    with serving(script) as server:
        got, notes = with_endpoint(
            server, lambda one: noted(one, question(messages=[SYSTEM, USER]))
        )
        assert server.asked()[-1]["messages"] == [
            {"role": "user", "content": "Be brief.\n\nHow are you?"}
        ]
        assert len(server.requests) == 2
    assert got.content
    assert len(notes) == 1


@pytest.mark.parametrize(
    "fault",
    [
        complaint(500, "json_schema compilation crashed"),
        complaint(503, "response_format is not supported while the model loads"),
        complaint(404, "no such path"),
        complaint(500, "CUDA out of memory in the tool worker"),
    ],
)
def test_a_servers_trouble_is_not_taken_for_a_refusal(fault: Reply) -> None:
    with serving([fault, answer()]) as server:
        _, notes = with_endpoint(server, lambda one: noted(one, question(tools=(TOOL,))))
    assert notes == []
