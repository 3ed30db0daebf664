"""Estimates against draws whose truth is known."""

import numpy as np
import pytest

from controller.calibration.estimates import mean, mean_of_clusters, median_of_few, ratio


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        expected = rng.uniform(1, 9, 60)
        one = ratio(1.4 * expected * rng.normal(1, 0.2, 60), expected)
        assert one.low is not None
        assert one.high is not None
        held += one.low <= 1.4 <= one.high
    assert 0.88 <= held / 200 <= 0.99


def test_a_twentieth_at_each_end_moves_nothing() -> None:
    values = np.full(100, 3.0)
    values[:5], values[95:] = 1e6, 0.0
    one = mean(values)
    assert (one.value, one.low, one.high, one.n) == (3.0, 3.0, 3.0, 100)


@pytest.mark.parametrize("n", [0, 1, 29])
def test_too_few_requests_are_no_number(n: int) -> None:
    one = mean(np.ones(n))
    assert (one.value, one.low, one.high, one.n) == (None, None, None, n)


def test_few_starts_have_their_range_and_fewer_nothing() -> None:
    one = median_of_few(np.array([9.0, 5.0, 100.0, 6.0, 7.0]))
    assert (one.value, one.low, one.high) == (7.0, 5.0, 100.0)
    assert median_of_few(np.array([9.0, 5.0, 100.0, 6.0])).value is None


def test_clusters_count_by_their_weight_and_one_has_no_interval() -> None:
    value, low, high = mean_of_clusters(np.array([1.0, 4.0]), np.array([3.0, 1.0]))
    assert (value, low, high) == (1.75, 1.0, 4.0)
    assert np.isnan(mean_of_clusters(np.array([1.0]), np.array([3.0]))[1])
