"""Loss of nodes: examples worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from controller.domain.requests import FAILURES
from controller.domain.state import POD_OFF, POD_PENDING, POD_READY, POD_STARTING
from controller.domain.testbed import Network
from controller.twin.cluster import Twin
from tests.reference.cases import Case
from tests.reference.playback import play
from tests.reference.worlds import ABSENT, Ask, Model, node, on_cpu, requests, slot, world

FAR = Network(1.0, 1.0, 1.0, 1.0)  # a second each way


def test_prompts_done_survive_the_node_and_its_pods_start_again() -> None:
    """Down from 3.5 to 12: three of five prompts are done, the fourth is lost half-way; 2 s of
    starting at 12, two prompts more."""
    scenario = world([node()], [Model(start_s=2.0), Model()])
    asks = [Ask(0.0, prompts=5)]
    pods = slot([[on_cpu(1), ABSENT]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ((0, 5.5, 12.0),)))
    record = played.twin.records[0]
    assert (record["started_s"], record["finished_s"], record["inference_s"]) == (2, 16, 5.5)
    down, back = played.states[0], played.states[1]
    assert (down.up[0], down.free_cores[0], down.backlog[0, 0]) == (False, 8, 2)
    assert_array_equal(down.pod[0], [POD_PENDING, POD_OFF])
    assert (back.up[0], back.pod[0, 0]) == (True, POD_READY)
    assert played.starts[-1] == 2


def test_prompts_of_a_lost_batch_are_counted_as_they_are_computed_again() -> None:
    """Batches of three, a second each. Three of seven prompts are done when the node goes down in
    the second batch; after it the same three are served again. Lost a second time, they count
    twice; the last one is new."""
    scenario = world([node()], [Model(factors=(1.0, 1.0, 1.0))])
    asks = [Ask(0.0, prompts=7), Ask(0.0)]
    pods = slot([[on_cpu(1)]])
    for outages, recomputed in (
        (((0, 1.5, 12.0),), 3),
        (((0, 1.5, 12.0), (0, 12.5, 13.0)), 6),
        (((0, 1.5, 12.0), (0, 13.5, 14.0)), 4),  # first all three of them, then the last one
        (((0, 10.0, 12.0),), 0),
    ):
        played = play(Case(scenario, requests(scenario, asks), (pods,), outages))
        assert_array_equal(played.twin.records["recomputed"], [recomputed, 0])
        assert_array_equal(played.twin.records["attempts"], [1, 1])


def test_a_request_that_could_not_leave_was_not_dispatched() -> None:
    """Its origin is down from before it is sent until after its deadline."""
    scenario = world([node(), node()], [Model()], tau_s=5.0)
    asks = [Ask(2.0, origin=1), Ask(2.0, origin=0)]
    pods = slot([[on_cpu(1)], [ABSENT]], to=[[0], [0]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ((1, 1.0, 20.0),)))
    assert_array_equal(played.twin.records["attempts"], [0, 1])


def test_messages_wait_at_the_other_end() -> None:
    """Node 1 is down from 5 to 20. Sent from it at 6: leaves at 20. Sent to it at 5: is there at
    6, taken at 20. A result for it that is ready at 7.5 is there at 8.5, taken at 20."""
    scenario = world([node(), node()], [Model(), Model(), Model()], network=FAR)
    asks = [Ask(4.5, lm=2, origin=1), Ask(5.0, lm=1, origin=0), Ask(6.0, lm=0, origin=1)]
    pods = slot([[on_cpu(1)] * 3] * 2, to=[[0, 1, 0], [0, 1, 0]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ((1, 5.0, 20.0),)))
    records = played.twin.records
    assert_allclose(records["sent_s"], [4.5, 5, 20])
    assert_allclose(records["arrived_s"], [5.5, 20, 21])
    assert_allclose(records["uplink_s"], [1, 15, 1])
    assert_allclose(records["finished_s"], [6.5, 21, 22])
    assert_allclose(records["returned_s"], [20, 22, 23])
    assert_allclose(records["downlink_s"], [13.5, 1, 1])


def test_what_waits_at_the_door_is_taken_in_the_order_in_which_it_came() -> None:
    """The second request comes from near by and is there first."""
    network = Network(1.0, 1.0, 1.0, 3.0)
    scenario = world([node(), node(), node(site="b")], [Model()], network=network)
    asks = [Ask(1.0, origin=2), Ask(1.5, origin=1)]
    pods = slot([[on_cpu(1)], [ABSENT], [ABSENT]], to=[[0], [0], [0]])
    played = play(Case(scenario, requests(scenario, asks), (pods,), ((0, 0.5, 8.0),)))
    assert_allclose(played.twin.records["arrived_s"], [8, 8])
    assert_allclose(played.twin.records["started_s"], [9, 8])


@pytest.mark.parametrize(
    ("outage", "failure"),
    [
        ((1, 1.5, 30.0), "lost_node"),  # its destination is down at its deadline, 6
        ((1, 1.5, 5.5), "deadline"),  # up again by then, but not in time
        ((1, 1.5, 6.0), "deadline"),  # a node is up at the end of its outage
        ((0, 0.0, 30.0), "lost_node"),  # never sent: its origin is down
        ((0, 3.5, 30.0), "lost_node"),  # its result, done at 5, is not taken
        ((0, 3.5, 5.9), "success"),
    ],
)
def test_who_was_down_at_the_deadline_is_to_blame(
    outage: tuple[int, float, float], failure: str
) -> None:
    """Undisturbed it is sent at 0, arrives at 0.9, is served until 5 and back at 5.9."""
    network = Network(1.0, 0.9, 1.0, 0.9)
    scenario = world([node(), node()], [Model()], tau_s=6.0, network=network)
    pods = slot([[ABSENT], [on_cpu(1)]], to=[[1], [1]])
    case = Case(scenario, requests(scenario, [Ask(0.0, work=4.1)]), (pods,), (outage,))
    code = play(case).twin.records["failure"][0]
    assert (FAILURES[code] or "success") == failure


def test_a_node_that_is_down_follows_the_pending_rule_and_starts_nothing() -> None:
    scenario = world([node()], [Model(start_s=5.0), Model(start_s=5.0)])
    asks = [Ask(0.0), Ask(35.0)]
    script = (
        slot([[ABSENT, ABSENT]]),
        slot([[on_cpu(1), ABSENT]]),  # nothing is pending: a wish
        slot([[on_cpu(1), on_cpu(1)]]),  # the first is pending by now: void, until it starts
    )
    played = play(Case(scenario, requests(scenario, asks), script, ((0, 5.0, 29.0),)))
    assert [voided[0].tolist() for voided in played.voided[:4]] == [
        [False, False],
        [False, False],
        [False, True],
        [False, False],
    ]
    assert_array_equal([s.pod[0] for s in played.states[:3]], [[0, 0], [1, 0], [2, 0]])
    assert played.states[2].pod[0, 0] == POD_STARTING


def test_a_node_that_never_recovers_loses_what_it_holds() -> None:
    scenario = world([node()], [Model()], tau_s=25.0)
    asks = [Ask(0.0, prompts=9), Ask(1.0)]
    case = Case(
        scenario, requests(scenario, asks), (slot([[on_cpu(1)]]),), ((0, 2.5, float("inf")),)
    )
    played = play(case)
    assert [FAILURES[code] for code in played.twin.records["failure"]] == ["lost_node"] * 2
    assert len(played.states) == 3  # 26 s


def test_outages_of_a_node_neither_overlap_nor_touch() -> None:
    scenario = world([node(), node()], [Model()])
    nobody = requests(scenario, [Ask(0.0)])
    for second in ((1, 4.0, 6.0), (1, 5.0, 6.0), (1, 5.0, 5.0)):
        with pytest.raises(ValueError, match="node 1"):
            Twin(scenario, nobody, ((1, 1.0, 5.0), second))
    Twin(scenario, nobody, ((1, 1.0, 5.0), (0, 1.0, 5.0), (1, 5.1, np.inf)))
