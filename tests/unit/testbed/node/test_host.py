"""Rules of a node as the host of queues, by events alone."""

from __future__ import annotations

from controller.domain.decisions import Stamp
from controller.testbed.node import events as ev
from controller.testbed.node import instructions as do
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.records import Request
from controller.testbed.node.settings import NodeSettings

SETTINGS = NodeSettings("vm3", ("LM1", "LM2"), tau_s=90.0, queue_limit_bytes=250)


def arrival(key: int = 1, time_s: float = 2.0, born_s: float = 1.0, **changes: object):  # type: ignore[no-untyped-def]
    fields = {"lm": "LM1", "origin": "vm2", "prompts": 2, "payload_bytes": 100, "checksum": "c"}
    request = Request(key, slot=0, born_s=born_s, **{**fields, **changes})  # type: ignore[arg-type]
    return ev.TransferArrived(time_s, request, 1, "c")


def host(*events: ev.Event) -> NodeMachine:
    machine = NodeMachine(SETTINGS, check=True)
    for event in events:
        machine.handle(event)
    return machine


def of(kind: type, instructions: list[do.Instruction]) -> list:  # type: ignore[type-arg]
    return [one for one in instructions if isinstance(one, kind)]


def ready(time_s: float = 3.0) -> ev.PodStateChanged:
    return ev.PodStateChanged(time_s, "LM1", "ready")


def test_an_arrival_is_persisted_then_acknowledged_to_sender_and_controller() -> None:
    machine, event = host(), arrival()
    assert machine.handle(event) == [
        do.Persist(event),
        do.ReportArrival(1, 2.0),
        do.AcknowledgeTransfer("vm2", 1, 1),
    ]
    assert machine.handle(event) == [do.AcknowledgeTransfer("vm2", 1, 1)]
    assert len(machine.host.queues["LM1"]) == 1


def test_a_damaged_transfer_and_an_unknown_lm_are_refused() -> None:
    machine = host()
    damaged = ev.TransferArrived(2.0, arrival().request, 1, "d")
    assert machine.handle(damaged) == [do.RefuseTransfer("vm2", 1, 1, ev.CHECKSUM, 0.0)]
    [refused] = machine.handle(arrival(lm="LM9"))
    assert refused == do.RefuseTransfer("vm2", 1, 1, ev.UNKNOWN_LM, 0.0)


def test_a_full_queue_refuses_with_retry_after_and_has_room_again() -> None:
    machine = host(arrival(1), arrival(2))
    assert machine.handle(arrival(3)) == [do.RefuseTransfer("vm2", 3, 1, ev.FULL, 1.0)]
    machine.handle(ev.Cancelled(4.0, 1))
    assert of(do.AcknowledgeTransfer, machine.handle(arrival(3, 5.0)))


def test_queues_are_first_in_first_out_by_lm() -> None:
    machine = host(arrival(2), arrival(1))
    [compute] = of(do.Compute, machine.handle(ready()))
    assert (compute.request_id, compute.remaining, compute.attempt) == (2, (0, 1), 1)
    [compute] = of(do.Compute, machine.handle(ev.PromptDone(5.0, 2, (0, 1), 3.0)))
    assert compute.request_id == 1


def test_the_request_is_repeated_without_the_recorded_prompts() -> None:
    machine = host(arrival(), ready(), ev.PromptDone(4.0, 1, (0,), 3.0))
    [compute] = of(do.Compute, machine.handle(ev.Tick(8.0)))
    assert (compute.remaining, compute.attempt) == ((1,), 1)


def test_one_past_its_deadline_never_blocks_a_younger_one() -> None:
    machine = host(arrival(1, born_s=1.0), arrival(2, born_s=1.5), ready())
    machine.handle(ev.BatchStarted(4.0, 1, 1, (0,), 4.0))
    instructions = machine.handle(ev.Tick(91.0))
    assert of(do.CancelCompute, instructions) == [do.CancelCompute("LM1", 1)]
    assert [one.request_id for one in of(do.Compute, instructions)] == [2]
    [returned] = of(do.ReturnResult, instructions)
    assert (returned.outcome.failure, returned.outcome.inference_s) == ("deadline", 87.0)


def test_not_deployed_is_an_lm_that_was_ready_at_no_moment() -> None:
    [returned] = of(do.ReturnResult, host(arrival()).handle(ev.Tick(91.0)))
    assert returned.outcome.failure == "not_deployed"
    stopped = ev.PodStateChanged(4.0, "LM1", "stopping")
    [returned] = of(do.ReturnResult, host(arrival(), ready(), stopped).handle(ev.Tick(91.0)))
    assert returned.outcome.failure == "deadline"


def test_a_batch_that_ends_at_the_deadline_counts_and_a_later_one_does_not() -> None:
    machine = host(arrival(), ready())
    [returned] = of(do.ReturnResult, machine.handle(ev.PromptDone(91.0, 1, (0, 1), 4.0)))
    assert returned.outcome.failure == ""
    machine = host(arrival(), ready())
    [returned] = of(do.ReturnResult, machine.handle(ev.PromptDone(91.1, 1, (0, 1), 4.0)))
    assert returned.outcome.failure == "deadline"


