"""Earliest expected completion, by hand: one LM after the other, one origin after the other."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.domain.decisions import REFUSE, Demand, InForce, MacroPolicy
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_PENDING,
    POD_STARTING,
    POD_STOPPING,
    UNKNOWN,
    ClusterState,
)
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.scheduler import SolverScheduler
from tests.reference.worlds import ABSENT, Model, Pod, node, on_cpu, on_gpu, world
from tests.unit.policies.states import decide, idle, running, shipped

Ints = NDArray[np.int64]
PARAMETERS = SolverParameters()
# Seconds a prompt: 1 on one core, 2 on half a core.
CORE = Curve((1.0,), (1.0,))
FAST, SLOW = on_cpu(1.0), on_cpu(0.5)


def policy_of(
    scenario: Scenario, prompts: list[float], served: list[float] | None = None
) -> MacroPolicy:
    """Every host has every role; each LM gets ``prompts`` a slot, in requests of one, from all
    origins together."""
    hosts = scenario.hosts()
    return MacroPolicy(
        routing=hosts / hosts.sum(axis=0),
        roles=hosts,
        demand=Demand(np.array(prompts), np.ones(len(prompts))),
        served=None if served is None else np.array(served),
    )


def route(
    scenario: Scenario,
    state: ClusterState,
    policy: MacroPolicy,
    foresight: Callable[[int], Ints] | None = None,
    **changes: float,
) -> list[list[int]]:
    scheduler = SolverScheduler(scenario, replace(PARAMETERS, **changes), foresight)
    to: list[list[int]] = decide(scheduler.schedule(state, InForce(policy))).destination.tolist()
    return to


def cpus(pods: list[Pod], tau_s: float = 1e6) -> tuple[Scenario, list[list[Pod]]]:
    """A node per pod of one LM that runs on CPUs only."""
    scenario = world([node()] * len(pods), [Model(cpu=CORE, gpu=None)], tau_s=tau_s)
    return scenario, [[pod] for pod in pods]


def test_each_origin_goes_where_it_is_done_first() -> None:
    """3 prompts from either origin. Node 0: 10 ahead, 1 s each: 13 s; node 1: 2 ahead, 2 s each:
    4 + 6 = 10 s. The second origin finds 13 against 10 + 6."""
    scenario, pods = cpus([FAST, SLOW])
    state = running(scenario, pods, backlog=[[10], [2]])
    assert route(scenario, state, policy_of(scenario, [6.0])) == [[1], [0]]


def test_a_slot_is_spread_over_equal_nodes() -> None:
    scenario, pods = cpus([FAST] * 5)
    to = route(scenario, running(scenario, pods), policy_of(scenario, [10.0]))
    assert sorted(destination for (destination,) in to) == [0, 1, 2, 3, 4]


def test_the_largest_origin_chooses_first() -> None:
    """Estimates start at the plan's and move by a tenth a slot: origin 1 sends more, so it is
    given the one idle node; origin 0 goes behind 4 prompts."""
    scenario, pods = cpus([FAST, FAST])
    state = running(
        scenario,
        pods,
        backlog=[[4], [0]],
        arrived_prompts=[[0], [40]],
        arrived_requests=[[0], [1]],
    )
    assert route(scenario, state, policy_of(scenario, [2.0])) == [[0], [1]]
    mirrored = replace(state, backlog=state.backlog[::-1], arrived_prompts=state.arrived_prompts)
    assert route(scenario, mirrored, policy_of(scenario, [2.0])) == [[1], [0]]


def test_slots_without_any_arrivals_are_not_learned_from() -> None:
    """They are the drain, or a pause: the estimate stays."""
    scenario, pods = cpus([FAST, FAST], tau_s=15.0)
    scheduler = SolverScheduler(scenario, PARAMETERS)
    policy, state = policy_of(scenario, [30.0]), running(scenario, pods)
    first = decide(scheduler.schedule(state, InForce(policy))).destination
    assert (first == REFUSE).all()  # 15 s each, the deadline
    for _ in range(200):
        last = decide(scheduler.schedule(state, InForce(policy))).destination
    assert np.array_equal(first, last)


@pytest.mark.parametrize(
    ("pod", "mode", "delay_s"),
    [
        (POD_STARTING, CPU, 6.0),  # at most all of the start
        (POD_PENDING, OFF, 6.0),
        (POD_STOPPING, CPU, 8.0),  # 2 s to stop, 6 s to start again
    ],
)
def test_a_pod_that_is_not_ready_is_expected_when_it_will_be(
    pod: int, mode: int, delay_s: float
) -> None:
    """Its node is chosen iff the other one's queue takes longer."""
    model = Model(cpu=CORE, gpu=None, start_s=6.0, stop_s=2.0)
    scenario = world([node()] * 2, [model])
    for queue in (delay_s - 1, delay_s + 1):
        state = running(
            scenario,
            [[FAST], [FAST]],
            pod=[[pod], [3]],
            mode=[[mode], [CPU]],
            backlog=[[0], [int(queue)]],
        )
        (first,), _ = route(scenario, state, policy_of(scenario, [0.02]))
        assert first == (0 if queue > delay_s else 1)


