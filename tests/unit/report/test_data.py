import math

import numpy as np

from controller.report.analysis.data import bound_ratio
from tests.unit.report.campaigns import data_of, summary

ONE = [("RR", 0, 0.3)]


def test_the_nominal_setting_is_the_load_closest_to_one():
    data = data_of([], load_0_5=ONE, load_0_9=ONE, load_1_5=ONE)
    assert data.nominal.value("load") == 0.9
    assert [s.value("load") for s in data.loads()] == [0.5, 0.9, 1.5]


def test_a_scaled_profile_is_not_nominal():
    data = data_of([], profile_a__start__x0_5=ONE, profile_a=ONE)
    assert data.nominal.value("profile") == "a"


def test_a_setting_without_a_finished_run_is_not_nominal():
    data = data_of([("RR", 0, None)], load_0_5=ONE)
    assert data.nominal.value("load") == 0.5


def test_profiles_are_no_loads():
    data = data_of(ONE, load_0_5=ONE, profile_b=ONE)
    assert [s.value("load") for s in data.loads()] == [0.5, 1.0]
    assert data.varying == ("profile", "load")


def test_strategies_have_one_order_in_every_report():
    data = data_of([(s, 0, 0.1) for s in ("SOLVER", "zeta", "RL", "MA", "RR", "alpha")])
    assert data.strategies == ("RR", "RL", "SOLVER", "MA", "alpha", "zeta")


def test_the_shown_seed_is_the_one_most_strategies_have():
    data = data_of([("RR", 0, 0.3), ("RR", 1, 0.3), ("RL", 1, 0.2), ("RL", 2, 0.2)])
    assert data.shown_seed() == 1


def test_pairs_are_seeds_that_both_have():
    data = data_of([("RR", 0, 0.3), ("RR", 1, 0.5), ("RL", 1, 0.2), ("RL", 2, 0.1)])
    rr, rl = data.paired("objective", "RR", "RL")
    assert (rr.tolist(), rl.tolist()) == ([0.5], [0.2])
    nothing, _ = data.paired("objective", "RR", "LL")
    assert nothing.shape == (0,)


def test_failed_runs_leave_no_value():
    data = data_of([("RR", 0, 0.3), ("RR", 1, None)])
    assert data.values("objective", "RR").tolist() == [0.3]


def test_settings_are_named_by_what_differs():
    data = data_of(ONE, load_0_5=ONE, profile_a__start__x1_5=ONE)
    labels = [s.label(data.varying, data.nominal) for s in data.settings[1:]]
    assert labels == ["load 0.5", "profile start x 1_5"]
    assert data.nominal.label(data.varying) == "profile a, load 1"


def test_a_run_without_a_bound_has_no_ratio():
    assert math.isnan(bound_ratio(summary(0.3, bound=None)))
    assert math.isnan(bound_ratio(summary(0.3, bound=0.0)))
    assert bound_ratio(summary(0.3, bound=0.1)) == np.float64(0.3) / 0.1
