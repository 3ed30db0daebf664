"""Queues, service, time-slicing, transfers and deadlines: examples worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from controller.domain.profile import Batching, Curve
from controller.domain.requests import FAILURES
from controller.domain.testbed import Network
from tests.reference.cases import Case
from tests.reference.model import Slot
from tests.reference.playback import Played, play
from tests.reference.worlds import ABSENT, Ask, Model, node, on_cpu, on_gpu, requests, slot, world


def failures(played: Played) -> list[str]:
    return [FAILURES[code] for code in played.twin.records["failure"]]


def test_a_pod_serves_its_queue_in_order_of_arrival() -> None:
    scenario = world([node()], [Model()])
    asks = [Ask(0.0, prompts=3), Ask(1.0, work=2.0), Ask(1.5)]
    played = play(Case(scenario, requests(scenario, asks), (slot([[on_cpu(1)]]),), ()))
    records = played.twin.records
    assert_allclose(records["started_s"], [0, 3, 5])
    assert_allclose(records["finished_s"], [3, 5, 6])
    assert_allclose(records["inference_s"], [3, 2, 1])


@pytest.mark.parametrize(
    ("cores", "prompt_s"), [(0.5, 16.0), (1.0, 8.0), (1.5, 6.5), (2.0, 5.0), (4.0, 3.0), (7.0, 3.0)]
)
def test_speed_follows_the_curve_of_cores(cores: float, prompt_s: float) -> None:
    """8 s on one core, 5 s on two, 3 s on four: linear between, constant above, in proportion
    below. The other LM's curve has more points, so the table of this one is padded."""
    curve = Curve((1.0, 2.0, 4.0), (8.0, 5.0, 3.0))
    longer = Curve((1.0, 2.0, 3.0, 4.0, 8.0), (9.0, 8.0, 7.0, 6.0, 1.0))
    scenario = world([node(cores=20)], [Model(cpu=curve), Model(cpu=longer)])
    asks = requests(scenario, [Ask(0.0), Ask(0.0, lm=1)])
    played = play(Case(scenario, asks, (slot([[on_cpu(cores), on_cpu(6)]]),), ()))
    assert_allclose(played.twin.records["finished_s"], [prompt_s, 3.5])


def test_batches_take_the_time_of_their_size() -> None:
    """Five prompts in batches of at most three, which take 1, 1.5 and 1.75 prompts' time: 3 + 2."""
    scenario = world([node()], [Model(factors=(1.0, 1.5, 1.75))])
    asks = [Ask(0.0, prompts=5, work=2.0)]
    played = play(Case(scenario, requests(scenario, asks), (slot([[on_cpu(1)]]),), ()))
    assert_allclose(played.twin.records["finished_s"], [2 * (1.75 + 1.5)])


@pytest.mark.parametrize(
    ("tau_s", "done", "recomputed"), [(100.0, 4, 3), (10.0, 2, 2), (10.5, 2, 3)]
)
def test_lost_prompts_are_counted_batch_by_batch(tau_s: float, done: int, recomputed: int) -> None:
    """On the GPU three of four prompts are in one batch, lost at 10; from then on the CPU serves
    them one by one, a second each, until the deadline; the fourth was never in a batch."""
    slow = Curve((1.0,), (9.0,))
    scenario = world([node(gpus=1)], [Model(gpu=slow, factors=(1.0, 1.0, 1.0))], tau_s=tau_s)
    profile = replace(scenario.profile.lms["lm0"], cpu_batching=Batching())
    scenario = replace(scenario, profile=replace(scenario.profile, lms={"lm0": profile}))
    script = slot([[on_gpu()]]), slot([[on_cpu(1)]])
    played = play(Case(scenario, requests(scenario, [Ask(2.0, prompts=4)]), script, ()))
    record = played.twin.records[0]
    assert (record["done"], record["recomputed"], record["attempts"]) == (done, recomputed, 1)


def test_busy_pods_share_a_gpu_and_pay_for_switching() -> None:
    """A (4 s) is alone for 1 s, then B (2 s) comes: both go at 0.9 / 2 until B is done at
    1 + 2 / 0.45; A then has 1 s left and the GPU for itself."""
    scenario = world([node(gpus=1)], [Model(), Model()], switch_loss=0.1)
    asks = [Ask(0.0, work=4.0), Ask(1.0, lm=1, work=2.0)]
    pods = slot([[on_gpu(), on_gpu()]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ()))
    done_s = 1 + 2 / 0.45
    assert_allclose(played.twin.records["finished_s"], [done_s + 1, done_s])
    assert_allclose(played.twin.gpu_busy_s, done_s + 1)


def test_a_pod_on_two_gpus_goes_at_the_pace_of_the_fuller_one() -> None:
    """A spans both GPUs (1.5 s a prompt); B is beside it on the first. B takes 2 / (1/2) = 4 s;
    A has 3 - 2 = 1 s left by then."""
    models = [Model(gpu=Curve((1.0, 2.0), (2.0, 1.5))), Model()]
    scenario = world([node(gpus=2)], models)
    asks = [Ask(0.0, work=2.0), Ask(0.0, lm=1, work=2.0)]
    pods = slot([[on_gpu(2), on_gpu(1)]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ()))
    assert_allclose(played.twin.records["finished_s"], [5, 4])


