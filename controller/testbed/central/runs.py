"""One run at the controller: what its nodes have told, and its orders, in memory and on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller import wire
from controller.domain.decisions import Orders, Stamp
from controller.domain.errors import InvalidDecision
from controller.domain.phases import WAITING
from controller.domain.requests import FAILURES
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry, join_rows
from controller.files import replace_file
from controller.ports import Store
from controller.testbed.central.conditions import Condition, limited
from controller.testbed.clock import WallClock
from controller.testbed.handshake import JOURNAL, PLAYED
from controller.testbed.keys import PLAYER
from controller.testbed.node.calls import is_call
from controller.testbed.node.pods import Pods
from controller.testbed.node.records import Record
from controller.testbed.node.settings import VERDICT_GRACE_S

Ints = NDArray[np.int64]

PATIENCE_SLOTS: Final = 4  # after the last deadline and its grace
LATEST_S: Final = 0.2  # of a slot that the centre waits for the states of the slot before


@dataclass(slots=True)
class Heard:
    """The newest word of a node."""

    state: ClusterState
    heard_unix_s: float
    pod_starts: int = 0
    clock_offset_s: float | None = None  # the controller's clock ahead of the node's
    open_calls: int = 0  # of its users, at the end of the slot


class RunAtCentre:
    """The cluster of a run as planner and scheduler see it (Cluster port), fed by the nodes'
    reports.

    Args:
        document: the run as it is in the store: id, incarnation, fence, attempt, holder,
            experiment, phase, asked_unix_s, began_unix_s, speed, slots, played.
        folder: of the run's journals.
        conditions: returns those of the nodes that are known now.
    """

    def __init__(
        self,
        document: dict[str, Any],
        scenario: Scenario,
        store: Store,
        folder: Path,
        conditions: Callable[[], Mapping[str, Condition]] = dict,
    ) -> None:
        self.document, self.scenario, self.folder = document, scenario, folder
        self._store, self._conditions = store, conditions
        self._testbed = scenario.testbed
        self.changed, self._saving = asyncio.Condition(), asyncio.Lock()
        self.records: dict[int, Record] = {}
        self._known_s: dict[int, float] = {}
        self._arrived: set[int] = set()  # requests that a host has, or had
        self._born: dict[tuple[int, str], tuple[Ints, Ints]] = {}
        self.heard = {
            name: Heard(_empty_row(scenario, row), time.time())
            for row, name in enumerate(self._testbed.node_names)
        }
        self.journals: set[str] = set()
        self._orders = self._kept_orders()

    @property
    def run_id(self) -> str:
        return str(self.document["id"])

    @property
    def key(self) -> str:
        """Name among services: a run that is begun again after its end shares nothing with what
        its former incarnation left."""
        return f"{self.run_id}.{self.document['incarnation']}"

    @property
    def phase(self) -> str:
        return str(self.document["phase"])

    @property
    def clock(self) -> WallClock:
        """The run's clock; it stands at a time before the run until that begins."""
        return WallClock(self.document["began_unix_s"], self.document["speed"])

    async def update(self, **fields: Any) -> None:
        """Change the run's document durably, and wake who waits for it. Changes are stored one
        after the other, also when the task that makes one is cancelled."""
        async with self._saving:
            self.document = {**self.document, **fields}
            putting = asyncio.to_thread(self._store.put, "runs", self.run_id, self.document)
            saved = asyncio.ensure_future(putting)
            try:
                await asyncio.shield(saved)
            except asyncio.CancelledError:
                await asyncio.wait({saved})
                raise
        await self.wake()

    async def wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def file(self, node: str, name: str) -> Path:
        """Return where a file of a node, or of ``centre``, lies."""
        return self.folder / node / name

    async def take_file(self, node: str, name: str, content: bytes) -> None:
        """Keep a file of a node. The journal is the last of them."""
        await asyncio.to_thread(replace_file, self.file(node, name), content)
        if name == JOURNAL:
            self.journals.add(node)
        await self.wake()

    async def take_played(self, content: bytes, tried: int) -> None:
        """Keep what the player has done: nodes have at most ``tried`` requests, and get no more."""
        await asyncio.to_thread(replace_file, self.file(PLAYER, PLAYED), content)
        await self.update(played=tried)

    # What nodes tell

    async def take_report(self, node: str, report: dict[str, Any], records: list[Record]) -> None:
        """Take a node's report; return once its records are on disk.

        Raises:
            InvalidDecision: its state cannot be read.
        """
        fresh = {one.request.request_id: one for one in records}
        known_s = self.clock.now()
        if fresh:
            sent = {str(one["request"]["request_id"]): one for one in report["records"]}
            documents = {
                f"{self.key}/{key}": {"run": self.key, "known_s": known_s, "record": one}
                for key, one in sent.items()
            }
            await asyncio.to_thread(self._store.put_many, "records", documents)
        for key, record in fresh.items():
            if self.records.setdefault(key, record) is record:
                self._known_s[key] = known_s
        self._arrived |= {int(key) for key, _ in report["arrivals"]}
        heard = self.heard[node]
        heard.heard_unix_s = time.time()
        if report["state"] is not None:
            self._take_state(node, report["state"])
        await self.wake()

    def _take_state(self, node: str, sent: dict[str, Any]) -> None:
        heard = self.heard[node]
        state = wire.state_from_wire(self._testbed, sent)
        if [self._testbed.node_names[row] for row in state.rows.tolist()] != [node]:
            raise InvalidDecision(f"{node} told the state of another node")
        heard.pod_starts = int(sent.get("pod_starts", 0))
        heard.clock_offset_s = sent.get("clock_offset_s")
        heard.open_calls = int(sent.get("open_calls", 0))
        if state.slot > heard.state.slot:
            heard.state = state
        self._born[state.slot, node] = state.arrived_requests[0], state.arrived_prompts[0]

    def take_back(self, record: Record, known_s: float) -> None:
        """Take up a record from the store, after a restart."""
        self.records[record.request.request_id] = record
        self._known_s[record.request.request_id] = known_s

    # Cluster

    async def observe(self) -> ClusterState:
        slot_s = self.scenario.slot_s
        slot = self.clock.ended_slot(slot_s)
        await self._wait_for_states(slot)
        clock, rows = self.clock, []
        for heard in self.heard.values():
            # Nobody has anything to tell before the run begins.
            silent_s = clock.now() - max(0.0, clock.at_unix_s(heard.heard_unix_s))
            rows.append(_dated(heard.state, slot, slot_s, up=silent_s <= 2 * slot_s))
        return limited(join_rows(rows), self._testbed, self._conditions())

    async def telemetry(self, first_slot: int) -> Telemetry:
        lms, since_s = self._testbed.lm_names, first_slot * self.scenario.slot_s
        born = [one for (slot, _), one in self._born.items() if slot >= first_slot]
        known = [one for key, one in self.records.items() if self._known_s[key] > since_s]
        zero = np.zeros(len(lms), np.int64)
        succeeded, failed, latency_sum_s = zero.copy(), zero.copy(), np.zeros(len(lms))
        for record in known:
            i = lms.index(record.request.lm)
            if record.success and record.latency_s is not None:
                succeeded[i] += 1
                latency_sum_s[i] += record.latency_s
            else:
                failed[i] += 1
        return Telemetry(
            first_slot=first_slot,
            last_slot=self.clock.ended_slot(self.scenario.slot_s),
            arrived_requests=sum((requests for requests, _ in born), zero),
            arrived_prompts=sum((prompts for _, prompts in born), zero),
            succeeded=succeeded,
            failed=failed,
            latency_sum_s=latency_sum_s,
        )

    async def orders(self) -> Orders | None:
        return self._orders

    async def announce(self, orders: Orders, thought_s: float) -> None:
        del thought_s  # it has passed
        if self._orders is not None and orders.stamp <= self._orders.stamp:
            return
        document = wire.orders_to_wire(self._testbed, orders)
        await asyncio.to_thread(self._store.put, "orders", self.key, document)
        self._orders = orders
        await self.wake()

    async def settled(self) -> bool:
        played = self.document.get("played")
        everything = played is not None and self._played_records() >= int(played)
        answered = not any(heard.open_calls for heard in self.heard.values())
        return (everything and answered) or self.clock.now() > self._last_s

    def _played_records(self) -> int:
        """Return the number of records of the player's requests: calls of users are none."""
        return sum(not is_call(key) for key in self.records)

    @property
    def _last_s(self) -> float:
        """Time by which every node has closed every request; a record that is missing then will
        not come, and its request is ``unfinished``."""
        one = self.scenario
        born_s = int(self.document["slots"]) * one.slot_s
        return born_s + one.tau_s + VERDICT_GRACE_S + PATIENCE_SLOTS * one.slot_s

    def news(self, after: Stamp) -> dict[str, Any] | None:
        """Return the newest orders on the wire if they are newer than ``after``."""
        if self._orders is None or self._orders.stamp <= after:
            return None
        return wire.orders_to_wire(self._testbed, self._orders)

    def progress(self) -> dict[str, Any]:
        """Return how far the run is."""
        failures = [record.failure for record in self.records.values()]
        began = self.phase != WAITING
        ended_unix_s = self.document.get("ended_unix_s", time.time())
        return {
            "id": self.run_id,
            "phase": self.phase,
            "slot": int(self.clock.now() // self.scenario.slot_s) if began else None,
            "began_unix_s": self.document["began_unix_s"] if began else None,
            "wall_s": ended_unix_s - self.document["asked_unix_s"],
            "speed": self.document["speed"],
            "slots": self.document.get("slots"),
            "records": len(failures),
            "calls": len(failures) - self._played_records(),
            "succeeded": sum(one is None for one in failures),
            "failures": {name: failures.count(name) for name in FAILURES if name in failures},
            "problem": self.document.get("problem", ""),
            "ended_by": self.document.get("ended_by", ""),
            "journals": sorted(self.journals),
            "arrived": len(self._arrived),
            "pod_starts": sum(heard.pod_starts for heard in self.heard.values()),
            "clock_offsets_s": {node: one.clock_offset_s for node, one in self.heard.items()},
        }

    def orders_in_force(self) -> dict[str, Any]:
        """Return the plan, and the slots of plan and policy, as they are in force, by names."""
        orders = self._orders
        if orders is None:
            return {"plan": None, "plan_slot": None, "policy_slot": None}
        one = orders.in_force
        plan = None if one.plan is None else wire.plan_to_wire(self._testbed, one.plan)
        return {"plan": plan, "plan_slot": one.plan_slot, "policy_slot": one.policy_slot}

    async def _wait_for_states(self, slot: int) -> None:
        """Wait a little for the states of ``slot``, which travel while this slot begins."""
        end_s = (slot + 1 + LATEST_S) * self.scenario.slot_s
        while any(heard.state.slot < slot for heard in self.heard.values()):
            left_s = (end_s - self.clock.now()) / self.clock.speed
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s), self.changed:
                    await self.changed.wait()
            except TimeoutError:
                return

    def _kept_orders(self) -> Orders | None:
        document = self._store.get("orders", self.key)
        return None if document is None else wire.orders_from_wire(self._testbed, document)


