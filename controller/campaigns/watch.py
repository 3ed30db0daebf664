"""Progress of a run while it goes on: runs that ask a hosted model take hours."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controller.domain.state import ClusterState
from controller.results.journal import RunJournal

EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Advance:
    """Slots done of those with arrivals, tokens so far as reported, and their cost; None:
    unknown."""

    slot: int
    slots: int
    tokens: int
    cost_usd: float | None

    def __str__(self) -> str:
        parts = [f"slot {min(self.slot, self.slots)} of {self.slots}"]
        if self.tokens:
            parts.append(f"{self.tokens:,} tokens")
            parts += [f"${self.cost_usd:.2f}"] if self.cost_usd else []
        return ", ".join(parts)


class WatchedJournal(RunJournal):
    """A journal that reports the run's advance, at most once in ``EVERY_S``."""

    def __init__(self, slots: int, report: Callable[[Advance], None]) -> None:
        super().__init__()
        self._slots, self._report = slots, report
        self._reported_s = time.monotonic()
        self._counted = self._tokens = 0
        self._cost_usd: float | None = 0.0

    def observed(self, state: ClusterState) -> None:
        super().observed(state)
        now_s = time.monotonic()
        if now_s - self._reported_s >= EVERY_S:
            self._reported_s = now_s
            self._count()
            self._report(Advance(state.slot + 1, self._slots, self._tokens, self._cost_usd))

    def _count(self) -> None:
        """Add the tokens and costs of the decisions made since the last count."""
        calls = [call for entry in self.entries[self._counted :] for call in entry.calls]
        self._counted = len(self.entries)
        self._tokens += sum((call.tokens_in or 0) + (call.tokens_out or 0) for call in calls)
        costs = [call.cost_usd for call in calls if call.asked]
        known = None not in costs and self._cost_usd is not None
        self._cost_usd = (
            (self._cost_usd or 0.0) + sum(cost or 0.0 for cost in costs) if known else None
        )
