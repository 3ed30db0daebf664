"""Random macro-policies and the split that follows a plan: closed properties and small worlds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.domain.decisions import REFUSE, Demand, InForce, MacroPolicy, RoutingPlan
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, POD_OFF, POD_STOPPING, ClusterState
from controller.policies.intent import PlannedDeployer, PlannedScheduler, RandomPlanner
from tests.reference.worlds import Model, node, world
from tests.unit.policies.states import NOTHING_SEEN, decide, idle, open_policy, shipped

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def draw(scenario: Scenario, seed: int = 0, **state: object) -> MacroPolicy:
    planner = RandomPlanner(scenario, np.random.default_rng(seed))
    return decide(planner.plan(idle(scenario, **state), NOTHING_SEEN, None))


# Random macro-policies


@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_drawn_policy_is_feasible_and_reaches_every_lm(seed: int, up: list[bool]) -> None:
    scenario, alive = shipped(), np.array(up)
    policy, hosts = draw(scenario, seed, up=alive), scenario.hosts()
    assert np.allclose(policy.routing.sum(axis=0), 1.0)
    assert np.all(policy.routing >= 0)
    assert not np.any(policy.roles & ~hosts)
    assert policy.demand is None
    for i in range(4):
        meant = policy.roles[:, i] & alive
        reachable = (hosts[:, i] & alive).any()
        assert meant.any() == reachable  # a host that is up is there for it
        target = meant if reachable else policy.roles[:, i]
        if target.any():
            assert np.array_equal(policy.routing[:, i] > 0, target)


def test_every_role_can_run_at_once() -> None:
    """Each node can host any of four LMs, but no more than two of them together."""
    scenario = world([node(ram_gb=2.0)] * 4, [Model(gpu=None)] * 4)
    roles = np.concatenate([draw(scenario, seed).roles for seed in range(50)])
    assert set(roles.sum(axis=1).tolist()) == {1, 2}


def test_all_sets_are_equally_likely() -> None:
    """Two LMs that fit together: both, or either, a third of the nodes each."""
    scenario = world([node()] * 12, [Model(gpu=None)] * 2)
    planner = RandomPlanner(scenario, np.random.default_rng(1))
    roles = np.concatenate(
        [decide(planner.plan(idle(scenario), NOTHING_SEEN, None)).roles for _ in range(500)]
    )
    _, counts = np.unique(roles, axis=0, return_counts=True)
    assert counts / len(roles) == pytest.approx([1 / 3] * 3, abs=0.03)  # 5 sigma


def test_shares_are_uniform_on_the_simplex() -> None:
    """Of two nodes, the first one's share is uniform on [0, 1]."""
    scenario = world([node()] * 2, [Model(gpu=None)])
    planner = RandomPlanner(scenario, np.random.default_rng(2))
    shares = [
        decide(planner.plan(idle(scenario), NOTHING_SEEN, None)).routing[0, 0] for _ in range(2000)
    ]
    assert np.quantile(shares, [0.1, 0.25, 0.5, 0.9]) == pytest.approx(
        [0.1, 0.25, 0.5, 0.9], abs=0.06
    )


def test_gpu_only_lms_are_meant_for_gpu_nodes() -> None:
    scenario = world([node(), node(gpus=1)], [Model(), Model(gpu_only=True)])
    for seed in range(20):
        policy = draw(scenario, seed)
        assert policy.routing[:, 1].tolist() == [0.0, 1.0]
        assert not policy.roles[0, 1]


def test_no_lm_takes_the_only_place_of_another() -> None:
    """Two nodes with room for one LM each, two LMs: one of two assignments, both of which occur."""
    scenario = world([node(ram_gb=1.0)] * 2, [Model(gpu=None)] * 2)
    drawn = {tuple(draw(scenario, seed).roles[0].tolist()) for seed in range(20)}
    assert drawn == {(True, False), (False, True)}
    for seed in range(20):
        assert draw(scenario, seed).roles.sum(axis=0).tolist() == [1, 1]


