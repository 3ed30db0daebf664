import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from controller.results.statistics import (
    EXACT_UP_TO,
    compare_paired,
    holm,
    kendall_tau,
    mean_interval,
    share_interval,
)

NUMBERS = st.floats(-1e3, 1e3, allow_nan=False)


def test_interval_by_hand():
    # mean 3, s^2 = (4+1+0+1+4)/4 = 2.5, s/sqrt(5) = sqrt(0.5); t(4, 0.975) = 2.776445
    found = mean_interval([1, 2, 3, 4, 5])
    assert found.mean == 3
    assert found.low == pytest.approx(3 - 2.776445 * math.sqrt(0.5), abs=1e-6)
    assert found.high == pytest.approx(3 + 2.776445 * math.sqrt(0.5), abs=1e-6)
    assert found.n == 5


def test_interval_with_another_confidence_by_hand():
    # two values, s/sqrt(2) = 1; t(1, 0.95) = 6.313752
    found = mean_interval([0, 2], confidence=0.9)
    assert (found.low, found.high) == pytest.approx((1 - 6.313752, 1 + 6.313752), abs=1e-6)


def test_interval_of_one_value_has_no_limits():
    found = mean_interval([7.0])
    assert (found.mean, found.n) == (7.0, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_interval_leaves_out_what_is_not_finite():
    assert mean_interval([1, np.nan, 3, np.inf]) == mean_interval([1, 3])
    assert mean_interval([np.nan]).n == 0


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [mean_interval(rng.normal(5, 2, 4)) for _ in range(2000)]
    covered = np.mean([one.low <= 5 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def test_comparison_by_hand():
    # differences -1, -2, -3: mean -2, s = 1, t = -2 * sqrt(3) = -3.4641, d_z = -2
    found = compare_paired([1, 2, 3], [2, 4, 6])
    assert found.difference.mean == -2
    assert found.effect == -2
    # P(|t_2| > x) = 1 - x / sqrt(2 + x^2) for two degrees of freedom
    assert found.p_t == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.p_rank == pytest.approx(2 / 8)  # only the two patterns of equal signs reach it
    assert found.rank_test == "exact sign-flip permutation"


def test_comparison_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 9), rng.normal(0.5, 1, 9)
    found = compare_paired(a, b)
    assert found.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    exact = stats.permutation_test((a, b), lambda x, y: np.sum(x - y), permutation_type="samples")
    assert found.p_rank == pytest.approx(exact.pvalue)


def test_effect_interval_inverts_the_noncentral_t():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 6), rng.normal(1, 1, 6)
    found = compare_paired(a, b)
    t = found.effect * math.sqrt(6)
    assert stats.nct.cdf(t, 5, found.effect_low * math.sqrt(6)) == pytest.approx(0.975, abs=1e-4)
    assert stats.nct.cdf(t, 5, found.effect_high * math.sqrt(6)) == pytest.approx(0.025, abs=1e-4)


def test_many_pairs_take_wilcoxon():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, EXACT_UP_TO + 1), rng.normal(1, 1, EXACT_UP_TO + 1)
    found = compare_paired(a, b)
    assert found.rank_test == "Wilcoxon signed-rank"
    assert found.p_rank == pytest.approx(stats.wilcoxon(a - b).pvalue)


def test_equal_strategies_do_not_differ():
    found = compare_paired([1, 2, 3], [1, 2, 3])
    assert (found.p_t, found.p_rank, found.difference.mean) == (1, 1, 0)
    assert math.isnan(found.effect)
    assert compare_paired([0.0] * 20, [0.0] * 20).p_rank == 1


def test_one_pair_tests_nothing():
    found = compare_paired([1], [2])
    assert found.difference.mean == -1
    assert math.isnan(found.p_t)
    assert math.isnan(found.p_rank)


def test_unequal_lengths_cannot_be_paired():
    with pytest.raises(ValueError, match="2 values cannot be paired with 3"):
        compare_paired([1, 2], [1, 2, 3])


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_holm_ignores_tests_that_were_not_made():
    first, second, third = holm([0.01, math.nan, 0.03])
    assert (first, third) == pytest.approx((0.02, 0.03))
    assert math.isnan(second)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_the_p_value_and_bonferroni(p_values):
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(p_values)) + 1e-12


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8))
def test_kendall_agrees_with_scipy(pairs):
    a, b = (np.array(values) for values in zip(*pairs, strict=True))
    found, expected = kendall_tau(a, b), stats.kendalltau(a, b).statistic
    assert found == pytest.approx(expected, nan_ok=True)


def test_kendall_of_opposite_rankings():
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert math.isnan(kendall_tau([1, 1], [1, 2]))


def test_shares_near_1_are_covered_far_more_often_than_by_t_intervals() -> None:
    """Rates of seeds that are mostly 1 and sometimes far below: mean 0.998, 300 requests a seed."""
    rng, covered = np.random.default_rng(0), np.zeros((2, 2))
    for k, n in enumerate((5, 10)):
        for _ in range(200):
            rates = rng.binomial(300, rng.beta(49.9, 0.1, n)) / 300
            for j, found in enumerate((mean_interval(rates), share_interval(rates, 300 * n))):
                covered[k, j] += found.low <= 0.998 <= found.high
    of_t, of_wilson = covered.T / 200
    assert (of_t < 0.75).all()
    assert of_wilson[0] > 0.93
    assert of_wilson[1] > of_t[1] + 0.08


def test_an_interval_of_shares_stays_within_0_and_1_and_holds_its_mean() -> None:
    for values in ([1.0] * 5, [0.0, 0.0], [1.0, 0.99, 1.0], [0.5, 0.6, 0.4], [0.0, 1.0]):
        found = share_interval(values, 1000)
        assert 0 <= found.low <= found.mean <= found.high <= 1
        assert found.low < found.high
    assert np.isnan(share_interval([0.5], 10).low)


def test_more_requests_narrow_only_what_the_seeds_do_not_widen() -> None:
    alike, apart = [0.9] * 5, [0.5, 0.99, 0.98, 0.97, 1.0]
    few, many = (share_interval(alike, requests) for requests in (100, 10_000))
    assert many.high - many.low < (few.high - few.low) / 5
    assert share_interval(apart, 100) == share_interval(apart, 10_000)
