"""The slot loop over small hand-written worlds: order, lateness, epochs, drain."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.domain.decisions import (
    DEPLOYER,
    LATE,
    OK,
    PLANNER,
    SCHEDULER,
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    RoutingPlan,
    Stamp,
)
from controller.domain.errors import Permanent, Transient
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, OFF, ClusterState, Telemetry
from controller.loop import Strategy, run
from tests.reference.worlds import ABSENT, Model, node, on_cpu, world
from tests.unit.policies.states import running, telemetry

SLOT_S = 10.0
SCENARIO = replace(world([node()] * 2, [Model(gpu=None)] * 2, slot_s=SLOT_S), epoch_slots=3)
PODS = [[on_cpu(2), ABSENT], [ABSENT, on_cpu(3)]]  # what the nodes want now
EVENT = tuple[object, ...]


@dataclass
class World:
    """Clock, cluster and nodes that only write down what happens. Everything is settled
    ``drain_slots`` after the last slot with arrivals."""

    log: list[EVENT]
    slots: int = 0
    drain_slots: int = 0
    time_s: float = 0.0
    states: list[ClusterState] = field(default_factory=list)
    newest: Orders | None = None

    def now(self) -> float:
        return self.time_s

    async def sleep_until(self, time_s: float) -> None:
        self.log.append(("sleep until", time_s))
        self.time_s = time_s

    async def observe(self) -> ClusterState:
        self.log.append(("observe", self.time_s))
        state = running(SCENARIO, PODS, slot=round(self.time_s / SLOT_S) - 1)
        self.states.append(state)
        return state

    async def telemetry(self, first_slot: int) -> Telemetry:
        self.log.append(("telemetry from", first_slot))
        return telemetry([1.0, 1.0])

    def thought_s(self, since_s: float, declared_s: float) -> float:
        return declared_s

    async def orders(self) -> Orders | None:
        return self.newest

    async def announce(self, orders: Orders, thought_s: float) -> None:
        self.newest, plan = orders, orders.in_force.plan
        if orders.stamp.sequence == 0 and plan is not None:
            self.log.append(("route", int(plan.destination[0, 0]), thought_s))

    async def settled(self) -> bool:
        return self.time_s >= (self.slots + self.drain_slots) * SLOT_S

    async def deployed(self) -> Stamp:
        return Stamp(-1)  # run() restarts nothing

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        self.log.append(("deploy", deployment.cores[:, 0].tolist(), thought_s.tolist()))
        return np.array([[False, False], [True, False]])


def named(name: int) -> MacroPolicy:
    """A policy that can be told from others: LM 0's share for node 0 is its name."""
    return MacroPolicy(np.full((2, 2), float(name)), np.ones((2, 2), np.bool_))


@dataclass
class Script:
    """Planner, scheduler and deployer that number their decisions by the slot and take the seconds
    that the script says, else none."""

    log: list[EVENT]
    planning_s: dict[int, float] = field(default_factory=dict)
    scheduling_s: dict[int, float] = field(default_factory=dict)
    deploying_s: dict[int, Sequence[float]] = field(default_factory=dict)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        slot = state.slot + 1
        self.log.append(("plan", slot))
        return Decision(named(slot), (Call(self.planning_s.get(slot, 0.0)),))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        slot = state.slot + 1
        self.log.append(("schedule by", int(in_force.policy.routing[0, 0])))
        call = Call(self.scheduling_s.get(slot, 0.0), detail=f"slot {slot}", tokens_in=slot)
        return Decision(RoutingPlan(np.full((2, 2), slot)), (call,))

    def deployer(self) -> "Deploying":
        return Deploying(self)


@dataclass
class Deploying:
    script: Script

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        slot = state.slot + 1
        self.script.log.append(("decide by", int(in_force.policy.routing[0, 0])))
        took = self.script.deploying_s.get(slot, (0.0, 0.0))
        cores = np.full((2, 2), 100.0 + slot)
        made = Deployment(np.full((2, 2), CPU), cores, np.zeros((2, 2), np.int64))
        return Decision(made, tuple(Call(t) for t in took))


