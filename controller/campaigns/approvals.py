"""Who approves a run's macro-policies: a person at a terminal, or what a program has given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction

from controller.agents.approval import Approver, difference
from controller.agents.parameters import APPROVE
from controller.campaigns.experiment import Experiment
from controller.campaigns.grid import Grid
from controller.domain.decisions import MacroPolicy
from controller.domain.errors import InputError

Confirm = Callable[[str], bool]  # a text that a person says yes or no to


class Asking:
    """Puts macro-policies to a person through ``confirm``, as a text to say yes or no to."""

    def __init__(self, experiment: Experiment, confirm: Confirm) -> None:
        self._experiment = experiment
        self._confirm = confirm

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        one = self._experiment
        head = f"{one.strategy}, seed {one.seed}, slot {slot}: a new macro-policy. {reason}"
        scenario = one.scenario()
        else_ = "what is in force stays" if held else f"{one.parameters['incumbent']} decides"
        question = f"Apply it? (If not, {else_}.)"
        lines = [head, *difference(scenario.testbed, policy, held), question]
        return await asyncio.to_thread(self._confirm, "\n".join(lines))


def needs_person(grid: Grid) -> bool:
    """Some run of it wants its macro-policies approved."""
    return any(_is_approved(cell.experiment) for cell in grid.cells)


def _is_approved(experiment: Experiment) -> bool:
    return experiment.parameters.get("mode") == APPROVE


def approver_of(experiment: Experiment, approver: Approver | Confirm | None) -> Approver | None:
    """Whoever approves the experiment's macro-policies, from what a program has given.

    Raises:
        InputError: somebody must, and this cannot.
    """
    if approver is None and not _is_approved(experiment):
        return None
    if callable(approver) and not iscoroutinefunction(approver):
        return Asking(experiment, approver)
    if not isinstance(approver, Approver) or not iscoroutinefunction(approver.approve):
        raise InputError(
            "simulate", "cannot approve macro-policies", field="approver", value=approver,
            remedy="give a function that takes the policy as a text and returns True or False, or "
            "an object with `async def approve(slot, policy, held, reason)`",
        )  # fmt: skip
    return approver