def test_transfers_take_latency_and_bytes_over_bandwidth() -> None:
    """1 Gb is 0.125e9 bytes: 1 s on 1 Gb/s within the site, 2 s on 0.5 Gb/s between sites."""
    network = Network(1.0, 0.1, 0.5, 0.3)
    scenario = world(
        [node(), node(site="a"), node(site="b")], [Model(), Model(), Model()], network=network
    )
    asks = [Ask(0.0, lm=i, up_bytes=0.125e9, down_bytes=0.25e9) for i in range(3)]
    pods = [[on_cpu(1)] * 3] * 3
    played = play(Case(scenario, requests(scenario, asks), (slot(pods, to=[[0, 1, 2]] * 3),), ()))
    records = played.twin.records
    assert_allclose(records["uplink_s"], [0, 1.1, 2.3])
    assert_allclose(records["downlink_s"], [0, 2.1, 4.3])
    assert_allclose(records["returned_s"], [1, 1.1 + 1 + 2.1, 2.3 + 1 + 4.3])


def test_requests_wait_for_the_decision_and_for_the_control_plane() -> None:
    network = Network(1.0, 0.0, 1.0, 0.0, control_s=0.5)
    scenario = world([node()], [Model()], network=network)
    asks = [Ask(0.0), Ask(8.0)]
    commands = slot([[on_cpu(1)]], thought_s=1.0, route_thought_s=2.0)
    records = play(Case(scenario, requests(scenario, asks), (commands,), ())).twin.records
    assert_allclose(records["sent_s"], [2.5, 8.0])
    assert_allclose(records["started_s"], [2.5, 8.0])


def run_with_tau(tau_s: float, asks: list[Ask], commands: Slot, start_s: float = 0.0) -> Played:
    scenario = world([node()], [Model(start_s=start_s)], tau_s=tau_s)
    return play(Case(scenario, requests(scenario, asks), (commands,), ()))


def test_a_request_in_service_is_abandoned_at_its_deadline() -> None:
    """Two of its three prompts are done and stay done; the next one starts at once."""
    asks = [Ask(0.0, prompts=3), Ask(1.0)]
    played = run_with_tau(2.5, asks, slot([[on_cpu(1)]]))
    records = played.twin.records
    assert failures(played) == ["deadline", ""]
    assert_array_equal(records["done"], [2, 1])
    assert_allclose(records["inference_s"], [2.5, 1])
    assert_allclose(records["started_s"], [0, 2.5])


def test_a_batch_that_ends_at_the_deadline_counts() -> None:
    played = run_with_tau(3.0, [Ask(0.0, prompts=3)], slot([[on_cpu(1)]]))
    assert failures(played) == [""]
    assert_allclose(played.twin.records["returned_s"], [3])


def test_waiting_requests_fail_at_their_deadline_and_block_nobody() -> None:
    """The second would be taken up at 5, past its deadline at 4.5; the third is served then."""
    asks = [Ask(0.0, prompts=5), Ask(0.5), Ask(4.0)]
    scenario = world([node()], [Model()], tau_s=5.0)
    asks[1] = Ask(0.0)
    played = play(Case(scenario, requests(scenario, asks), (slot([[on_cpu(1)]]),), ()))
    assert failures(played) == ["", "deadline", ""]
    assert_allclose(played.twin.records["started_s"], [0, np.nan, 5])


def test_not_deployed_means_never_ready_between_arrival_and_deadline() -> None:
    assert failures(run_with_tau(5.0, [Ask(0.0)], slot([[ABSENT]]))) == ["not_deployed"]
    late = run_with_tau(5.0, [Ask(0.0)], slot([[on_cpu(1)]]), start_s=5.0)
    assert failures(late) == ["not_deployed"]
    queued = run_with_tau(5.0, [Ask(0.0, prompts=9), Ask(0.0)], slot([[on_cpu(1)]]))
    assert failures(queued) == ["deadline", "deadline"]


def test_what_does_not_arrive_by_its_deadline_fails_by_the_deadline() -> None:
    """Nobody can tell whether the LM would have been ready."""
    network = Network(1.0, 6.0, 1.0, 6.0)
    scenario = world([node(), node()], [Model()], tau_s=5.0, network=network)
    commands = slot([[ABSENT], [ABSENT]], to=[[1], [1]])
    played = play(Case(scenario, requests(scenario, [Ask(0.0)]), (commands,), ()))
    assert failures(played) == ["deadline"]
    assert np.isnan(played.twin.records["arrived_s"][0])


def test_a_late_result_is_a_failure_with_all_its_times() -> None:
    network = Network(1.0, 2.0, 1.0, 2.0)
    scenario = world([node(), node()], [Model()], tau_s=4.5, network=network)
    commands = slot([[ABSENT], [on_cpu(1)]], to=[[1], [1]])
    played = play(Case(scenario, requests(scenario, [Ask(0.0)]), (commands,), ()))
    assert failures(played) == ["deadline"]
    assert_allclose(played.twin.records["returned_s"], [5])


def test_refused_requests_never_leave() -> None:
    scenario = world([node()], [Model()])
    commands = slot([[on_cpu(1)]], to=[[-1]])
    played = play(Case(scenario, requests(scenario, [Ask(0.0)]), (commands,), ()))
    assert failures(played) == ["refused"]
    assert np.isnan(played.twin.records["sent_s"][0])
    assert played.twin.records["attempts"][0] == 0


def test_a_plan_for_a_node_that_does_not_exist_is_an_error() -> None:
    scenario = world([node()], [Model()])
    commands = slot([[on_cpu(1)]], to=[[1]])
    with pytest.raises(IndexError, match="does not have"):
        play(Case(scenario, requests(scenario, [Ask(0.0)]), (commands,), ()))
