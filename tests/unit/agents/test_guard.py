"""The no-regression guard over epochs written down: what is undone, when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.agents.cases import cluster_key
from controller.agents.guard import GuardedPlanner
from controller.agents.memory import CaseMemory
from controller.domain.decisions import Call, Decision, InForce, MacroPolicy, Undone
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
from tests.unit.agents.stores import fresh_store

OTHER = MacroPolicy(RIGHT.routing[::-1].copy(), RIGHT.roles[::-1].copy())
UNDONE = Undone(objective=0.1, before=0.05, margin=0.25, policy_slot=0)


@dataclass
class Script:
    """A planner that says these policies in turn, the last one for ever."""

    policies: Sequence[MacroPolicy]
    took_s: Sequence[float] = (0.0,)
    asked: list[int] = field(default_factory=list)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del telemetry
        turn = len(self.asked)
        self.asked.append(state.slot + 1)
        took_s = self.took_s[min(turn, len(self.took_s) - 1)]
        return Decision(
            self.policies[min(turn, len(self.policies) - 1)], (Call(took_s, detail="mine"),)
        )


class Run:
    """Plans at the epochs' first slots."""

    def __init__(
        self, *policies: MacroPolicy, margin: float = 0.25, took_s: Sequence[float] = (0.0,)
    ) -> None:
        self.script = Script(policies, took_s)
        self.memory = CaseMemory(fresh_store(), cluster_key(cluster()), 10_000, "run")
        self.in_force: InForce | None = None
        self.planner = GuardedPlanner(self.script, cluster(), margin, memory=self.memory)
        self.slot = 0
        self.epoch()

    def epoch(
        self, latency_s: float = 10.0, up: Sequence[bool] = (True, True, True), **seen: Any
    ) -> Decision[MacroPolicy]:
        """The epoch that ended had this mean latency: objective = latency / 200 s."""
        telemetry = outcomes(self.slot, latency_s=latency_s, **seen)
        state = before(self.slot, up)
        self.decision = asyncio.run(self.planner.plan(state, telemetry, self.in_force))
        self.in_force = holds(self.decision, self.in_force, self.slot)
        self.slot += EPOCH
        return self.decision

    @property
    def undone(self) -> Undone | None:
        (call,) = self.decision.calls
        return call.undone

    @property
    def policy(self) -> MacroPolicy:
        assert self.in_force is not None
        return self.in_force.policy


def test_a_worse_policy_is_undone_without_asking() -> None:
    run = Run(LEFT, RIGHT)
    assert run.epoch(10.0).value is RIGHT
    assert run.epoch(20.0).value is LEFT
    assert run.undone == UNDONE
    assert run.script.asked == [0, 4]
    assert run.decision.calls[0].took_s == 0.0


def test_the_undone_case_is_remembered_as_such_and_the_planner_is_asked_next_time() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    run.epoch(20.0)
    latest = run.memory.latest
    assert latest is not None
    assert latest.undone
    assert latest.slot == 4
    assert run.epoch(10.0).value is THIRDS
    latest = run.memory.latest
    assert latest is not None
    assert not latest.undone
    assert latest.slot == 8


def test_within_the_margin_a_policy_stays_and_the_better_one_remains_the_measure() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    assert run.epoch(12.0).value is THIRDS  # 20 % worse
    assert run.epoch(14.0).value is LEFT  # 17 % worse than the last, 40 % worse than the first
    assert run.undone is not None
    assert run.undone.before == 0.05


def test_a_better_policy_becomes_the_measure() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(20.0)
    run.epoch(10.0)
    assert run.epoch(19.0).value is RIGHT
    assert run.undone is not None
    assert run.undone.policy_slot == 4


def test_a_difference_nobody_would_notice_undoes_nothing() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(1.0)
    assert run.epoch(1.9).value is THIRDS  # 0.0095 after 0.005


def test_no_margin_undoes_nothing_and_remembers() -> None:
    run = Run(LEFT, RIGHT, THIRDS, margin=0.0)
    run.epoch(10.0)
    assert run.epoch(90.0).value is THIRDS
    assert run.memory.latest is not None


def test_the_epoch_after_an_undone_one_is_not_judged() -> None:
    run = Run(LEFT, RIGHT, THIRDS, OTHER)
    run.epoch(10.0)
    run.epoch(20.0)
    # Late failures of RIGHT: neither LEFT's fault nor LEFT's measure from now on.
    assert run.epoch(40.0).value is THIRDS
    assert run.epoch(14.0).value is LEFT
    assert run.undone is not None
    assert run.undone.before == 0.05


