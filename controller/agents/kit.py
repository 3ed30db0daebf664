"""The parts that a run hands to its agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controller.agents.approval import Approver
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.agents.what_if import Rehearse
from controller.ports import Store


@dataclass(frozen=True, slots=True)
class AgentKit:
    """The parts that agents of a run share. ``run`` is its key in the case memory; ``baseline`` and
    ``rehearse`` ask the twin."""

    step: Step
    prompts: Prompts
    store: Store
    run: str
    baseline: Callable[[], Awaitable[str]]
    rehearse: Rehearse
    approver: Approver | None = None
