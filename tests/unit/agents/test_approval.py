"""Mode approve: what a person confirms or refuses, and what is no question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from controller.agents.approval import ApprovedPlanner, difference
from controller.agents.guard import GuardedPlanner
from controller.domain.decisions import (
    APPROVED,
    FALLBACK,
    REJECTED,
    Call,
    Decision,
    InForce,
    MacroPolicy,
)
from controller.domain.state import ClusterState, Telemetry
from tests.unit.agents.epochs import (
    EPOCH,
    LEFT,
    RIGHT,
    THIRDS,
    before,
    cluster,
    holds,
    outcomes,
)


@dataclass
class Proposes:
    """A planner that says these policies in turn."""

    policies: Sequence[MacroPolicy]
    took_s: float = 3.0
    turn: int = 0

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del state, telemetry
        self.turn += 1
        call = Call(self.took_s, FALLBACK, "why", 100, 10, 0.5)
        return Decision(self.policies[self.turn - 1], (call,))


@dataclass
class Person:
    """Answers as told."""

    answers: Sequence[bool]
    asked: list[tuple[int, MacroPolicy, MacroPolicy | None, str]] = field(default_factory=list)

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        self.asked.append((slot, policy, held, reason))
        return self.answers[len(self.asked) - 1]


def plans(
    person: Person, *policies: MacroPolicy, took_s: float = 3.0
) -> list[Decision[MacroPolicy]]:
    """What is applied in each epoch; the incumbent says THIRDS."""
    planner = ApprovedPlanner(Proposes(policies, took_s), person, Proposes([THIRDS]), slot_s=10.0)

    async def run() -> list[Decision[MacroPolicy]]:
        in_force, decisions = None, []
        for slot in range(0, EPOCH * len(policies), EPOCH):
            decision = await planner.plan(before(slot), outcomes(slot), in_force)
            in_force = holds(decision, in_force, slot)
            decisions.append(decision)
        return decisions

    return asyncio.run(run())


def test_approved_policies_are_applied_and_only_the_planner_is_charged() -> None:
    person = Person([True, True])
    first, second = plans(person, LEFT, RIGHT)
    assert (first.value, second.value) == (LEFT, RIGHT)
    assert first.calls == (Call(3.0, FALLBACK, "why", 100, 10, 0.5, approval=APPROVED),)
    assert person.asked == [(0, LEFT, None, "why"), (4, RIGHT, LEFT, "why")]


def test_a_refused_policy_leaves_the_one_in_force() -> None:
    _, second = plans(Person([True, False]), LEFT, RIGHT)
    assert second.value is LEFT
    (call,) = second.calls
    assert (call.approval, call.detail) == (REJECTED, "why")
    assert (call.took_s, call.tokens_in, call.cost_usd) == (3.0, 100, 0.5)


def test_refused_at_the_first_the_incumbents_policy_is_taken() -> None:
    first, second = plans(Person([False, False]), LEFT, RIGHT)
    assert first.value is second.value is THIRDS
    assert first.calls[0].approval == REJECTED


def test_nobody_is_asked_about_the_policy_in_force_or_one_that_is_late() -> None:
    person = Person([True])
    same = MacroPolicy(LEFT.routing.copy(), LEFT.roles.copy())
    plans(person, LEFT, same)
    assert len(person.asked) == 1
    person = Person([True])
    plans(person, LEFT, RIGHT, took_s=11.0)
    assert len(person.asked) == 1


def test_shares_that_look_the_same_are_those_that_were_approved() -> None:
    person = Person([True, True])
    close = MacroPolicy(LEFT.routing + np.array([[-0.004], [0.004], [0.0]]), LEFT.roles)
    first, second = plans(person, LEFT, close)
    assert np.array_equal(second.value.routing, first.value.routing)
    assert len(person.asked) == 1


def test_a_person_reads_what_changes() -> None:
    assert difference(cluster().testbed, RIGHT, LEFT) == [
        "  LM1 to VM1 0% (was 100%), VM3 100% (was 0%)",
        "  LM2 to VM1 0% (was 50%), VM2 60% (was 50%), VM3 40% (was 0%)",
        "  VM1 runs nothing (was LM1+LM2)",
        "  VM3 runs LM1+LM2 (was nothing)",
    ]


def test_after_the_guard_undid_a_policy_the_person_compares_with_what_is_in_force() -> None:
    person = Person([True, True, False])
    asked = ApprovedPlanner(Proposes([LEFT, RIGHT, THIRDS]), person, Proposes([]), slot_s=10.0)
    planner = GuardedPlanner(asked, cluster(), 0.25)

    async def run() -> list[MacroPolicy]:
        in_force, policies = None, []
        for slot, latency_s in ((0, 10.0), (4, 10.0), (8, 50.0), (12, 10.0)):
            seen = outcomes(slot, latency_s=latency_s)
            decision = await planner.plan(before(slot), seen, in_force)
            in_force = holds(decision, in_force, slot)
            policies.append(decision.value)
        return policies

    assert asyncio.run(run()) == [LEFT, RIGHT, LEFT, LEFT]
    assert person.asked[-1][2] is LEFT