@dataclass
class Diary:
    """A journal that keeps what matters here."""

    log: list[EVENT]
    planned_in: list[tuple[int, int, Call]] = field(default_factory=list)
    scheduled_in: list[tuple[int, int, Call]] = field(default_factory=list)
    deployed_in: list[tuple[int, Deployment, tuple[Call, ...]]] = field(default_factory=list)
    voided: list[list[list[bool]]] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    missed_in: list[tuple[int, str, str]] = field(default_factory=list)

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None:
        (call,) = decision.calls
        self.planned_in.append((slot, int(decision.value.routing[0, 0]), call))

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None:
        (call,) = decision.calls
        self.scheduled_in.append((slot, int(decision.value.destination[0, 0]), call))

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None:
        assert state.slot == slot - 1
        self.deployed_in.append((slot, decision.value, decision.calls))
        self.voided.append(voided.tolist())

    def missed(self, slot: int, tier: str, rows: NDArray[np.int64], fault: str) -> None:
        self.missed_in.append((slot, tier, fault))

    def observed(self, state: ClusterState) -> None:
        self.log.append(("observed", state.slot))
        self.seen.append(state.slot)


@dataclass
class Story:
    """A run and all that was written down."""

    log: list[EVENT]
    diary: Diary
    slots_run: int

    def of(self, *kinds: str) -> list[EVENT]:
        return [event for event in self.log if event[0] in kinds]


def tell(
    slots: int,
    drain_slots: int = 0,
    planning_s: dict[int, float] | None = None,
    scheduling_s: dict[int, float] | None = None,
    deploying_s: dict[int, Sequence[float]] | None = None,
    scenario: Scenario = SCENARIO,
) -> Story:
    log: list[EVENT] = []
    there = World(log, slots, drain_slots)
    script = Script(log, planning_s or {}, scheduling_s or {}, deploying_s or {})
    strategy, diary = Strategy(script, script, script.deployer()), Diary(log)
    ran = asyncio.run(run(scenario, there, there, there, strategy, diary, slots))
    return Story(log, diary, ran)


# Order


def test_a_slot_observes_decides_charges_applies_and_waits() -> None:
    story = tell(slots=2, scheduling_s={1: 0.5}, deploying_s={1: (0.25, 0.75)})
    assert story.log == [
        ("observe", 0.0),
        ("telemetry from", 0),
        ("plan", 0),
        ("schedule by", 0),
        ("route", 0, 0.0),
        ("observe", 0.0),
        ("decide by", 0),
        ("deploy", [100.0, 100.0], [0.0, 0.0]),
        ("sleep until", 10.0),
        ("observe", 10.0),
        ("observed", 0),
        ("observe", 10.0),
        ("schedule by", 0),
        ("route", 1, 0.5),
        ("observe", 10.0),
        ("decide by", 0),
        ("deploy", [101.0, 101.0], [0.25, 0.75]),
        ("sleep until", 20.0),
        ("observe", 20.0),
        ("observed", 1),
    ]


def test_what_the_pending_rule_voids_is_written_down() -> None:
    assert tell(slots=1).diary.voided == [[[False, False], [True, False]]]


def test_every_decision_in_time_is_as_it_was_made() -> None:
    story = tell(slots=4, scheduling_s={2: 9.0})
    assert [(slot, plan) for slot, plan, _ in story.diary.scheduled_in] == [
        (0, 0), (1, 1), (2, 2), (3, 3),
    ]  # fmt: skip
    assert {call.outcome for *_, call in story.diary.scheduled_in} == {OK}


# The planner and its epochs


def test_a_policy_holds_from_the_slot_after_it_was_planned() -> None:
    """Epochs of 3 slots: planned in 0, 3 and 6; slots 3 and 6 still follow the old policy, in both
    lower tiers."""
    story = tell(slots=8)
    assert story.of("plan") == [("plan", 0), ("plan", 3), ("plan", 6)]
    assert [by for _, by in story.of("schedule by")] == [0, 0, 0, 0, 3, 3, 3, 6]
    assert [by for _, by in story.of("decide by")] == [0, 0, 0, 0, 3, 3, 3, 6]


def test_the_planner_sees_the_last_epoch() -> None:
    assert [t for _, t in tell(slots=8).of("telemetry from")] == [0, 0, 3]


