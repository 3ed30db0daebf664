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
    return [_variation(data, setting) for setting in others]


def _variation(data: Data, setting: Setting) -> Variation:
    ranking = data.ranking(setting)
    known = [s for s in data.ranking() if s in ranking]
    before = [data.interval("objective", s).mean for s in known]
    after = [data.interval("objective", s, setting).mean for s in known]
    swaps = [
        (a, b)
        for (a, x), (b, y) in combinations(zip(known, after, strict=True), 2)
        if y < x and before[known.index(a)] < before[known.index(b)]
    ]
    return Variation(
        setting=setting,
        ranking=ranking,
        tau=kendall_tau(before, after),
        swaps=tuple(swaps),
        clear_swaps=tuple(pair for pair in swaps if _is_clear(data, pair, setting)),
    )


def _is_clear(data: Data, pair: tuple[str, str], setting: Setting) -> bool:
    """Return True if the old order and the new one are more than noise; one seed cannot tell."""
    for at in (data.nominal, setting):
        difference = compare_paired(*data.paired("objective", *pair, at)).difference
        if isnan(difference.low) or difference.low <= 0 <= difference.high:
            return False
    return True


def _share(values: Floats, reference: Floats) -> float:
    return float(values.mean() / reference.mean()) if reference.any() else nan