# Where not to go


def test_never_off_role() -> None:
    scenario, pods = cpus([FAST, FAST])
    state = running(scenario, pods, backlog=[[0], [50]])
    policy = replace(policy_of(scenario, [2.0]), roles=np.array([[False], [True]]))
    assert route(scenario, state, policy) == [[1], [1]]


def test_never_to_a_node_that_is_down() -> None:
    scenario, pods = cpus([FAST, FAST])
    state = running(scenario, pods, backlog=[[0], [50]], up=[False, True])
    assert route(scenario, state, policy_of(scenario, [2.0])) == [[1], [1]]


def test_never_where_the_pod_is_to_be_off() -> None:
    scenario, pods = cpus([ABSENT, FAST])
    state = running(scenario, pods, backlog=[[0], [50]])
    assert route(scenario, state, policy_of(scenario, [2.0])) == [[1], [1]]


def test_the_first_slot_is_spread_as_the_plan_means_it() -> None:
    """No pod is wanted yet: three quarters of four equal origins to node 0."""
    scenario = world([node()] * 4, [Model(gpu=None)])
    policy = policy_of(scenario, [8.0])
    routing, roles = (
        np.array([[0.75], [0.25], [0], [0]]),
        np.array([[True], [True], [False], [False]]),
    )
    policy = replace(policy, routing=routing, roles=roles)
    to = route(scenario, idle(scenario), policy)
    assert Counter(n for (n,) in to) == {0: 3, 1: 1}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_any_state_gets_a_plan_within_roles_and_hosts(seed: int) -> None:
    scenario, rng = shipped(), np.random.default_rng(seed)
    hosts = scenario.hosts()
    mode = np.where(hosts, rng.integers(0, 3, hosts.shape), OFF)
    mode[0] = np.minimum(mode[0], CPU)
    mode[:, 2:] = np.where(mode[:, 2:] == CPU, OFF, mode[:, 2:])
    state = idle(
        scenario,
        backlog=rng.integers(0, 200, hosts.shape),
        up=rng.random(6) < 0.8,
        want_mode=mode,
        want_cores=np.where(mode != OFF, 4.0, 0.0),
        pod=rng.integers(0, 5, hosts.shape),
        mode=mode,
        cards=np.where(mode == GPU, 1, 0),
    )
    roles = hosts & (rng.random(hosts.shape) < 0.7)
    policy = replace(policy_of(scenario, [20.0] * 4), roles=roles)
    to = np.array(route(scenario, state, policy))
    for i in range(4):
        usable = (mode[:, i] != OFF) & state.up & roles[:, i]
        meant = roles[:, i] & state.up
        allowed = usable if usable.any() else meant if meant.any() else hosts[:, i]
        assert set(to[:, i].tolist()) <= {REFUSE, *np.flatnonzero(allowed).tolist()}
    assert np.array_equal(to, route(scenario, state, policy))


# Shared GPUs


def sharing_world(tau_s: float = 1e6) -> Scenario:
    """LM 0 on GPUs (1 s) or CPUs (1 s a core); LM 1 on GPUs only (1 s)."""
    models = [Model(cpu=CORE), Model(gpu_only=True)]
    return world([node(gpus=1, slices=2)] * 2, models, tau_s=tau_s)


