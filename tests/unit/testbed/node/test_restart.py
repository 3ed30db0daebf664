"""Restart of a node: the persisted events through a new machine."""

from __future__ import annotations

import pytest

from controller.domain.decisions import Stamp
from controller.testbed.node import events as ev
from controller.testbed.node import instructions as do
from controller.testbed.node.log import from_line, snapshot_from_text, snapshot_to_text, to_line
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Request
from controller.testbed.node.settings import NodeSettings

SETTINGS = NodeSettings("vm3", ("LM1",), tau_s=90.0)
OWN = Request(1, "LM1", "vm3", 2, 0, 1.0, 100, "c")
GUEST = Request(2, "LM1", "vm2", 2, 0, 1.0, 100, "c")
THIRD = Request(3, "LM1", "vm2", 1, 0, 1.0, 100, "c")

EVENTS: list[ev.Event] = [
    ev.TransferArrived(2.0, THIRD, 1, "c"),
    ev.TransferArrived(2.0, GUEST, 1, "c"),
    ev.RequestBorn(2.5, OWN),
    ev.OrdersReceived(3.0, Stamp(0), (("LM1", "vm4"),)),
    ev.PodStateChanged(3.0, "LM1", "ready"),
    ev.PromptDone(4.0, 3, (0,), 3.5),
    ev.BatchStarted(4.5, 2, 1, (0,), 4.5),
    ev.PromptDone(5.0, 2, (0,), 4.5),
]


def persisted(machine: NodeMachine, events: list[ev.Event]) -> list[str]:
    return [
        to_line(one.event)
        for event in events
        for one in machine.handle(event)
        if isinstance(one, do.Persist)
    ]


def test_a_restart_issues_all_that_is_open_again() -> None:
    log = tuple(map(from_line, persisted(NodeMachine(SETTINGS, check=True), EVENTS)))
    machine = NodeMachine(SETTINGS, check=True)
    instructions = machine.handle(ev.Restarted(10.0, log))
    assert instructions[0] == do.Persist(ev.Restarted(10.0))
    kinds = {type(one) for one in instructions}
    assert kinds == {do.Persist, do.ReportArrival, do.SendTransfer, do.ReturnResult}
    # The pod is unknown until the executor has looked; what is recorded is not computed again.
    [compute] = machine.handle(ev.PodStateChanged(11.0, "LM1", "ready"))[1:]
    assert compute == do.Compute("LM1", 2, 1, (1,), 91.0)


def test_a_record_that_may_not_be_written_is_issued_again_and_no_more_once_confirmed() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    events: list[ev.Event] = [ev.RequestBorn(2.0, OWN), ev.Cancelled(3.0, 1)]
    lines = persisted(machine, events)
    again = NodeMachine(SETTINGS, check=True)
    instructions = again.handle(ev.Restarted(4.0, tuple(map(from_line, lines))))
    assert [type(one) for one in instructions] == [do.Persist, do.CloseRecord]
    lines += persisted(machine, [ev.RecordWritten(3.1, 1)])
    again = NodeMachine(SETTINGS, check=True)
    instructions = again.handle(ev.Restarted(4.0, tuple(map(from_line, lines))))
    assert [type(one) for one in instructions] == [do.Persist]


def test_a_clock_that_was_set_back_changes_no_replay() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(ev.Tick(50.0))
    [line, *_] = persisted(machine, [ev.TransferArrived(2.0, GUEST, 1, "c")])
    assert from_line(line).time_s == 50.0


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_line_gives_its_event_back(event: ev.Event) -> None:
    assert from_line(to_line(event)) == event


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"event":"Tick"}', '{"event":"None"}', "{"])
def test_a_damaged_line_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="damaged line in the node's log"):
        from_line(line)


def test_a_snapshot_stands_for_the_events_that_led_to_it() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    lines = persisted(machine, EVENTS)
    kept = snapshot_from_text(snapshot_to_text(machine.snapshot()))
    replayed, restored = NodeMachine(SETTINGS), NodeMachine(SETTINGS, kept, check=True)
    log = tuple(map(from_line, lines))
    assert restored.handle(ev.Restarted(10.0)) == replayed.handle(ev.Restarted(10.0, log))
    assert restored.snapshot() == replayed.snapshot()


def test_a_damaged_snapshot_is_an_error() -> None:
    with pytest.raises(ValueError, match="damaged snapshot"):
        snapshot_from_text('{"now_s": 1}')
