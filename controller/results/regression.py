"""Two campaigns beside each other, seed by seed: how far the new one differs from the old, and
where it is worse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import InputError
from controller.results.campaign import Campaign, read_campaign
from controller.results.run import Run, Summary
from controller.results.statistics import Interval, mean_interval

TOLERANCE: Final = 0.01
MEASURES: Final = {"objective": 1, "success_rate": -1}  # 1: a higher one is worse

_Key = tuple[str, tuple[tuple[str, Any], ...]]  # strategy, axes


@dataclass(frozen=True, slots=True)
class Change:
    """Change of one figure, new - old, over the seeds that both have. ``regression``: it is worse
    by more than the tolerance, and its 95 % interval excludes zero."""

    new: float
    old: float
    difference: Interval
    regression: bool

    def document(self) -> dict[str, Any]:
        """Return the change for JSON; null where there is no figure."""
        values = {
            "new": self.new,
            "old": self.old,
            "difference": self.difference.mean,
            "low": self.difference.low,
            "high": self.difference.high,
        }
        found = {name: value if isfinite(value) else None for name, value in values.items()}
        return {**found, "regression": self.regression}


@dataclass(frozen=True, slots=True)
class Compared:
    """One strategy on one setting, in both campaigns."""

    strategy: str
    setting: Mapping[str, Any]
    seeds: tuple[int, ...]
    changes: Mapping[str, Change]  # by figure

    @property
    def regression(self) -> bool:
        return any(change.regression for change in self.changes.values())

    def document(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "setting": dict(self.setting),
            "seeds": list(self.seeds),
            **{name: change.document() for name, change in self.changes.items()},
            "regression": self.regression,
        }


def compare_campaigns(new: Path, old: Path, tolerance: float = TOLERANCE) -> list[Compared]:
    """Compare what two campaigns have in common: strategies on settings of the same names, with
    finished runs of the same seeds. ``tolerance`` is in units of the figures.

    Raises:
        InputError: one is no campaign's folder, or they have nothing in common.
    """
    campaigns = read_campaign(new), read_campaign(old)
    ours, theirs = (_by_key(campaign) for campaign in campaigns)
    found = [
        _compared(key, ours[key], theirs[key], tolerance)
        for key in ours
        if key in theirs and ours[key].keys() & theirs[key].keys()
    ]
    if not found:
        here, there = (_described(campaign) for campaign in campaigns)
        raise InputError(
            str(new), f"has no finished run that {old} has too: {here} here, {there} there",
            remedy="compare campaigns with the same strategies, seeds and settings",
        )  # fmt: skip
    return found


def _compared(
    key: _Key, new: Mapping[int, Summary], old: Mapping[int, Summary], tolerance: float
) -> Compared:
    seeds = tuple(sorted(new.keys() & old.keys()))
    changes = {}
    for name, worse in MEASURES.items():
        ours = [_number(getattr(new[seed], name)) for seed in seeds]
        theirs = [_number(getattr(old[seed], name)) for seed in seeds]
        pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if isfinite(a - b)]
        difference = mean_interval([a - b for a, b in pairs])
        changes[name] = Change(
            new=mean_interval([a for a, _ in pairs]).mean,
            old=mean_interval([b for _, b in pairs]).mean,
            difference=difference,
            regression=_is_worse(difference, worse, tolerance),
        )
    return Compared(key[0], dict(key[1]), seeds, changes)


def _is_worse(difference: Interval, worse: int, tolerance: float) -> bool:
    """Return True for a certain change for the worse. One seed has no interval and shows none."""
    nearest = difference.low if worse > 0 else -difference.high
    return worse * difference.mean > tolerance and nearest > 0


def _by_key(campaign: Campaign) -> dict[_Key, dict[int, Summary]]:
    found: defaultdict[_Key, dict[int, Summary]] = defaultdict(dict)
    for run in campaign.finished:
        if run.figures:
            found[_key(run, run.figures)][run.seed] = run.figures
    return dict(found)


def _key(run: Run, figures: Summary) -> _Key:
    # Older campaigns do not name the target among the axes.
    axes = {**dict(run.setting.axes), "target": figures.target}
    return run.strategy, tuple(sorted(axes.items()))


def _described(campaign: Campaign) -> str:
    if not campaign.finished:
        return "none"
    strategies = dict.fromkeys(run.strategy for run in campaign.finished)
    seeds = sorted({run.seed for run in campaign.finished})
    return f"{', '.join(strategies)} with seeds {', '.join(map(str, seeds))}"


def _number(value: float | None) -> float:
    return nan if value is None else value
