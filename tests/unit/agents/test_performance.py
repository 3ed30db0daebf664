"""An epoch's figures against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from numpy.testing import assert_allclose

from controller.agents.performance import demand, measure
from tests.unit.agents.epochs import cluster, outcomes


def test_figures_of_an_epoch() -> None:
    seen = outcomes(4, latency_s=20.0, succeeded=[30, 10], failed=[0, 10])
    figures = measure(seen, cluster())
    assert figures.latency_s == (20.0, 20.0)
    assert figures.success == (1.0, 0.5)
    # Jain 1.5^2 / (2 * 1.25) = 0.9, which lies at 0.8 between 1/2 and 1.
    assert figures.f_norm == pytest.approx(0.8)
    assert figures.t_mean_s == 20.0
    assert figures.t_norm == pytest.approx(0.2)
    assert figures.objective == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)
    assert figures.outcomes == 50


def test_the_mean_is_over_requests_not_over_lms() -> None:
    seen = outcomes(4, succeeded=[30, 10])
    seen = replace(seen, latency_sum_s=seen.succeeded * [10.0, 50.0])
    assert measure(seen, cluster()).t_mean_s == pytest.approx(20.0)


def test_an_lm_without_outcomes_has_no_figures_and_is_not_unfairly_treated() -> None:
    figures = measure(outcomes(4, succeeded=[40, 0]), cluster())
    assert figures.latency_s == (10.0, None)
    assert figures.success == (1.0, None)
    assert figures.f_norm == 1.0


def test_an_lm_without_success_has_a_ratio_but_no_latency() -> None:
    figures = measure(outcomes(4, succeeded=[40, 0], failed=[0, 40]), cluster())
    assert figures.latency_s == (10.0, None)
    assert figures.success == (1.0, 0.0)
    assert figures.f_norm == 0.0


def test_no_success_at_all_is_as_bad_as_it_can_be() -> None:
    figures = measure(outcomes(4, succeeded=[0, 0], failed=[3, 3]), cluster())
    assert (figures.t_mean_s, figures.t_norm, figures.f_norm) == (None, 1.0, 0.0)
    assert figures.objective == 1.0


def test_demand_is_per_slot_and_per_request() -> None:
    came = demand(outcomes(8, requests=[40, 0], prompts=[100, 0]))
    assert_allclose(came.requests, [10.0, 0.0])
    assert_allclose(came.prompts, [2.5, 0.0])
