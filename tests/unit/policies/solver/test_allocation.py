"""What a node's allocation costs, by hand, and that each one is what the twin makes of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.capacity import feasible
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_READY
from controller.policies.solver.allocation import (
    MAX_LOAD,
    SHORTAGE,
    VARIABILITY,
    Allocation,
    burst,
    congestion,
    cost,
    enumerate_allocations,
)
from tests.reference.cases import Case
from tests.reference.playback import play
from tests.reference.worlds import Ask, Model, node, requests, slot, world
from tests.unit.policies.states import shipped, with_cores_on_gpu

SLOT_S = 10.0


def allocations(scenario: Scenario) -> list[Allocation]:
    ((_, found),) = enumerate_allocations(scenario)
    assert found is not None
    return found


def pick(found: list[Allocation], mode: list[int], cores: list[float] | None = None) -> Allocation:
    (one,) = (
        a for a in found if a.mode.tolist() == mode and (cores is None or a.cores.tolist() == cores)
    )
    return one


def one_gpu() -> list[Allocation]:
    """LM 0: 1 s on the GPU, 2 s on 4 cores, 4 s on 2; LM 1: 3 s, GPU only."""
    models = [
        Model(cpu=Curve((2.0, 4.0), (4.0, 2.0))),
        Model(gpu=Curve((1.0,), (3.0,)), gpu_only=True),
    ]
    return allocations(world([node(cores=4, gpus=1)], models))


def price(allocation: Allocation, demand: list[float], prompts: float = 1.0) -> float:
    each = np.full(len(demand), prompts)
    return cost(allocation, np.array(demand), each, SLOT_S, switch_loss=0.1)


def test_waiting_within_a_slot() -> None:
    """Three requests together wait 0 + 1 + 2 turns of 2 s in each slot of 10 s: 0.6 on average.
    Below two a slot, half a Poisson number's m^2 / 2 turns are more than m (m - 1) / 2."""
    assert burst(np.array([3.0]), 2.0, SLOT_S) == pytest.approx(3 * 2 / 10)
    assert burst(np.array([1.0]), 2.0, SLOT_S) == pytest.approx(0.25 * 2 / 10)
    assert burst(np.array([2.0]), 2.0, SLOT_S) == pytest.approx(1.0 * 2 / 10)
    assert burst(np.array([0.0]), 2.0, SLOT_S) == 0.0


def test_waiting_from_slot_to_slot() -> None:
    assert congestion(np.array([0.5])) == pytest.approx(VARIABILITY * 0.25 / 0.5)


@pytest.mark.parametrize("waiting", [lambda m: burst(m, 1.0, SLOT_S), congestion])
def test_waiting_is_convex(waiting) -> None:  # type: ignore[no-untyped-def]
    """What makes a piecewise linear program of it."""
    slopes = np.diff(waiting(np.linspace(0, 0.95, 200)))
    assert all(b >= a - 1e-15 for a, b in pairwise(slopes))
    assert slopes[0] >= 0


def test_cost_of_one_pod() -> None:
    """LM 0 on all 4 cores: 2 requests of 2 s a slot of 10 s. Service 0.4; turns max(1, 1) * 2 s,
    0.2; congestion 0.35 * 0.16 / 0.6."""
    allocation = pick(one_gpu(), [CPU, OFF])
    assert price(allocation, [2.0, 0.0]) == pytest.approx(0.4 + 0.2 + 0.35 * 0.16 / 0.6)


def test_cost_of_two_pods_on_a_gpu() -> None:
    """LM 0: 2 requests of 1 s; LM 1: 1 of 3 s. They load the GPU with 0.2 and 0.3, with switching
    0.5 / 0.9. LM 0's two are held up by at most 1 s when LM 1 is there (0.3), LM 1's one by 1 s
    when LM 0 is (0.2)."""
    allocation = pick(one_gpu(), [GPU, GPU])
    load = 0.5 / 0.9
    turns = (1.0 * 1 + 0.25 * 3) / 10
    held_up = (2 * 1 * 0.3 + 1 * 1 * 0.2) / 10
    expected = 0.5 + turns + held_up + 0.35 * load**2 / (1 - load)
    assert price(allocation, [2.0, 1.0]) == pytest.approx(expected)


def test_what_meets_no_pod_or_no_capacity_waits_for_long() -> None:
    off, busy = pick(one_gpu(), [OFF, OFF]), pick(one_gpu(), [OFF, GPU])
    assert price(off, [1.0, 0.5]) == SHORTAGE * 1.5
    assert price(busy, [1.0, 0.0]) == SHORTAGE
    # 5 requests of 3 s a slot of 10 s: what is above MAX_LOAD has no place.
    over = price(busy, [0.0, 5.0])
    place = MAX_LOAD * SLOT_S / 3
    expected = SHORTAGE * (5 - place) + MAX_LOAD + 0.35 * MAX_LOAD**2 / (1 - MAX_LOAD)
    assert over == pytest.approx(expected + 5 * 4 / 2 * 3 / 10)