def test_in_slot_0_the_scheduler_waits_for_the_planner() -> None:
    story = tell(slots=2, planning_s={0: 4.0}, scheduling_s={0: 1.0})
    assert [t for *_, t in story.of("route")] == [5.0, 0.0]


def test_the_first_wait_is_at_most_a_slot() -> None:
    """There is no plan to fall back on: a planner that needs longer is followed all the same, by a
    route that is in force a slot late."""
    story = tell(slots=2, planning_s={0: 25.0}, scheduling_s={0: 1.0})
    assert [t for *_, t in story.of("route")] == [11.0, 0.0]
    ((slot, name, call),) = story.diary.planned_in
    assert (slot, name, call.outcome, call.took_s) == (0, 0, OK, 25.0)


def test_later_planning_does_not_hold_up_the_scheduler() -> None:
    story = tell(slots=5, planning_s={3: 9.0})
    assert [t for *_, t in story.of("route")] == [0.0] * 5
    assert [by for _, by in story.of("schedule by")] == [0, 0, 0, 0, 3]


def test_the_planner_thinks_beside_scheduler_and_deployers() -> None:
    """In slot 3 it does not answer before the deployers have: nobody may wait for it."""

    class Patient(Script):
        async def plan(
            self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
        ) -> Decision[MacroPolicy]:
            while state.slot == 2 and ("deploy", [103.0, 103.0], [0.0, 0.0]) not in self.log:
                await asyncio.sleep(0)
            return await super().plan(state, telemetry, in_force)

    log: list[EVENT] = []
    there, script, diary = World(log, slots=5), Patient(log), Diary(log)
    strategy = Strategy(script, script, script.deployer())
    asyncio.run(
        asyncio.wait_for(run(SCENARIO, there, there, there, strategy, diary, 5), timeout=10)
    )
    assert [slot for slot, *_ in diary.planned_in] == [0, 3]
    assert log.index(("plan", 3)) < log.index(("sleep until", 40.0))
    assert [event[1] for event in log if event[0] == "schedule by"] == [0, 0, 0, 0, 3]


@pytest.mark.parametrize("slot", [0, 3])
def test_a_planner_that_breaks_breaks_the_run(slot: int) -> None:
    class Broken(Script):
        async def plan(
            self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
        ) -> Decision[MacroPolicy]:
            if state.slot + 1 == slot:
                raise Permanent("no planner")
            return await super().plan(state, telemetry, in_force)

    log: list[EVENT] = []
    there, script = World(log, slots=5), Broken(log)
    strategy = Strategy(script, script, script.deployer())
    with pytest.raises(Permanent, match="no planner"):
        asyncio.run(run(SCENARIO, there, there, there, strategy, Diary(log), 5))
    assert there.time_s == slot * SLOT_S


# Lateness


def test_a_late_policy_is_counted_and_never_holds() -> None:
    story = tell(slots=8, planning_s={3: 10.5})
    assert [by for _, by in story.of("schedule by")] == [0, 0, 0, 0, 0, 0, 0, 6]
    assert [(slot, name, call.outcome) for slot, name, call in story.diary.planned_in] == [
        (0, 0, OK), (3, 0, LATE), (6, 6, OK),
    ]  # fmt: skip


def test_a_late_plan_leaves_the_one_before_and_costs_the_slot() -> None:
    """Requests of slot 2 have waited for a plan until the slot was over, then follow slot 1's."""
    story = tell(slots=4, scheduling_s={2: 10.1})
    assert story.of("route") == [
        ("route", 0, 0.0), ("route", 1, 0.0), ("route", 1, 10.0), ("route", 3, 0.0),
    ]  # fmt: skip
    slot, plan, call = story.diary.scheduled_in[2]
    assert (slot, plan, call.outcome) == (2, 1, LATE)
    # What it cost is still known.
    assert (call.took_s, call.detail, call.tokens_in) == (10.1, "slot 2", 2)


def test_late_plans_in_a_row_hold_the_last_good_one() -> None:
    story = tell(slots=4, scheduling_s={1: 11.0, 2: 11.0})
    assert [plan for _, plan, _ in story.of("route")] == [0, 0, 0, 3]


