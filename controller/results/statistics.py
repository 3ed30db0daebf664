"""Small-sample statistics of seeds: intervals, paired comparisons, Holm's correction, rankings.

Seeds give every strategy the same arrivals, so strategies are compared seed by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EXACT_UP_TO: Final = 14  # 2**14 sign flips are enumerated; beyond that Wilcoxon's test is used


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its two-sided interval; the limits are NaN where ``n < 2``."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """One treatment against a reference over the same seeds. Differences are treatment - reference.

    ``effect`` is Cohen's d_z, the mean difference over its standard deviation, with the interval
    that inverts the noncentral t distribution. ``p_rank`` comes from ``rank_test``: exact sign
    flips where they can be enumerated, else Wilcoxon's signed-rank test.
    """

    difference: Interval
    effect: float
    effect_low: float
    effect_high: float
    p_t: float
    p_rank: float
    rank_test: str


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of ``values`` (n,) with its t-interval, leaving out what is not finite."""
    x = _finite(values)
    n = len(x)
    if n == 0:
        return Interval(nan, nan, nan, 0)
    mean = float(x.mean())
    if n == 1:
        return Interval(mean, nan, nan, 1)
    margin = _t_quantile(n - 1, 0.5 + confidence / 2) * float(x.std(ddof=1)) / sqrt(n)
    return Interval(mean, mean - margin, mean + margin, n)


def share_interval(values: ArrayLike, requests: float, confidence: float = 0.95) -> Interval:
    """Return the mean of shares in [0, 1] over seeds (n,) with Wilson's score interval, for rates
    and fairness: near 0 or 1 a t-interval is too narrow and reaches beyond.

    The number of independent trials is the one that has the seeds' spread, mean (1 - mean) over the
    variance of their mean, and at most ``requests``, all trials of all seeds. The quantile is
    Student's, as for the t-interval, since the spread is known from n seeds.
    """
    x = _finite(values)
    n = len(x)
    if n < 2:
        return mean_interval(x, confidence)
    mean = min(1.0, max(0.0, float(x.mean())))
    spread = float(x.var(ddof=1)) / n
    trials = max(float(n), requests)
    if spread > 0.0:
        trials = min(trials, max(1.0, mean * (1 - mean) / spread))
    z2 = _t_quantile(n - 1, 0.5 + confidence / 2) ** 2
    centre = (mean + z2 / (2 * trials)) / (1 + z2 / trials)
    margin = sqrt(z2 * (mean * (1 - mean) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    low, high = centre - margin, centre + margin
    return Interval(mean, max(0.0, min(mean, low)), min(1.0, max(mean, high)), n)


def compare_paired(treatment: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> Paired:
    """Compare two strategies seed by seed. Arrays (n,), the same seeds in the same order; pairs
    with a value that is not finite are left out.

    Raises:
        ValueError: the arrays differ in length.
    """
    a, b = np.asarray(treatment, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} values cannot be paired with {len(b)}")
    differences = _finite(a - b)
    p_rank, rank_test = _rank_test(differences)
    effect, low, high = _standardised(differences, confidence)
    return Paired(
        difference=mean_interval(differences, confidence),
        effect=effect,
        effect_low=low,
        effect_high=high,
        p_t=_paired_t(differences),
        p_rank=p_rank,
        rank_test=rank_test,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's step-down adjustment. A NaN is no test: it stays and counts
    for nothing."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, nan)
    order = [k for k in np.argsort(p) if not np.isnan(p[k])]
    floor = 0.0
    for rank, k in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * float(p[k])))
        adjusted[k] = floor
    return [float(value) for value in adjusted]


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Return Kendall's tau-b of two score vectors (n,); NaN where one does not rank at all."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic) if np.size(a) > 1 else nan


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, np.float64).ravel()
    return x[np.isfinite(x)]


def _t_quantile(freedom: int, p: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def _paired_t(differences: Floats) -> float:
    """Return the p-value of the paired t test; scipy's own warns where differences are alike."""
    from scipy.special import stdtr

    n = len(differences)
    if n < 2:
        return nan
    spread = float(differences.std(ddof=1))
    if spread == 0.0:
        return 1.0 if differences[0] == 0.0 else 0.0
    t = float(differences.mean()) * sqrt(n) / spread
    return float(2 * stdtr(n - 1, -abs(t)))


def _standardised(differences: Floats, confidence: float) -> tuple[float, float, float]:
    from scipy.special import nctdtrinc

    n = len(differences)
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    if spread == 0.0:
        return nan, nan, nan
    effect = float(differences.mean()) / spread
    tail = (1 - confidence) / 2
    low, high = (nctdtrinc(n - 1, p, effect * sqrt(n)) / sqrt(n) for p in (1 - tail, tail))
    return effect, float(low), float(high)


def _rank_test(differences: Floats) -> tuple[float, str]:
    from scipy.stats import permutation_test, wilcoxon

    if len(differences) < 2:
        return nan, "none"
    if len(differences) <= EXACT_UP_TO:
        # All 2**n sign patterns, since n_resamples is as many.
        test = permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=2**EXACT_UP_TO,
            vectorized=True,
        )  # fmt: skip
        return float(test.pvalue), "exact sign-flip permutation"
    if not differences.any():
        return 1.0, "Wilcoxon signed-rank"
    return float(wilcoxon(differences).pvalue), "Wilcoxon signed-rank"
