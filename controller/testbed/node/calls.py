"""Ids of calls: requests of users at a node's front door, beside those of the run's workload.

A workload's ids are rows from 0. A call's id has bit 62 set, then 14 bits of the node's row, 16 of
its life (a number that a node's process writes to disk before its first call of the run), 32 of the
call's number in that life. So no two calls of a run share an id, whatever restarts and whatever the
clocks say, and none is a workload's.
"""

from __future__ import annotations

from typing import Final

FIRST_CALL: Final = 2**62
MOST_ROWS: Final = 2**14
MOST_LIVES: Final = 2**16
MOST_NUMBERS: Final = 2**32


def call_id(row: int, life: int, number: int) -> int:
    """Return the id of a call.

    Raises:
        ValueError: row, life or number has no room in it.
    """
    for value, most in ((row, MOST_ROWS), (life, MOST_LIVES), (number, MOST_NUMBERS)):
        if not 0 <= value < most:
            raise ValueError(f"{value} is not within 0 to {most - 1}")
    return FIRST_CALL | (row * MOST_LIVES + life) * MOST_NUMBERS + number


def is_call(request_id: int) -> bool:
    """Return True for a call's id, False for a workload's."""
    return request_id >= FIRST_CALL


def calls_of(row: int) -> range:
    """Return all ids of calls at a node."""
    return range(call_id(row, 0, 0), call_id(row, MOST_LIVES - 1, MOST_NUMBERS - 1) + 1)
