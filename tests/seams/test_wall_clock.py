"""Processes on wall time: whatever the clock does and whenever a process restarts, no slot is
decided twice and none is skipped without a record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.bootstrap.live import DeployerInThread, PlannerInThread, SchedulerInThread
from controller.domain.decisions import (
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    RoutingPlan,
    Stamp,
)
from controller.domain.errors import Transient
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, ClusterState, Telemetry
from controller.loop import run_central, run_node
from controller.results.spool import Spool, merge_spools
from controller.testbed.clock import WallClock
from tests.reference.worlds import ABSENT, Model, node, world
from tests.samples.spools import contents
from tests.unit.policies.states import running, telemetry

SLOT_S = 10.0
SLOTS = 8
ROWS = np.array([0, 1])


def scenario() -> Scenario:
    bare = world([node()] * 2, [Model(gpu=None)] * 2, slot_s=SLOT_S)
    nodes = tuple(replace(one, name=f"vm{n}") for n, one in enumerate(bare.testbed.nodes))
    return replace(bare, testbed=replace(bare.testbed, nodes=nodes), epoch_slots=3)


SCENARIO = scenario()


class Killed(Exception):
    """A process is ended from outside: it gets no chance to tidy up."""


@dataclass
class Machine:
    """What outlives a process: the time, the cluster's memory, commands that were obeyed."""

    time_s: float = 0.0
    newest: Orders | None = None
    want_slot: int = -1
    seen_want_slot: int = -1  # at the last slot boundary, as states have it
    decided: Counter[tuple[str, int]] = field(default_factory=Counter)  # tier, slot
    obeyed: Counter[tuple[str, int]] = field(default_factory=Counter)

    # A clock that the test moves

    def now(self) -> float:
        return self.time_s

    async def sleep_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)
        self.seen_want_slot = self.want_slot
        await asyncio.sleep(0)

    def thought_s(self, since_s: float, declared_s: float) -> float:
        return self.time_s - since_s

    # Cluster and Node

    async def observe(self) -> ClusterState:
        slot = int(self.time_s // SLOT_S) - 1
        pods = [[ABSENT] * 2] * 2
        return running(SCENARIO, pods, slot=slot, want_slot=np.full(2, self.seen_want_slot))

    async def telemetry(self, first_slot: int) -> Telemetry:
        return telemetry([1.0, 1.0])

    async def orders(self) -> Orders | None:
        return self.newest

    async def announce(self, orders: Orders, thought_s: float) -> None:
        if self.newest is None or orders.stamp > self.newest.stamp:
            if not orders.final and orders.stamp.sequence == 0:
                self.obeyed["scheduler", orders.stamp.slot] += 1
            self.newest = orders

    async def settled(self) -> bool:
        return True

    async def deployed(self) -> Stamp:
        return Stamp(self.want_slot)

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        if stamp.slot > self.want_slot:
            self.obeyed["deployer", stamp.slot] += 1
            self.want_slot = stamp.slot
        return np.zeros((2, 2), np.bool_)


@dataclass
class Deciders:
    """All three parts. ``mishap`` is called in the middle of each decision."""

    machine: Machine
    mishap: Callable[[str, int], None] = lambda tier, slot: None

    def _decide(self, tier: str) -> int:
        slot = int(self.machine.time_s // SLOT_S)
        self.machine.decided[tier, slot] += 1
        self.mishap(tier, slot)
        return slot

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        slot = self._decide("planner")
        share = np.full((2, 2), 0.5 + slot / 1000)
        return Decision(MacroPolicy(share, np.ones((2, 2), np.bool_)))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        self._decide("scheduler")
        return Decision(RoutingPlan(np.zeros((2, 2), np.int64)))

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        self._decide("deployer")
        mode = np.full((2, 2), CPU)
        made = Deployment(mode, np.ones((2, 2)), np.zeros((2, 2), np.int64))
        return Decision(made, (Call(), Call()))


@dataclass
class Trial:
    """A run whose central or node process may be killed and started again."""

    folder: Path
    machine: Machine = field(default_factory=Machine)
    starts: int = 0

    def central(self, deciders: Deciders) -> None:
        self._run(
            "centre",
            lambda spool: run_central(
                SCENARIO, self.machine, self.machine, deciders, deciders, spool, SLOTS
            ),
        )

    def node(self, deciders: Deciders) -> None:
        self._run(
            "node",
            lambda spool: run_node(SCENARIO, self.machine, self.machine, ROWS, deciders, spool),
        )

    def _run(self, name: str, process: Callable[[Spool], Any]) -> None:
        spool = Spool(self.folder / f"{name}.jsonl", SCENARIO.testbed)
        self.starts += 1
        try:
            asyncio.run(process(spool))
        finally:
            spool.close()

    def lines(self, tier: str) -> list[dict[str, Any]]:
        import json

        merged = merge_spools(contents(sorted(self.folder.glob("*.jsonl"))), SCENARIO.testbed).lines
        lines = [json.loads(line) for line in merged.splitlines()]
        return [line for line in lines if line["tier"] == tier]

    def slots(self, tier: str) -> list[int]:
        return [line["slot"] for line in self.lines(tier)]

    def missed(self, tier: str) -> list[int]:
        return [line["slot"] for line in self.lines(tier) if line["decided"] is None]

    def check(self, tier: str, times: int = 1) -> None:
        """Every slot has one record of the tier (``times``: one per node), none was decided or
        obeyed twice."""
        assert sorted(self.slots(tier)) == sorted(list(range(SLOTS)) * times)
        assert max(n for (who, _), n in self.machine.obeyed.items() if who == tier) == 1


def advance(machine: Machine, tier: str, slot: int, seconds: float) -> Callable[[str, int], None]:
    """In the middle of a decision, so many seconds pass."""
    pending = [(tier, slot)]

    def mishap(who: str, when: int) -> None:
        if (who, when) in pending:
            pending.remove((who, when))
            machine.time_s += seconds

    return mishap


def kill(tier: str, slot: int) -> Callable[[str, int], None]:
    def mishap(who: str, when: int) -> None:
        if (who, when) == (tier, slot):
            raise Killed

    return mishap


def test_without_mishaps_every_slot_is_decided_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == []
    assert [line["slot"] for line in trial.lines("planner")] == [0, 3, 6]


def test_a_decision_that_stalls_is_late_and_the_slots_it_cost_are_missed(tmp_path: Path) -> None:
    """The scheduler of slot 2 takes 24 s: slot 2 is late, slot 3 has passed, slot 4 is decided at
    the time that the clock says."""
    trial = Trial(tmp_path)
    trial.central(Deciders(trial.machine, advance(trial.machine, "scheduler", 2, 24.0)))
    trial.check("scheduler")
    outcomes = {line["slot"]: line["outcome"] for line in trial.lines("scheduler")}
    assert [slot for slot, outcome in outcomes.items() if outcome == "late"] == [2, 3]
    assert trial.missed("scheduler") == [3]
    assert trial.lines("scheduler")[2]["took_s"] == 24.0


def test_an_epoch_whose_first_slot_is_passed_over_is_planned_in_the_next(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.central(Deciders(trial.machine, advance(trial.machine, "scheduler", 2, 12.0)))
    assert trial.missed("scheduler") == []  # late in slot 2, on time in slot 3
    trial = Trial(tmp_path / "longer")
    trial.central(Deciders(trial.machine, advance(trial.machine, "scheduler", 2, 22.0)))
    assert trial.missed("scheduler") == [3]
    assert [line["slot"] for line in trial.lines("planner")] == [0, 4, 6]


def test_a_clock_that_jumps_a_slot_skips_none_silently(tmp_path: Path) -> None:
    class Jumping(Machine):
        async def sleep_until(self, time_s: float) -> None:
            await super().sleep_until(time_s + (SLOT_S if time_s == 50.0 else 0.0))

    trial = Trial(tmp_path, Jumping())
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == [5]


def test_a_clock_that_is_set_back_decides_no_slot_again(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.central(Deciders(trial.machine, advance(trial.machine, "scheduler", 4, -15.0)))
    trial.check("scheduler")
    assert trial.machine.decided["scheduler", 4] == 1


@pytest.mark.parametrize("slot", [0, 2, 3])
def test_a_centre_killed_while_it_decides_decides_that_slot_after_its_restart(
    slot: int, tmp_path: Path
) -> None:
    trial = Trial(tmp_path)
    with pytest.raises(Killed):
        trial.central(Deciders(trial.machine, kill("scheduler", slot)))
    trial.machine.time_s += 3.0  # still the same slot
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == []


def test_a_centre_killed_after_its_announcement_goes_on_with_the_next_slot(tmp_path: Path) -> None:
    """Killed between the command and its record: the record says so, the command is not given
    again."""

    class Forgetful(Machine):
        async def announce(self, orders: Orders, thought_s: float) -> None:
            await super().announce(orders, thought_s)
            if orders.stamp == Stamp(2):
                raise Killed

    trial = Trial(tmp_path, Forgetful())
    with pytest.raises(Killed):
        trial.central(Deciders(trial.machine))
    trial.machine.time_s += 3.0
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == [2]
    assert trial.machine.decided["scheduler", 2] == 1


def test_a_centre_that_is_away_for_slots_records_them(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    with pytest.raises(Killed):
        trial.central(Deciders(trial.machine, kill("scheduler", 2)))
    trial.machine.time_s += 25.0
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == [2, 3]
    policies = {line["slot"] for line in trial.lines("planner")}
    assert policies == {0, 4, 6}


def given_orders(machine: Machine) -> None:
    """A centre that has announced once, and ends the run when the slots are over."""
    policy = MacroPolicy(np.full((2, 2), 0.5), np.ones((2, 2), np.bool_))
    machine.newest = Orders(Stamp(0), InForce(policy))


class Ending(Machine):
    """Orders become final when the slots are over."""

    async def orders(self) -> Orders | None:
        over = self.newest is not None and self.time_s >= SLOTS * SLOT_S
        if over and self.newest:
            return replace(self.newest, stamp=Stamp(SLOTS), final=True)
        return self.newest


@pytest.mark.parametrize("slot", [0, 2])
def test_a_node_killed_while_it_decides_decides_that_slot_after_its_restart(
    slot: int, tmp_path: Path
) -> None:
    trial = Trial(tmp_path, Ending())
    given_orders(trial.machine)
    with pytest.raises(Killed):
        trial.node(Deciders(trial.machine, kill("deployer", slot)))
    trial.machine.time_s += 3.0
    trial.node(Deciders(trial.machine))
    trial.check("deployer", times=2)
    assert trial.missed("deployer") == []


def test_a_node_killed_after_its_command_does_not_command_again(tmp_path: Path) -> None:
    class Forgetful(Ending):
        async def deploy(
            self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
        ) -> NDArray[np.bool_]:
            voided = await super().deploy(stamp, deployment, thought_s)
            if stamp == Stamp(2) and self.decided["deployer", 2] == 1:
                raise Killed
            return voided

    trial = Trial(tmp_path, Forgetful())
    given_orders(trial.machine)
    with pytest.raises(Killed):
        trial.node(Deciders(trial.machine))
    trial.node(Deciders(trial.machine))
    trial.check("deployer", times=2)
    assert trial.missed("deployer") == [2, 2]  # by node
    assert trial.machine.decided["deployer", 2] == 1


def test_a_node_without_orders_waits_and_says_so(tmp_path: Path) -> None:
    class Late(Ending):
        async def orders(self) -> Orders | None:
            return await super().orders() if self.time_s >= 20.0 else None

    trial = Trial(tmp_path, Late())
    given_orders(trial.machine)
    trial.node(Deciders(trial.machine))
    trial.check("deployer", times=2)
    assert trial.missed("deployer") == [0, 0, 1, 1]


def test_an_unreachable_world_is_recorded_and_the_last_decision_holds(tmp_path: Path) -> None:
    class Deaf(Machine):
        async def observe(self) -> ClusterState:
            if 20.0 <= self.time_s < 40.0:
                raise Transient("the telemetry store does not answer")
            return await super().observe()

    trial = Trial(tmp_path, Deaf())
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == [2, 3]
    faults = {line["fault"] for line in trial.lines("scheduler") if "fault" in line}
    assert faults == {"the telemetry store does not answer"}
    assert [line["slot"] for line in trial.lines("planner")] == [0, 4, 6]  # as soon as it can be


def test_a_decision_that_ends_after_its_slot_is_late_however_short_it_was(tmp_path: Path) -> None:
    """In slot 2, telemetry takes 4 s and the scheduler 7 s of the slot's 10 s."""

    class Slow(Machine):
        async def observe(self) -> ClusterState:
            if self.time_s == 20.0:
                self.time_s += 4.0
            return await super().observe()

    trial = Trial(tmp_path, Slow())
    trial.central(Deciders(trial.machine, advance(trial.machine, "scheduler", 2, 7.0)))
    trial.check("scheduler")
    late = [line for line in trial.lines("scheduler") if line["outcome"] == "late"]
    assert [(line["slot"], line["took_s"]) for line in late] == [(2, 7.0)]


def test_a_deployment_that_ends_after_its_slot_is_late_however_short_it_was(tmp_path: Path) -> None:
    class Slow(Ending):
        async def orders(self) -> Orders | None:
            found = await super().orders()
            if self.time_s == 20.0:
                self.time_s += 4.0
            return found

    trial = Trial(tmp_path, Slow())
    given_orders(trial.machine)
    trial.node(Deciders(trial.machine, advance(trial.machine, "deployer", 2, 7.0)))
    trial.check("deployer", times=2)
    late = [line for line in trial.lines("deployer") if line["outcome"] == "late"]
    assert [(line["slot"], line["decided"]) for line in late] == [(2, {})] * 2


@pytest.mark.parametrize("process", ["centre", "node"])
def test_a_process_that_restarts_in_an_unreachable_world_waits_for_it(
    process: str, tmp_path: Path
) -> None:
    class Deaf(Ending):
        def _answer(self) -> None:
            if self.time_s < 20.0:
                raise Transient("the cluster does not answer")

        async def orders(self) -> Orders | None:
            self._answer()
            return await super().orders()

        async def deployed(self) -> Stamp:
            self._answer()
            return await super().deployed()

    trial = Trial(tmp_path, Deaf())
    if process == "centre":
        trial.central(Deciders(trial.machine))
        trial.check("scheduler")
        assert trial.missed("scheduler") == [0, 1]
    else:
        given_orders(trial.machine)
        trial.node(Deciders(trial.machine))
        trial.check("deployer", times=2)
        assert trial.missed("deployer") == [0, 0, 1, 1]


def test_final_orders_are_repeated_until_they_are_out(tmp_path: Path) -> None:
    class Deaf(Machine):
        async def announce(self, orders: Orders, thought_s: float) -> None:
            if orders.final and self.time_s < 100.0:
                raise Transient("the cluster does not answer")
            await super().announce(orders, thought_s)

    trial = Trial(tmp_path, Deaf())
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.machine.newest is not None
    assert (trial.machine.newest.stamp, trial.machine.newest.final) == (Stamp(SLOTS), True)


def test_a_centre_that_restarts_after_the_end_decides_and_records_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.central(Deciders(trial.machine))
    trial.machine.time_s += 25.0
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.machine.newest is not None
    assert trial.machine.newest.stamp == Stamp(SLOTS)


def test_a_node_that_was_away_at_the_end_records_no_slot_after_it(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Ending())
    given_orders(trial.machine)
    with pytest.raises(Killed):
        trial.node(Deciders(trial.machine, kill("deployer", 6)))
    trial.machine.time_s = 200.0
    trial.node(Deciders(trial.machine))
    trial.check("deployer", times=2)
    assert trial.missed("deployer") == [6, 6, 7, 7]


def test_final_orders_end_no_slot_before_their_own(tmp_path: Path) -> None:
    """The node's clock is 2 s behind the centre's: final orders are there while it is restarted in
    its slot 7, which it has not decided yet."""

    class Early(Ending):
        async def orders(self) -> Orders | None:
            self.time_s += 2.0
            found = await super().orders()
            self.time_s -= 2.0
            return found

    trial = Trial(tmp_path, Early())
    given_orders(trial.machine)
    with pytest.raises(Killed):
        trial.node(Deciders(trial.machine, kill("deployer", 7)))
    trial.machine.time_s = 78.5
    trial.node(Deciders(trial.machine))
    trial.check("deployer", times=2)
    assert trial.missed("deployer") == []


def test_a_slot_that_was_missed_and_then_decided_after_a_restart_counts_as_decided(
    tmp_path: Path,
) -> None:
    class Deaf(Machine):
        async def observe(self) -> ClusterState:
            if self.time_s == 20.0:
                raise Transient("the telemetry store does not answer")
            return await super().observe()

        async def sleep_until(self, time_s: float) -> None:
            if self.time_s == 20.0:
                self.time_s = 23.0
                raise Killed
            await super().sleep_until(time_s)

    trial = Trial(tmp_path, Deaf())
    with pytest.raises(Killed):
        trial.central(Deciders(trial.machine))
    trial.central(Deciders(trial.machine))
    trial.check("scheduler")
    assert trial.missed("scheduler") == []
    assert trial.machine.obeyed["scheduler", 2] == 1


def test_heavy_thought_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """On wall time, parts that compute do so in a thread: a heart that beats every 5 ms goes on
    beating while each decision blocks its thread for 60 ms."""
    import time

    class Heavy(Deciders):
        def _decide(self, tier: str) -> int:
            time.sleep(0.06)
            return 0

    beats: list[float] = []

    async def heart() -> None:
        while True:
            beats.append(time.perf_counter())
            await asyncio.sleep(0.005)

    async def life() -> None:
        machine, heavy = Machine(), Heavy(Machine())
        beating = asyncio.create_task(heart())
        state, in_force = await machine.observe(), InForce(MacroPolicy(np.eye(2), np.eye(2) > 0))
        await PlannerInThread(heavy).plan(state, telemetry([1.0, 1.0]), None)
        await SchedulerInThread(heavy).schedule(state, in_force)
        await DeployerInThread(heavy).deploy(state, in_force)
        beating.cancel()

    asyncio.run(life())
    assert len(beats) > 12  # 180 ms in all; without threads three or four


def test_wall_time_is_measured_in_the_runs_own_seconds() -> None:
    real = [1000.0]
    clock = WallClock(began_s=1000.0, speed=60.0, now_s=lambda: real[0])
    since_s = clock.now()
    real[0] += 0.5
    assert clock.now() == 30.0
    assert clock.thought_s(since_s, declared_s=99.0) == 30.0


def test_wall_clock_sleeps_until_its_time() -> None:
    import time

    clock = WallClock(began_s=time.time(), speed=100.0)
    asyncio.run(clock.sleep_until(5.0))
    assert 5.0 <= clock.now() < 60.0
    asyncio.run(clock.sleep_until(1.0))  # has passed


def test_a_sleep_that_began_by_a_wrong_time_ends_soon_after_its_correction() -> None:
    import time

    began_s = time.time()
    wrong_s = iter([began_s - 3600.0])  # one look at a clock that was set back an hour
    clock = WallClock(began_s, now_s=lambda: next(wrong_s, time.time()))
    asyncio.run(asyncio.wait_for(clock.sleep_until(0.1), timeout=10.0))