def test_longer_requests_cost_more() -> None:
    allocation = pick(one_gpu(), [CPU, GPU])
    assert price(allocation, [1.0, 1.0], prompts=1.5) > price(allocation, [1.0, 1.0])


def test_cores_are_split_in_quarters() -> None:
    """8 cores between two CPU pods: 2 + 6, 4 + 4, 6 + 2; one alone has all."""
    found = allocations(world([node(cores=8)], [Model()] * 2))
    shares = sorted(a.cores.tolist() for a in found if a.active.all())
    assert shares == [[2, 6], [4, 4], [6, 2]]
    assert [a.cores.tolist() for a in found if a.active.sum() == 1] == [[0, 8], [8, 0]]
    assert pick(found, [CPU, CPU], [2, 6]).prompt_s.tolist() == [1.0, 1.0]


def test_more_pods_than_quarters_get_equal_parts() -> None:
    found = allocations(world([node(cores=10)], [Model()] * 5))
    assert [a.cores.tolist() for a in found if a.active.all()] == [[2.0] * 5]


def test_cores_beside_a_gpu_are_set_aside_first() -> None:
    scenario = with_cores_on_gpu(world([node(cores=8, gpus=1)], [Model()] * 2), 1.0)
    found = allocations(scenario)
    assert pick(found, [CPU, GPU]).cores.tolist() == [7.0, 1.0]
    assert pick(found, [GPU, GPU]).cores.tolist() == [1.0, 1.0]


def test_a_node_whose_cores_all_drive_gpus_has_no_cpu_pods() -> None:
    """One core, held by the pod on the GPU: the other LM cannot run on no core at all."""
    scenario = with_cores_on_gpu(world([node(cores=1, gpus=1)], [Model()] * 2), 1.0)
    modes = [a.mode.tolist() for a in allocations(scenario)]
    assert [CPU, GPU] not in modes
    assert [CPU, OFF] in modes


def test_the_first_allocation_is_all_off() -> None:
    for _, found in enumerate_allocations(shipped()):
        assert found is not None
        assert not found[0].active.any()
        assert np.isinf(found[0].prompt_s).all()


@pytest.mark.parametrize(("testbed", "profile"), [("paper", "a5000"), ("campus", "t4")])
def test_allocations_keep_equation_1(testbed: str, profile: str) -> None:
    scenario = shipped(testbed, profile)
    for rows, found in enumerate_allocations(scenario):
        assert len({(a.mode.tobytes(), a.cores.tobytes()) for a in found}) == len(found)
        for a in found:
            assert feasible(scenario, int(rows[0]), a.mode, a.cores, a.vgpus)
            assert (a.cores[a.mode == CPU] > 0).all()


tight = st.builds(
    lambda cores, gpus, slices, vram_gb, need_gb: with_cores_on_gpu(
        world(
            [node(cores=cores, gpus=gpus, slices=slices, vram_gb=vram_gb)],
            [Model(vram_gb=gb) for gb in need_gb],
            tau_s=20.0,
        ),
        1.0,
    ),
    st.sampled_from([1.0, 2.0, 4.0, 16.0]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([6.0, 10.0, 17.0]),
    st.lists(st.sampled_from([2.0, 4.0, 6.0, 9.0]), min_size=1, max_size=4),
)


@given(tight, st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_every_allocation_comes_up_on_the_twin_where_it_expects_to(
    scenario: Scenario, choice: int
) -> None:
    found = allocations(scenario)
    a = found[choice % len(found)]
    pods = list(zip(a.mode.tolist(), a.cores.tolist(), a.vgpus.tolist(), strict=True))
    state = play(Case(scenario, requests(scenario, [Ask(5.0)]), (slot([pods]),), ())).states[0]
    assert np.array_equal(state.pod[0] == POD_READY, a.active)
    assert state.cards[0].tolist() == [0 if g < 0 else 1 << g for g in a.card]


@pytest.mark.parametrize("lms", [9, 16])  # 16: too many to try, whatever is feasible
def test_a_node_with_too_many_allocations_is_not_enumerated(lms: int) -> None:
    scenario = world([node(cores=64, gpus=4, slices=4)], [Model()] * lms)  # on either device
    ((_, found),) = enumerate_allocations(scenario)
    assert found is None


def test_nodes_of_a_kind_share_their_allocations() -> None:
    scenario = shipped()
    kinds = enumerate_allocations(scenario)
    assert [rows.tolist() for rows, _ in kinds] == [[0], [1, 2, 3, 4], [5]]
    twice = replace(scenario, testbed=replace(scenario.testbed, nodes=scenario.testbed.nodes * 2))
    assert [len(found) for _, found in enumerate_allocations(twice)] == [len(f) for _, f in kinds]
