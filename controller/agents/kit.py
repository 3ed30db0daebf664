"""The parts that a run hands to its agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from controller.agents.approval import Approver
from controller.agents.comparison import Foresee
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.agents.what_if import Rehearse
from controller.domain.decisions import Demand
from controller.ports import Store


@dataclass(frozen=True, slots=True)
class AgentKit:
    """The parts that agents of a run share. ``run`` is its key in the case memory; ``baseline``,
    ``rehearse`` and ``foresee`` ask the twin; ``usual_load`` is that of the baseline."""

    step: Step
    prompts: Prompts
    store: Store
    run: str
    baseline: Callable[[], Awaitable[str]]
    rehearse: Rehearse
    foresee: Foresee
    usual_load: Callable[[], Demand]
    approver: Approver | None = None