@pytest.mark.parametrize("took_s", [10.0, 9.999])
def test_a_decision_that_takes_the_whole_slot_is_in_time(took_s: float) -> None:
    story = tell(slots=4, scheduling_s={1: took_s}, planning_s={3: took_s})
    assert story.of("route")[1] == ("route", 1, took_s)
    assert {call.outcome for *_, call in story.diary.scheduled_in} == {OK}
    assert {call.outcome for *_, call in story.diary.planned_in} == {OK}


def test_a_first_plan_that_is_late_is_followed_late() -> None:
    story = tell(slots=2, scheduling_s={0: 13.0})
    assert story.of("route")[0] == ("route", 0, 13.0)


def test_a_late_deployer_leaves_its_node_as_it_is() -> None:
    """Row 0 is late in slot 1: what it wants now is wished again, the other row is deployed."""
    story = tell(slots=2, deploying_s={1: (10.5, 2.0)})
    cores = [PODS[0][0][1], 101.0]
    assert story.of("deploy")[1] == ("deploy", cores, [10.0, 2.0])
    slot, made, calls = story.diary.deployed_in[1]
    assert slot == 1
    assert [call.outcome for call in calls] == [LATE, OK]
    assert [call.took_s for call in calls] == [10.5, 2.0]
    assert made.mode.tolist() == [[CPU, OFF], [CPU, CPU]]
    assert made.cores.tolist() == [[2.0, 0.0], [101.0, 101.0]]
    assert made.vgpus.tolist() == [[0, 0], [0, 0]]


def test_a_late_tier_makes_no_other_late() -> None:
    story = tell(slots=3, scheduling_s={1: 99.0})
    assert {call.outcome for _, _, calls in story.diary.deployed_in for call in calls} == {OK}
    assert [t for *_, t in story.of("deploy")] == [[0.0, 0.0]] * 3


# Faults of the world


# Who observes in a slot, after the observation that has ended the slot before.
OBSERVERS = {2: "cluster.observe", 3: "node.observe"}


