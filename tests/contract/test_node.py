"""What every node promises its deployer. Another implementation joins by one line in ``BENCHES``.

Each test gives every row under control the same pods, and expects the same of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, Orders, RoutingPlan, Stamp
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
    ClusterState,
)
from controller.ports import Node
from controller.twin.cluster import Twin
from tests.contract.live_pods import LivePods
from tests.reference.cases import Case, cases
from tests.reference.playback import orders
from tests.reference.port import Reference
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

Outages = Sequence[tuple[int, float, float]]
SLOT_S = 10.0
START_S, STOP_S = 3.0, 12.0  # a stop outlasts a slot, so that boundaries see it


class Whole(Node, Protocol):
    """A whole testbed that tests can run: its clock, its announcements, its nodes."""

    async def sleep_until(self, time_s: float) -> None: ...

    async def announce(self, orders: Orders, thought_s: float) -> None: ...

    def node(self, rows: NDArray[np.int64]) -> Node: ...


@dataclass
class Bench:
    """A node under test, with the testbed that it belongs to."""

    make: Callable[[Scenario, Requests, Outages], Whole]
    rows: Sequence[int] | None  # under control; None: the testbed itself is the node
    pods_only: bool = False  # nobody serves and nothing breaks there
    testbed: Whole = field(init=False)
    node: Node = field(init=False)
    under_control: NDArray[np.int64] = field(init=False)
    ended: int = 0  # slots

    def build(self, scenario: Scenario, asks: Requests, outages: Outages = ()) -> None:
        self.testbed = self.make(scenario, asks, outages)
        everything = np.arange(len(scenario.testbed.nodes))
        self.under_control = everything if self.rows is None else np.array(self.rows)
        self.node = self.testbed if self.rows is None else self.testbed.node(self.under_control)

    async def deploy(self, pods: Sequence[Pod], stamp: Stamp, thought_s: float = 0.0) -> list[bool]:
        """Command the same pods on every row; return what was void, the same for each."""
        wishes = deployment([pods] * len(self.under_control))
        void = await self.node.deploy(stamp, wishes, np.full(len(self.under_control), thought_s))
        assert void.shape == wishes.mode.shape
        assert (void == void[0]).all()
        return [bool(one) for one in void[0]]

    async def end_slot(self) -> ClusterState:
        """Let the slot end; return the state that is seen."""
        self.ended += 1
        await self.testbed.sleep_until(self.ended * SLOT_S)
        return await self.node.observe()

    async def go(self, pods: Sequence[Pod]) -> tuple[list[bool], ClusterState]:
        """Command pods for one slot and let it end."""
        void = await self.deploy(pods, Stamp(self.ended))
        return void, await self.end_slot()


BENCHES: dict[str, Callable[[], Bench]] = {
    "twin": lambda: Bench(Twin, None),
    "twin-rows": lambda: Bench(Twin, (0, 2)),
    "twin-row": lambda: Bench(Twin, (1,)),
    "reference": lambda: Bench(Reference, None),
    "reference-rows": lambda: Bench(Reference, (0, 2)),
    "live": lambda: Bench(LivePods, None, pods_only=True),
    "live-row": lambda: Bench(LivePods, (1,), pods_only=True),
}
LMS = 3
NODES = 3
GB = 2.0  # of RAM and of vRAM each LM takes
BIG = on_cpu(6)  # of 8 cores
NOTHING = (ABSENT,) * LMS

# A pod that is to be, and the one that waits for what it holds.
PENDING = (BIG, on_cpu(4), ABSENT)


def scenario() -> Scenario:
    """Three equal nodes of 8 cores, 10 GB and one GPU in two slices."""
    machines = [node(cores=8.0, ram_gb=10.0, gpus=1, slices=2, vram_gb=10.0)] * NODES
    models = [Model(ram_gb=GB, vram_gb=GB, start_s=START_S, stop_s=STOP_S)] * LMS
    return world(machines, models, slot_s=SLOT_S)


def deployment(pods: Sequence[Sequence[Pod]]) -> Deployment:
    return slot(pods).deployment


@pytest.fixture(params=list(BENCHES.values()), ids=list(BENCHES))
def bench(request: pytest.FixtureRequest) -> Bench:
    made: Bench = request.param()
    made.build(scenario(), requests(scenario(), []))
    return made


def run(test: Awaitable[None]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(test, 60)

    asyncio.run(whole())


def each(values: NDArray[Any]) -> Any:
    """The values of a row, which are those of every row."""
    assert (values == values[0]).all()
    return values[0].tolist()


def wishes(state: ClusterState) -> list[Pod]:
    """What is wanted, on every row."""
    columns = each(state.want_mode), each(state.want_cores), each(state.want_vgpus)
    return list(zip(*columns, strict=True))


def told(state: ClusterState) -> dict[str, Any]:
    """A copy of every field."""
    return {one.name: np.copy(getattr(state, one.name)) for one in fields(state)}


def assert_same(one: ClusterState, other: ClusterState) -> None:
    for name, value in told(one).items():
        assert_allclose(value, getattr(other, name), rtol=0, atol=1e-6, err_msg=name)


# The Pending rule


@pytest.mark.parametrize(
    ("command", "void"),
    [
        pytest.param(PENDING, (0, 0, 0), id="nothing changes"),
        pytest.param((BIG, on_cpu(4), on_cpu(1)), (0, 0, 1), id="another starts"),
        pytest.param((BIG, on_cpu(4), on_gpu(1)), (0, 0, 1), id="another starts on a GPU"),
        pytest.param((on_cpu(7), on_cpu(4), ABSENT), (1, 0, 0), id="the ready one grows"),
        pytest.param((on_gpu(1), on_cpu(4), ABSENT), (1, 0, 0), id="the ready one moves to a GPU"),
        pytest.param((on_cpu(5), on_cpu(4), ABSENT), (0, 0, 0), id="the ready one shrinks"),
        pytest.param((ABSENT, on_cpu(4), ABSENT), (0, 0, 0), id="the ready one stops"),
        pytest.param((BIG, on_cpu(2), ABSENT), (0, 1, 0), id="the pending one wants less"),
        pytest.param((BIG, on_cpu(5), ABSENT), (0, 1, 0), id="the pending one wants more"),
        pytest.param((BIG, on_cpu(0), ABSENT), (0, 1, 0), id="the pending one wants no cores"),
        pytest.param((BIG, ABSENT, ABSENT), (0, 0, 0), id="the pending one is given up"),
        pytest.param((BIG, ABSENT, on_cpu(1)), (0, 0, 1), id="given up and another at once"),
        pytest.param((ABSENT, on_cpu(4), on_cpu(1)), (0, 0, 1), id="one stops, another at once"),
        pytest.param((on_cpu(7), on_cpu(2), on_cpu(1)), (1, 1, 1), id="everything wants more"),
    ],
)
def test_while_a_pod_is_pending_more_is_void(
    bench: Bench, command: Sequence[Pod], void: Sequence[int]
) -> None:
    async def test() -> None:
        first, state = await bench.go(PENDING)
        assert not any(first)
        assert each(state.pod) == [POD_READY, POD_PENDING, POD_OFF]
        voided, state = await bench.go(command)
        assert voided == [bool(v) for v in void]
        stands = [was if v else new for was, new, v in zip(PENDING, command, void, strict=True)]
        assert wishes(state) == stands

    run(test())


@pytest.mark.parametrize(
    ("command", "void"),
    [
        pytest.param((ABSENT, ABSENT, ABSENT), (0, 0, 0), id="nothing changes"),
        pytest.param((BIG, ABSENT, ABSENT), (0, 0, 0), id="the stopping one again"),
        pytest.param((on_cpu(5), ABSENT, ABSENT), (0, 0, 0), id="the stopping one, smaller"),
        pytest.param((on_cpu(7), ABSENT, ABSENT), (1, 0, 0), id="the stopping one, larger"),
        pytest.param((on_gpu(1), ABSENT, ABSENT), (1, 0, 0), id="the stopping one on a GPU"),
        pytest.param((ABSENT, on_cpu(1), ABSENT), (0, 1, 0), id="another, which would fit"),
        pytest.param((BIG, on_cpu(1), ABSENT), (0, 1, 0), id="the stopping one and another"),
    ],
)
def test_while_a_pod_is_stopping_more_is_void(
    bench: Bench, command: Sequence[Pod], void: Sequence[int]
) -> None:
    async def test() -> None:
        await bench.go((BIG, ABSENT, ABSENT))
        _, state = await bench.go(NOTHING)
        assert each(state.pod) == [POD_STOPPING, POD_OFF, POD_OFF]
        voided, state = await bench.go(command)
        assert voided == [bool(v) for v in void]
        assert wishes(state) == [ABSENT if v else c for c, v in zip(command, void, strict=True)]

    run(test())


def test_a_slice_more_is_void_a_slice_less_is_not(bench: Bench) -> None:
    async def test() -> None:
        await bench.go((on_gpu(1), on_gpu(2), ABSENT))  # two slices: the second waits
        assert (await bench.go((on_gpu(2), on_gpu(2), ABSENT)))[0] == [True, False, False]
        assert (await bench.go((ABSENT, on_gpu(2), ABSENT)))[0] == [False] * LMS
        for _ in range(3):
            _, state = await bench.go((ABSENT, on_gpu(2), ABSENT))
        assert each(state.pod) == [POD_OFF, POD_READY, POD_OFF]
        assert (await bench.go((ABSENT, on_gpu(1), ABSENT)))[0] == [False] * LMS

    run(test())


def test_a_starting_or_ready_pod_blocks_nothing(bench: Bench) -> None:
    async def test() -> None:
        await bench.deploy((on_cpu(2), ABSENT, ABSENT), Stamp(0), thought_s=SLOT_S - 1)
        state = await bench.end_slot()
        assert each(state.pod) == [POD_STARTING, POD_OFF, POD_OFF]
        void, state = await bench.go((on_cpu(2), on_cpu(2), ABSENT))
        assert not any(void)
        assert each(state.pod) == [POD_READY, POD_READY, POD_OFF]
        void, state = await bench.go((on_cpu(2), on_cpu(2), on_gpu(1)))
        assert not any(void)
        assert each(state.pod) == [POD_READY, POD_READY, POD_READY]

    run(test())


def test_what_does_not_fit_is_pending_not_void(bench: Bench) -> None:
    """Void is what comes while the node is blocked; the command that blocks it is in force."""

    async def test() -> None:
        void, state = await bench.go((on_cpu(6), on_cpu(6), on_cpu(2)))
        assert not any(void)
        assert each(state.pod) == [POD_READY, POD_PENDING, POD_READY]
        assert each(state.mode) == [CPU, OFF, CPU]

    run(test())


# Resources


def test_resources_are_held_until_the_pod_is_gone(bench: Bench) -> None:
    async def test() -> None:
        await bench.go((BIG, on_gpu(2, cores=1), ABSENT))
        _, stopping = await bench.go(NOTHING)
        assert each(stopping.pod) == [POD_STOPPING, POD_STOPPING, POD_OFF]
        assert each(stopping.mode) == [CPU, GPU, OFF]
        assert each(stopping.cores) == [6, 1, 0]
        assert each(stopping.vgpus) == [0, 2, 0]
        assert each(stopping.cards) == [0, 1, 0]
        assert each(stopping.free_cores) == 1
        assert each(stopping.free_ram_gb) == 6
        assert each(stopping.free_vgpus) == 0
        _, gone = await bench.go(NOTHING)
        assert each(gone.pod) == [POD_OFF] * LMS
        assert each(gone.mode) == [OFF] * LMS
        assert not gone.cores.any()
        assert not gone.vgpus.any()
        assert not gone.cards.any()
        assert (each(gone.free_cores), each(gone.free_ram_gb), each(gone.free_vgpus)) == (8, 10, 2)

    run(test())


def test_a_pending_pod_holds_nothing_and_starts_when_the_other_is_gone(bench: Bench) -> None:
    async def test() -> None:
        _, state = await bench.go(PENDING)
        assert each(state.free_cores) == 2
        assert each(state.free_ram_gb) == 8
        swap = (ABSENT, on_cpu(4), ABSENT)
        assert each((await bench.go(swap))[1].pod) == [POD_STOPPING, POD_PENDING, POD_OFF]
        assert each((await bench.go(swap))[1].pod) == [POD_OFF, POD_READY, POD_OFF]

    run(test())


def test_a_change_of_allocation_is_a_stop_and_a_start(bench: Bench) -> None:
    async def test() -> None:
        await bench.go((BIG, ABSENT, ABSENT))
        smaller = (on_cpu(4), ABSENT, ABSENT)
        void, state = await bench.go(smaller)
        assert not any(void)
        assert (each(state.pod)[0], each(state.cores)[0]) == (POD_STOPPING, 6)
        _, state = await bench.go(smaller)  # gone after 12 s, ready 3 s later
        assert (each(state.pod)[0], each(state.cores)[0]) == (POD_READY, 4)

    run(test())


# Commands


def test_commands_are_in_force_after_the_thought(bench: Bench) -> None:
    async def test() -> None:
        await bench.deploy((BIG, ABSENT, ABSENT), Stamp(0), thought_s=SLOT_S - START_S - 1)
        assert each((await bench.end_slot()).pod)[0] == POD_READY
        await bench.deploy((ABSENT, BIG, ABSENT), Stamp(1), thought_s=4 * SLOT_S)
        state = await bench.end_slot()  # no later than the slot's end
        assert each(state.pod) == [POD_STOPPING, POD_PENDING, POD_OFF]
        assert wishes(state) == [ABSENT, BIG, ABSENT]

    run(test())


@pytest.mark.parametrize("doubled", [(BIG, ABSENT, ABSENT), NOTHING, (on_cpu(1),) * LMS])
def test_a_stamp_is_heard_once(bench: Bench, doubled: Sequence[Pod]) -> None:
    """A second command of the same stamp is ignored, whatever it says."""

    async def test() -> None:
        assert await bench.deploy((BIG, ABSENT, ABSENT), Stamp(0)) == [False] * LMS
        assert await bench.deploy(doubled, Stamp(0)) == [False] * LMS
        state = await bench.end_slot()
        assert wishes(state) == [BIG, ABSENT, ABSENT]
        assert each(state.pod) == [POD_READY, POD_OFF, POD_OFF]

    run(test())


@pytest.mark.parametrize("late", [Stamp(0), Stamp(1, 0), Stamp(1, 2)])
def test_a_late_command_is_ignored(bench: Bench, late: Stamp) -> None:
    async def test() -> None:
        await bench.go((on_cpu(1), ABSENT, ABSENT))
        await bench.deploy((BIG, ABSENT, ABSENT), Stamp(1, 3))
        assert await bench.deploy((BIG, on_cpu(2), on_cpu(8)), late) == [False] * LMS
        state = await bench.end_slot()
        assert wishes(state) == [BIG, ABSENT, ABSENT]
        assert each(state.want_slot) == 1

    run(test())


def test_of_two_commands_in_a_slot_the_later_wins(bench: Bench) -> None:
    async def test() -> None:
        await bench.deploy((on_cpu(2), ABSENT, ABSENT), Stamp(0, 0))
        await bench.deploy((on_cpu(2), on_cpu(2), ABSENT), Stamp(0, 1))
        assert wishes(await bench.end_slot()) == [on_cpu(2), on_cpu(2), ABSENT]

    run(test())


def test_an_ignored_command_does_not_make_the_next_one_late(bench: Bench) -> None:
    async def test() -> None:
        await bench.deploy((BIG, ABSENT, ABSENT), Stamp(5))
        await bench.deploy(NOTHING, Stamp(3))
        await bench.deploy((BIG, on_cpu(2), ABSENT), Stamp(6))
        assert wishes(await bench.end_slot()) == [BIG, on_cpu(2), ABSENT]

    run(test())


def test_rows_have_stamps_of_their_own(bench: Bench) -> None:
    """A command that is late for one node is not late for another."""

    async def test() -> None:
        one = bench.testbed.node(bench.under_control[:1])
        await one.deploy(Stamp(5), deployment([(BIG, ABSENT, ABSENT)]), np.zeros(1))
        everything = bench.testbed.node(np.arange(NODES))
        smaller = deployment([(on_cpu(1), ABSENT, ABSENT)] * NODES)
        await everything.deploy(Stamp(4), smaller, np.zeros(NODES))
        await bench.end_slot()
        state = await everything.observe()
        first = np.arange(NODES) == bench.under_control[0]
        assert_array_equal(state.cores[:, 0], np.where(first, 6.0, 1.0))
        assert_array_equal(state.want_slot, np.where(first, 5, 4))

    run(test())


# Level-triggered


def test_the_same_wish_again_leaves_pods_alone(bench: Bench) -> None:
    async def test() -> None:
        pods = (BIG, on_gpu(1), ABSENT)
        _, before = await bench.go(pods)
        for _ in range(3):
            void, state = await bench.go(pods)
            assert not any(void)
            assert each(state.pod) == [POD_READY, POD_READY, POD_OFF]
            assert_array_equal(state.cards, before.cards)

    run(test())


def test_without_a_command_the_last_one_holds(bench: Bench) -> None:
    async def test() -> None:
        await bench.go(PENDING)
        await bench.deploy((ABSENT, on_cpu(4), ABSENT), Stamp(1))
        for _ in range(3):
            state = await bench.end_slot()
        assert each(state.pod) == [POD_OFF, POD_READY, POD_OFF]
        assert each(state.want_slot) == 1

    run(test())


@pytest.mark.parametrize("lost", [(), (1,), (2,), (1, 2), (1, 2, 3)])
def test_lost_commands_do_no_lasting_harm(bench: Bench, lost: Sequence[int]) -> None:
    """What is wanted is said again in every slot, so the end is the same."""

    async def test() -> None:
        await bench.go(PENDING)
        goal = (ABSENT, on_cpu(4), on_cpu(2))
        for slot_ in range(1, 9):
            if slot_ not in lost:
                await bench.deploy(goal, Stamp(slot_))
            state = await bench.end_slot()
        assert wishes(state) == list(goal)
        assert each(state.pod) == [POD_OFF, POD_READY, POD_READY]

    run(test())


def test_what_was_void_is_done_when_it_is_said_again(bench: Bench) -> None:
    async def test() -> None:
        await bench.go((BIG, ABSENT, ABSENT))
        await bench.go(NOTHING)  # gone at 22 s
        goal = (ABSENT, on_cpu(8), ABSENT)
        at_20, state = await bench.go(goal)
        assert at_20 == [False, True, False]
        assert each(state.pod) == [POD_OFF] * LMS, "nothing is kept for later"
        at_30, state = await bench.go(goal)
        assert not any(at_30)
        assert each(state.pod) == [POD_OFF, POD_READY, POD_OFF]

    run(test())


# What is observed


def test_before_the_first_slot_there_is_nothing(bench: Bench) -> None:
    async def test() -> None:
        state = await bench.node.observe()
        assert (state.time_s, state.slot) == (0.0, -1)
        assert each(state.pod) == [POD_OFF] * LMS
        assert each(state.want_slot) == -1
        assert await bench.node.orders() is None

    run(test())


def test_a_state_has_the_rows_under_control(bench: Bench) -> None:
    async def test() -> None:
        _, state = await bench.go((BIG, ABSENT, ABSENT))
        assert (state.time_s, state.slot) == (SLOT_S, 0)
        assert_array_equal(state.rows, bench.under_control)
        rows = len(bench.under_control)
        for name, value in told(state).items():
            if name not in {"time_s", "slot"}:
                assert value.shape in {(rows,), (rows, LMS)}, name

    run(test())


def test_rows_of_a_deployment_are_those_of_the_state(bench: Bench) -> None:
    async def test() -> None:
        rows = bench.under_control
        made = deployment([(on_cpu(1 + int(n)), ABSENT, ABSENT) for n in rows])
        void = await bench.node.deploy(Stamp(0), made, np.linspace(0.0, 2.0, len(rows)))
        assert void.shape == made.mode.shape
        state = await bench.end_slot()
        assert_array_equal(state.cores[:, 0], 1.0 + rows)

    run(test())


def test_other_nodes_are_left_alone(bench: Bench) -> None:
    async def test() -> None:
        await bench.go((BIG, ABSENT, ABSENT))
        everything = await bench.testbed.node(np.arange(NODES)).observe()
        mine = np.isin(np.arange(NODES), bench.under_control)
        assert_array_equal(everything.pod[:, 0], np.where(mine, POD_READY, POD_OFF))
        assert_array_equal(everything.want_slot, np.where(mine, 0, -1))

    run(test())


def test_a_slot_is_seen_when_it_has_ended(bench: Bench) -> None:
    """A command changes neither the state that was seen nor the one that is."""

    async def test() -> None:
        _, seen = await bench.go((BIG, ABSENT, ABSENT))
        before = told(seen)
        await bench.deploy(NOTHING, Stamp(1))
        assert_same(await bench.node.observe(), seen)
        await bench.end_slot()
        for name, value in before.items():
            assert_array_equal(getattr(seen, name), value, err_msg=name)

    run(test())


def test_the_newest_command_is_known_within_its_slot(bench: Bench) -> None:
    """A process that is restarted in the slot knows by it what has been done."""

    async def test() -> None:
        assert await bench.node.deployed() == Stamp(-1)
        await bench.deploy((BIG, ABSENT, ABSENT), Stamp(0))
        assert await bench.node.deployed() == Stamp(0)
        assert each((await bench.node.observe()).want_slot) == -1, "that is of the last boundary"
        await bench.end_slot()
        await bench.deploy(NOTHING, Stamp(0))
        assert await bench.node.deployed() == Stamp(0)
        await bench.deploy(NOTHING, Stamp(1, 2))
        assert await bench.node.deployed() == Stamp(1, 2)

    run(test())


def test_requests_are_seen_where_they_are_born_and_where_they_wait(bench: Bench) -> None:
    if bench.pods_only:
        pytest.skip("served requests of live nodes: tests/live")

    async def test() -> None:
        first = int(bench.under_control[0])
        asks = [Ask(1.0, origin=first, prompts=4), Ask(2.0, lm=1, origin=first, prompts=2)]
        bench.build(scenario(), requests(scenario(), asks))
        plan = RoutingPlan(np.tile(np.arange(NODES)[:, None], LMS))
        await bench.testbed.announce(orders(0, plan), 0.0)
        # Ready after 3 s: of LM 0, four prompts of 1 s each are done by 7 s; LM 1 has no pod.
        _, state = await bench.go((on_cpu(2), ABSENT, ABSENT))
        assert state.arrived_prompts[0].tolist() == [4, 2, 0]
        assert state.arrived_requests[0].tolist() == [1, 1, 0]
        assert state.backlog[0].tolist() == [0, 2, 0]
        assert_allclose(state.busy_s[0], [4, 0, 0], rtol=0, atol=1e-9)
        await bench.testbed.announce(orders(1, plan), 0.0)
        _, state = await bench.go((on_cpu(2), ABSENT, ABSENT))
        assert not state.arrived_requests.any()
        assert not state.busy_s.any()
        assert state.backlog[0].tolist() == [0, 2, 0]

    run(test())


def test_orders_reach_the_node_the_newest_wins(bench: Bench) -> None:
    async def test() -> None:
        plan = RoutingPlan(np.zeros((NODES, LMS), np.int64))
        for stamp in (0, 2, 1, 2):
            await bench.testbed.announce(orders(stamp, plan), 0.0)
        newest = await bench.node.orders()
        assert newest is not None
        assert newest.stamp == Stamp(2)

    run(test())


def test_a_node_that_is_down_has_no_pods_and_keeps_its_wishes(bench: Bench) -> None:
    if bench.pods_only:
        pytest.skip("live nodes that are killed: tests/live")

    async def test() -> None:
        down = [(n, 12.0, 45.0) for n in range(NODES)]
        bench.build(scenario(), requests(scenario(), []), down)
        _, state = await bench.go((BIG, ABSENT, ABSENT))
        assert each(state.up)
        assert each(state.heard_s) == SLOT_S
        _, state = await bench.go((BIG, ABSENT, ABSENT))
        assert not each(state.up)
        assert each(state.heard_s) == SLOT_S, "when it was last heard from"
        assert each(state.pod) == [POD_PENDING, POD_OFF, POD_OFF]
        assert each(state.free_cores) == 8
        assert (await bench.go((BIG, on_cpu(1), ABSENT)))[0] == [False, True, False]
        assert (await bench.go((ABSENT, ABSENT, ABSENT)))[0] == [False] * LMS
        void, state = await bench.go((on_cpu(3), ABSENT, ABSENT))  # comes up in this slot
        assert not any(void)
        assert each(state.up)
        assert each(state.heard_s) == 5 * SLOT_S
        assert (each(state.pod)[0], each(state.cores)[0]) == (POD_READY, 3)

    run(test())


# All of them alike


async def _states(testbed: Whole, case: Case) -> list[ClusterState | NDArray[np.bool_]]:
    """What a node tells in a run: states and what was void, slot by slot."""
    seen: list[ClusterState | NDArray[np.bool_]] = [await testbed.observe()]
    for t, commands in enumerate(case.script):
        await testbed.announce(orders(t, commands.plan), commands.route_thought_s)
        thought_s = np.nan_to_num(commands.deploy_thought_s)
        seen.append(await testbed.deploy(Stamp(t), commands.deployment, thought_s))
        await testbed.sleep_until((t + 1) * case.scenario.slot_s)
        seen.append(await testbed.observe())
    return seen


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_all_tell_the_same_of_the_same_run(case: Case) -> None:
    made: list[Whole] = [
        one(case.scenario, case.requests, case.outages) for one in (Twin, Reference)
    ]
    first, second = (asyncio.run(_states(testbed, case)) for testbed in made)
    for one, other in zip(first, second, strict=True):
        if isinstance(one, ClusterState):
            assert isinstance(other, ClusterState)
            assert_same(one, other)
        else:
            assert_array_equal(one, other)
