"""Rules of a node as the origin of requests, by events alone."""

from __future__ import annotations

import pytest

from controller.domain.decisions import Stamp
from controller.testbed.node import events as ev
from controller.testbed.node import instructions as do
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Outcome, Request
from controller.testbed.node.settings import NodeSettings

SETTINGS = NodeSettings("vm2", ("LM1", "LM2"), tau_s=90.0, queue_limit_bytes=1000)


def request(key: int = 1, born_s: float = 1.0, **changes: object) -> Request:
    fields = {"lm": "LM1", "origin": "vm2", "prompts": 2, "payload_bytes": 100, "checksum": "c"}
    return Request(key, slot=int(born_s // 30), born_s=born_s, **{**fields, **changes})  # type: ignore[arg-type]


def orders(time_s: float, destination: str | None = "vm3", slot: int = 0) -> ev.OrdersReceived:
    return ev.OrdersReceived(time_s, Stamp(slot), (("LM1", destination), ("LM2", destination)))


def outcome(key: int = 1, failure: str = "", finished_s: float | None = 6.0) -> Outcome:
    return Outcome(key, failure, 3.0, 4.0, finished_s, 1.5, 1)


def of(kind: type, instructions: list[do.Instruction]) -> list:  # type: ignore[type-arg]
    return [one for one in instructions if isinstance(one, kind)]


def sent(destination: str = "vm3") -> NodeMachine:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(ev.RequestBorn(1.0, request()))
    machine.handle(orders(2.0, destination))
    return machine


def test_a_birth_is_persisted_before_the_client_is_answered() -> None:
    born = ev.RequestBorn(1.0, request())
    machine = NodeMachine(SETTINGS, check=True)
    assert machine.handle(born) == [do.Persist(born), do.AcceptRequest(1)]
    assert machine.handle(born) == [do.AcceptRequest(1)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lm": "LM9"}, "unknown LM 'LM9'; known: LM1, LM2"),
        ({"origin": "vm3"}, "request of origin 'vm3' at node 'vm2'"),
        ({"prompts": 0}, "0 prompts; at least 1 is needed"),
        ({"payload_bytes": 1001}, "payload of 1001 bytes; a queue takes 1000"),
        ({"born_s": -130.0}, "born at -130.0 s, past its deadline"),
    ],
)
def test_bad_requests_are_refused_and_nothing_is_kept(
    changes: dict[str, object], reason: str
) -> None:
    machine = NodeMachine(SETTINGS, check=True)
    assert machine.handle(ev.RequestBorn(1.0, request(**changes))) == [  # type: ignore[arg-type]
        do.RefuseRequest(1, reason)
    ]
    assert not machine.origin.open


def test_requests_wait_for_orders_of_their_slot() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(orders(2.0, "vm4", slot=0))
    machine.handle(ev.RequestBorn(31.0, request(born_s=31.0)))
    assert not of(do.SendTransfer, machine.handle(ev.Tick(32.0)))
    [transfer] = of(do.SendTransfer, machine.handle(orders(33.0, "vm3", slot=1)))
    assert (transfer.destination, transfer.attempt) == ("vm3", 1)


def test_without_orders_requests_follow_the_plan_in_force_at_the_end_of_their_slot() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(orders(2.0, "vm4", slot=0))
    machine.handle(ev.RequestBorn(31.0, request(born_s=31.0)))
    assert machine.wake_s() == 60.0
    [transfer] = of(do.SendTransfer, machine.handle(ev.Tick(60.0)))
    assert transfer.destination == "vm4"


def test_older_orders_do_not_replace_newer_ones() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(orders(2.0, "vm3", slot=1))
    assert machine.handle(orders(3.0, "vm4", slot=0)) == []


def test_refused_by_the_plan_closes_the_record_at_once() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(ev.RequestBorn(1.0, request()))
    instructions = machine.handle(orders(2.0, None))
    [closed] = of(do.CloseRecord, instructions)
    assert (closed.record.failure, closed.record.destination, closed.record.attempts) == (
        "refused",
        None,
        0,
    )
    assert of(do.ForgetRequest, instructions) == [do.ForgetRequest(1)]


def test_transfers_are_repeated_until_acknowledged_and_keep_their_attempt() -> None:
    machine = sent()
    assert not of(do.SendTransfer, machine.handle(ev.Tick(6.0)))
    assert [one.attempt for one in of(do.SendTransfer, machine.handle(ev.Tick(7.0)))] == [1]
    machine.handle(ev.TransferFailed(8.0, 1, 1, ev.UNREACHABLE))
    assert [one.attempt for one in of(do.SendTransfer, machine.handle(ev.Tick(9.0)))] == [1]
    machine.handle(ev.TransferAcknowledged(9.5, 1, 1))
    assert machine.handle(ev.Tick(50.0)) == []


def test_a_full_queue_is_asked_again_when_it_says_so_as_another_attempt() -> None:
    machine = sent()
    machine.handle(ev.TransferFailed(3.0, 1, 1, ev.FULL, retry_after_s=4.0))
    assert machine.handle(ev.TransferFailed(3.0, 1, 1, ev.FULL, retry_after_s=4.0)) == []
    assert machine.wake_s() == 7.0
    assert [one.attempt for one in of(do.SendTransfer, machine.handle(ev.Tick(7.0)))] == [2]


def test_a_result_closes_the_record_with_four_times_that_sum_to_the_latency() -> None:
    machine = sent()
    machine.handle(ev.TransferAcknowledged(3.1, 1, 1))
    arrived = ev.ResultArrived(7.0, outcome(), "vm3")
    instructions = machine.handle(arrived)
    [closed] = of(do.CloseRecord, instructions)
    record = closed.record
    assert record.success
    assert (record.uplink_s, record.queue_s, record.inference_s, record.downlink_s) == (
        1.0,
        2.5,
        1.5,
        1.0,
    )
    assert (record.latency_s, record.recomputed_prompts, record.attempts) == (6.0, 1, 1)
    assert instructions[0] == do.Persist(arrived)
    # Again: acknowledged, so that the host can forget it, and not closed again.
    assert machine.handle(arrived) == [do.AcknowledgeResult("vm3", 1)]


def test_a_damaged_result_is_not_acknowledged() -> None:
    machine = sent()
    assert machine.handle(ev.ResultArrived(6.0, outcome(), "vm3", whole=False)) == []


def test_clocks_that_differ_give_no_negative_time() -> None:
    machine = sent()
    early = Outcome(1, "", 1.0, 1.2, 1.4, 0.2, 0)  # the host's clock is slow
    [closed] = of(do.CloseRecord, machine.handle(ev.ResultArrived(2.5, early, "vm3")))
    assert closed.record.uplink_s == 0.0  # invariant 7 compares the rest


def test_what_never_got_orders_fails_at_its_deadline() -> None:
    machine = NodeMachine(SETTINGS, check=True)
    machine.handle(ev.RequestBorn(1.0, request()))
    assert machine.handle(ev.Tick(90.9)) == []
    [closed] = of(do.CloseRecord, machine.handle(ev.Tick(91.0)))
    assert (closed.record.failure, closed.record.attempts) == ("deadline", 0)


def test_a_host_without_a_verdict_is_lost_after_the_grace() -> None:
    machine = sent()
    machine.handle(ev.TransferAcknowledged(3.0, 1, 1))
    assert machine.handle(ev.Tick(91.0)) == []
    [closed] = of(do.CloseRecord, machine.handle(ev.Tick(121.0)))
    assert closed.record.failure == "lost_node"


def test_a_verdict_within_the_grace_gives_its_kind_and_a_late_result_is_no_success() -> None:
    machine = sent()
    [closed] = of(do.CloseRecord, machine.handle(ev.ResultArrived(95.0, outcome(), "vm3")))
    assert closed.record.failure == "deadline"
    machine = sent()
    late = outcome(failure="not_deployed", finished_s=None)
    [closed] = of(do.CloseRecord, machine.handle(ev.ResultArrived(95.0, late, "vm3")))
    assert closed.record.failure == "not_deployed"


def test_cancelled_on_the_way_closes_at_once() -> None:
    machine = sent()
    [closed] = of(do.CloseRecord, machine.handle(ev.Cancelled(3.0, 1)))
    assert closed.record.failure == "cancelled"


def test_cancelled_at_its_host_is_asked_for_until_the_verdict() -> None:
    machine = sent()
    machine.handle(ev.TransferAcknowledged(3.0, 1, 1))
    assert of(do.SendCancel, machine.handle(ev.Cancelled(4.0, 1))) == [do.SendCancel("vm3", 1)]
    assert of(do.SendCancel, machine.handle(ev.Tick(9.0))) == [do.SendCancel("vm3", 1)]
    verdict = ev.ResultArrived(10.0, outcome(failure="cancelled", finished_s=None), "vm3")
    [closed] = of(do.CloseRecord, machine.handle(verdict))
    assert closed.record.failure == "cancelled"
    assert machine.wake_s() > 90.0