def _dated(state: ClusterState, slot: int, slot_s: float, *, up: bool) -> ClusterState:
    """Return a node's last state as seen at the end of ``slot``."""
    if state.slot < slot:  # what arrived in an earlier slot was counted then
        none = np.zeros_like(state.arrived_prompts)
        state = replace(state, arrived_prompts=none, arrived_requests=none)
    return replace(state, slot=slot, time_s=(slot + 1) * slot_s, up=np.array([up]))


def _empty_row(scenario: Scenario, row: int) -> ClusterState:
    """Return the state of a node before the run: nothing runs, nothing waits."""
    lms = len(scenario.testbed.lms)
    free_cores, free_ram_gb, free_vgpus = Pods(scenario, row).free()
    none, zero = np.zeros((1, lms), np.int64), np.zeros((1, lms))
    return ClusterState(
        time_s=0.0, slot=-1, rows=np.array([row]), up=np.array([True]), heard_s=np.zeros(1),
        backlog=none, mode=none, cores=zero, vgpus=none, cards=none, pod=none, want_mode=none,
        want_cores=zero, want_vgpus=none, want_slot=np.array([-1]),
        free_cores=np.array([free_cores]), free_ram_gb=np.array([free_ram_gb]),
        free_vgpus=np.array([free_vgpus]), arrived_prompts=none, arrived_requests=none,
        busy_s=zero,
    )  # fmt: skip
