"""Use of the what-if tool: the optimiser has a few plans rehearsed and replies with the best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from controller.agents.what_if import NAME
from controller.reference_model.answers import candidates

Json = Mapping[str, Any]

CALL_ID: Final = "try-"


def try_first(messages: Sequence[Json], tools: Sequence[Json]) -> list[dict[str, Any]]:
    """Return the tool calls to make before answering; none without the tool or once it was used."""
    names = [tool.get("function", {}).get("name") for tool in tools]
    if NAME not in names or any(message.get("role") == "tool" for message in messages):
        return []
    return [
        {
            "id": f"{CALL_ID}{k}",
            "type": "function",
            "function": {"name": NAME, "arguments": json.dumps(plan, separators=(",", ":"))},
        }
        for k, plan in enumerate(candidates(messages))
    ]


def best_tried(messages: Sequence[Json]) -> Json | None:
    """Return the candidate whose rehearsal had the lowest objective, the first of equals; None if
    none was rehearsed."""
    results: dict[str, float] = {}
    for message in messages:
        if message.get("role") == "tool":
            found = json.loads(str(message.get("content")))
            results[str(message.get("tool_call_id"))] = found.get("objective", inf)
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    tried = [call for call in calls if results.get(call["id"], inf) < inf]
    if not tried:
        return None
    best = min(tried, key=lambda call: results[call["id"]])
    plan: Json = json.loads(best["function"]["arguments"])
    reason = f"Best of {len(tried)} rehearsed: {plan['reason']}"
    return {**plan, "reason": reason}
