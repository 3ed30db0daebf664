"""What only a cluster tells a node's pods. The rule itself: tests/contract/test_node.py."""

from __future__ import annotations

import pytest

from controller.domain.state import (
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
)
from controller.testbed.node.pods import Pods, Resize, Start, Stop
from tests.contract.test_node import deployment
from tests.reference.worlds import ABSENT, Model, Pod, node, on_cpu, on_gpu, world


def pods(*, resizes: bool = False) -> Pods:
    machine = node(cores=8.0, ram_gb=10.0, gpus=2, slices=2, vram_gb=10.0)
    return Pods(world([machine], [Model(ram_gb=1.0)] * 2), 0, resizes=resizes)


def want(made: Pods, *wishes: Pod) -> list[bool]:
    return [bool(one) for one in made.deploy(deployment([wishes]))[0]]


def test_a_pod_that_waits_at_the_cluster_holds_nothing_and_blocks() -> None:
    made = pods()
    want(made, on_cpu(2), ABSENT)
    made.waiting(0)
    assert made.pods[0].state == POD_PENDING
    assert made.free()[0] == 8.0
    assert want(made, on_cpu(2), on_cpu(1)) == [False, True]
    assert made.take() == [Start(0, 1, 2.0, 0, ())], "it is started once"
    made.placed(0)
    assert made.pods[0].state == POD_STARTING
    assert made.free()[0] == 6.0
    assert want(made, on_cpu(2), on_cpu(1)) == [False, False]


def test_given_up_while_it_waits_it_is_deleted() -> None:
    made = pods()
    want(made, on_cpu(2), ABSENT)
    made.waiting(0)
    made.take()
    want(made, ABSENT, ABSENT)
    assert made.take() == [Stop(0)]
    assert made.pods[0].state == POD_STOPPING
    made.gone(0)
    assert made.pods[0].state == POD_OFF
    assert made.free() == (8.0, 10.0, 4)


def test_gone_while_it_waits_it_starts_again() -> None:
    made = pods()
    want(made, on_gpu(2), ABSENT)
    made.take()
    made.waiting(0)
    made.gone(0)
    (start,) = made.take()
    assert isinstance(start, Start)
    assert start.vgpus == 2
    assert made.pods[0].state == POD_STARTING


def test_slices_of_a_pod_that_waited_are_counted_again() -> None:
    made = pods()
    want(made, on_gpu(3), ABSENT)
    made.waiting(0)
    assert made.free()[2] == 4
    made.placed(0)
    assert made.free()[2] == 1
    assert sum(made.pods[0].slices) == 3


def test_a_lost_pod_keeps_what_it_holds() -> None:
    made = pods()
    want(made, on_cpu(2), ABSENT)
    made.ready(0)
    made.take()
    made.lost(0)
    assert (made.pods[0].state, made.free()[0], made.take()) == (POD_STARTING, 6.0, [])
    made.ready(0)
    assert made.pods[0].state == POD_READY


def test_cores_alone_change_in_place() -> None:
    made = pods(resizes=True)
    want(made, on_cpu(2), ABSENT)
    made.ready(0)
    made.take()
    want(made, on_cpu(5), ABSENT)
    assert made.take() == [Resize(0, 5.0)]
    assert (made.pods[0].state, made.free()[0]) == (POD_READY, 3.0)
    made.resized(0)
    want(made, on_cpu(1), ABSENT)
    assert made.take() == [Resize(0, 1.0)]


@pytest.mark.parametrize("wish", [on_cpu(8), on_gpu(1), ABSENT])
def test_what_else_changes_or_lacks_room_is_stopped(wish: Pod) -> None:
    made = pods(resizes=True)
    want(made, on_cpu(2), on_cpu(1))
    made.ready(0)
    made.take()
    want(made, wish, on_cpu(1))
    assert made.take() == [Stop(0)]


def test_the_pending_rule_comes_before_a_resize() -> None:
    made = pods(resizes=True)
    want(made, on_cpu(2), on_cpu(7))  # the second waits
    made.ready(0)
    made.take()
    assert want(made, on_cpu(1), on_cpu(7)) == [False, False]
    made.resized(0)
    want(made, on_cpu(1), ABSENT)
    made.take()


def test_a_resize_that_fails_is_a_stop_and_a_start() -> None:
    made = pods(resizes=True)
    want(made, on_cpu(2), ABSENT)
    made.ready(0)
    want(made, on_cpu(5), ABSENT)
    made.take()
    made.not_resized(0)
    assert made.take() == [Stop(0)]
    assert (made.pods[0].state, made.free()[0]) == (POD_STOPPING, 6.0)
    made.gone(0)
    assert made.take() == [Start(0, 1, 5.0, 0, ())]


def test_a_change_while_a_resize_is_under_way_is_a_stop() -> None:
    made = pods(resizes=True)
    want(made, on_cpu(2), ABSENT)
    made.ready(0)
    want(made, on_cpu(5), ABSENT)
    made.take()
    want(made, on_cpu(4), ABSENT)
    assert made.take() == [Stop(0)]
    made.not_resized(0)
    made.gone(0)
    assert made.take() == [Start(0, 1, 4.0, 0, ())]
    assert made.pods[0].wish == on_cpu(4)
    assert OFF not in (one.state for one in made.pods[:1])