def test_a_policy_is_undone_once() -> None:
    run = Run(LEFT, RIGHT)
    run.epoch(10.0)
    assert run.epoch(20.0).value is LEFT
    assert run.epoch(10.0).value is RIGHT  # insists
    for _ in range(3):
        assert run.epoch(20.0).value is RIGHT


def test_a_good_policy_that_has_become_worse_is_measured_anew() -> None:
    run = Run(LEFT, LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    assert run.epoch(20.0).value is RIGHT  # LEFT at 0.1, from which there is nothing to go back to
    assert run.epoch(22.0).value is THIRDS


def test_under_another_load_nothing_is_undone() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    assert run.epoch(20.0, prompts=[80, 120]).value is THIRDS


def test_a_single_odd_epoch_leaves_the_measure_two_make_another() -> None:
    odd: dict[str, Any] = {"prompts": [80, 120]}
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    run.epoch(20.0, **odd)
    assert run.epoch(20.0).value is LEFT
    run = Run(LEFT, RIGHT, THIRDS, OTHER)
    run.epoch(10.0)
    run.epoch(20.0, **odd)
    run.epoch(20.0, **odd)
    assert run.epoch(40.0, **odd).value is THIRDS
    assert run.undone is not None
    assert run.undone.before == 0.1


def test_a_node_that_died_is_no_fault_of_the_policy() -> None:
    run = Run(LEFT, RIGHT, THIRDS)
    run.epoch(10.0)
    assert run.epoch(20.0, up=[True, True, False]).value is THIRDS


def test_a_node_that_was_away_for_a_part_of_the_epoch_is_none_either() -> None:
    run = Run(LEFT, RIGHT, THIRDS, OTHER)
    run.epoch(10.0)
    run.epoch(20.0, up=[True, True, False])
    assert run.epoch(20.0).value is OTHER
    assert run.epoch(20.0).value is LEFT  # the measure is still from before


def test_with_other_nodes_there_is_another_measure() -> None:
    two = [True, True, False]
    run = Run(LEFT, RIGHT, THIRDS, OTHER)
    run.epoch(10.0, up=two)
    run.epoch(20.0, up=two)
    assert run.epoch(30.0, up=two).value is RIGHT
    assert run.undone is not None
    assert run.undone.before == 0.1


def test_an_epoch_without_outcomes_is_neither_good_nor_bad() -> None:
    run = Run(LEFT, RIGHT)
    assert run.epoch(succeeded=[0, 0]).value is RIGHT
    assert run.memory.latest is None
    run.epoch(20.0)
    assert run.epoch(20.0).value is RIGHT


def test_what_came_late_was_never_in_force() -> None:
    run = Run(LEFT, RIGHT, THIRDS, took_s=[0.0, 11.0, 0.0])
    run.epoch(10.0)
    assert run.policy is LEFT
    run.epoch(10.0)
    latest = run.memory.latest
    assert latest is not None
    assert latest.slot == 0
    assert latest.ended == 8
    assert run.policy is THIRDS
    run.epoch(20.0)
    assert run.undone == UNDONE


def test_the_first_policy_is_in_force_however_late() -> None:
    assert Run(LEFT, took_s=[99.0]).policy is LEFT


def test_a_guard_that_restarts_judges_what_it_never_decided() -> None:
    """A new process is told what is in force. It remembers the epoch at whose end it began, but
    cannot judge it: nobody told it which nodes were up at the beginning."""
    run = Run(LEFT, RIGHT, RIGHT, THIRDS)
    run.epoch(10.0)
    run.planner = GuardedPlanner(run.script, cluster(), 0.25, memory=run.memory)
    run.epoch(10.0)
    assert run.memory.latest is not None
    assert run.memory.latest.slot == 4
    run.epoch(10.0)  # RIGHT's second epoch is the first good one that it knows
    assert run.epoch(20.0).value is RIGHT
    assert run.undone is not None
    assert run.undone.policy_slot == 4


def test_a_policy_decided_again_is_as_old_as_it_was() -> None:
    again = MacroPolicy(LEFT.routing.copy(), LEFT.roles.copy())
    run = Run(LEFT, again)
    run.epoch(10.0)
    assert run.in_force == InForce(LEFT, 0)
    run.epoch(10.0)
    assert run.memory.latest is not None
    assert run.memory.latest.slot == 0
