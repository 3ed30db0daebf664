"""Eq. 2-10 against numbers worked by hand, and what holds for all rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from controller.domain.metrics import (
    jain,
    normalised_jain,
    normalised_latency,
    objective,
    service_rates,
)

ROUNDING = 1e-12

counts = st.lists(
    st.integers(1, 10_000).flatmap(lambda a: st.tuples(st.integers(0, a), st.just(a))),
    min_size=1,
    max_size=8,
)
rates = counts.map(lambda pairs: service_rates(*zip(*pairs, strict=True)))


def test_service_rates_are_successes_over_arrivals() -> None:
    assert_array_equal(service_rates([3, 0, 5], [4, 2, 5]), [0.75, 0.0, 1.0])


def test_a_type_without_arrivals_has_no_rate() -> None:
    assert_array_equal(service_rates([3, 0], [4, 0]), [0.75, np.nan])


@pytest.mark.parametrize(("successes", "arrivals"), [([2], [1]), ([-1], [1]), ([1], [0])])
def test_impossible_counts_are_an_error(successes: list[int], arrivals: list[int]) -> None:
    with pytest.raises(ValueError, match="between 0 and arrivals"):
        service_rates(successes, arrivals)


@pytest.mark.parametrize(
    ("rho", "fairness", "normalised"),
    [
        ([1, 1, 1, 1], 1, 1),
        ([0.3, 0.3, 0.3, 0.3], 1, 1),
        ([1, 0, 0, 0], 1 / 4, 0),
        ([1, 1, 0, 0], 1 / 2, 1 / 3),  # (1/2 - 1/4) / (3/4)
        ([1, 0.5, 0.5, 0], 2 / 3, 5 / 9),  # 2^2 / (4 * 1.5); (2/3 - 1/4) / (3/4)
        ([0.9, 0.6], 25 / 26, 12 / 13),  # 1.5^2 / (2 * 1.17); (25/26 - 1/2) / (1/2)
        ([0, 0, 0, 0], 1 / 4, 0),  # nobody is served
        ([0.4], 1, 1),  # nobody to be unfair to
        ([0], 1, 1),
        ([], 1, 1),
        ([np.nan, 1, 0.5], 9 / 10, 4 / 5),  # of the two with arrivals: 1.5^2 / (2 * 1.25)
        ([np.nan, np.nan], 1, 1),
    ],
)
def test_jains_index(rho: list[float], fairness: float, normalised: float) -> None:
    assert jain(rho) == pytest.approx(fairness)
    assert normalised_jain(rho) == pytest.approx(normalised)


@pytest.mark.parametrize(
    ("latencies_s", "t_norm"),
    [([90, 180, 270], 0.2), ([900], 1.0), ([], 1.0), ([0.0], 0.0)],
)
def test_latency_is_normalised_by_the_deadline(latencies_s: list[float], t_norm: float) -> None:
    assert normalised_latency(latencies_s, 900) == pytest.approx(t_norm)


@pytest.mark.parametrize("tau_s", [0.0, -1.0, np.nan])
def test_a_deadline_is_positive(tau_s: float) -> None:
    with pytest.raises(ValueError, match="tau must be positive"):
        normalised_latency([1.0], tau_s)


@pytest.mark.parametrize(
    ("t_norm", "f_norm", "lam", "expected"),
    [(0.2, 0.9, 0.5, 0.15), (0.2, 0.9, 1.0, 0.2), (0.2, 0.9, 0.0, 0.1), (1, 0, 0.5, 1)],
)
def test_objective(t_norm: float, f_norm: float, lam: float, expected: float) -> None:
    assert objective(t_norm, f_norm, lam) == pytest.approx(expected)


@pytest.mark.parametrize("lam", [-0.1, 1.1, np.nan])
def test_lambda_is_a_share(lam: float) -> None:
    with pytest.raises(ValueError, match="lambda"):
        objective(0.5, 0.5, lam)


@given(rates)
def test_fairness_has_bounds(rho: np.ndarray) -> None:
    assert 1 / len(rho) - ROUNDING <= jain(rho) <= 1 + ROUNDING
    assert 0 <= normalised_jain(rho) <= 1


@given(rates, st.randoms())
def test_fairness_does_not_depend_on_the_order_of_types(rho: np.ndarray, random: object) -> None:
    shuffled = list(rho)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert jain(shuffled) == pytest.approx(jain(rho))
    assert normalised_jain(shuffled) == pytest.approx(normalised_jain(rho), abs=ROUNDING)


@given(rates, st.floats(1e-3, 1.0))
def test_fairness_does_not_depend_on_the_level_of_service(rho: np.ndarray, factor: float) -> None:
    assert jain(rho * factor) == pytest.approx(jain(rho))


@given(rates)
def test_types_without_arrivals_take_no_part(rho: np.ndarray) -> None:
    assert jain([*rho, np.nan]) == jain(rho)
    assert normalised_jain([np.nan, *rho]) == normalised_jain(rho)


@given(st.integers(1, 8), st.integers(0, 8), st.floats(0.01, 1.0))
def test_fairness_is_the_share_of_types_served_alike(
    served: int, starved: int, rate: float
) -> None:
    assert jain([rate] * served + [0.0] * starved) == pytest.approx(served / (served + starved))


@given(rates, st.floats(0, 1))
def test_serving_the_worst_off_better_is_fairer(rho: np.ndarray, share: float) -> None:
    """As long as they do not overtake the mean."""
    worst = int(np.argmin(rho))
    better = rho.copy()
    better[worst] += share * (rho.mean() - rho[worst])
    assert jain(better) >= jain(rho) - ROUNDING


@given(rates, st.floats(0, 1))
def test_serving_the_best_off_better_is_not(rho: np.ndarray, extra: float) -> None:
    """A fair index can fall while every type is served at least as well."""
    assume(rho.max() > 0)
    better = rho.copy()
    better[int(np.argmax(rho))] += extra
    assert jain(better) <= jain(rho) + ROUNDING


@given(st.lists(st.floats(0, 900), min_size=1), st.floats(1e-3, 1e3))
def test_normalised_latency_has_bounds_and_no_unit(latencies_s: list[float], unit: float) -> None:
    t_norm = normalised_latency(latencies_s, 900)
    assert 0 <= t_norm <= 1 + ROUNDING
    scaled = normalised_latency([latency * unit for latency in latencies_s], 900 * unit)
    assert scaled == pytest.approx(t_norm)


share = st.floats(0, 1)


@given(share, share, share, share, share)
def test_the_objective_falls_with_fairness_and_rises_with_latency(
    t_norm: float, slower: float, f_norm: float, fairer: float, lam: float
) -> None:
    slow, fair = max(t_norm, slower), max(f_norm, fairer)
    value = objective(t_norm, f_norm, lam)
    assert 0 <= value <= 1 + ROUNDING
    assert objective(slow, f_norm, lam) >= value - ROUNDING
    assert objective(t_norm, fair, lam) <= value + ROUNDING
