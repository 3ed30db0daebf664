"""What holds after a decision: itself, unless it was late and there is something to hold."""

from __future__ import annotations

import pytest

from controller.domain.decisions import Call, Decision, in_force

LATE_CALL = Call(10.1, "repaired", "why", 100, 10, 0.5)


@pytest.mark.parametrize("took_s", [0.0, 9.999, 10.0])
def test_within_its_slot_a_decision_holds(took_s: float) -> None:
    decision = Decision("new", (Call(took_s),))
    assert in_force(decision, 10.0, "old") is decision


def test_the_first_holds_whenever_it_comes() -> None:
    decision = Decision("new", (LATE_CALL,))
    assert in_force(decision, 10.0, None) is decision


def test_late_what_was_held_stays_and_what_it_cost_is_known() -> None:
    decision = in_force(Decision("new", (LATE_CALL,)), 10.0, "old")
    assert decision.value == "old"
    assert decision.calls == (Call(10.1, "late", "why", 100, 10, 0.5),)
