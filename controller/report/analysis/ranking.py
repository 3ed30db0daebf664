"""Strategies against the best baseline, seed by seed, and their ranking under variations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan
from typing import Final

from controller.report.analysis.data import Data, Floats
from controller.results.run import Setting
from controller.results.statistics import Paired, compare_paired, holm, kendall_tau

HOLDS: Final = "holds"
WITHIN_NOISE: Final = "swaps within noise"
CHANGES: Final = "changes"
ALONE: Final = "nothing to rank"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A strategy's objective against the reference's. ``share``: mean objective over the
    reference's, on the same seeds."""

    strategy: str
    paired: Paired
    share: float
    p_t_holm: float
    p_rank_holm: float


@dataclass(frozen=True, slots=True)
class Variation:
    """The ranking by mean objective on another setting. ``swaps``: pairs (was better, is better
    now); a swap is clear where neither setting's interval of the difference covers 0."""

    setting: Setting
    ranking: tuple[str, ...]
    tau: float
    swaps: tuple[tuple[str, str], ...]
    clear_swaps: tuple[tuple[str, str], ...]

    @property
    def verdict(self) -> str:
        if len(self.ranking) < 2:
            return ALONE
        if not self.swaps:
            return HOLDS
        return CHANGES if self.clear_swaps else WITHIN_NOISE


def compare_with_reference(data: Data) -> list[Comparison]:
    """Compare every other strategy with :meth:`Data.reference`, best first; Holm's correction over
    all of them."""
    reference = data.reference()
    others = [s for s in data.order() if s != reference]
    if reference is None:
        return []
    pairs = {s: data.paired("objective", s, reference) for s in others}
    tests = {s: compare_paired(*pair) for s, pair in pairs.items()}
    by_t = holm([tests[s].p_t for s in others])
    by_rank = holm([tests[s].p_rank for s in others])
    return [
        Comparison(s, tests[s], _share(*pairs[s]), p_t, p_rank)
        for s, p_t, p_rank in zip(others, by_t, by_rank, strict=True)
    ]


def vary(data: Data) -> list[Variation]:
    """Rank the strategies on every other setting that has runs, in the order of the grid."""
    others = [s for s in data.settings if s != data.nominal and data.present(s)]
    swaps = {setting: _swaps(data, setting) for setting in others}
    tests = sum(map(len, swaps.values()))
    return [_variation(data, setting, swaps[setting], tests) for setting in others]


Pairs = tuple[tuple[str, str], ...]


def _means(data: Data, setting: Setting) -> tuple[list[str], list[float], list[float]]:
    """Return the strategies that both settings have, and their objectives there and here."""
    ranking = data.ranking(setting)
    known = [s for s in data.ranking() if s in ranking]
    before = [data.interval("objective", s).mean for s in known]
    after = [data.interval("objective", s, setting).mean for s in known]
    return known, before, after


def _swaps(data: Data, setting: Setting) -> Pairs:
    known, before, after = _means(data, setting)
    return tuple(
        (a, b)
        for (a, x), (b, y) in combinations(zip(known, after, strict=True), 2)
        if y < x and before[known.index(a)] < before[known.index(b)]
    )


def _variation(data: Data, setting: Setting, swaps: Pairs, tests: int) -> Variation:
    _, before, after = _means(data, setting)
    return Variation(
        setting=setting,
        ranking=data.ranking(setting),
        tau=kendall_tau(before, after),
        swaps=swaps,
        clear_swaps=tuple(pair for pair in swaps if _is_clear(data, pair, setting, tests)),
    )


def _is_clear(data: Data, pair: tuple[str, str], setting: Setting, tests: int) -> bool:
    """Return True if the old order and the new one are more than noise, with Bonferroni's
    correction for the ``tests`` swaps of all settings; one seed cannot tell."""
    confidence = 1 - 0.05 / max(1, tests)
    for at in (data.nominal, setting):
        values = data.paired("objective", *pair, at)
        difference = compare_paired(*values, confidence).difference
        if isnan(difference.low) or difference.low <= 0 <= difference.high:
            return False
    return True


def _share(values: Floats, reference: Floats) -> float:
    return float(values.mean() / reference.mean()) if reference.any() else nan
