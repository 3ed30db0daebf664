"""Strategies against the best baseline, seed by seed, and their ranking under variations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan
from typing import Final

from controller.report.study import Floats, Study
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


def compare_with_reference(study: Study) -> list[Comparison]:
    """Every other strategy against :meth:`Study.reference`, best first; Holm's correction over
    all of them."""
    reference = study.reference()
    others = [s for s in study.order() if s != reference]
    if reference is None:
        return []
    pairs = {s: study.paired("objective", s, reference) for s in others}
    tests = {s: compare_paired(*pair) for s, pair in pairs.items()}
    by_t = holm([tests[s].p_t for s in others])
    by_rank = holm([tests[s].p_rank for s in others])
    return [
        Comparison(s, tests[s], _share(*pairs[s]), p_t, p_rank)
        for s, p_t, p_rank in zip(others, by_t, by_rank, strict=True)
    ]


def vary(study: Study) -> list[Variation]:
    """The ranking on every other setting that has runs, in the order of the grid."""
    others = [s for s in study.settings if s != study.nominal and study.present(s)]
    return [_variation(study, setting) for setting in others]


def _variation(study: Study, setting: Setting) -> Variation:
    ranking = study.ranking(setting)
    known = [s for s in study.ranking() if s in ranking]
    before = [study.interval("objective", s).mean for s in known]
    after = [study.interval("objective", s, setting).mean for s in known]
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
        clear_swaps=tuple(pair for pair in swaps if _is_clear(study, pair, setting)),
    )


def _is_clear(study: Study, pair: tuple[str, str], setting: Setting) -> bool:
    """Both the old order and the new one are more than noise, which one seed cannot tell."""
    for at in (study.nominal, setting):
        difference = compare_paired(*study.paired("objective", *pair, at)).difference
        if isnan(difference.low) or difference.low <= 0 <= difference.high:
            return False
    return True


def _share(values: Floats, reference: Floats) -> float:
    return float(values.mean() / reference.mean()) if reference.any() else nan