def test_a_transfer_at_or_after_its_deadline_does_not_join_the_queue() -> None:
    assert host().handle(arrival(time_s=91.0)) == [do.RefuseTransfer("vm2", 1, 1, ev.TOO_LATE, 0.0)]


def test_a_stopped_lm_resumes_at_the_first_prompt_not_recorded_and_counts_the_lost_batch() -> None:
    machine = host(
        arrival(prompts=3),
        ready(3.0),
        ev.BatchStarted(3.0, 1, 1, (0,), 3.0),
        ev.PromptDone(4.0, 1, (0,), 3.0),
        ev.BatchStarted(4.0, 1, 1, (1,), 4.0),
        ev.PodStateChanged(6.0, "LM1", "stopping"),
        ev.PodStateChanged(7.0, "LM1", "off"),
    )
    [compute] = of(do.Compute, machine.handle(ready(10.0)))
    assert (compute.remaining, compute.attempt) == ((1, 2), 2)
    for prompt in (1, 2):
        machine.handle(ev.BatchStarted(9.0 + prompt, 1, 2, (prompt,), 9.0 + prompt))
        done = machine.handle(ev.PromptDone(10.0 + prompt, 1, (prompt,), 9.0 + prompt))
    [returned] = of(do.ReturnResult, done)
    assert (returned.outcome.recomputed_prompts, returned.outcome.inference_s) == (1, 5.0)
    assert (returned.outcome.started_s, returned.outcome.finished_s) == (3.0, 12.0)


def test_a_failed_engine_is_asked_again_and_given_up_after_its_attempts() -> None:
    machine = host(arrival(), ready())
    assert not of(do.Compute, machine.handle(ev.EngineFailed(4.0, 1, 1)))
    assert [one.attempt for one in of(do.Compute, machine.handle(ev.Tick(9.0)))] == [2]
    assert machine.handle(ev.EngineFailed(9.0, 1, 1)) == []  # of the attempt before
    machine.handle(ev.EngineFailed(10.0, 1, 2))
    [returned] = of(do.ReturnResult, machine.handle(ev.EngineFailed(16.0, 1, 3)))
    assert returned.outcome.failure == "engine_error"


def test_a_permanent_failure_of_the_engine_ends_the_request() -> None:
    machine = host(arrival(), ready())
    [returned] = of(do.ReturnResult, machine.handle(ev.EngineFailed(4.0, 1, 1, permanent=True)))
    assert returned.outcome.failure == "engine_error"


def test_results_are_kept_for_an_origin_that_is_away_until_acknowledged() -> None:
    machine = host(arrival(), ready(), ev.PromptDone(5.0, 1, (0, 1), 3.0))
    assert not machine.host.queues["LM1"]
    assert of(do.ReturnResult, machine.handle(ev.Tick(10.0)))
    assert of(do.ReturnResult, machine.handle(ev.Tick(5000.0)))  # long after its deadline
    instructions = machine.handle(ev.ResultAcknowledged(5001.0, 1))
    assert of(do.ForgetRequest, instructions) == [do.ForgetRequest(1)]
    assert machine.handle(ev.Tick(9000.0)) == []


def test_a_late_copy_of_a_finished_request_is_not_computed_again() -> None:
    machine = host(arrival(), ready(), ev.PromptDone(5.0, 1, (0, 1), 3.0))
    machine.handle(ev.ResultAcknowledged(6.0, 1))
    assert machine.handle(arrival(time_s=7.0)) == [do.AcknowledgeTransfer("vm2", 1, 1)]


def test_cancelled_in_service_frees_the_engine() -> None:
    machine = host(arrival(), ready())
    instructions = machine.handle(ev.Cancelled(4.0, 1))
    assert of(do.CancelCompute, instructions) == [do.CancelCompute("LM1", 1)]
    assert of(do.ReturnResult, instructions)[0].outcome.failure == "cancelled"


def test_a_node_serves_its_own_requests_without_a_transfer_as_far_as_there_is_room() -> None:
    machine = host(ready(0.0), arrival(8), arrival(9))
    own = Request(1, "LM1", "vm3", 1, 0, 2.0, 100, "c")
    machine.handle(ev.RequestBorn(2.0, own))
    plan = ev.OrdersReceived(3.0, Stamp(0), (("LM1", "vm3"),))
    assert not of(do.SendTransfer, machine.handle(plan))
    machine.handle(ev.PromptDone(4.0, 8, (0, 1), 3.0))  # now there is room
    assert list(machine.host.queues["LM1"]) == [9, 1]
    machine.handle(ev.PromptDone(5.0, 9, (0, 1), 4.0))
    instructions = machine.handle(ev.PromptDone(6.0, 1, (0,), 5.0))
    [closed] = of(do.CloseRecord, instructions)
    assert (closed.record.uplink_s, closed.record.downlink_s) == (1.0, 0.0)
    assert of(do.ForgetRequest, instructions) == [do.ForgetRequest(1)]
