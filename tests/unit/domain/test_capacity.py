"""GPU memory for the worst packing, and pods that share GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.capacity import feasible, sharing, vram_holds
from controller.domain.state import CPU, GPU, OFF, POD_READY, UNKNOWN
from tests.reference.cases import Case
from tests.reference.playback import play
from tests.reference.worlds import ABSENT, Ask, Model, Pod, node, on_gpu, requests, slot, world

Pods = list[tuple[int, int]]  # slices and GB of each


def assignments(pods: Pods, gpus: int, slices: int) -> Iterator[list[set[int]]]:
    """Every way to give each pod its slices: the GPUs that each one touches."""
    wanted = [(p, s) for p, (count, _) in enumerate(pods) for s in range(count)]
    for places in product(range(gpus), repeat=len(wanted)):
        if all(places.count(g) <= slices for g in range(gpus)):
            yield [
                {g for g, (owner, _) in zip(places, wanted, strict=True) if owner == p}
                for p in range(len(pods))
            ]


def fits_everywhere(pods: Pods, gpus: int, slices: int, gpu_gb: int) -> bool:
    """Try out all that the plugin may do; a pod needs its whole memory on each GPU it touches."""
    return all(
        sum(gb for (_, gb), touched in zip(pods, spans, strict=True) if g in touched) <= gpu_gb
        for spans in assignments(pods, gpus, slices)
        for g in range(gpus)
    )


@settings(max_examples=400, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=4),
    st.integers(1, 20),
)
def test_memory_holds_iff_it_holds_for_every_assignment(
    gpus: int, slices: int, pods: Pods, gpu_gb: int
) -> None:
    while sum(count for count, _ in pods) > min(7, gpus * slices):
        pods = pods[1:]
    holds = vram_holds((gb for _, gb in pods), slices, gpu_gb)
    assert holds == fits_everywhere(pods, gpus, slices, gpu_gb)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(4, 24))
def test_no_feasible_pod_stays_pending(seed: int, gpus: int, slices: int, gpu_gb: int) -> None:
    """Whatever ran before, and in whatever order it went: once the old pods are gone, every pod of
    a feasible set is ready in the twin."""
    rng = np.random.default_rng(seed)
    models = [Model(vram_gb=float(gb), stop_s=1.0) for gb in rng.integers(1, 10, 5)]
    machine = node(cores=100, gpus=gpus, slices=slices, vram_gb=float(gpu_gb))
    scenario = world([machine], models, tau_s=15.0)
    steps: list[list[Pod]] = []
    for _ in range(200):
        pods = [on_gpu(int(rng.integers(1, 4))) if rng.random() < 0.6 else ABSENT for _ in models]
        mode, cores, vgpus = (np.array(column) for column in zip(*pods, strict=True))
        if len(steps) < 6 and feasible(scenario, 0, mode, cores, vgpus):
            steps.append(pods)
    script = tuple(slot([pods]) for pods in steps)
    last = Ask(born_s=10.0 * len(steps) - 1)
    case = Case(scenario, requests(scenario, [last]), script, ())
    for pods, state in zip(steps, play(case).states, strict=False):
        wanted = np.array([pod[0] for pod in pods]) == GPU
        assert np.array_equal(state.want_mode[0] == GPU, wanted)
        assert np.array_equal(state.pod[0] == POD_READY, wanted)


def shared_by(cards: list[int], mode: list[int]) -> list[list[int]]:
    """Who shares with whom on one node."""
    matrix: list[list[int]] = sharing(np.array([cards]), np.array([mode]))[0].astype(int).tolist()
    return matrix


def test_pods_share_by_their_masks() -> None:
    assert shared_by([0b01, 0b11, 0b10, 0], [GPU, GPU, GPU, OFF]) == [
        [0, 1, 0, 0],
        [1, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]


def test_unknown_gpus_are_at_worst_everybodys() -> None:
    assert shared_by([0b01, UNKNOWN, 0b10, 0], [GPU, GPU, GPU, GPU]) == [
        [0, 1, 0, 0],
        [1, 0, 1, 1],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
    ]
    assert shared_by([UNKNOWN, UNKNOWN, 0, 0], [GPU, GPU, CPU, OFF]) == [
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_plugin_that_tells_nothing_of_a_node_makes_no_gpu_pods_of_others() -> None:
    """Where nothing can be observed, pods that are off or on cores are UNKNOWN too."""
    assert shared_by([UNKNOWN] * 4, [GPU, CPU, OFF, GPU]) == [
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
    ]


@given(st.integers(0, 2**32 - 1))
def test_to_know_gpus_never_adds_sharers(seed: int) -> None:
    """UNKNOWN is the worst case: whatever the masks are, nobody shares who did not at worst."""
    rng = np.random.default_rng(seed)
    mode = rng.choice([OFF, CPU, GPU], (3, 4))
    cards = np.where(mode == GPU, rng.integers(1, 8, mode.shape), 0)
    told = np.where(rng.random(mode.shape) < 0.5, cards, UNKNOWN)
    assert (sharing(told, mode) >= sharing(cards, mode)).all()


def test_memory_counts_only_on_gpus() -> None:
    scenario = world([node(gpus=1, slices=2, vram_gb=10.0)], [Model(vram_gb=6.0)] * 3)
    mode = np.array([GPU, CPU, OFF])
    assert feasible(scenario, 0, mode, np.array([0.0, 1.0, 0.0]), np.array([1, 0, 0]))
