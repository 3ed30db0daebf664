"""Tiers with agents: their decisions and tokens, all seeds of the nominal setting together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controller.domain.decisions import TIERS
from controller.report.analysis.data import Data
from controller.report.analysis.decision_counts import TierCounts, add_up

MUCH: Final = 0.1  # share of a strategy's or a tier's decisions that the page warns of


@dataclass(frozen=True, slots=True)
class AgentTier:
    """One tier of one strategy."""

    strategy: str
    tier: str
    counts: TierCounts
    tokens_per_slot: float | None  # None: unknown
    tokens_per_epoch: float | None
    cost_usd_per_run: float | None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A strategy of whose decisions or advice many were not its agents' own: its share ``lost``,
    or, where that is small, those of its tiers."""

    strategy: str
    advises: bool
    lost: float | None
    by_tier: dict[str, float]


def agent_tiers(data: Data, *, advising: bool) -> list[AgentTier]:
    """Return the tiers with agents that decide, or those that only advise."""
    found = []
    for strategy, by_seed in data.records.counts.items():
        if data.advises(strategy) != advising:
            continue
        runs = by_seed.values()
        slots = max(1, sum(run.slots for run in runs))
        for tier in TIERS:
            total = add_up(runs, tier)
            if total.is_agent:
                per_slot = None if total.tokens is None else total.tokens / slots
                per_epoch = None if per_slot is None else per_slot * data.constants.epoch_slots
                cost = None if total.cost_usd is None else total.cost_usd / len(runs)
                found.append(AgentTier(strategy, tier, total, per_slot, per_epoch, cost))
    return found


def shortfalls(data: Data) -> list[Shortfall]:
    """Return the strategies whose decisions, all or a tier's, were often fallbacks or late. A
    planner decides seldom: its share is lost in a mean over all decisions."""
    tiers: dict[str, list[AgentTier]] = {}
    for one in (*agent_tiers(data, advising=False), *agent_tiers(data, advising=True)):
        tiers.setdefault(one.strategy, []).append(one)
    found = []
    for strategy, of in tiers.items():
        calls = sum(one.counts.calls for one in of)
        lost = sum(one.counts.lost * one.counts.calls for one in of) / calls
        by_tier = {one.tier: one.counts.lost for one in of if one.counts.lost >= MUCH}
        if lost >= MUCH or by_tier:
            advises = data.advises(strategy)
            found.append(Shortfall(strategy, advises, lost if lost >= MUCH else None, by_tier))
    return found
