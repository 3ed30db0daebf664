"""Requests that look like ours and are not: all are answered, none by an error of the server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.agents.chat import REFERENCE_MODEL
from controller.reference_model.completions import Latency, complete
from tests.unit.reference_model.duets import messages

DEEP = "<context>" + '{"a":' * 100_000 + "</context><observation>{}</observation>"
PLANNER = messages({"agent": "planner"}, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [*PLANNER, {"role": "tool", "tool_call_id": "a", "content": "oops"}]},
        {"messages": messages({"agent": []}, {})},
        {"messages": [{"role": "user", "content": DEEP}]},
        {"messages": [*PLANNER, {"role": "assistant", "tool_calls": 5}]},
        {"messages": [*PLANNER, {"role": "assistant", "tool_calls": [5]}]},
        {"messages": PLANNER, "tools": [5]},
        {"messages": PLANNER, "tools": 5},
        {"messages": [], "response_format": {"type": "json_schema", "json_schema": 5}},
    ],
)
def test_what_has_another_shape_is_the_askers_fault(wrong: dict[str, Any]) -> None:
    reply = complete({"model": REFERENCE_MODEL, **wrong}, Latency())
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["type"] == "invalid_request_error"