def test_a_gpu_to_oneself_is_preferred() -> None:
    """8 prompts ahead on either GPU, but on node 0 LM 1 is at work, too."""
    scenario = sharing_world()
    state = running(
        scenario, [[on_gpu(), on_gpu()], [on_gpu(), on_gpu()]], backlog=[[8, 30], [9, 0]]
    )
    to = route(scenario, state, policy_of(scenario, [0.02, 0.0]))
    assert [row[0] for row in to] == [1, 1]


def test_holding_up_many_small_requests_counts() -> None:
    """6 s of LM 0 would be done at 26 s on node 1's CPU behind 20 prompts, at 18 s on node 0's GPU:
    with 6 s of its own and up to 12 s of LM 1, whose 12 requests it would keep waiting 6 s each."""
    scenario = sharing_world()
    state = running(
        scenario, [[on_gpu(), on_gpu()], [on_cpu(1), ABSENT]], backlog=[[0, 12], [20, 0]]
    )
    to = route(scenario, state, policy_of(scenario, [12.0, 0.0]))
    assert to[0][0] == 1


# Refusal


def refusals(limit_share: float, tau_s: float, **policy: list[float]) -> list[list[int]]:
    """Two nodes of 1 s a prompt, 12 prompts ahead on either, 3 prompts from either origin: 12 s of
    waiting and 3 s of service."""
    scenario, pods = cpus([FAST, FAST], tau_s=tau_s)
    state = running(scenario, pods, backlog=[[12], [12]])
    return route(scenario, state, policy_of(scenario, [6.0], **policy), refuse_above=limit_share)


def test_refusal_above_the_limit_of_waiting_only() -> None:
    assert sorted(refusals(0.25, tau_s=48.1)) == [[0], [1]]  # 12 s < 12.025 s
    assert refusals(0.25, tau_s=47.9) == [[REFUSE], [REFUSE]]


def test_a_long_service_is_no_waiting() -> None:
    """Idle nodes and 12 s of service: beyond a quarter of tau, and served in time."""
    scenario, pods = cpus([FAST, FAST], tau_s=20.0)
    to = route(scenario, running(scenario, pods), policy_of(scenario, [24.0]), refuse_above=0.25)
    assert sorted(to) == [[0], [1]]


@pytest.mark.parametrize(("tau_s", "served"), [(13.4, True), (13.3, False)])
def test_what_is_hardly_done_in_time_is_refused(tau_s: float, served: bool) -> None:
    """12 s of service against nine tenths of tau: 12.06 s and 11.97 s."""
    scenario, pods = cpus([FAST, FAST], tau_s=tau_s)
    to = route(scenario, running(scenario, pods), policy_of(scenario, [24.0]))
    assert sorted(to) == ([[0], [1]] if served else [[REFUSE], [REFUSE]])


def test_a_pod_that_starts_is_waited_for() -> None:
    """Ready in 6 s at most: within 0.25 of 25 s, beyond 0.25 of 23 s."""
    scenario = world([node()], [Model(cpu=CORE, gpu=None, start_s=6.0)], tau_s=25.0)
    state = running(scenario, [[FAST]], pod=[[POD_STARTING]])
    policy = policy_of(scenario, [2.0])
    assert route(scenario, state, policy, refuse_above=0.25) == [[0]]
    late = replace(scenario, tau_s=23.0)
    assert route(late, state, policy, refuse_above=0.25) == [[REFUSE]]


def test_a_neighbour_on_the_gpu_is_waited_for() -> None:
    """LM 0 alone has 5 s of service; 20 s of LM 1 on the same GPU hold it up for another 5 s."""
    expected = np.array([[5, 0], [0, 0]])
    for tau_s, to in ((41.0, 0), (39.0, REFUSE)):  # an eighth of it: 5.125 and 4.875 s
        scenario = sharing_world(tau_s=tau_s)
        state = running(
            scenario, [[on_gpu(), on_gpu()], [ABSENT, ABSENT]], backlog=[[0, 20], [0, 0]]
        )
        policy = policy_of(scenario, [1.0, 1.0])
        first, _ = route(scenario, state, policy, lambda _: expected, refuse_above=0.125)
        assert first[0] == to


