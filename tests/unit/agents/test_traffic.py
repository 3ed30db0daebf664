"""What the scheduler knows of the traffic: expected prompts, and how far the split drifts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.agents.traffic import Traffic
from controller.domain.arrivals import MEMORY
from controller.domain.decisions import Demand, InForce, MacroPolicy, RoutingPlan
from controller.domain.state import ClusterState
from tests.unit.agents.epochs import LEFT, RIGHT, before

TO_VM1 = RoutingPlan(np.zeros((3, 2), np.int64))
FORECAST = Demand(np.array([6.0, 3.0]), np.array([2.0, 1.0]))


def arrived(prompts: Any) -> ClusterState:
    return replace(before(1), arrived_prompts=np.array(prompts))


SOME = arrived([[4, 0], [4, 6], [2, 0]])
NONE = arrived([[0, 0]] * 3)


def test_what_is_expected_begins_with_the_first_forecast_and_follows_what_arrives() -> None:
    traffic = Traffic((3, 2))
    traffic.note(NONE, InForce(replace(LEFT, demand=FORECAST)))
    np.testing.assert_allclose(traffic.expected, [[4, 1]] * 3)
    other = replace(LEFT, demand=Demand(np.array([9.0, 9.0]), np.array([9.0, 9.0])))
    traffic.note(SOME, InForce(other))
    expected = MEMORY * np.array([[4, 1]] * 3) + (1 - MEMORY) * SOME.arrived_prompts
    np.testing.assert_allclose(traffic.expected, expected)


def test_there_is_no_drift_before_anything_was_sent() -> None:
    traffic = Traffic((3, 2))
    np.testing.assert_array_equal(traffic.drift(), [0, 0])
    traffic.note(SOME, InForce(LEFT))
    np.testing.assert_array_equal(traffic.drift(), [0, 0])


def test_drift_is_the_share_that_went_elsewhere_than_planned() -> None:
    traffic = Traffic((3, 2))
    traffic.note(NONE, InForce(LEFT))
    first = RoutingPlan(np.array([[0, 0], [1, 0], [-1, 0]]))
    traffic.note(
        SOME, InForce(LEFT, 0, first, 0)
    )  # lm 0: 4 to VM1, 4 to VM2, 2 refused; lm 1: 6 to VM1
    np.testing.assert_allclose(traffic.drift(), [0.5, 0.5])
    second = RoutingPlan(np.array([[0, 1], [0, 1], [0, 1]]))
    traffic.note(SOME, InForce(LEFT, 0, second, 1))
    np.testing.assert_allclose(traffic.drift(), [4 / 18, 0.0])


@pytest.mark.parametrize("policy", [RIGHT, replace(LEFT, demand=FORECAST)])
def test_a_new_policy_starts_from_nothing(policy: MacroPolicy) -> None:
    traffic = Traffic((3, 2))
    traffic.note(NONE, InForce(LEFT))
    traffic.note(SOME, InForce(policy, 1, TO_VM1, 0))
    np.testing.assert_array_equal(traffic.drift(), [0, 0])


def test_a_policy_decided_again_goes_on() -> None:
    """Over a wire it is another object with the same contents."""
    traffic = Traffic((3, 2))
    traffic.note(NONE, InForce(RIGHT))
    again = MacroPolicy(RIGHT.routing.copy(), RIGHT.roles.copy())
    traffic.note(SOME, InForce(again, 0, TO_VM1, 0))
    np.testing.assert_array_equal(traffic.drift(), [1, 1])


def test_reading_the_drift_leaves_the_policy_alone() -> None:
    held = LEFT.routing.copy()
    traffic = Traffic((3, 2))
    traffic.note(NONE, InForce(LEFT))
    traffic.note(SOME, InForce(LEFT, 0, TO_VM1, 0))
    traffic.drift()
    np.testing.assert_array_equal(LEFT.routing, held)
