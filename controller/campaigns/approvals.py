"""The approval of a run's macro-policies: by a person at a terminal, or by what a program gives."""

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
    """An approver that puts macro-policies to a person as texts, through ``confirm``."""

    def __init__(self, experiment: Experiment, confirm: Confirm) -> None:
        self._experiment = experiment
        self._confirm = confirm

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        """Return True if the person says yes. The wait is in a thread, so that the run's other work
        goes on."""
        one = self._experiment
        head = f"{one.strategy}, seed {one.seed}, slot {slot}: a new macro-policy. {reason}"
        scenario = one.scenario()
        else_ = "what is in force stays" if held else f"{one.parameters['incumbent']} decides"
        question = f"Apply it? (If not, {else_}.)"
        lines = [head, *difference(scenario.testbed, policy, held), question]
        return await asyncio.to_thread(self._confirm, "\n".join(lines))


def needs_person(grid: Grid) -> bool:
    """Return True if a run of the grid wants its macro-policies approved."""
    return any(_is_approved(cell.experiment) for cell in grid.cells)


def _is_approved(experiment: Experiment) -> bool:
    return experiment.parameters.get("mode") == APPROVE


def approver_of(experiment: Experiment, approver: Approver | Confirm | None) -> Approver | None:
    """Return the approver of the experiment's macro-policies, from what a program gives.

    Raises:
        InputError: the experiment needs an approver, and ``approver`` is none.
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