@pytest.mark.parametrize(
    ("cards", "to"),
    [([1, 2], 0), ([1, 1], REFUSE), ([UNKNOWN] * 2, REFUSE), ([1, UNKNOWN], REFUSE)],
)
def test_a_pod_on_unknown_gpus_is_a_neighbour_at_worst(cards: list[int], to: int) -> None:
    """As above, on a node of two GPUs: on one of its own, LM 0 waits for nobody."""
    scenario = world(
        [node(gpus=2, slices=2), node()], [Model(cpu=CORE), Model(gpu_only=True)], tau_s=39.0
    )
    state = running(
        scenario,
        [[on_gpu(), on_gpu()], [ABSENT, ABSENT]],
        backlog=[[0, 20], [0, 0]],
        cards=[cards, [0, 0]],
    )
    policy, expected = policy_of(scenario, [1.0, 1.0]), np.array([[5, 0], [0, 0]])
    first, _ = route(scenario, state, policy, lambda _: expected, refuse_above=0.125)
    assert first[0] == to


def test_a_refused_origin_leaves_the_place_to_the_next() -> None:
    """Origin 0 expects 30 prompts, too many for 25 s; origin 1 sends 2."""
    scenario, pods = cpus([FAST, FAST], tau_s=25.0)
    expected = np.array([[30], [2]])
    to = route(
        scenario, running(scenario, pods), policy_of(scenario, [2.0]), foresight=lambda _: expected
    )
    assert to == [[REFUSE], [0]]


def test_nothing_is_refused_that_some_node_can_do_in_time() -> None:
    """LM 0's 50 prompts would wait 20 s on node 0's GPU, whose 20 requests of LM 1 they would hold
    up, and 80 s on node 1's CPU, where they hold up nobody. The limit is 75 s: node 1 is too late,
    node 0 is not."""
    scenario = sharing_world(tau_s=300.0)
    state = running(
        scenario, [[on_gpu(), on_gpu()], [on_cpu(1), ABSENT]], backlog=[[0, 20], [80, 0]]
    )
    expected = np.array([[50, 0], [0, 0]])
    policy = policy_of(scenario, [1.0, 1.0])
    for limit_share, node_row in ((0.25, 0), (0.27, 1)):
        to = route(scenario, state, policy, foresight=lambda _: expected, refuse_above=limit_share)
        assert to[0][0] == node_row


def test_a_saturated_lm_is_refused_earlier() -> None:
    """More arrives than a plan can serve: a longer queue would only make everybody late."""
    within = {"tau_s": 100.0, "limit_share": 0.25}  # 25 s; saturated: 7.5 s
    assert sorted(refusals(**within, served=[1.0])) == [[0], [1]]
    assert sorted(refusals(**within, served=[0.96])) == [[0], [1]]
    assert refusals(**within, served=[0.9]) == [[REFUSE], [REFUSE]]


def test_two_requests_ahead_are_never_too_many() -> None:
    """Requests of 10 prompts and 10 s, a saturated LM, whose limit is 7.5 s: 20 prompts ahead are
    two requests, 21 are more."""
    scenario, pods = cpus([FAST], tau_s=100.0)
    demand = Demand(np.array([0.1]), np.array([10.0]))
    policy = replace(policy_of(scenario, [1.0], served=[0.5]), demand=demand)
    for ahead, to in ((20, [[0]]), (21, [[REFUSE]])):
        assert route(scenario, running(scenario, pods, backlog=[[ahead]]), policy) == to


def test_a_guess_refuses_nothing_early() -> None:
    assert sorted(refusals(0.25, tau_s=100.0)) == [[0], [1]]


# Foresight


def test_foresight_is_asked_for_the_slot_that_begins() -> None:
    scenario, pods = cpus([FAST, FAST])
    asked: list[int] = []

    def foresight(slot: int) -> Ints:
        asked.append(slot)
        return np.array([[5], [1]])

    state = running(scenario, pods, slot=6, backlog=[[0], [3]])
    assert route(scenario, state, policy_of(scenario, [2.0]), foresight) == [[0], [1]]
    assert asked == [7]
