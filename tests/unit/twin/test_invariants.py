"""What must hold of any run of the twin, driven through the loop's ports by random decisions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from controller.domain.decisions import (
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.requests import NOT_DEPLOYED, REFUSED
from controller.domain.state import CPU, GPU, OFF, POD_READY, POD_STARTING, ClusterState, Telemetry
from controller.loop import Strategy, run
from controller.twin.cluster import Twin
from controller.twin.layout import NONE
from tests.reference.cases import Case, cases

ROUNDING = 1e-9

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Witness:
    """Plays the case's commands as decisions of all tiers, some of them late, and looks at the
    twin whenever a slot ends."""

    case: Case
    twin: Twin
    states: list[ClusterState] = field(default_factory=list)
    slot: int = 0
    done: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        shape = state.backlog.shape
        policy = MacroPolicy(np.full(shape, 1 / shape[0]), np.ones(shape, np.bool_))
        return Decision(policy, (Call(took_s=1.0),))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        self.slot = state.slot + 1
        commands = self.case.script[min(self.slot, len(self.case.script) - 1)]
        return Decision(commands.plan, (Call(1.1 * commands.route_thought_s),))

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        commands = self.case.script[min(self.slot, len(self.case.script) - 1)]
        thought_s = 1.1 * np.nan_to_num(commands.deploy_thought_s)
        return Decision(commands.deployment, tuple(Call(float(t)) for t in thought_s))

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None: ...

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None: ...

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None: ...

    def observed(self, state: ClusterState) -> None:
        assert state.time_s == self.twin.now() == (state.slot + 1) * self.case.scenario.slot_s
        self.states.append(state)
        check_capacity(self.case, self.twin, state)
        check_queues(self.twin, state)
        check_service(self.case, self.twin, state)
        self.done = check_progress(self.twin, self.done)


def witness(case: Case) -> Witness:
    twin = Twin(case.scenario, case.requests, case.outages)
    seen = Witness(case, twin)
    asyncio.run(run(case.scenario, twin, twin, twin, Strategy(seen, seen, seen), seen, twin.slots))
    return seen


def check_capacity(case: Case, twin: Twin, state: ClusterState) -> None:
    """Eq. 1 on every node and GPU; what is reported as free is what the pods leave."""
    testbed, pods, cards = case.scenario.testbed, twin._memory.pods, twin._memory.cards
    ram_gb = np.array([lm.ram_gb for lm in testbed.lms])
    vram_gb = np.array([lm.vram_gb for lm in testbed.lms])
    held = state.mode != OFF
    assert_array_equal(held, state.pod >= POD_STARTING)
    for n, node in enumerate(testbed.nodes):
        assert_allclose(state.free_cores[n], node.cores - state.cores[n].sum(), atol=ROUNDING)
        assert_allclose(state.free_ram_gb[n], node.ram_gb - ram_gb[held[n]].sum(), atol=ROUNDING)
        assert state.free_vgpus[n] == node.vgpus - state.vgpus[n].sum() >= 0
        assert min(state.free_cores[n], state.free_ram_gb[n]) >= -ROUNDING
        if not held[n].any():
            assert (state.free_cores[n], state.free_ram_gb[n]) == (node.cores, node.ram_gb)
        slices = pods["slices"][n]
        assert_array_equal(slices.sum(axis=1), state.vgpus[n])
        assert_array_equal(slices @ (1 << np.arange(8)) > 0, state.cards[n] > 0)
        assert (slices.sum(axis=0)[: node.gpus] <= node.vgpus_per_gpu).all()
        spans = (slices > 0).sum(axis=1)
        used_gb = ((slices > 0) * (vram_gb / np.maximum(1, spans))[:, None]).sum(axis=0)
        assert (used_gb[: node.gpus] <= node.vram_gb + ROUNDING).all()
        assert not slices[:, node.gpus :].any()
        assert (cards["free_slices"][n] >= 0).all()
        for i in np.flatnonzero(held[n]):
            on_gpu = state.mode[n, i] == GPU
            assert on_gpu or case.scenario.on_cpu(n, int(i))
            assert not on_gpu or node.gpu in case.scenario.profile.lms[testbed.lms[i].name].gpu


def check_queues(twin: Twin, state: ClusterState) -> None:
    """Backlog counters equal a recount; a queue is FIFO and holds what is alive, here and now."""
    records, pods = twin.records, twin._memory.pods
    for (n, i), pod in np.ndenumerate(pods):
        queue, q = [], int(pod["head"])
        while q != NONE:
            queue.append(q)
            q = int(records["next"][q])
        assert int(pod["tail"]) == (queue[-1] if queue else NONE)
        mine = records[queue]
        assert state.backlog[n, i] == (mine["prompts"] - mine["done"]).sum()
        assert (mine["destination"] == n).all()
        assert (mine["lm"] == i).all()
        assert (mine["closed"] == 0).all()
        assert (mine["deadline_s"] > state.time_s).all()
        assert (np.diff(mine["arrived_s"]) >= 0).all()
        assert bool(pod["serving"]) == (state.pod[n, i] == POD_READY and len(queue) > 0)


def check_service(case: Case, twin: Twin, state: ClusterState) -> None:
    """Busy time is at most wall time, and pods on CPUs are not disturbed."""
    assert (state.busy_s >= 0).all()
    assert (state.busy_s <= case.scenario.slot_s + ROUNDING).all()
    serving = twin._memory.pods["serving"] == 1
    alone = serving & (state.mode == CPU)
    assert (twin._memory.pods["rate"][alone] == 1.0).all()
    assert (twin._memory.cards["busy_s"] <= state.time_s + ROUNDING).all()


def check_progress(twin: Twin, before: NDArray[np.int64]) -> NDArray[np.int64]:
    """No prompt is undone, none is done twice."""
    done: NDArray[np.int64] = twin.records["done"].copy()
    assert (done[: len(before)] >= before).all()
    assert (done <= twin.records["prompts"]).all()
    assert_array_equal(done == twin.records["prompts"], ~np.isnan(twin.records["finished_s"]))
    return done


@settings(slow, max_examples=150)
@given(cases())
def test_invariants_of_every_slot(case: Case) -> None:
    witness(case)


@settings(slow, max_examples=100)
@given(cases())
def test_every_request_is_closed_once_and_in_order(case: Case) -> None:
    seen = witness(case)
    records, memory = seen.twin.records, seen.twin._memory
    assert memory.nodes["closed"].sum() == len(records)
    assert (records["closed"] == 1).all()
    assert (memory.nodes["transit"] == NONE).all()
    assert (memory.pods["head"] == NONE).all()
    times = ("born_s", "sent_s", "arrived_s", "started_s", "finished_s", "returned_s")
    for earlier, later in pairwise(times):
        both = ~np.isnan(records[earlier]) & ~np.isnan(records[later])
        assert (records[earlier][both] <= records[later][both]).all(), (earlier, later)
        assert not (np.isnan(records[earlier]) & ~np.isnan(records[later])).any(), later
    success = records["failure"] == 0
    assert_array_equal(success, records["returned_s"] <= records["deadline_s"])
    assert np.isnan(records["sent_s"][records["failure"] == REFUSED]).all()
    assert np.isnan(records["started_s"][records["failure"] == NOT_DEPLOYED]).all()
    assert not np.isnan(records["arrived_s"][records["failure"] == NOT_DEPLOYED]).any()


@settings(slow, max_examples=100)
@given(cases())
def test_sums_over_slots_and_over_requests_are_the_same(case: Case) -> None:
    seen = witness(case)
    records, requests = seen.twin.records, case.requests
    busy_s = sum((state.busy_s for state in seen.states), np.zeros(1))
    assert_allclose(busy_s.sum(), records["inference_s"].sum(), atol=1e-6)
    shape = len(case.scenario.testbed.nodes), len(case.scenario.testbed.lms)
    births, prompts = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(births, (requests.origin, requests.lm), 1)
    np.add.at(prompts, (requests.origin, requests.lm), requests.prompts)
    zero = np.zeros(shape, np.int64)
    assert_array_equal(sum((s.arrived_requests for s in seen.states), zero), births)
    assert_array_equal(sum((s.arrived_prompts for s in seen.states), zero), prompts)
    for state in seen.states:
        born = requests.slot == state.slot
        assert state.arrived_requests.sum() == born.sum()


@settings(slow, max_examples=60)
@given(cases())
def test_the_same_case_gives_the_same_bytes(case: Case) -> None:
    first, second = witness(case), witness(case)
    assert first.twin.records.tobytes() == second.twin.records.tobytes()
    assert first.twin._memory.pods.tobytes() == second.twin._memory.pods.tobytes()
    for one, other in zip(first.states, second.states, strict=True):
        for name in ClusterState.__slots__:
            assert_array_equal(getattr(one, name), getattr(other, name))