def test_an_lm_without_room_is_meant_for_its_hosts() -> None:
    """Three LMs, two places."""
    scenario = world([node(ram_gb=1.0)] * 2, [Model(gpu=None)] * 3)
    policy = draw(scenario)
    assert policy.roles.sum() == 2
    assert np.allclose(policy.routing.sum(axis=0), 1.0)


def test_draws_differ_but_a_seed_repeats_them() -> None:
    scenario = shipped()
    planner = RandomPlanner(scenario, np.random.default_rng(7))
    first, second = (decide(planner.plan(idle(scenario), NOTHING_SEEN, None)) for _ in range(2))
    assert not np.array_equal(first.routing, second.routing)
    assert np.array_equal(first.routing, draw(scenario, 7).routing)
    assert np.array_equal(first.roles, draw(scenario, 7).roles)


# Following a plan


def follow(
    scenario: Scenario, policy: MacroPolicy, slots: int, seed: int = 0, **changes: object
) -> tuple[Floats, list[Ints]]:
    """(N, I) prompts that came to each node, and the destinations slot by slot; K uniform on 0..8
    at every origin."""
    rng = np.random.default_rng(99)
    scheduler = PlannedScheduler(scenario, np.random.default_rng(seed))
    came, destinations = np.zeros(policy.routing.shape), []
    born, plan = np.zeros(came.shape, np.int64), None
    for slot in range(slots):
        in_force = InForce(policy, 0, plan, slot - 1)
        state = _state(scenario, slot - 1, born, **changes)
        plan = decide(scheduler.schedule(state, in_force))
        destination = plan.destination
        born = rng.integers(0, 9, came.shape)
        np.add.at(came, (destination, np.arange(came.shape[1])), born)
        destinations.append(destination)
    return came, destinations


