"""Life of pods, placement and the Pending rule: examples worked by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, Stamp
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import (
    CPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
    ClusterState,
)
from controller.domain.testbed import Network
from controller.twin.cluster import Twin
from tests.reference.cases import Case
from tests.reference.playback import play
from tests.reference.worlds import (
    ABSENT,
    Ask,
    Model,
    Pod,
    node,
    on_cpu,
    on_gpu,
    requests,
    slot,
    world,
)


class Operator:
    """Commands pods on the one node of an idle twin, a slot at a time."""

    def __init__(self, scenario: Scenario) -> None:
        self.twin = Twin(scenario, requests(scenario, [Ask(1e5)]))
        self.slots = 0

    def deploy(self, *pods: Pod, thought_s: float = 0.0) -> tuple[ClusterState, list[bool]]:
        """The state as the slot ends, and what was voided."""
        return asyncio.run(self._slot(slot([pods]).deployment, thought_s))

    async def _slot(self, wishes: Deployment, thought_s: float) -> tuple[ClusterState, list[bool]]:
        voided = await self.twin.deploy(Stamp(self.slots), wishes, np.array([thought_s]))
        self.slots += 1
        await self.twin.sleep_until(self.slots * self.twin.scenario.slot_s)
        return await self.twin.observe(), voided[0].tolist()


def states(state: ClusterState) -> list[int]:
    return state.pod[0].tolist()


def test_starting_and_stopping_take_their_time_and_hold_their_resources() -> None:
    operator = Operator(world([node(cores=8)], [Model(start_s=15.0, stop_s=5.0, ram_gb=3.0)]))
    state, _ = operator.deploy(on_cpu(6))
    assert (states(state), state.free_cores[0], state.free_ram_gb[0]) == ([POD_STARTING], 2, 97)
    state, _ = operator.deploy(on_cpu(6))
    assert states(state) == [POD_READY]
    state, _ = operator.deploy(ABSENT, thought_s=7.0)
    assert (states(state), state.free_cores[0], state.mode[0, 0]) == ([POD_STOPPING], 2, CPU)
    state, _ = operator.deploy(ABSENT)
    assert (states(state), state.free_cores[0], state.mode[0, 0]) == ([POD_OFF], 8, OFF)


def test_a_change_of_allocation_is_a_stop_and_a_start() -> None:
    """Two prompts are done at 10, when the pod is told to take 4 cores instead of 2: the half-done
    third is lost, 5 s of stopping, 15 s of starting, then 2 s for each prompt left."""
    curve = Curve((2.0, 4.0), (4.0, 2.0))
    scenario = world([node()], [Model(cpu=curve, start_s=15.0, stop_s=5.0)], slot_s=25.0)
    asks = [Ask(0.0, prompts=4)]
    script = (slot([[on_cpu(2)]]), slot([[on_cpu(4)]]))
    played = play(Case(scenario, requests(scenario, asks), script, ()))
    record = played.twin.records[0]
    assert record["started_s"] == 15
    assert record["finished_s"] == 25 + 5 + 15 + 2 * 2
    assert record["inference_s"] == 10 + 4
    assert played.starts == [1, 2]


def test_pods_that_do_not_fit_are_pending_and_others_overtake_them() -> None:
    operator = Operator(world([node(cores=8)], [Model()] * 3))
    state, voided = operator.deploy(on_cpu(6), on_cpu(4), on_cpu(2))
    assert states(state) == [POD_READY, POD_PENDING, POD_READY]
    assert voided == [False] * 3
    state, _ = operator.deploy(ABSENT, on_cpu(4), on_cpu(2))
    assert states(state) == [POD_OFF, POD_READY, POD_READY]


def test_while_a_pod_is_pending_what_needs_more_is_void() -> None:
    operator = Operator(world([node(cores=8)], [Model()] * 4))
    operator.deploy(on_cpu(6), on_cpu(4), ABSENT, on_cpu(2))
    state, voided = operator.deploy(on_cpu(7), on_cpu(3), on_cpu(1), on_cpu(1))
    assert voided == [True, True, True, False]  # more; still pending; off; less
    assert_array_equal(state.want_cores[0], [6, 4, 0, 1])
    state, voided = operator.deploy(on_cpu(6), ABSENT, ABSENT, on_cpu(1))
    assert (voided, states(state)) == ([False] * 4, [POD_READY, POD_OFF, POD_OFF, POD_READY])


def test_while_a_pod_is_stopping_what_needs_more_is_void() -> None:
    operator = Operator(world([node(cores=8)], [Model(stop_s=12.0), Model()]))
    operator.deploy(on_cpu(6), ABSENT)
    operator.deploy(ABSENT, ABSENT)
    state, voided = operator.deploy(on_cpu(7), on_cpu(1))
    assert (voided, states(state)) == ([True, True], [POD_OFF, POD_OFF])


def test_a_stopping_pod_may_be_wished_back_as_it_was() -> None:
    operator = Operator(world([node()], [Model(stop_s=12.0)]))
    operator.deploy(on_cpu(6))
    operator.deploy(ABSENT)
    state, voided = operator.deploy(on_cpu(6))
    assert (voided, states(state), state.want_cores[0, 0]) == ([False], [POD_READY], 6)


@pytest.mark.parametrize(
    ("gpus", "slices", "vgpus", "expected"),
    [
        (2, 2, [1, 1, 1, 1], [0b01, 0b10, 0b01, 0b10]),
        (2, 2, [2, 2], [0b11, 0b11]),
        (2, 2, [3, 1], [0b11, 0b10]),  # two slices on the first, one on the second
        (2, 3, [1, 4, 1], [0b01, 0b11, 0b10]),  # 1 + 3 slices: most free on the second
        (3, 1, [2, 1, 1], [0b011, 0b100, 0]),
        (1, 2, [3], [0]),
        (0, 2, [1], [0]),
        (1, 2, [0], [0]),
    ],
)
def test_slices_go_where_most_are_free(
    gpus: int, slices: int, vgpus: list[int], expected: list[int]
) -> None:
    operator = Operator(world([node(gpus=gpus, slices=slices)], [Model()] * len(vgpus)))
    state, _ = operator.deploy(*map(on_gpu, vgpus))
    assert state.cards[0].tolist() == expected
    assert states(state) == [POD_READY if mask else POD_PENDING for mask in expected]


def test_gpu_memory_is_divided_over_the_gpus_that_a_pod_spans() -> None:
    """10 GB fit no GPU of 8 GB, but half of them each of two; 4 more do not fit beside them."""
    operator = Operator(world([node(gpus=2, vram_gb=8.0)], [Model(vram_gb=10), Model(vram_gb=4)]))
    state, _ = operator.deploy(on_gpu(1), on_gpu(1))
    assert states(state) == [POD_PENDING, POD_READY]
    state, _ = operator.deploy(ABSENT, ABSENT)
    state, _ = operator.deploy(on_gpu(2), on_gpu(1))
    assert states(state) == [POD_READY, POD_PENDING]


def test_the_curve_of_gpus_counts_the_gpus_spanned() -> None:
    curve = Curve((1.0, 2.0), (3.0, 2.0))
    scenario = world([node(gpus=2)], [Model(gpu=curve), Model(gpu=curve)])
    asks = [Ask(0.0), Ask(5.0, lm=1)]
    played = play(Case(scenario, requests(scenario, asks), (slot([[on_gpu(1), on_gpu(2)]]),), ()))
    assert_allclose(played.twin.records["inference_s"], [3, 2])


@pytest.mark.parametrize(
    ("model", "pod"),
    [
        (Model(gpu_only=True), on_cpu(1)),
        (Model(cpu=None), on_cpu(1)),
        (Model(), on_cpu(0)),
        (Model(gpu=None), on_gpu(1)),
        (Model(), on_gpu(0)),
        (Model(ram_gb=101), on_cpu(1)),
        (Model(), on_cpu(9)),
    ],
)
def test_what_can_never_run_stays_pending(model: Model, pod: Pod) -> None:
    state, _ = Operator(world([node(gpus=1)], [model])).deploy(pod)
    assert (states(state), state.free_cores[0], state.free_vgpus[0]) == ([POD_PENDING], 8, 2)


def test_cores_of_an_lm_that_is_off_mean_nothing() -> None:
    """They once made a pod out of it."""
    operator = Operator(world([node()], [Model()]))
    state, voided = operator.deploy((OFF, 5.0, 1))
    assert (states(state), state.want_cores[0, 0], voided) == ([POD_OFF], 0, [False])


def test_free_resources_come_back_exactly() -> None:
    """0.1 + 0.2 + ... do not add up in binary; a thousand starts and stops leave no trace."""
    operator = Operator(world([node(cores=7.3, ram_gb=9.9, gpus=1)], [Model(ram_gb=0.7)] * 3))
    fractions: Sequence[float] = np.random.default_rng(0).uniform(0.1, 2.0, 300).tolist()
    for k in range(0, len(fractions), 3):
        operator.deploy(*(on_cpu(c) for c in fractions[k : k + 3]))
        state, _ = operator.deploy(ABSENT, ABSENT, ABSENT)
        assert (state.free_cores[0], state.free_ram_gb[0], state.free_vgpus[0]) == (7.3, 9.9, 2)


def busy_s(thought_s: float, control_s: float) -> NDArray[np.float64]:
    """Busy time by slot of a pod that always has work."""
    network = Network(1.0, 0.0, 1.0, 0.0, control_s)
    scenario = world([node()], [Model()], network=network)
    asks = [Ask(0.0, prompts=60)]
    commands = slot([[on_cpu(1)]], thought_s=thought_s)
    played = play(Case(scenario, requests(scenario, asks), (commands,), ()))
    return np.array([state.busy_s[0, 0] for state in played.states])


def test_busy_time_counts_from_the_boundary() -> None:
    """What passes while the deployer thinks once went uncounted."""
    assert_allclose(busy_s(thought_s=4.0, control_s=0.0)[:3], [6, 10, 10])


def test_a_command_is_in_force_by_the_next_boundary_at_the_latest() -> None:
    """Time once went backwards to the boundary, and work was done twice."""
    busy = busy_s(thought_s=9.0, control_s=4.0)
    assert_allclose(busy[:3], [0, 10, 10])
    assert busy.sum() == pytest.approx(60)
