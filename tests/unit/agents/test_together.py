"""Calls made at once: their order, and what happens to the others when one raises."""

from __future__ import annotations

import asyncio

import pytest

from controller.agents.together import together
from controller.domain.errors import InputError, Permanent


async def after(delay_s: float, value: object) -> object:
    await asyncio.sleep(delay_s)
    if isinstance(value, Exception):
        raise value
    return value


def test_results_are_in_the_order_of_the_calls() -> None:
    assert asyncio.run(together(after(0.01 * k, k) for k in (2, 0, 1))) == [2, 0, 1]
    assert asyncio.run(together([])) == []


def test_an_error_comes_as_it_was_raised_and_stops_the_others() -> None:
    stopped = []

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async def play() -> None:
        cause = KeyError("key")
        error = InputError("model", "is not known")
        error.__cause__ = cause
        with pytest.raises(InputError, match="is not known") as caught:
            await together([patient(), after(0.0, error), patient()])
        assert stopped == [True, True]
        assert caught.value is error
        assert caught.value.__cause__ is cause

    asyncio.run(play())


def test_of_several_errors_the_first_is_told() -> None:
    with pytest.raises(Permanent, match="first"):
        asyncio.run(together([after(0.0, Permanent("first")), after(0.0, Permanent("second"))]))


def test_who_is_cancelled_stops_its_calls() -> None:
    async def play() -> None:
        task = asyncio.create_task(together([after(60.0, 1)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(play())
