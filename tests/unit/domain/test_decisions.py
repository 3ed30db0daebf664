"""Decisions are compared by value: one that has crossed a wire equals the one that was sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controller.domain.decisions import Demand, InForce, MacroPolicy, RoutingPlan, Stamp

DEMAND = Demand(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
POLICY = MacroPolicy(np.full((2, 2), 0.5), np.ones((2, 2), np.bool_), DEMAND)


def again(policy: MacroPolicy) -> MacroPolicy:
    return replace(policy, routing=policy.routing.copy(), roles=policy.roles.copy())


def test_equal_contents_are_equal() -> None:
    assert again(POLICY) == POLICY
    assert InForce(again(POLICY), 3) == InForce(POLICY, 3)
    assert RoutingPlan(np.array([[1]])) == RoutingPlan(np.array([[1]]))


@pytest.mark.parametrize(
    "changes",
    [
        {"routing": np.array([[0.5, 0.4], [0.5, 0.6]])},
        {"roles": np.eye(2, dtype=np.bool_)},
        {"demand": None},
        {"demand": Demand(np.array([1.0, 2.5]), np.array([3.0, 4.0]))},
        {"served": np.ones(2)},
    ],
)
def test_every_field_counts(changes: dict[str, object]) -> None:
    other = replace(POLICY, **changes)
    assert other != POLICY
    assert other != POLICY


def test_decisions_of_different_kinds_differ() -> None:
    assert POLICY != DEMAND
    assert POLICY is not None
    assert RoutingPlan(np.array([[1]])) != np.array([[1]])


def test_they_cannot_be_keys_of_a_cache() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(POLICY)


def test_the_newest_stamp_wins() -> None:
    assert max(Stamp(3, 1), Stamp(3), Stamp(2, 9)) == Stamp(3, 1)
