"""VTC-GPU: counters in calibrated GPU-seconds, least served first."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from controller.domain.capacity import feasible
from controller.domain.decisions import InForce
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, ClusterState
from controller.policies.vtc import ServiceCounters, VtcDeployer, VtcScheduler
from tests.reference.worlds import ABSENT, Model, node, on_cpu, on_gpu, world
from tests.unit.policies.states import (
    decide,
    idle,
    open_policy,
    rows_of,
    running,
    shipped,
    with_cores_on_gpu,
)

ROW = np.array([0])


def present(*lms: bool) -> np.ndarray:
    return np.array([lms])


def given_service(*seconds: float) -> np.ndarray:
    return np.array([seconds])


# Counters


def counters(lms: int = 2) -> ServiceCounters:
    return ServiceCounters(world([node()], [Model()] * lms))


def test_a_counter_grows_by_the_service_received() -> None:
    service = counters()
    service.update(ROW, given_service(3.0, 1.0), present(True, True))
    service.update(ROW, given_service(2.0, 0.0), present(True, True))
    assert service.counter.tolist() == [[5.0, 1.0]]


def test_who_returns_is_lifted_to_the_least_of_those_present() -> None:
    """LM 2 idles while the others receive 10 and 6 GPU-seconds: it comes back at 6, not at 0."""
    service = counters(3)
    service.update(ROW, given_service(0, 0, 0), present(True, True, True))
    service.update(ROW, given_service(10, 6, 0), present(True, True, False))
    service.update(ROW, given_service(0, 0, 0), present(True, True, True))
    assert service.counter.tolist() == [[10.0, 6.0, 6.0]]


def test_nobody_is_lowered_on_return() -> None:
    service = counters()
    service.update(ROW, given_service(9, 2), present(True, True))
    service.update(ROW, given_service(0, 1), present(False, True))
    service.update(ROW, given_service(0, 0), present(True, True))
    assert service.counter.tolist() == [[9.0, 3.0]]


def test_staying_earns_no_lift() -> None:
    """Who has been waiting all along keeps the credit: that is what the counter is for."""
    service = counters()
    for _ in range(3):
        service.update(ROW, given_service(5, 0), present(True, True))
    assert service.counter.tolist() == [[15.0, 0.0]]


def test_an_idle_node_gives_no_credit_either() -> None:
    """LM 0 was served 8 s and left; LM 1 comes to the empty node, then LM 0 again. With LM 1 at 0,
    LM 0 would stand back for 8 GPU-seconds that LM 1 never waited for."""
    service = counters()
    service.update(ROW, given_service(8, 0), present(True, False))
    service.update(ROW, given_service(0, 0), present(False, False))
    service.update(ROW, given_service(0, 0), present(False, False))
    service.update(ROW, given_service(0, 0), present(False, True))
    assert service.counter.tolist() == [[8.0, 8.0]]


def test_a_first_arrival_starts_at_zero() -> None:
    service = counters()
    service.update(ROW, given_service(0, 0), present(True, False))
    assert service.counter.tolist() == [[0.0, 0.0]]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_counters_by_plain_loops(history: list[tuple[int, int]]) -> None:
    """Bits of the pair: who is at work, who of them was served (one second)."""
    service = counters(3)
    counter, before, latest = [0.0] * 3, set[int](), set[int]()
    for work, served in history:
        here = {i for i in range(3) if work >> i & 1}
        got = {i for i in here if served >> i & 1}
        for i in got:
            counter[i] += 1.0
        peers = (before & here) or latest
        least = min((counter[i] for i in peers), default=0.0)
        for i in here - before:
            counter[i] = max(counter[i], least)
        before, latest = here, here or latest
        service.update(
            ROW,
            given_service(*(float(i in got) for i in range(3))),
            present(*(i in here for i in range(3))),
        )
        assert service.counter[0].tolist() == counter


def test_counters_of_a_nodes_own_service_are_its_alone() -> None:
    service = ServiceCounters(world([node()] * 3, [Model()] * 2))
    service.update(np.array([2]), given_service(4.0, 0.0), present(True, False))
    assert service.counter.tolist() == [[0, 0], [0, 0], [4, 0]]


# Calibrated seconds


def gpu_world(gpus: int = 1, slices: int = 2) -> Scenario:
    """LM 0: 2 s on the GPU, 8 s on 8 cores, the share that one LM alone on CPUs gets; LM 1: GPU
    only."""
    eight = Curve((8.0,), (8.0,))
    models = [Model(cpu=eight, gpu=Curve((1.0,), (2.0,))), Model(gpu_only=True)]
    return world([node(cores=8, gpus=gpus, slices=slices)], models)


def test_a_second_on_cpus_is_worth_the_gpu_time_it_replaces() -> None:
    """8 s on the CPU do what 2 s on the GPU do: a quarter."""
    scenario = gpu_world()
    state = running(scenario, [[on_cpu(8), on_gpu()]], busy_s=[[20.0, 12.0]])
    assert ServiceCounters(scenario).given_s(state).tolist() == [[5.0, 12.0]]


def test_a_shared_gpu_is_shared_in_the_account() -> None:
    scenario = gpu_world()
    both = running(scenario, [[on_gpu(), on_gpu()]], busy_s=[[10.0, 30.0]])
    alone = running(scenario, [[on_gpu(), on_gpu()]], busy_s=[[0.0, 30.0]])
    apart = running(gpu_world(gpus=2), [[on_gpu(), on_gpu()]], busy_s=[[10.0, 30.0]])
    assert ServiceCounters(scenario).given_s(both).tolist() == [[5.0, 15.0]]
    assert ServiceCounters(scenario).given_s(alone).tolist() == [[0.0, 30.0]]
    assert ServiceCounters(gpu_world(gpus=2)).given_s(apart).tolist() == [[10.0, 30.0]]


def test_cpu_service_without_any_gpu_to_compare_with_is_free() -> None:
    scenario = world([node()], [Model(gpu=None)])
    state = running(scenario, [[on_cpu(8)]], busy_s=[[10.0]])
    assert ServiceCounters(scenario).given_s(state).tolist() == [[0.0]]


# Deployer


def one_slice(start_s: float = 3.0, stop_s: float = 2.0) -> Scenario:
    models = [Model(gpu_only=True, start_s=start_s, stop_s=stop_s)] * 2
    return world([node(cores=4, gpus=1, slices=1)], models)


def modes(deployer: VtcDeployer, scenario: Scenario, state: ClusterState) -> list[list[int]]:
    chosen: list[list[int]] = decide(
        deployer.deploy(state, InForce(open_policy(scenario)))
    ).mode.tolist()
    return chosen


def test_the_slice_goes_to_the_least_served_and_stays_until_the_lag_exceeds_a_restart() -> None:
    """A restart takes 5 s: LM 0 keeps the GPU up to 5 GPU-seconds ahead, and loses it after."""
    scenario = one_slice()
    deployer, backlog = VtcDeployer(scenario), [[50, 50]]
    pods = [[on_gpu(), ABSENT]]
    assert modes(deployer, scenario, idle(scenario, backlog=backlog)) == [[GPU, OFF]]
    for busy_s, expected in ((4.0, [GPU, OFF]), (0.9, [GPU, OFF]), (0.2, [OFF, GPU])):
        state = running(scenario, pods, backlog=backlog, busy_s=[[busy_s, 0.0]])
        assert modes(deployer, scenario, state) == [expected]


def test_over_time_both_get_the_same_gpu_seconds() -> None:
    """Two backlogged LMs on one slice, served by a hand-made node for 200 slots of 10 s."""
    scenario = one_slice()
    deployer, mode, total = VtcDeployer(scenario), [OFF, OFF], np.zeros(2)
    lead = []
    for _ in range(200):
        busy_s = [9.0 if m == GPU else 0.0 for m in mode]
        total += busy_s
        lead.append(total[0] - total[1])
        pods = [[on_gpu() if m == GPU else ABSENT for m in mode]]
        state = running(scenario, pods, backlog=[[50, 50]], busy_s=[busy_s])
        (mode,) = modes(deployer, scenario, state)
    assert max(map(abs, lead)) <= 5.0 + 9.0  # a restart and a slot's service
    assert total.sum() == 199 * 9.0


def test_lms_with_work_go_before_idle_ones() -> None:
    scenario = one_slice()
    deployer = VtcDeployer(scenario)
    state = running(scenario, [[on_gpu(), ABSENT]], backlog=[[0, 3]])
    assert modes(deployer, scenario, state) == [[OFF, GPU]]


def test_who_finds_no_slice_runs_on_cpus_if_it_can() -> None:
    models = [Model(start_s=3.0), Model(start_s=3.0)]
    scenario = with_cores_on_gpu(world([node(cores=5, gpus=1, slices=1)], models), 1.0)
    chosen = decide(
        VtcDeployer(scenario).deploy(
            idle(scenario, backlog=[[1, 1]]), InForce(open_policy(scenario))
        )
    )
    assert chosen.mode.tolist() == [[GPU, CPU]]
    assert chosen.cores.tolist() == [[1.0, 2.0]]  # (5 cores - 1 host core) / 2 LMs
    assert chosen.vgpus.tolist() == [[1, 0]]


@pytest.mark.parametrize(("slices", "expected"), [(2, [GPU, OFF, OFF]), (1, [GPU, GPU, OFF])])
def test_no_pods_that_one_gpu_may_get_and_not_hold(slices: int, expected: list[int]) -> None:
    """6 + 6 + 6 GB on two GPUs of 10 GB, where a plugin may put two pods on one, or cannot."""
    machine = node(gpus=2, slices=slices, vram_gb=10)
    scenario = world([machine], [Model(vram_gb=6, gpu_only=True)] * 3)
    state = idle(scenario, backlog=[[1, 1, 1]])
    assert modes(VtcDeployer(scenario), scenario, state) == [expected]


def test_pods_on_unknown_gpus_are_taken_to_share_one() -> None:
    """Three pods on three GPUs that serve all the time; with unknown GPUs each gets a third."""
    scenario = world([node(gpus=3)], [Model()] * 3)
    state = running(scenario, [[on_gpu()] * 3], busy_s=[[9.0, 9.0, 0.0]])
    unknown = replace(state, cards=np.full((1, 3), -1))
    assert ServiceCounters(scenario).given_s(state).tolist() == [[9.0, 9.0, 0.0]]
    assert ServiceCounters(scenario).given_s(unknown).tolist() == [[4.5, 4.5, 0.0]]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_deployments_keep_equation_1(seed: int) -> None:
    scenario, rng = shipped("campus", "t4"), np.random.default_rng(seed)
    deployer = VtcDeployer(scenario)
    for _ in range(5):
        state = idle(
            scenario,
            backlog=rng.integers(0, 5, (3, 4)),
            mode=np.full((3, 4), GPU),
            busy_s=rng.uniform(0, 30, (3, 4)),
        )
        chosen = decide(deployer.deploy(state, InForce(open_policy(scenario))))
        for n in range(3):
            assert feasible(scenario, n, chosen.mode[n], chosen.cores[n], chosen.vgpus[n])


def test_a_nodes_own_service_decides_as_the_twin_does() -> None:
    scenario, rng = shipped(), np.random.default_rng(0)
    whole = VtcDeployer(scenario)
    own = [VtcDeployer(scenario) for _ in scenario.testbed.nodes]
    for _ in range(5):
        state = idle(
            scenario,
            backlog=rng.integers(0, 5, (6, 4)),
            mode=np.where(scenario.hosts(), GPU, OFF),
            busy_s=rng.uniform(0, 30, (6, 4)),
        )
        together = modes(whole, scenario, state)
        alone = [modes(own[n], scenario, rows_of(state, [n]))[0] for n in range(6)]
        assert together == alone


# Scheduler


def route(scenario: Scenario, state: ClusterState) -> np.ndarray:
    return decide(
        VtcScheduler(scenario).schedule(state, InForce(open_policy(scenario)))
    ).destination


def test_the_shortest_queue_in_seconds_not_in_prompts() -> None:
    """Node 0: 6 prompts of 0.5 s; node 1: 2 prompts of 2 s. A request of 3 prompts is expected
    of each origin: 3 s of queue against 4; then 4.5 against 4."""
    curve = Curve((1.0, 4.0), (2.0, 0.5))
    scenario = world([node(), node()], [Model(cpu=curve, gpu=None)])
    state = running(
        scenario,
        [[on_cpu(4)], [on_cpu(1)]],
        backlog=[[6], [2]],
        arrived_prompts=[[3], [0]],
        arrived_requests=[[1], [0]],
    )
    assert route(scenario, state).tolist() == [[0], [1]]


def test_a_slot_is_spread_over_equal_queues() -> None:
    scenario = world([node()] * 4, [Model()])
    state = running(scenario, [[on_cpu(1)]] * 4)
    assert sorted(route(scenario, state)[:, 0].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("down", [0, 1])
def test_a_node_that_is_down_gets_nothing(down: int) -> None:
    scenario = world([node(), node()], [Model()])
    up = np.arange(2) != down
    state = running(
        scenario, [[on_cpu(1)]] * 2, up=up, backlog=[[0 if n == down else 99] for n in (0, 1)]
    )
    assert (route(scenario, state) == 1 - down).all()
    assert set(route(scenario, idle(scenario, up=[False, False])).ravel().tolist()) <= {0, 1}


def test_gpu_only_lms_never_go_to_a_cpu_only_node() -> None:
    scenario = shipped()
    backlog = np.full((6, 4), 40)
    backlog[0] = 0
    assert_array_equal(route(scenario, idle(scenario, backlog=backlog))[:, 2:] != 0, True)


def test_where_the_lm_is_off_the_queue_counts_for_twice_the_slowest_pod() -> None:
    """Node 0 off with 2 prompts: 2 * 2 * 1.5 s; node 1 on with 4 prompts of 1.5 s: as long, so the
    lower index; with one prompt fewer on node 1, node 1."""
    scenario = world([node(), node()], [Model(cpu=Curve((1.0,), (1.5,)))])
    for prompts, first in ((4, 0), (3, 1)):
        state = running(scenario, [[ABSENT], [on_cpu(1)]], backlog=[[2], [prompts]])
        assert route(scenario, state)[0, 0] == first
