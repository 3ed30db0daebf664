"""The what-if tool: a planner has candidate policies rehearsed before it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from controller.agents.prompts import to_json
from controller.agents.replies import Format
from controller.agents.step import Tool
from controller.domain.decisions import MacroPolicy
from controller.domain.errors import InvalidDecision
from controller.domain.state import ClusterState

NAME: Final = "try_policy"
TRIAL_S: Final = 0.1  # charged for each; a rehearsal takes about half of it
TOKENS: Final = 40_000  # of a decision, beyond which no more candidates may be tried

Rehearse = Callable[[MacroPolicy, ClusterState], Awaitable[Mapping[str, Any]]]
Check = Callable[[dict[str, Any]], MacroPolicy]


def what_if(
    form: Format, check: Check, rehearse: Rehearse, state: ClusterState, budget: int
) -> Tool:
    """Return the tool for one planning: up to ``budget`` candidates, rehearsed from ``state``."""

    async def call(arguments: str) -> str:
        try:
            policy = check(form.parse(arguments))
        except InvalidDecision as error:
            return to_json({"error": str(error)})
        return to_json(await rehearse(policy, state))

    return Tool(declaration_of(form), call, budget, TOKENS, TRIAL_S)


def declaration_of(form: Format) -> Mapping[str, Any]:
    """Return the tool as chat completions declare it."""
    return {
        "type": "function",
        "function": {
            "name": NAME,
            "description": "Rehearse a candidate policy in a simulation from the present state of "
            "the cluster; returns the objective (small is good) and what it is made of.",
            "strict": True,
            "parameters": form.schema,
        },
    }