def _state(scenario: Scenario, slot: int, born: Ints, **changes: object) -> ClusterState:
    return idle(
        scenario,
        slot=slot,
        arrived_prompts=born,
        arrived_requests=(born > 0).astype(np.int64),
        **changes,
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_split_stays_within_a_request_or_two_of_the_plan(seed: int) -> None:
    """Independent draws would stray by some 60 prompts in 300 slots of 6 origins."""
    scenario = shipped()
    policy = draw(scenario, seed)
    for slots in (30, 300):
        came, _ = follow(scenario, policy, slots, seed)
        assert np.abs(came - policy.routing * came.sum(axis=0)).max() < 16.0


def test_nothing_goes_off_role_or_to_a_node_that_is_down() -> None:
    scenario = shipped()
    up = np.array([True, True, False, True, True, True])
    policy = draw(scenario, 3)
    _, destinations = follow(scenario, policy, 40, up=up)
    for i in range(4):
        meant = policy.roles[:, i] & up
        used = {int(d[n, i]) for d in destinations for n in range(6)}
        assert used <= set(np.flatnonzero(meant).tolist())


def test_with_all_in_role_nodes_down_requests_wait_at_one_of_them() -> None:
    scenario = world([node()] * 3, [Model(gpu=None)])
    roles = np.array([[True], [False], [False]])
    policy = MacroPolicy(routing=roles.astype(np.float64), roles=roles)
    _, destinations = follow(scenario, policy, 5, up=[False, True, True])
    assert np.all(np.array(destinations) == 0)


def test_in_role_nodes_that_the_plan_left_out_share_evenly_when_they_are_all_there_is() -> None:
    """All of the split is meant for node 0, which is down."""
    scenario = world([node()] * 3, [Model(gpu=None)])
    policy = MacroPolicy(routing=np.array([[1.0], [0.0], [0.0]]), roles=np.ones((3, 1), np.bool_))
    came, _ = follow(scenario, policy, 100, up=[False, True, True])
    assert came[0, 0] == 0
    assert abs(came[1, 0] - came[2, 0]) < 16


def test_a_node_that_returns_is_owed_nothing() -> None:
    """Half of the split each. Node 1 is down for 50 slots; when it is back, it gets half of what
    comes then, not what it has missed."""
    scenario = world([node()] * 2, [Model(gpu=None)])
    policy = MacroPolicy(routing=np.full((2, 1), 0.5), roles=np.ones((2, 1), np.bool_))
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    born, to, plan = np.full((2, 1), 3), [], None
    for slot in range(100):
        state = _state(scenario, slot - 1, born, up=[True, slot >= 50])
        plan = decide(scheduler.schedule(state, InForce(policy, 0, plan, slot - 1)))
        to.append(plan.destination[:, 0].tolist())
    assert all(sorted(row) == [0, 0] for row in to[:50])
    assert all(sorted(row) == [0, 1] for row in to[51:])


def test_origins_count_with_what_they_send() -> None:
    """Node 0 sends 90 prompts a slot, the other three 10 each: with a quarter of the split meant
    for node 3, the large origin goes there in about a slot of four, and not once as often as a
    count of requests would have it."""
    scenario = world([node()] * 4, [Model(gpu=None)])
    roles = np.array([[False], [False], [True], [True]])
    policy = MacroPolicy(routing=np.array([[0.0], [0.0], [0.75], [0.25]]), roles=roles)
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    born = np.array([[90], [10], [10], [10]])
    came, plan = np.zeros(4), None
    for slot in range(201):
        state = _state(scenario, slot - 1, born)
        plan = decide(scheduler.schedule(state, InForce(policy, 0, plan, slot - 1)))
        to = plan.destination[:, 0]
        np.add.at(came, to, born[:, 0])
    assert came[3] / came.sum() == pytest.approx(0.25, abs=0.01)


def test_the_first_slot_splits_the_demand_that_the_policy_was_made_for() -> None:
    """Eight equal origins, a quarter to node 0: two of them, by hand."""
    scenario = world([node()] * 8, [Model(gpu=None)])
    roles = np.zeros((8, 1), np.bool_)
    roles[:2] = True
    routing = np.where(roles, [[0.25]] + [[0.75]] * 7, 0.0)
    policy = MacroPolicy(routing, roles, Demand(np.array([8.0]), np.array([4.0])))
    (to,) = follow(scenario, policy, 1)[1]
    assert np.bincount(to[:, 0]).tolist() == [2, 6]


def test_a_new_policy_starts_even() -> None:
    """What the old plan was short of is not the new one's debt."""
    scenario = world([node()] * 2, [Model(gpu=None)])
    roles = np.ones((2, 1), np.bool_)
    lopsided = MacroPolicy(routing=np.array([[0.9], [0.1]]), roles=roles)
    even = MacroPolicy(routing=np.array([[0.5], [0.5]]), roles=roles)
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    born = np.full((2, 1), 4)
    plan = None
    for slot in range(3):
        in_force = InForce(lopsided, 0, plan, slot - 1)
        plan = decide(scheduler.schedule(_state(scenario, slot - 1, born), in_force))
    in_force = InForce(even, 2, plan, 2)
    to = decide(scheduler.schedule(_state(scenario, 2, born), in_force)).destination
    assert sorted(to[:, 0].tolist()) == [0, 1]


def test_a_policy_decided_again_keeps_its_debts() -> None:
    """Over a wire it is another object with the same contents: the split goes on as planned."""
    scenario = world([node()] * 2, [Model(gpu=None)])
    share, roles = np.array([[0.9], [0.1]]), np.ones((2, 1), np.bool_)
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    born, came, plan = np.full((2, 1), 4), np.zeros(2), None
    for slot in range(20):
        in_force = InForce(MacroPolicy(share.copy(), roles.copy()), 0, plan, slot - 1)
        plan = decide(scheduler.schedule(_state(scenario, slot - 1, born * (slot > 0)), in_force))
        np.add.at(came, plan.destination[:, 0], born[:, 0])
    assert came[1] == pytest.approx(16, abs=4)


def test_a_slot_that_somebody_else_planned_is_not_booked() -> None:
    """Asked in slots 0 and 5 only, as a fallback is: what came in slot 4 went by another plan, so
    nobody is owed anything for it."""
    scenario = world([node()] * 2, [Model(gpu=None)])
    policy = MacroPolicy(routing=np.full((2, 1), 0.5), roles=np.ones((2, 1), np.bool_))
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    decide(scheduler.schedule(_state(scenario, -1, np.zeros((2, 1), np.int64)), InForce(policy)))
    lopsided = np.array([[80], [0]])
    splits, others = [], RoutingPlan(np.zeros((2, 1), np.int64))
    for slot in (5, 7, 9):
        in_force = InForce(policy, 0, others, slot - 1)
        state = _state(scenario, slot - 1, lopsided)
        to = decide(scheduler.schedule(state, in_force)).destination
        splits.append(sorted(to[:, 0].tolist()))
    assert splits == [[0, 1]] * 3


def test_what_somebody_else_has_sent_is_made_up_for() -> None:
    """Half of the split each, and somebody sends the two largest of six origins to node 0 whatever
    is said: from the second slot on, all others go to node 1."""
    scenario = world([node()] * 6, [Model(gpu=None)])
    roles = np.array([[True]] * 2 + [[False]] * 4)
    policy = MacroPolicy(routing=np.where(roles, 0.5, 0.0), roles=roles)
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    born, came = np.array([[8], [8], [4], [4], [4], [4]]), np.zeros(2)
    sent = None
    for slot in range(50):
        in_force = InForce(policy, 0, sent, slot - 1)
        state = _state(scenario, slot - 1, born)
        to = decide(scheduler.schedule(state, in_force)).destination.copy()
        to[:2] = 0
        sent = RoutingPlan(to)
        np.add.at(came, to[:, 0], born[:, 0])
    assert np.abs(came - came.sum() / 2).max() <= 16


def test_what_somebody_else_has_refused_is_owed_to_nobody() -> None:
    scenario = world([node()] * 2, [Model(gpu=None)])
    policy = MacroPolicy(routing=np.full((2, 1), 0.5), roles=np.ones((2, 1), np.bool_))
    scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
    refusal = RoutingPlan(np.full((2, 1), REFUSE))
    for slot in range(10):
        state = _state(scenario, slot - 1, np.array([[80], [80]]))
        to = decide(scheduler.schedule(state, InForce(policy, 0, refusal, slot - 1))).destination
        assert sorted(to[:, 0].tolist()) == [0, 1]


def test_destinations_repeat_with_the_seed() -> None:
    scenario = shipped()
    policy = draw(scenario, 4)
    one, same, other = (np.array(follow(scenario, policy, 30, s)[1]) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


# Pods that follow the roles


def test_a_node_without_pods_starts_its_role() -> None:
    scenario = shipped()
    hosts = scenario.hosts()
    for seed in range(10):
        policy = draw(scenario, seed)
        pods = decide(PlannedDeployer(scenario).deploy(idle(scenario), InForce(policy)))
        assert np.array_equal(pods.mode != OFF, policy.roles & hosts)


def test_a_role_too_large_for_a_node_is_started_as_far_as_it_fits() -> None:
    """Two of four LMs fit; the one with a GPU pod goes there."""
    scenario = world([node(ram_gb=2.0, gpus=1)] * 2, [Model()] * 4)
    pods = decide(PlannedDeployer(scenario).deploy(idle(scenario), InForce(open_policy(scenario))))
    assert (pods.mode != OFF).sum(axis=1).tolist() == [2, 2]
    assert (pods.mode == GPU).sum(axis=1).tolist() == [2, 2]


def test_pods_that_are_there_stay_whatever_the_policy() -> None:
    scenario = shipped()
    first, then = draw(scenario, 0), draw(scenario, 1)
    assert not np.array_equal(first.roles, then.roles)
    deployer = PlannedDeployer(scenario)
    pods = decide(deployer.deploy(idle(scenario), InForce(first)))
    kept = idle(scenario, want_mode=pods.mode, want_cores=pods.cores, want_vgpus=pods.vgpus)
    again = decide(deployer.deploy(kept, InForce(then)))
    assert np.array_equal(again.mode, pods.mode)
    assert np.array_equal(again.cores, pods.cores)


def test_a_node_whose_pods_are_stopping_waits() -> None:
    scenario = shipped()
    stopping = np.full(scenario.hosts().shape, POD_OFF)
    stopping[0, 0] = POD_STOPPING
    pods = decide(
        PlannedDeployer(scenario).deploy(
            idle(scenario, pod=stopping), InForce(open_policy(scenario))
        )
    )
    started = (pods.mode != OFF).any(axis=1)
    assert not started[0]
    assert started[1:].all()
