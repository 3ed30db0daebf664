"""What is expected of each origin, by hand."""

from __future__ import annotations

import numpy as np

from controller.domain.arrivals import MEMORY, expect
from controller.domain.decisions import Demand

FORECAST = Demand(np.array([6.0, 3.0]), np.array([2.0, 1.0]))
NONE = np.zeros((3, 2), np.int64)
SOME = np.array([[4, 0], [4, 6], [2, 0]])


def test_before_anything_arrives_the_forecast_is_spread_over_the_origins() -> None:
    np.testing.assert_allclose(expect(None, NONE, FORECAST), [[4, 1]] * 3)


def test_without_a_forecast_every_origin_is_expected_to_send_a_prompt() -> None:
    np.testing.assert_array_equal(expect(None, NONE, None), np.ones((3, 2)))


def test_what_arrives_is_averaged_in_and_silence_is_not() -> None:
    first = expect(None, SOME, FORECAST)
    np.testing.assert_allclose(first, MEMORY * np.array([[4, 1]] * 3) + (1 - MEMORY) * SOME)
    then = expect(first, SOME, None)
    np.testing.assert_allclose(then, MEMORY * first + (1 - MEMORY) * SOME)
    np.testing.assert_array_equal(expect(then, NONE, FORECAST), then)
