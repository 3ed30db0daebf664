"""A person's word on a policy: in time, too late, twice, and when the question cannot be put."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from controller.domain.errors import Permanent, Transient
from controller.testbed.central.approvals import Approvals, PolicyQuestion
from controller.testbed.clock import WallClock

SLOT_S = 0.5
Tell = Callable[[PolicyQuestion], Awaitable[None]]


async def heard(question: PolicyQuestion) -> None:
    del question


def approvals(tell: Tell = heard) -> Approvals:
    """Those of a run that begins now: a person has 0.4 s for the policy of slot 0."""
    return Approvals(WallClock(time.time()), SLOT_S, tell)


@pytest.mark.parametrize("word", [True, False])
def test_a_word_in_time_counts_and_the_opposite_after_it_does_not(word: bool) -> None:
    told: list[PolicyQuestion] = []

    async def tell(question: PolicyQuestion) -> None:
        told.append(question)

    async def check() -> None:
        asked = approvals(tell)
        assert not asked.answer(0, approved=True)
        waiting = asyncio.create_task(asked.ask(0, "less queue", ["LM1 to vm3"]))
        await asyncio.sleep(0.05)
        assert asked.question == {"slot": 0, "reason": "less queue", "changes": ("LM1 to vm3",)}
        assert told == [PolicyQuestion(0, "less queue", ("LM1 to vm3",))]
        assert not asked.answer(1, approved=word), "another slot's"
        assert asked.answer(0, approved=word)
        assert asked.answer(0, approved=word), "a client that asks again"
        assert not asked.answer(0, approved=not word)
        assert await waiting is word
        assert asked.question is None
        assert not asked.answer(0, approved=word)

    asyncio.run(check())


def test_without_a_word_in_time_the_policy_in_force_stays() -> None:
    async def check() -> None:
        asked, began_s = approvals(), time.monotonic()
        assert await asked.ask(0, "", []) is False
        assert 0.3 < time.monotonic() - began_s < 2.0
        assert asked.question is None
        assert await asked.ask(0, "", []) is False, "its time is over before it is put"

    asyncio.run(check())


def test_a_word_at_the_moment_when_the_time_ends_is_not_said_to_count() -> None:
    """The time has run out, and whoever asks has not noticed yet."""

    async def check() -> None:
        asked = approvals()
        waiting = asyncio.create_task(asked.ask(0, "", []))
        await asyncio.sleep(0.05)
        waiting.cancel()  # as the timeout does
        assert asked.question is not None
        assert not asked.answer(0, approved=True)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asked.question is None

    asyncio.run(check())


@pytest.mark.parametrize("fault", [Transient("the store is away"), Permanent("the spool is full")])
def test_a_question_that_cannot_be_put_is_not_left_open(fault: Exception) -> None:
    async def tell(question: PolicyQuestion) -> None:
        raise fault

    async def check() -> None:
        asked = approvals(tell)
        with pytest.raises(type(fault)):
            await asked.ask(0, "", [])
        assert asked.question is None
        assert not asked.answer(0, approved=True)

    asyncio.run(check())
