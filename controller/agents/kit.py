"""What a run hands to its agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from controller.agents.advice import Log
from controller.agents.approval import Approver
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.agents.what_if import Rehearse
from controller.domain.decisions import Decision
from controller.ports import Store


def nowhere(slot: int, tier: str, advice: Decision[Any]) -> None:
    """Forget it."""
    del slot, tier, advice


@dataclass(frozen=True, slots=True)
class AgentKit:
    """``run`` names the run in the case memory. ``baseline`` and ``rehearse`` ask the twin."""

    step: Step
    prompts: Prompts
    store: Store
    run: str
    baseline: Callable[[], Awaitable[str]]
    rehearse: Rehearse
    approver: Approver | None = None
    log: Log = nowhere  # of advice; the transcript has it all
