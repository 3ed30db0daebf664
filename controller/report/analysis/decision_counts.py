"""Decisions of a run counted by tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from controller.domain.decisions import (
    APPROVED,
    FALLBACK,
    LATE,
    OK,
    REJECTED,
    REPAIRED,
    TIERS,
    VOID,
    plus,
)

OUTCOMES: Final = (OK, VOID, REPAIRED, FALLBACK, LATE)
UNDONE: Final = "undone"
BOUNDED: Final = "bounded"
VERDICTS: Final = (UNDONE, BOUNDED, APPROVED, REJECTED)
SAME, DIFFERS, FAILED = "same", "differs", "failed"  # advice beside the decision


@dataclass(slots=True)
class TierCounts:
    """Decisions of one tier. ``took_s``: at most the slot. Tokens and ``cost_usd``: None once a
    decision's are not known."""

    outcomes: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    tokens_in: int | None = 0
    tokens_out: int | None = 0
    cost_usd: float | None = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)  # of the guard or a person
    advice: Counter[str] = field(default_factory=Counter)  # same, differs, failed
    advised: Counter[str] = field(default_factory=Counter)  # outcomes of the advice

    @property
    def calls(self) -> int:
        """Number of decisions."""
        return len(self.took_s)

    @property
    def tokens(self) -> int | None:
        """Tokens in and out."""
        return plus(self.tokens_in, self.tokens_out)

    @property
    def is_agent(self) -> bool:
        """An agent decided or advised: algorithms use no tokens, never fall back and are not late
        beside agents."""
        own = any(self.outcomes[name] for name in (REPAIRED, FALLBACK, LATE))
        return bool(self.tokens_in != 0 or self.advice or own)

    @property
    def lost(self) -> float:
        """Share of decisions, or of advice, that was not the agent's own."""
        found = self.advised if self.advice else self.outcomes
        missed = found[FALLBACK] + found[LATE] + self.advice[FAILED]
        return missed / self.calls if self.calls else 0.0

    def add(self, line: Mapping[str, Any], slot_s: float) -> None:
        """Count a line of decisions.jsonl. Nobody waits for a decision beyond its slot."""
        self.outcomes[line["outcome"]] += 1
        self.took_s.append(min(float(line["took_s"]), slot_s))
        self.tokens_in = plus(self.tokens_in, line.get("tokens_in", 0))
        self.tokens_out = plus(self.tokens_out, line.get("tokens_out", 0))
        if "tokens_in" in line:
            self.cost_usd = plus(self.cost_usd, line.get("cost_usd"))
        if line.get("undone"):
            self.verdicts[UNDONE] += 1
        if line.get("bounded"):
            self.verdicts[BOUNDED] += 1
        if line.get("approval"):
            self.verdicts[line["approval"]] += 1
        if advice := line.get("advice"):
            if advice["fault"]:
                self.advice[FAILED] += 1
            else:
                self.advice[DIFFERS if advice["differences"] else SAME] += 1
                self.advised[advice["outcome"]] += 1

    def share(self, outcome: str) -> float:
        """Return the share of the decisions with this outcome."""
        return self.outcomes[outcome] / self.calls if self.calls else 0.0

    def percentile_s(self, share: float) -> float:
        """Return the time that this share of the decisions took at most."""
        return sorted(self.took_s)[max(0, ceil(share * self.calls) - 1)]


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Decisions of one run by tier, and by epoch and tier. ``slots`` includes the drain."""

    slots: int
    tiers: Mapping[str, TierCounts]
    outcomes_by_epoch: Mapping[int, Mapping[str, Counter[str]]]  # epoch -> tier -> outcomes


def count_decisions(
    decisions: Iterable[Mapping[str, Any]], slot_s: float, epoch_slots: int
) -> RunCounts:
    """Count a run's decisions."""
    tiers = {tier: TierCounts() for tier in TIERS}
    by_epoch: dict[int, dict[str, Counter[str]]] = {}
    slots = 0
    for line in decisions:
        tier, slot = line["tier"], line["slot"]
        tiers[tier].add(line, slot_s)
        epoch = by_epoch.setdefault(slot // epoch_slots, {name: Counter() for name in TIERS})
        epoch[tier][line["outcome"]] += 1
        slots = max(slots, slot + 1)
    return RunCounts(slots, tiers, by_epoch)


def add_up(runs: Iterable[RunCounts], tier: str) -> TierCounts:
    """Return a tier's decisions of several runs together."""
    total = TierCounts()
    for one in (run.tiers[tier] for run in runs):
        total.outcomes += one.outcomes
        total.took_s += one.took_s
        total.tokens_in = plus(total.tokens_in, one.tokens_in)
        total.tokens_out = plus(total.tokens_out, one.tokens_out)
        total.cost_usd = plus(total.cost_usd, one.cost_usd)
        total.verdicts += one.verdicts
        total.advice += one.advice
        total.advised += one.advised
    return total
