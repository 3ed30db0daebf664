"""What the agents of a tier have taken, all seeds of the nominal setting together."""

from __future__ import annotations

from typing import Final

from controller.report.conduct import TIERS, TierConduct, add_up
from controller.report.crew import Crew
from controller.report.sheets import Cell
from controller.report.study import Study

# Columns of Effort.values().
COLUMNS: Final = (
    "tokens_in", "tokens_out", "tokens_per_slot", "tokens_per_epoch", "cost_usd_per_run",
)  # fmt: skip


class Effort:
    """One tier of one strategy."""

    def __init__(self, study: Study, crew: Crew, strategy: str, tier: str) -> None:
        conducts = crew.conducts[strategy].values()
        self.strategy, self.tier = strategy, tier
        self.total: TierConduct = add_up(conducts, tier)
        self._runs = len(conducts)
        tokens = self.total.tokens_in + self.total.tokens_out
        self._per_slot = tokens / max(1, sum(conduct.slots for conduct in conducts))
        self._per_epoch = self._per_slot * study.constants.epoch_slots

    def values(self) -> tuple[float | None, ...]:
        """Tokens in and out of a decision, tokens of a slot and an epoch, cost of a run in USD."""
        total = self.total
        cost = None if total.cost_usd is None else total.cost_usd / self._runs
        each = total.tokens_in / total.calls, total.tokens_out / total.calls
        return *each, self._per_slot, self._per_epoch, cost

    def cells(self) -> tuple[Cell, ...]:
        """Tokens each, tokens a slot, cost."""
        tokens_in, tokens_out, slot, epoch, cost = self.values()
        return (
            Cell(f"{tokens_in:,.0f}", small=f"out {tokens_out:,.0f}"),
            Cell(f"{slot:,.0f}", small=f"epoch {epoch:,.0f}"),
            Cell("unknown" if cost is None else f"{cost:.2f} USD" if cost else "none"),
        )


def efforts(study: Study, crew: Crew, *, advice: bool) -> list[Effort]:
    """Of the tiers with agents that decide, or of those that only advise."""
    strategies = [s for s in crew.conducts if study.mandate(s).advises == advice]
    found = [Effort(study, crew, s, tier) for s in strategies for tier in TIERS]
    return [one for one in found if one.total.is_agent]
