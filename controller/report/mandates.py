"""What agents were there for: to decide, to be approved, to advise, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.agents.parameters import ADVISE, APPLY, APPROVE, MODES
from controller.results.campaign import Campaign
from controller.results.run import Run


@dataclass(frozen=True, slots=True)
class Mandate:
    """The agents' mode, and the strategy that decides where they do not."""

    mode: str = APPLY
    incumbent: str = ""

    @property
    def advises(self) -> bool:
        """Agents were asked, and something else decided."""
        return self.mode == ADVISE

    @property
    def decides(self) -> bool:
        """What agents said was done, if need be after a person's word."""
        return self.mode in (APPLY, APPROVE)


def read_mandates(campaign: Campaign) -> Mapping[str, Mandate]:
    """Strategy -> mandate, of those with a finished run whose agents did not simply decide."""
    runs = {run.strategy: run for run in reversed(campaign.runs) if run.figures}
    found = {strategy: _read(run) for strategy, run in runs.items()}
    return {strategy: mandate for strategy, mandate in found.items() if mandate.mode != APPLY}


def _read(run: Run) -> Mandate:
    parameters = run.experiment.get("parameters")
    if not isinstance(parameters, dict) or parameters.get("mode") not in MODES:
        return Mandate()
    return Mandate(parameters["mode"], str(parameters.get("incumbent", "")))