class Faulty(World):
    """A world that does not answer one kind of call in one slot."""

    call: str = ""
    in_slot: int = 0
    observed: int = 0  # in that slot

    def _fail(self, call: str) -> None:
        if call == self.call and int(self.time_s // SLOT_S) == self.in_slot:
            raise Transient(f"{call} did not answer")

    async def observe(self) -> ClusterState:
        self.observed += int(self.time_s // SLOT_S) == self.in_slot
        self._fail(OBSERVERS.get(self.observed, ""))
        return await super().observe()

    async def telemetry(self, first_slot: int) -> Telemetry:
        self._fail("telemetry")
        return await super().telemetry(first_slot)

    async def orders(self) -> Orders | None:
        self._fail("orders")
        return await super().orders()

    async def announce(self, orders: Orders, thought_s: float) -> None:
        self._fail("announce")
        await super().announce(orders, thought_s)

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        self._fail("deploy")
        return await super().deploy(stamp, deployment, thought_s)


class Unreachable(Script):
    """Deciders of whom one raises Transient in one slot."""

    call: str = ""
    in_slot: int = 0

    def _fail(self, call: str, state: ClusterState) -> None:
        if call == self.call and state.slot + 1 == self.in_slot:
            raise Transient(f"{call} did not answer")

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        self._fail("plan", state)
        return await super().plan(state, telemetry, in_force)

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        self._fail("schedule", state)
        return await super().schedule(state, in_force)

    def deployer(self) -> Deploying:
        unreachable = self

        class Failing(Deploying):
            async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
                unreachable._fail("deployer", state)
                return await super().deploy(state, in_force)

        return Failing(self)


@pytest.mark.parametrize(
    ("call", "slot", "tier", "scheduled", "planned"),
    [
        ("telemetry", 3, PLANNER, [0, 1, 2, 3, 4], [0, 4]),  # asked again in the next slot
        ("plan", 3, PLANNER, [0, 1, 2, 3, 4], [0, 4]),
        ("schedule", 2, SCHEDULER, [0, 1, 3, 4], [0, 3]),
        ("announce", 2, SCHEDULER, [0, 1, 3, 4], [0, 3]),
        ("cluster.observe", 2, SCHEDULER, [0, 1, 3, 4], [0, 3]),
        ("orders", 2, DEPLOYER, [0, 1, 2, 3, 4], [0, 3]),
        ("node.observe", 2, DEPLOYER, [0, 1, 2, 3, 4], [0, 3]),
        ("deployer", 2, DEPLOYER, [0, 1, 2, 3, 4], [0, 3]),
        ("deploy", 2, DEPLOYER, [0, 1, 2, 3, 4], [0, 3]),
    ],
)
def test_a_fault_is_recorded_the_last_decision_holds_and_the_run_goes_on(
    call: str, slot: int, tier: str, scheduled: list[int], planned: list[int]
) -> None:
    log: list[EVENT] = []
    there, script, diary = Faulty(log, slots=5), Unreachable(log), Diary(log)
    there.call = script.call = call
    there.in_slot = script.in_slot = slot
    strategy = Strategy(script, script, script.deployer())
    asyncio.run(run(SCENARIO, there, there, there, strategy, diary, 5))
    assert diary.missed_in == [(slot, tier, f"{call} did not answer")]
    assert [s for s, *_ in diary.scheduled_in] == scheduled
    assert [s for s, *_ in diary.planned_in] == planned
    deployed = [s for s, *_ in diary.deployed_in]
    assert deployed == [s for s in range(5) if tier != DEPLOYER or s != slot]
    assert there.newest is not None
    assert there.newest.in_force.plan_slot == 4


def test_an_announcement_that_failed_changes_nothing_that_is_in_force() -> None:
    """Slot 2's plan never left: slot 3 is decided on what slot 1 has in force."""
    seen: list[int] = []

    class Watching(Unreachable):
        async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
            seen.append(in_force.plan_slot)
            return await super().schedule(state, in_force)

    log: list[EVENT] = []
    there, script = Faulty(log, slots=5), Watching(log)
    there.call, there.in_slot = "announce", 2
    strategy = Strategy(script, script, script.deployer())
    asyncio.run(run(SCENARIO, there, there, there, strategy, Diary(log), 5))
    assert seen == [-1, 0, 1, 1, 3]


def test_a_policy_whose_announcement_failed_goes_with_the_next_slots_orders() -> None:
    """Slot 3's policy is on record as decided, so it must not be lost for an epoch."""

    class Deaf(World):
        async def announce(self, orders: Orders, thought_s: float) -> None:
            if orders.stamp == Stamp(3, 1):
                raise Transient("announce did not answer")
            await super().announce(orders, thought_s)

    log: list[EVENT] = []
    there, script, diary = Deaf(log, slots=5), Script(log), Diary(log)
    strategy = Strategy(script, script, script.deployer())
    asyncio.run(run(SCENARIO, there, there, there, strategy, diary, 5))
    assert [slot for slot, *_ in diary.planned_in] == [0, 3]
    assert diary.missed_in == []
    assert there.newest is not None
    assert there.newest.in_force.policy_slot == 3


def test_a_policy_decided_again_keeps_the_slot_that_it_was_decided_in() -> None:
    class Steady(Script):
        async def plan(
            self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
        ) -> Decision[MacroPolicy]:
            return Decision(named(7))

    log: list[EVENT] = []
    there, script = World(log, slots=5), Steady(log)
    strategy = Strategy(script, script, script.deployer())
    asyncio.run(run(SCENARIO, there, there, there, strategy, Diary(log), 5))
    assert there.newest is not None
    assert there.newest.in_force.policy_slot == 0


# The end


@pytest.mark.parametrize(("slots", "drain"), [(1, 0), (3, 0), (3, 4), (0, 0), (0, 2)])
def test_the_run_goes_on_until_all_is_settled(slots: int, drain: int) -> None:
    story = tell(slots, drain)
    assert story.slots_run == slots + drain
    assert story.diary.seen == list(range(slots + drain))
    assert len(story.of("route")) == len(story.of("deploy")) == slots + drain


def test_a_run_is_no_shorter_than_its_slots_even_if_nothing_is_open() -> None:
    story = tell(slots=5, drain_slots=-5)
    assert story.slots_run == 5
