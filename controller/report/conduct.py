"""How the decisions of a run came about, tier by tier, from its decisions.jsonl.

Where agents only advise, a decision is the incumbent's and its detail says what they advised.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final

from controller.report.study import Constants

TIERS: Final = ("planner", "scheduler", "deployer")
OUTCOMES: Final = ("ok", "void", "repaired", "fallback", "late")
_AGENTS_OWN: Final = ("repaired", "fallback", "late")
UNDONE: Final = "undone"
REFUSED: Final = "not approved"
APPROVED: Final = "approved"
_ENDS: Final = {REFUSED: (REFUSED + ";", REFUSED + ":"), APPROVED: (APPROVED + ";",)}
_FREE: Final = 0.0
SAME: Final = "same"
DIFFERS: Final = "differs"
FAILED: Final = "failed"
_ADVICE: Final = re.compile(r"(?:^|; )advice(?: \((\w+)\))?:? (same|differs|failed)\b")


@dataclass(slots=True)
class TierConduct:
    """Decisions of one tier. ``took_s`` at most the slot; ``cost_usd`` is None once a decision's
    cost is not known."""

    outcomes: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = _FREE
    details: Counter[str] = field(default_factory=Counter)  # what a guard or a person did
    advice: Counter[str] = field(default_factory=Counter)  # same, differs, failed
    advised: Counter[str] = field(default_factory=Counter)  # outcomes of the advice

    @property
    def calls(self) -> int:
        return len(self.took_s)

    @property
    def is_agent(self) -> bool:
        """Algorithms use no tokens, never fall back and are not late beside agents."""
        return bool(self.tokens_in or self.advice or any(self.outcomes[o] for o in _AGENTS_OWN))

    @property
    def lost(self) -> float:
        """Share of decisions, or of advice, that was not the agent's own."""
        found = self.advised if self.advice else self.outcomes
        missed = found["fallback"] + found["late"] + self.advice[FAILED]
        return missed / self.calls if self.calls else 0.0

    def add(self, line: Mapping[str, Any], slot_s: float, *, advised: bool) -> None:
        """Count a line of decisions.jsonl. Nobody waits for a decision beyond its slot."""
        self.outcomes[line["outcome"]] += 1
        self.took_s.append(min(float(line["took_s"]), slot_s))
        self.tokens_in += line.get("tokens_in", 0)
        self.tokens_out += line.get("tokens_out", 0)
        if "tokens_in" in line:
            self.cost_usd = _plus(self.cost_usd, line.get("cost_usd"))
        detail = line.get("detail", "")
        if word := _verdict(detail):
            self.details[word] += 1
        if advised and (advice := _ADVICE.search(detail)):
            self.advice[advice[2]] += 1
            self.advised[advice[1] or "ok"] += 1

    def share(self, outcome: str) -> float:
        return self.outcomes[outcome] / self.calls if self.calls else 0.0

    def percentile_s(self, share: float) -> float:
        """The time that so many decisions took at most."""
        return sorted(self.took_s)[max(0, ceil(share * self.calls) - 1)]


@dataclass(frozen=True, slots=True)
class Conduct:
    """Of one run: per tier, and per tier by epoch. ``slots`` includes the drain."""

    slots: int
    tiers: Mapping[str, TierConduct]
    outcomes_by_epoch: Mapping[int, Mapping[str, Counter[str]]]  # epoch -> tier -> outcomes


def read_conduct(folder: Path, constants: Constants, *, advised: bool = False) -> Conduct:
    """Read a run's decisions. ``advised``: agents only advised on them.

    Raises:
        OSError, ValueError, LookupError: decisions.jsonl is missing or damaged.
    """
    tiers = {tier: TierConduct() for tier in TIERS}
    by_epoch: dict[int, dict[str, Counter[str]]] = {}
    slots = 0
    with (folder / "decisions.jsonl").open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            tier, slot = line["tier"], line["slot"]
            tiers[tier].add(line, constants.slot_s, advised=advised)
            epoch = by_epoch.setdefault(
                slot // constants.epoch_slots, {name: Counter() for name in TIERS}
            )
            epoch[tier][line["outcome"]] += 1
            slots = max(slots, slot + 1)
    return Conduct(slots, tiers, by_epoch)


def add_up(conducts: Iterable[Conduct], tier: str) -> TierConduct:
    """A tier's decisions of several runs together."""
    total = TierConduct()
    for one in (conduct.tiers[tier] for conduct in conducts):
        total.outcomes += one.outcomes
        total.took_s += one.took_s
        total.tokens_in += one.tokens_in
        total.tokens_out += one.tokens_out
        total.cost_usd = _plus(total.cost_usd, one.cost_usd)
        total.details += one.details
        total.advice += one.advice
        total.advised += one.advised
    return total


def _plus(cost: float | None, more: float | None) -> float | None:
    return None if cost is None or more is None else cost + more


def _verdict(detail: str) -> str:
    """What was made of a planner's policy by its guard or a person."""
    if detail.startswith("undone: objective"):
        return UNDONE
    return next((w for w in (REFUSED, APPROVED) if detail == w or detail.startswith(_ENDS[w])), "")
