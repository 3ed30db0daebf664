"""The guard's bounds on schedulers and deployers: what is changed, what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from controller.agents.bounds import DISTURBANCES, BoundedDeployer, BoundedScheduler
from controller.domain.decisions import (
    FALLBACK,
    OK,
    REFUSE,
    Call,
    Decision,
    Demand,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.state import CPU, OFF, POD_READY, ClusterState, take_rows
from controller.policies.intent import PlannedDeployer
from tests.unit.agents.epochs import EPOCH, cluster
from tests.unit.policies.states import idle

ALL = MacroPolicy(np.full((3, 2), 1 / 3), np.ones((3, 2), np.bool_), Demand(np.ones(2), np.ones(2)))
IN_FORCE = InForce(ALL)
EVEN = np.tile(np.arange(3)[:, None], 2)
LMS = ("LM1", "LM2")


@dataclass
class Says:
    """A scheduler or deployer that says this."""

    value: object
    outcome: str = OK
    calls: int = 1

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        del state, in_force
        assert isinstance(self.value, RoutingPlan)
        return Decision(self.value, (Call(outcome=self.outcome),))

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del state, in_force
        assert isinstance(self.value, Deployment)
        return Decision(self.value, (Call(outcome=self.outcome),) * self.calls)


def running(slot: int = 8, backlog: int = 0) -> ClusterState:
    """Every LM runs on four cores of every node, with a backlog."""
    state = idle(cluster(), slot=slot - 1)
    ones = np.ones((3, 2), np.int64)
    cores = np.full((3, 2), 4.0)
    return replace(
        state, mode=ones * CPU, want_mode=ones * CPU, pod=ones * POD_READY, cores=cores,
        want_cores=cores, backlog=ones * backlog,
    )  # fmt: skip


def scheduled(destination: object, state: ClusterState, outcome: str = OK) -> Decision[RoutingPlan]:
    plan = RoutingPlan(np.array(destination, np.int64))
    planned = Says(RoutingPlan(EVEN))
    guard = BoundedScheduler(Says(plan, outcome), planned, cluster(), 0.25)
    return asyncio.run(guard.schedule(state, IN_FORCE))


def test_refusals_do_not_stand_while_a_node_could_serve_them_soon() -> None:
    made = scheduled(np.full((3, 2), REFUSE), running())
    assert (made.value.destination >= 0).all()
    assert made.calls[0].bounded is not None
    assert made.calls[0].bounded.refusals == LMS


def test_refusals_stand_where_every_queue_is_long() -> None:
    refused = np.full((3, 2), REFUSE)
    made = scheduled(refused, running(backlog=200))
    assert np.array_equal(made.value.destination, refused)
    assert made.calls[0].bounded is None


def test_a_plan_that_makes_requests_wait_is_replaced_by_the_planned_one() -> None:
    state = running()
    state.backlog[0] = 60
    made = scheduled(np.zeros((3, 2)), state)
    assert np.array_equal(made.value.destination, EVEN)
    assert made.calls[0].bounded is not None
    assert made.calls[0].bounded.waits == LMS


@pytest.mark.parametrize("outcome", [FALLBACK, "late"])
def test_what_no_agent_decided_passes(outcome: str) -> None:
    refused = np.full((3, 2), REFUSE)
    made = scheduled(refused, running(), outcome)
    assert np.array_equal(made.value.destination, refused)


def test_a_plan_as_good_as_planned_is_left_alone() -> None:
    other = EVEN[::-1]
    made = scheduled(other, running())
    assert np.array_equal(made.value.destination, other)
    assert made.calls[0].bounded is None


def pods(mode: int, cores: float) -> Deployment:
    shape = (3, 2)
    return Deployment(np.full(shape, mode), np.full(shape, cores), np.zeros(shape, np.int64))


def deployed(guard: BoundedDeployer, states: Sequence[ClusterState]) -> list[Decision[Deployment]]:
    return [asyncio.run(guard.deploy(state, IN_FORCE)) for state in states]


def test_pods_are_not_stopped_again_and_again() -> None:
    says = Says(pods(OFF, 0.0), calls=3)
    guard = BoundedDeployer(says, PlannedDeployer(cluster()), cluster(), 0.25)
    states = [running(slot=s, backlog=3) for s in range(EPOCH)]
    made = deployed(guard, states)
    stopped = [(decision.value.mode == OFF).all() for decision in made]
    assert stopped == [True] * DISTURBANCES + [False] * (EPOCH - DISTURBANCES)
    last = made[-1].calls[0].bounded
    assert last is not None
    assert last.pods == LMS


def test_nodes_that_run_nothing_start_their_role() -> None:
    says = Says(pods(OFF, 0.0), calls=3)
    guard = BoundedDeployer(says, PlannedDeployer(cluster()), cluster(), 0.25)
    (made,) = deployed(guard, [idle(cluster(), slot=3)])
    assert (made.value.mode != OFF).any(axis=1).all()


def test_pods_are_not_restarted_to_be_starved() -> None:
    says = Says(pods(CPU, 0.1), calls=3)
    guard = BoundedDeployer(says, PlannedDeployer(cluster()), cluster(), 0.25)
    (made,) = deployed(guard, [running(backlog=30)])
    assert (made.value.cores == 4.0).all()


def test_a_node_is_bounded_alone_as_beside_others() -> None:
    says = Says(pods(OFF, 0.0), calls=3)
    guard = BoundedDeployer(says, PlannedDeployer(cluster()), cluster(), 0.25)
    together = deployed(guard, [running(slot=s, backlog=3) for s in range(EPOCH)])
    off = pods(OFF, 0.0)
    one = Says(Deployment(off.mode[:1], off.cores[:1], off.vgpus[:1]))
    alone = BoundedDeployer(one, PlannedDeployer(cluster()), cluster(), 0.25)
    rows = np.array([0])
    apart = deployed(alone, [take_rows(running(slot=s, backlog=3), rows) for s in range(EPOCH)])
    for beside, own in zip(together, apart, strict=True):
        assert np.array_equal(beside.value.mode[:1], own.value.mode)
        assert np.array_equal(beside.value.cores[:1], own.value.cores)
