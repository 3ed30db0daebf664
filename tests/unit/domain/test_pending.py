"""The Pending rule, state by state; the twin's kernel compiles the same functions."""

from __future__ import annotations

import numpy as np
import pytest

from controller.domain.pending import SLACK, blocks, is_void, needs_more
from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
    STATES,
)
from controller.twin import kernel

BLOCKING = {POD_PENDING, POD_STOPPING}


@pytest.mark.parametrize("state", range(len(STATES)), ids=STATES)
def test_pending_and_stopping_pods_block_their_node(state: int) -> None:
    assert blocks(state) == (state in BLOCKING)


def test_states_in_an_array_are_judged_one_by_one() -> None:
    assert blocks(np.arange(len(STATES))).tolist() == [s in BLOCKING for s in range(len(STATES))]


@pytest.mark.parametrize(
    ("state", "held", "wish", "more"),
    [
        (POD_READY, (2.0, 0), (CPU, 2.0, 0), False),
        (POD_READY, (2.0, 0), (CPU, 2.0 + SLACK / 2, 0), False),
        (POD_READY, (2.0, 0), (CPU, 2.1, 0), True),
        (POD_READY, (2.0, 0), (CPU, 1.0, 0), False),
        (POD_STARTING, (2.0, 0), (CPU, 1.0, 0), False),
        (POD_STOPPING, (2.0, 0), (CPU, 2.0, 0), False),
        (POD_READY, (1.0, 1), (GPU, 1.0, 2), True),
        (POD_READY, (1.0, 2), (GPU, 1.0, 1), False),
        (POD_READY, (2.0, 0), (GPU, 1.0, 1), True),  # from cores to a GPU
        (POD_READY, (1.0, 1), (CPU, 1.0, 0), False),  # and back, on no more cores
        (POD_READY, (1.0, 1), (CPU, 4.0, 0), True),
        (POD_OFF, (0.0, 0), (CPU, 0.5, 0), True),
        (POD_OFF, (0.0, 0), (GPU, 0.0, 0), True),
        (POD_PENDING, (0.0, 0), (CPU, 0.0, 0), True),
        *((state, (2.0, 1), (OFF, 0.0, 0), False) for state in range(len(STATES))),
    ],
)
def test_more_is_more_than_the_pod_holds(
    state: int, held: tuple[float, int], wish: tuple[int, float, int], more: bool
) -> None:
    assert needs_more(state, *held, *wish) == more
    assert kernel.needs_more(state, *held, *wish) == more, "the kernel compiles the same rule"


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("more", [False, True])
def test_void_is_what_needs_more_on_a_blocked_node(blocked: bool, more: bool) -> None:
    assert is_void(blocked, more) == (blocked and more)


def test_the_kernel_has_no_copy_of_the_rule() -> None:
    for name, function in (("blocks", blocks), ("needs_more", needs_more), ("is_void", is_void)):
        assert getattr(kernel, name).py_func is function
