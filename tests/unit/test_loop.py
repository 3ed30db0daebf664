"""The slot loop over small worlds of its own: order, charging, lateness, epochs, the end."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from controller.domain.decisions import (
    LATE,
    OK,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.inputs.catalog import load_profile, load_testbed
from controller.loop import Strategy, run

EPOCH = 3


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(
        load_testbed("paper").to_domain(), load_profile("a5000").to_domain(), epoch_slots=EPOCH
    )


class World:
    """Clock, cluster and node that write down what they are told; settled ``drain`` slots after
    the last arrivals."""

    def __init__(self, scenario: Scenario, slots: int, drain: int = 0) -> None:
        self.said: list[tuple] = []
        self.shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        self.slot_s, self.now_s = scenario.slot_s, 0.0
        self.end_s = (slots + drain) * scenario.slot_s
        self.zeros = np.zeros(self.shape, np.int64)

    def now(self) -> float:
        return self.now_s

    async def sleep_until(self, time_s: float) -> None:
        self.said.append(("sleep", time_s))
        self.now_s = time_s

    async def observe(self) -> ClusterState:
        ints, floats = self.zeros, np.zeros(self.shape)
        some = np.zeros(self.shape[0])
        return ClusterState(
            self.now_s, round(self.now_s / self.slot_s) - 1, np.arange(self.shape[0]), some == 0,
            ints, ints, floats, ints, ints, ints, ints, floats, ints,
            some, some, some.astype(np.int64), ints, ints, floats,
        )  # fmt: skip

    async def telemetry(self, first_slot: int) -> Telemetry:
        none = np.zeros(self.shape[1], np.int64)
        return Telemetry(first_slot, 0, none, none, none, none, none.astype(np.float64))

    async def route(self, plan: RoutingPlan, thought_s: float) -> None:
        self.said.append(("route", int(plan.destination[0, 0]), thought_s))

    async def deploy(self, deployment: Deployment, thought_s: np.ndarray) -> np.ndarray:
        self.said.append(("deploy", int(deployment.mode[0, 0]), thought_s.tolist()))
        return np.zeros(self.shape, np.bool_)

    async def settled(self) -> bool:
        return self.now_s >= self.end_s

    def all(self, kind: str) -> list[tuple]:
        return [entry[1:] for entry in self.said if entry[0] == kind]


class Deciders:
    """Planner, scheduler and deployer that number their decisions and take the times given."""

    def __init__(self, world: World, plan_s=(), schedule_s=(), deploy_s=()) -> None:
        self.world, self.times = world, (list(plan_s), list(schedule_s), list(deploy_s))
        self.plans = self.schedules = self.deployments = 0
        self.followed: list[int] = []  # the policy that each slot's scheduler was shown

    async def plan(self, state, telemetry) -> Decision[MacroPolicy]:
        await asyncio.sleep(0)  # as a real call would, let the others go on
        self.plans += 1
        routing = np.full(self.world.shape, float(self.plans))
        roles = np.ones(self.world.shape, np.bool_)
        return Decision(MacroPolicy(routing, roles), (Call(self._took(0)),))

    async def schedule(self, state, policy) -> Decision[RoutingPlan]:
        self.schedules += 1
        self.followed.append(int(policy.routing[0, 0]))
        plan = RoutingPlan(np.full(self.world.shape, self.schedules))
        return Decision(plan, (Call(self._took(1)),))

    async def deploy(self, state, policy) -> Decision[Deployment]:
        self.deployments += 1
        nodes = self.world.shape[0]
        took = self.times[2].pop(0) if self.times[2] else [0.0] * nodes
        mode = np.ones(self.world.shape, np.int64)
        deployment = Deployment(mode, mode.astype(np.float64), np.zeros_like(mode))
        return Decision(deployment, tuple(Call(s) for s in took))

    def _took(self, tier: int) -> float:
        return self.times[tier].pop(0) if self.times[tier] else 0.0


class Notes:
    """A journal that keeps (slot, outcomes) by tier."""

    def __init__(self) -> None:
        self.by_tier: dict[str, list] = {"planner": [], "scheduler": [], "deployers": []}
        self.observed_at: list[float] = []

    def planned(self, slot, decision) -> None:
        self.by_tier["planner"].append((slot, decision.calls[0].outcome))

    def scheduled(self, slot, decision) -> None:
        self.by_tier["scheduler"].append((slot, decision.calls[0].outcome))

    def deployed(self, slot, state, decision, voided) -> None:
        outcomes = [call.outcome for call in decision.calls]
        self.by_tier["deployers"].append((slot, outcomes, decision.value.mode[:, 0].tolist()))

    def observed(self, state) -> None:
        self.observed_at.append(state.time_s)


def go(scenario, slots, drain=0, **times):
    world = World(scenario, slots, drain)
    deciders, notes = Deciders(world, **times), Notes()
    strategy = Strategy(deciders, deciders, deciders)
    ran = asyncio.run(run(scenario, world, world, world, strategy, notes, slots))
    return ran, world, deciders, notes


def test_a_slot_routes_then_deploys_then_waits(scenario):
    _, world, _, notes = go(scenario, 2)
    assert [entry[0] for entry in world.said] == ["route", "deploy", "sleep"] * 2
    assert world.all("sleep") == [(30.0,), (60.0,)]
    assert notes.observed_at == [30.0, 60.0]


def test_the_run_goes_on_until_all_is_settled(scenario):
    ran, world, _, _ = go(scenario, 2, drain=3)
    assert ran == 5
    assert len(world.all("route")) == 5


def test_thinking_time_is_handed_to_the_world(scenario):
    nodes = len(scenario.testbed.nodes)
    _, world, _, _ = go(
        scenario, 1, plan_s=[2.0], schedule_s=[3.0], deploy_s=[[1.0 + n for n in range(nodes)]]
    )
    assert world.all("route") == [(1, 5.0)]  # slot 0 waits for planner and scheduler
    assert world.all("deploy")[0][1] == [1.0 + n for n in range(nodes)]


def test_a_policy_holds_from_the_slot_after_it_was_asked_for(scenario):
    _, _, deciders, notes = go(scenario, 8)
    assert deciders.followed == [1, 1, 1, 1, 2, 2, 2, 3]
    assert notes.by_tier["planner"] == [(0, OK), (3, OK), (6, OK)]


def test_the_planner_is_not_charged_to_the_slot_it_thinks_in(scenario):
    _, world, _, _ = go(scenario, 5, plan_s=[0.0, 20.0], schedule_s=[0.0, 0.0, 0.0, 1.0])
    assert [thought for _, thought in world.all("route")] == [0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_late_policy_leaves_the_old_one_in_force(scenario):
    _, _, deciders, notes = go(scenario, 5, plan_s=[0.0, 30.1])
    assert deciders.followed == [1, 1, 1, 1, 1]
    assert notes.by_tier["planner"][1] == (3, LATE)


def test_a_late_plan_costs_the_slot_and_the_previous_one_holds(scenario):
    _, world, _, notes = go(scenario, 3, schedule_s=[0.0, 31.0, 0.5])
    assert world.all("route") == [(1, 0.0), (1, 30.0), (3, 0.5)]
    assert [outcome for _, outcome in notes.by_tier["scheduler"]] == [OK, LATE, OK]


def test_a_late_deployer_leaves_its_node_as_it_is(scenario):
    nodes = len(scenario.testbed.nodes)
    took = [0.0] * nodes
    took[2] = 30.5
    _, world, _, notes = go(scenario, 1, deploy_s=[took])
    (_, thought_s), *_ = world.all("deploy")
    assert np.isnan(thought_s[2])
    assert not np.isnan(np.delete(thought_s, 2)).any()
    (_, outcomes, modes), *_ = notes.by_tier["deployers"]
    assert outcomes == [LATE if n == 2 else OK for n in range(nodes)]
    assert modes == [0 if n == 2 else 1 for n in range(nodes)]  # the state wants all off
