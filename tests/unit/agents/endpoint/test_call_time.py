"""Declared time: the reply's header is charged, waits cost no real time, and limits still hold."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Any

import pytest

from controller.agents.chat import Ask, Completion
from controller.agents.endpoint.call_time import LATENCY_HEADER, DeclaredTime, latency_s
from controller.agents.endpoint.endpoint import Endpoint
from controller.agents.endpoint.limits import Limiter
from tests.unit.agents.questions import asked, question, with_endpoint
from tests.unit.agents.servers import Reply, Request, complaint, completion, serving


def declared(latency: object, **changes: Any) -> Reply:
    return Reply(completion(), headers={LATENCY_HEADER: str(latency)}, **changes)


def timed(replies: list[Reply], ask: Ask, **options: Any) -> tuple[Completion, float]:
    """The completion and the real seconds it took."""
    options = {"call_time": DeclaredTime, **options}

    async def use(one: Endpoint) -> tuple[Completion, float]:
        began_s = time.perf_counter()
        return await one.complete(ask), time.perf_counter() - began_s

    with serving(replies) as server:
        return with_endpoint(server, use, **options)


def test_the_declared_latency_is_charged_exactly() -> None:
    got, real_s = timed([declared(12.5)], question(limit_s=30.0))
    assert got.took_s == 12.5
    assert got.content
    assert real_s < 1.0


def test_a_latency_of_the_whole_limit_is_in_time() -> None:
    got, _ = timed([declared(30)], question(limit_s=30.0))
    assert (got.took_s, got.late, got.error) == (30.0, False, "")


def test_a_latency_beyond_the_limit_is_late_and_its_content_discarded() -> None:
    got, _ = timed([declared(31.0)], question(limit_s=30.0))
    assert (got.late, got.content) == (True, "")
    assert 30.0 < got.took_s < 30.001  # given up at the limit
    assert got.error == "no reply before the limit"
    assert got.tokens_out == 20  # it was produced, and counts


def test_retry_after_is_charged_without_sleeping() -> None:
    busy = Reply("", 429, {"retry-after": "9", LATENCY_HEADER: "0.5"})
    got, real_s = timed([busy, declared(3.0)], question(limit_s=30.0))
    assert (got.took_s, got.attempts) == (0.5 + 9.0 + 3.0, 2)
    assert real_s < 1.0


def test_a_reply_made_late_by_the_wait_before_it() -> None:
    busy = Reply("", 429, {"retry-after": "9"})
    got, _ = timed([busy, declared(3.0)], question(limit_s=10.0))
    assert got.late
    assert 10.0 < got.took_s < 10.001  # given up at the limit


def test_a_wait_beyond_the_limit_ends_the_call_at_once() -> None:
    busy = Reply("", 503, {"retry-after": "31", LATENCY_HEADER: "0.25"})
    got, real_s = timed([busy], question(limit_s=30.0))
    assert (got.took_s, got.late) == (0.25, False)
    assert "the server wants 31 s, of which 29.8 s are left" in got.error
    assert real_s < 1.0


def test_backoff_is_charged_and_the_same_for_the_same_call() -> None:
    faults = [complaint(500, "busy"), Reply(reset=True), declared(1.0)]
    takes = [timed(faults, question(slot=3, limit_s=30.0), seed=7)[0].took_s for _ in range(2)]
    assert takes[0] == takes[1]
    assert 1.0 < takes[0] <= 1.0 + 0.5 + 1.0
    assert timed(faults, question(slot=4, limit_s=30.0), seed=7)[0].took_s != takes[0]
    assert timed(faults, question(slot=3, limit_s=30.0), seed=8)[0].took_s != takes[0]


def test_a_silent_server_is_left_when_patience_ends_and_is_late() -> None:
    call_time = functools.partial(DeclaredTime, patience_s=0.3)
    got, real_s = timed([Reply(hang=True)], question(limit_s=30.0), call_time=call_time)
    assert got.late
    assert got.took_s == pytest.approx(30.0, abs=1e-5)
    assert got.took_s > 30.0
    assert 0.3 <= real_s < 0.6


def test_a_slow_machine_changes_nothing() -> None:
    """A reply that declares less than the limit is in time, however long it took here."""
    quick, _ = timed([declared(0.02)], question(limit_s=0.1))
    slow, real_s = timed([declared(0.02, delay_s=0.3)], question(limit_s=0.1))
    assert real_s > 0.3
    assert not slow.late
    assert slow == quick


def test_one_callers_pause_is_not_the_others() -> None:
    def script(request: Request) -> Reply:
        first = len(server.requests) == 1
        return Reply("", 429, {"retry-after": "9"}) if first else declared(1.0)

    async def use(one: Endpoint) -> list[float]:
        return [(await one.complete(question(limit_s=30.0))).took_s for _ in range(2)]

    with serving(script) as server:
        assert with_endpoint(server, use, call_time=DeclaredTime) == [10.0, 1.0]


def test_our_own_rate_limit_is_waited_for_and_not_charged() -> None:
    limits = Limiter(requests_per_min=300, clock=lambda: 0.0)
    for _ in range(300):
        limits.reserve(0)
    got, real_s = timed([declared(2.0)], question(limit_s=0.1 + 2.0), limits=limits)
    assert real_s > 0.15
    assert got.took_s == 2.0


@pytest.mark.parametrize("header", ["", "soon", "-1", "nan", "inf"])
def test_without_a_declared_latency_the_measured_one_counts(header: str) -> None:
    got, real_s = timed([declared(header, delay_s=0.2)], question())
    assert 0.2 <= got.took_s <= real_s
    assert not got.error


def test_on_the_wall_clock_the_header_means_nothing() -> None:
    with serving(declared(99.0)) as server:
        got = asked(server)
    assert got.took_s < 5.0
    assert not got.late


def test_latencies() -> None:
    assert [latency_s(text, 7.0) for text in ("1.5", " 2 ", "0", None, "x")] == [1.5, 2, 0, 7, 7]
    assert asyncio.run(_waited()) == 4.0


async def _waited() -> float:
    watch = DeclaredTime(10.0)
    await watch.wait(4.0)
    return watch.took_s()
