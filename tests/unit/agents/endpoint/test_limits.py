"""The rate limit lets in what a minute allows, in order, and pauses hold everyone."""

from __future__ import annotations

import asyncio
import time

import pytest

from controller.agents.endpoint.limits import Limiter


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_without_limits_nobody_waits() -> None:
    limiter = Limiter()
    assert [limiter.reserve(10**9) for _ in range(1000)] == [0.0] * 1000


def test_a_minutes_requests_go_at_once_then_one_by_one() -> None:
    limiter = Limiter(requests_per_min=60, clock=Clock())
    waits = [limiter.reserve(0) for _ in range(63)]
    assert waits[:60] == [0.0] * 60
    assert waits[60:] == pytest.approx([1.0, 2.0, 3.0])


def test_the_allowance_refills_up_to_a_minutes_worth() -> None:
    clock = Clock()
    limiter = Limiter(requests_per_min=60, clock=clock)
    for _ in range(60):
        limiter.reserve(0)
    clock.now_s += 2.5
    assert [limiter.reserve(0) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.5])
    clock.now_s += 3600.0
    assert [limiter.reserve(0) for _ in range(61)] == pytest.approx([0.0] * 60 + [1.0])


def test_tokens_are_limited_too_and_the_longer_wait_counts() -> None:
    limiter = Limiter(requests_per_min=60, tokens_per_min=6000, clock=Clock())
    assert limiter.reserve(6000) == 0.0
    assert limiter.reserve(500) == pytest.approx(5.0)


def test_a_request_larger_than_a_minutes_tokens_is_let_in_and_paid_off() -> None:
    clock = Clock()
    limiter = Limiter(tokens_per_min=600, clock=clock)
    assert limiter.reserve(1200) == pytest.approx(60.0)
    clock.now_s += 60.0
    assert limiter.reserve(10) == pytest.approx(1.0)


def test_estimates_are_corrected_by_usage() -> None:
    limiter = Limiter(tokens_per_min=600, clock=Clock())
    limiter.reserve(600)
    limiter.correct(estimated=600, used=500)
    assert limiter.reserve(100) == 0.0
    limiter.correct(estimated=100, used=150)
    assert limiter.reserve(0) == pytest.approx(5.0)


def test_a_pause_ends_and_a_shorter_one_does_not_shorten_it() -> None:
    clock = Clock()
    limiter = Limiter(clock=clock)
    assert limiter.paused_s() == 0.0
    limiter.pause(3.0)
    limiter.pause(1.0)
    clock.now_s += 2.0
    assert limiter.paused_s() == pytest.approx(1.0)
    clock.now_s += 2.0
    assert limiter.paused_s() == 0.0


def test_admission_really_waits() -> None:
    async def go() -> None:
        limiter = Limiter(requests_per_min=600)
        for _ in range(600):
            limiter.reserve(0)
        await asyncio.gather(*(limiter.admit(0) for _ in range(3)))

    began_s = time.perf_counter()
    asyncio.run(go())
    assert time.perf_counter() - began_s > 0.2
