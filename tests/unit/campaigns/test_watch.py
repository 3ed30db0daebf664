"""What is told of a run while it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controller.campaigns import watch
from controller.campaigns.watch import Advance, WatchedJournal
from controller.domain.decisions import Call, Decision, RoutingPlan
from tests.unit.policies.states import idle, shipped

PLAN = RoutingPlan(np.zeros((6, 4), np.int64))


def told(*calls: Call) -> list[Advance]:
    """After each slot, in each of which there was one of these calls."""
    found: list[Advance] = []
    journal, state = WatchedJournal(2, found.append), idle(shipped())
    for slot, call in enumerate(calls):
        journal.scheduled(slot, Decision(PLAN, (call,)))
        journal.observed(replace(state, slot=slot))
    return found


def test_tokens_and_cost_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    calls = [Call(tokens_in=1000, tokens_out=200, cost_usd=0.25) for _ in range(3)]
    assert [str(advance) for advance in told(*calls)] == [
        "slot 1 of 2, 1,200 tokens, $0.25",
        "slot 2 of 2, 2,400 tokens, $0.50",
        "slot 2 of 2, 3,600 tokens, $0.75",  # the drain
    ]


def test_an_unknown_cost_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.0)
    known, unknown = (Call(tokens_in=10, cost_usd=cost) for cost in (0.5, None))
    assert [one.cost_usd for one in told(known, unknown, known)] == [0.5, None, None]


def test_it_is_not_told_more_than_once_a_second() -> None:
    assert told(*[Call()] * 50) == []
