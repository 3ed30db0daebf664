"""Robust estimates with intervals: trimmed ratios and means, and the median of a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_REQUESTS: Final = 30
LEAST_STARTS: Final = 5  # the fewest whose range is a 94 % interval of their median
TRIM: Final = 0.05  # share left out at each end
RESAMPLES: Final = 1000
CONFIDENCE: Final = 0.95
SEED: Final = 0  # the same records give the same intervals


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, from ``n`` observations. All None where they are too few."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def too_few(n: int) -> Estimate:
    return Estimate(None, None, None, n)


def ratio(observed: Floats, expected: Floats) -> Estimate:
    """Return sum(observed) / sum(expected) without the pairs (n,) of the highest and lowest ratios,
    with a bootstrap interval over pairs.

    Sums rather than a mean of ratios: a long request says more about the time of a prompt.
    """
    n = len(observed)
    if n < LEAST_REQUESTS:
        return too_few(n)
    kept = _trimmed(observed / expected)
    a, b = observed[kept], expected[kept]
    drawn = _draws(len(a))
    low, high = _quantiles(a[drawn].sum(axis=1) / b[drawn].sum(axis=1))
    return Estimate(float(a.sum() / b.sum()), low, high, n)


def mean(values: Floats) -> Estimate:
    """Return the trimmed mean of (n,) values with a bootstrap interval."""
    return ratio(values, np.ones(len(values)))


def median_of_few(values: Floats) -> Estimate:
    """Return the median of (n,) values with their range as its interval."""
    n = len(values)
    if n < LEAST_STARTS:
        return too_few(n)
    return Estimate(float(np.median(values)), float(values.min()), float(values.max()), n)


def mean_of_clusters(values: Floats, weights: Floats) -> tuple[float, float, float]:
    """Return the weighted mean of (n,) clusters and its bootstrap interval over clusters, NaN for
    the limits of one cluster."""
    point = float(np.average(values, weights=weights))
    if len(values) < 2:
        return point, float("nan"), float("nan")
    drawn = _draws(len(values))
    sums = (values * weights)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    return point, *_quantiles(sums)


def _trimmed(values: Floats) -> NDArray[np.int64]:
    cut = int(TRIM * len(values))
    return np.argsort(values, kind="stable")[cut : len(values) - cut]


def _draws(n: int) -> NDArray[np.int64]:
    return np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))


def _quantiles(values: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)
