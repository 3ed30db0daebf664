"""The finite action set of a node, and what of it can be reached on the twin."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.capacity import blocked, feasible, kinds, landing
from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_PENDING, POD_READY, POD_STOPPING
from controller.policies.patterns import Patterns, enumerate_fixed, fixed_share, keeps_or_stops
from tests.reference.cases import Case
from tests.reference.playback import play
from tests.reference.worlds import Ask, Model, node, requests, slot, world
from tests.unit.policies.states import idle, running, shipped, with_cores_on_gpu

VM2, VM3, VM7 = 0, 1, 5  # rows of Table II's workers


def test_nodes_of_equal_hardware_are_one_kind_wherever_they_stand() -> None:
    assert [rows.tolist() for rows in kinds(shipped())] == [[VM2], [1, 2, 3, 4], [VM7]]


def test_fixed_share_of_the_papers_testbed() -> None:
    """Allocatable cores: 23 / 2 text LMs; (15 - 2 slices x 1 beside the GPU) / 2; (15 - 4) / 2."""
    assert [fixed_share(shipped(), n) for n in (VM2, VM3, VM7)] == [11.5, 6.5, 5.5]


def test_patterns_of_a_cpu_only_node() -> None:
    """LM1 and LM2 off or on CPU, the image LMs never: all that VM2 can do."""
    patterns = enumerate_fixed(shipped())[0]
    assert patterns.mode.tolist() == [[a, b, 0, 0] for a in (OFF, CPU) for b in (OFF, CPU)]
    assert not patterns.vgpus.any()


def tiny(cores: float, ram_gb: float, gpus: int, slices: int, vram_gb: float) -> Scenario:
    models = [
        Model(ram_gb=3, vram_gb=2),
        Model(ram_gb=9, vram_gb=5),
        Model(ram_gb=2.5, vram_gb=4, gpu_only=True),
        Model(ram_gb=3.5, vram_gb=6, gpu_only=True),
    ]
    machine = node(cores=cores, ram_gb=ram_gb, gpus=gpus, slices=slices, vram_gb=vram_gb)
    return with_cores_on_gpu(world([machine], models, tau_s=20.0), 1.0)


nodes = st.builds(
    tiny,
    st.sampled_from([2.0, 3.0, 4.0, 8.0, 16.0]),
    st.sampled_from([6.0, 12.0, 15.0, 18.0, 24.0]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([6.0, 8.0, 12.0, 17.0]),
)


def plain_patterns(scenario: Scenario) -> set[tuple[int, ...]]:
    """Eq. 1 by plain loops; vRAM, the one resource that is split, by trying out every way in which
    the device plugin can put GPU pods on GPUs: all must do."""
    machine, lms = scenario.testbed.nodes[0], scenario.testbed.lms
    share, found = fixed_share(scenario, 0), set()
    for mode in product((OFF, CPU, GPU), repeat=len(lms)):
        on = [i for i in range(len(lms)) if mode[i] != OFF]
        cores = sum(share if mode[i] == CPU else 1.0 for i in on)
        fits = cores <= machine.cores and sum(lms[i].ram_gb for i in on) <= machine.ram_gb
        fits = fits and all(share > 0 and not lms[i].gpu_only for i in on if mode[i] == CPU)
        pods = [lms[i].vram_gb for i in on if mode[i] == GPU]
        fits = fits and len(pods) <= machine.gpus * machine.vgpus_per_gpu
        for places in product(range(machine.gpus), repeat=len(pods)):
            groups = [
                [gb for gb, place in zip(pods, places, strict=True) if place == g]
                for g in range(machine.gpus)
            ]
            if max(map(len, groups)) <= machine.vgpus_per_gpu:
                fits = fits and max(map(sum, groups)) <= machine.vram_gb
        if fits:
            found.add(mode)
    return found


@given(nodes)
@settings(max_examples=60, deadline=None)
def test_patterns_are_exactly_those_within_equation_1(scenario: Scenario) -> None:
    (patterns,) = enumerate_fixed(scenario)
    assert {tuple(mode) for mode in patterns.mode.tolist()} == plain_patterns(scenario)
    assert not patterns.mode[0].any()  # the first is all off
    share = fixed_share(scenario, 0)
    assert np.array_equal(patterns.cores, np.choose(patterns.mode, [0.0, share, 1.0]))
    assert np.array_equal(patterns.vgpus, patterns.mode == GPU)


@given(nodes, st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_every_pattern_comes_up_on_the_twin(scenario: Scenario, pick: int) -> None:
    """No pattern holds a pod that would stay pending, and pods land where ``landing`` says."""
    (patterns,) = enumerate_fixed(scenario)
    k = pick % len(patterns)
    pods = list(zip(patterns.mode[k], patterns.cores[k], patterns.vgpus[k], strict=True))
    case = Case(scenario, requests(scenario, [Ask(5.0)]), (slot([pods]),), ())
    state = play(case).states[0]
    assert np.array_equal(state.pod[0] == POD_READY, patterns.mode[k] != OFF)
    gpu = landing(scenario, 0, patterns.mode[k])
    assert state.cards[0].tolist() == [0 if g < 0 else 1 << g for g in gpu]


def test_vram_is_budgeted_for_the_worst_packing() -> None:
    """Two LMs of 6 GB would land on a GPU of 10 GB each, but a plugin may put both on one; with one
    slice a GPU it cannot."""
    models = [Model(vram_gb=6.0)] * 3
    two = np.array([GPU, OFF, GPU])
    for slices, holds in ((2, False), (1, True)):
        scenario = world([node(gpus=2, slices=slices, vram_gb=10.0)], models)
        assert landing(scenario, 0, two).tolist() == [0, -1, 1]
        assert feasible(scenario, 0, two, np.zeros(3), np.array([1, 0, 1])) == holds


def test_a_gpu_pod_needs_a_vgpu() -> None:
    scenario = world([node(gpus=1)], [Model()])
    assert not feasible(scenario, 0, np.array([GPU]), np.zeros(1), np.array([0]))


def test_pods_spread_over_the_gpus_with_most_free_slices() -> None:
    scenario = world([node(gpus=2, slices=2)], [Model()] * 4)
    assert landing(scenario, 0, np.full(4, GPU)).tolist() == [0, 1, 0, 1]


def test_no_cpu_pod_without_cores() -> None:
    """Two GPU pods take both cores of the node: nothing is left to share out."""
    scenario = with_cores_on_gpu(world([node(cores=2, gpus=1)], [Model()] * 2), 1.0)
    assert fixed_share(scenario, 0) == 0.0
    (patterns,) = enumerate_fixed(scenario)
    assert not (patterns.mode == CPU).any()
    assert [GPU, GPU] in patterns.mode.tolist()


def test_too_many_lms_to_enumerate() -> None:
    scenario = world([node(gpus=1)], [Model()] * 10)  # 3^10 patterns
    with pytest.raises(InputError, match="too many LMs to enumerate"):
        enumerate_fixed(scenario)


def test_a_node_is_blocked_while_a_pod_is_pending_or_stopping() -> None:
    scenario = world([node()] * 4, [Model()] * 2)
    pods = [[POD_READY, POD_READY], [POD_READY, POD_PENDING], [POD_STOPPING, 0], [0, 2]]
    assert blocked(scenario, idle(scenario, pod=pods)).tolist() == [False, True, True, False]


def test_a_blocked_node_may_keep_or_stop() -> None:
    mode = np.array([[OFF, OFF], [CPU, OFF], [OFF, CPU], [CPU, CPU], [GPU, OFF], [GPU, CPU]])
    patterns = Patterns(np.array([0]), mode, np.zeros(mode.shape), np.zeros(mode.shape, np.int64))
    wanted = running(world([node(gpus=1)], [Model()] * 2), [[(GPU, 0.0, 1), (CPU, 1.0, 0)]])
    allowed = keeps_or_stops(patterns, wanted.want_mode)[0]
    assert mode[allowed].tolist() == [[OFF, OFF], [OFF, CPU], [GPU, OFF], [GPU, CPU]]
