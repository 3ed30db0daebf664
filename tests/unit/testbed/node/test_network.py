"""Three nodes joined by a network that loses, doubles and reorders, with restarts at any moment.

A crash may fall between any two instructions: only what was persisted before it survives.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.domain.decisions import Stamp
from controller.testbed.node import events as ev
from controller.testbed.node import instructions as do
from controller.testbed.node.log import from_line, snapshot_from_text, snapshot_to_text, to_line
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Record, Request
from controller.testbed.node.settings import NodeSettings

NODES = ("a", "b", "c")
LMS = ("LM1", "LM2")
TAU_S, GRACE_S, SLOT_S = 60.0, 10.0, 10.0
LIMIT_BYTES = 300

nodes = st.sampled_from(NODES)
lms = st.sampled_from(LMS)


class Network(RuleBasedStateMachine):
    """The world around the machines: network, LM servers, disks, clients."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 0.0
        self.lines: dict[str, list[str]] = {node: [] for node in NODES}
        self.snapshots: dict[str, str] = {}
        self.machines = {node: self._machine(node) for node in NODES}
        self.wire: list[tuple[str, ev.Event]] = []
        self.work: dict[tuple[str, str], do.Compute] = {}  # (node, LM) -> what its server has
        self.pods = {(node, lm): "off" for node in NODES for lm in LMS}
        self.recorded: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        self.accepted: dict[int, Request] = {}
        self.transfers: list[tuple[str, ev.TransferArrived]] = []  # all that were ever sent
        self.clients: dict[int, Request] = {}  # what clients have asked for
        self.records: dict[int, Record] = {}
        self.closed_s: dict[int, float] = {}
        self.born = 0
        self.sequence = 0

    def _machine(self, node: str) -> NodeMachine:
        kept = self.snapshots.get(node)
        return NodeMachine(
            NodeSettings(
                node,
                LMS,
                slot_s=SLOT_S,
                tau_s=TAU_S,
                verdict_grace_s=GRACE_S,
                queue_limit_bytes=LIMIT_BYTES,
            ),
            None if kept is None else snapshot_from_text(kept),
            check=True,
        )

    # Executor

    def give(self, node: str, event: ev.Event, crash_after: int | None = None) -> None:
        instructions = self.machines[node].handle(replace(event, time_s=self.time_s))
        for one in instructions[:crash_after]:
            self.carry_out(node, one)
        if crash_after is not None and crash_after < len(instructions):
            self.restart(node)

    def carry_out(self, node: str, one: do.Instruction) -> None:  # noqa: C901 - a table
        match one:
            case do.Persist(event=event):
                self.lines[node].append(to_line(event))
                if isinstance(event, ev.PromptDone):
                    self.recorded[node, event.request_id].update(event.prompts)
            case do.AcceptRequest(request_id=key):
                self.accepted[key] = self.clients[key]
            case do.SendTransfer(destination=to, request=request, attempt=attempt):
                arrived = ev.TransferArrived(0.0, request, attempt, request.checksum)
                self.wire.append((to, arrived))
                self.transfers.append((to, arrived))
            case do.AcknowledgeTransfer(origin=to, request_id=key, attempt=attempt):
                self.wire.append((to, ev.TransferAcknowledged(0.0, key, attempt)))
            case do.RefuseTransfer(origin=to, request_id=key, attempt=attempt, reason=reason):
                failed = ev.TransferFailed(0.0, key, attempt, reason, one.retry_after_s)
                self.wire.append((to, failed))
            case do.SendCancel(destination=to, request_id=key):
                self.wire.append((to, ev.Cancelled(0.0, key)))
            case do.ReturnResult(origin=to, outcome=outcome):
                if not outcome.failure:
                    prompts = self.machines[node].host.hosted[outcome.request_id].request.prompts
                    assert self.recorded[node, outcome.request_id] == set(range(prompts))
                self.wire.append((to, ev.ResultArrived(0.0, outcome, node)))
            case do.AcknowledgeResult(host=to, request_id=key):
                self.wire.append((to, ev.ResultAcknowledged(0.0, key)))
            case do.Compute():
                known = self.recorded[node, one.request_id]
                assert known.isdisjoint(one.remaining), "a recorded prompt is computed again"
                self.work[node, one.lm] = one
            case do.CancelCompute(lm=lm, request_id=key):
                if (work := self.work.get((node, lm))) and work.request_id == key:
                    del self.work[node, lm]
            case do.CloseRecord(record=record):
                key = record.request.request_id
                assert self.records.setdefault(key, record) == record, "closed twice"
                self.closed_s.setdefault(key, self.time_s)
                self.give(node, ev.RecordWritten(0.0, key))
            case _:
                pass

    @rule(node=nodes)
    def compact(self, node: str) -> None:
        """Put a snapshot in place of the log."""
        self.snapshots[node] = snapshot_to_text(self.machines[node].snapshot())
        self.lines[node].clear()

    def restart(self, node: str) -> None:
        self.machines[node] = self._machine(node)
        log = tuple(map(from_line, self.lines[node]))
        self.give(node, ev.Restarted(0.0, log))
        for lm in LMS:
            self.give(node, ev.PodStateChanged(0.0, lm, self.pods[node, lm]))

    # Rules

    @initialize()
    def start(self) -> None:
        for node in NODES:
            self.give(node, ev.Restarted(0.0))

    @rule(
        node=nodes,
        lm=lms,
        prompts=st.integers(1, 3),
        size=st.sampled_from((50, 150, 300)),
        crash_after=st.sampled_from((None, None, None, 0, 1)),
    )
    def bear(self, node: str, lm: str, prompts: int, size: int, crash_after: int | None) -> None:
        self.born += 1
        slot = int(self.time_s // SLOT_S)
        request = Request(self.born, lm, node, prompts, slot, self.time_s, size, "c")
        self.clients[self.born] = request
        self.give(node, ev.RequestBorn(0.0, request), crash_after)

    @rule(data=st.data())
    def bear_again(self, data: st.DataObject) -> None:
        if self.clients:
            request = self.clients[data.draw(st.sampled_from(sorted(self.clients)))]
            self.give(request.origin, ev.RequestBorn(0.0, request))

    @rule(node=nodes, to=st.sampled_from((*NODES, *NODES, None)), other=nodes)
    def order(self, node: str, to: str | None, other: str) -> None:
        self.sequence += 1
        stamp = Stamp(int(self.time_s // SLOT_S), self.sequence)
        self.give(node, ev.OrdersReceived(0.0, stamp, (("LM1", to), ("LM2", other))))

    @rule(
        data=st.data(),
        fate=st.sampled_from(("deliver", "deliver", "deliver", "double", "lose")),
        crash_after=st.sampled_from((None, None, None, 0, 1, 2)),
    )
    def deliver(self, data: st.DataObject, fate: str, crash_after: int | None) -> None:
        if not self.wire:
            return
        place = data.draw(st.integers(0, len(self.wire) - 1))
        node, event = self.wire[place] if fate == "double" else self.wire.pop(place)
        if fate != "lose":
            self.give(node, event, crash_after)
        elif isinstance(event, ev.TransferArrived):
            lost = ev.TransferFailed(
                0.0, event.request.request_id, event.attempt, ev.UNREACHABLE, 1.0
            )
            self.give(event.request.origin, lost)

    @rule(data=st.data())
    def deliver_a_late_copy(self, data: st.DataObject) -> None:
        if self.transfers:
            node, event = self.transfers[data.draw(st.integers(0, len(self.transfers) - 1))]
            self.give(node, event)

    @rule(rounds=st.integers(1, 6))
    def deliver_all(self, rounds: int) -> None:
        for _ in range(rounds):
            wire, self.wire = self.wire, []
            for node, event in wire:
                self.give(node, event)

    @rule(node=nodes, lm=lms, state=st.sampled_from(("ready", "ready", "stopping", "off")))
    def change_pod(self, node: str, lm: str, state: str) -> None:
        self.pods[node, lm] = state
        if state == "off":
            self.work.pop((node, lm), None)
        self.give(node, ev.PodStateChanged(0.0, lm, state))

    @rule(
        data=st.data(), all_of_it=st.booleans(), crash_after=st.sampled_from((None, None, 0, 1, 2))
    )
    def compute(self, data: st.DataObject, all_of_it: bool, crash_after: int | None) -> None:
        if not self.work:
            return
        node, lm = data.draw(st.sampled_from(sorted(self.work)))
        work = self.work[node, lm]
        began_s = self.time_s
        prompts = work.remaining if all_of_it else work.remaining[:1]
        self.give(node, ev.BatchStarted(0.0, work.request_id, work.attempt, prompts, began_s))
        self.time_s += 0.5
        self.give(node, ev.PromptDone(0.0, work.request_id, prompts, began_s), crash_after)

    @rule(node=nodes, to=nodes)
    def serve_all(self, node: str, to: str) -> None:
        """Let a stretch without faults pass, so that requests get to their end."""
        self.order(node, to, to)
        for lm in LMS:
            self.change_pod(to, lm, "ready")
        for _ in range(4):
            self.deliver_all(3)
            for (host, _), work in sorted(self.work.items(), key=str):
                done = ev.PromptDone(0.0, work.request_id, work.remaining, self.time_s)
                self.give(host, done)

    @rule(data=st.data(), permanent=st.sampled_from((False, False, True)))
    def fail_engine(self, data: st.DataObject, permanent: bool) -> None:
        if self.work:
            (node, _), work = data.draw(st.sampled_from(sorted(self.work.items(), key=str)))
            failed = ev.EngineFailed(0.0, work.request_id, work.attempt, permanent)
            self.give(node, failed)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.accepted:
            request = self.accepted[data.draw(st.sampled_from(sorted(self.accepted)))]
            self.give(request.origin, ev.Cancelled(0.0, request.request_id))

    @rule(node=nodes)
    def kill(self, node: str) -> None:
        self.restart(node)

    @rule(pause_s=st.sampled_from((0.5, 1.0, 5.0, 10.0, 30.0)))
    def wait(self, pause_s: float) -> None:
        self.advance(self.time_s + pause_s)

    def advance(self, until_s: float) -> None:
        """Let timers run as an executor does: at the machines' own times."""
        for _ in range(10_000):
            wake_s = min(machine.wake_s() for machine in self.machines.values())
            if wake_s > until_s:
                break
            self.time_s = max(self.time_s, wake_s)
            for node in NODES:
                self.give(node, ev.Tick(0.0))
        else:
            raise AssertionError("a machine wakes for nothing")
        self.time_s = until_s

    # Promises

    @invariant()
    def every_request_is_closed_by_its_deadline_and_the_grace(self) -> None:
        for key, request in self.accepted.items():
            last_s = request.born_s + TAU_S + GRACE_S
            if key in self.closed_s:
                assert self.closed_s[key] <= last_s + 0.5
            else:
                assert key in self.machines[request.origin].origin.open, "lost"
                assert self.time_s <= last_s + 0.5

    def teardown(self) -> None:
        """End the faults: all is closed, and all results reach their origins."""
        self.advance(self.time_s + TAU_S + GRACE_S + 1.0)
        for _ in range(20):
            self.deliver_all(4)
            self.advance(self.time_s + 60.0)
        assert self.accepted.keys() <= self.records.keys(), "lost"
        for node, machine in self.machines.items():
            assert not machine.origin.open
            assert not machine.host.hosted, "a result is kept that its origin acknowledged"
            assert not machine.origin.closed, "memory grows"
            assert not machine.host.gone, "memory grows"
            again = self._machine(node)
            again.handle(ev.Restarted(self.time_s, tuple(map(from_line, self.lines[node]))))
            assert not again.origin.open
            assert not again.origin.unwritten


TestNetwork = Network.TestCase
TestNetwork.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
