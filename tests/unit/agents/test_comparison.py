"""The guard before a macro-policy is applied: which policy holds, and what is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from controller.agents.comparison import ComparedPlanner
from controller.domain.decisions import (
    FALLBACK,
    IN_FORCE,
    OK,
    RANDOM,
    Call,
    Decision,
    Demand,
    InForce,
    MacroPolicy,
)
from controller.domain.state import ClusterState, Telemetry
from tests.unit.agents.epochs import EPOCH, LEFT, RIGHT, THIRDS, before, outcomes
from tests.unit.agents.test_guard import Script

OUTSIDE = replace(LEFT, roles=LEFT.roles.copy())


def planned(
    mine: float, random: float, held: float | None = None, outcome: str = OK
) -> tuple[Decision[MacroPolicy], list[Demand]]:
    """What is decided where RIGHT is the planner's, LEFT is drawn and THIRDS is in force, with
    these objectives."""
    loads: list[Demand] = []

    async def foresee(policy: MacroPolicy, state: ClusterState, load: Demand) -> float:
        del state
        loads.append(load)
        for known, objective in ((RIGHT, mine), (THIRDS, held)):
            if policy == known and objective is not None:
                return objective
        return random

    class Says(Script):
        async def plan(
            self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
        ) -> Decision[MacroPolicy]:
            del state, telemetry, in_force
            return Decision(RIGHT, (Call(1.0, outcome),))

    usual = Demand(outcomes(EPOCH).arrived_requests * 1.0, outcomes(EPOCH).arrived_prompts * 1.0)
    planner = ComparedPlanner(Says([RIGHT]), Script([OUTSIDE]), foresee, lambda: usual, 0.25)
    in_force = None if held is None else InForce(THIRDS)
    slot = EPOCH if in_force else 0
    seen = outcomes(slot) if in_force else outcomes(0, requests=(0, 0), prompts=(0, 0))
    return asyncio.run(planner.plan(before(slot), seen, in_force)), loads


def test_a_policy_that_is_better_than_chance_holds() -> None:
    decision, loads = planned(0.1, 0.2)
    assert decision.value == RIGHT
    assert decision.calls[0].undone is None
    assert decision.calls[0].took_s > 1.0
    assert loads[0].requests.tolist() == [40.0, 40.0]


def test_the_first_policy_is_undone_where_chance_does_better() -> None:
    decision, _ = planned(0.3, 0.2)
    undone = decision.calls[0].undone
    assert (decision.value.routing == LEFT.routing).all()
    assert undone is not None
    assert (undone.objective, undone.before, undone.by) == (0.3, 0.2, RANDOM)


def test_a_policy_that_is_worse_than_the_one_in_force_is_undone() -> None:
    decision, _ = planned(0.3, 0.5, held=0.1)
    undone = decision.calls[0].undone
    assert decision.value == THIRDS
    assert undone is not None
    assert (undone.before, undone.by) == (0.1, IN_FORCE)


def test_a_policy_a_little_worse_than_the_one_in_force_holds() -> None:
    decision, _ = planned(0.11, 0.5, held=0.1)
    assert decision.value == RIGHT


def test_what_a_fallback_decided_is_not_rehearsed() -> None:
    decision, loads = planned(0.9, 0.1, outcome=FALLBACK)
    assert decision.value == RIGHT
    assert loads == []
