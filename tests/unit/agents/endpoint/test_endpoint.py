"""An endpoint's questions, against a real server that answers well, badly, late or never."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import time
import tracemalloc
from typing import Any

import pytest
from openai import AsyncOpenAI

from controller.agents.chat import Completion, ReplySchema
from controller.agents.endpoint.address import Address
from controller.agents.endpoint.client import LARGEST_BODY
from controller.agents.endpoint.endpoint import ATTEMPTS, Endpoint
from controller.agents.endpoint.limits import Limiter
from controller.agents.endpoint.transport import sent_headers
from tests.unit.agents.questions import KEY, SCHEMA, asked, endpoint, question, with_endpoint
from tests.unit.agents.servers import (
    Reply,
    Request,
    answer,
    closed_port,
    complaint,
    completion,
    serving,
)

SLACK_S = 0.25  # two busy cores


def test_a_reply_comes_back_with_its_usage_and_cost() -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 600},
        "completion_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 1050,
    }
    with serving(answer('{"ok":true}', usage=usage, model="test-model-2026-01-01")) as server:
        got = asked(server)
    assert (got.content, got.finish, got.model) == ('{"ok":true}', "stop", "test-model-2026-01-01")
    assert (got.tokens_in, got.tokens_cached, got.tokens_out) == (1000, 600, 50)
    assert got.cost_usd == pytest.approx((400 * 1.0 + 600 * 0.1 + 50 * 10.0) / 1e6)
    assert (got.attempts, got.error, got.late) == (1, "", False)
    assert 0.0 < got.took_s < 5.0


def test_what_is_asked_is_what_arrives() -> None:
    tools = ({"type": "function", "function": {"name": "try", "parameters": {}}},)
    messages = [
        {"role": "system", "content": "Größe \u2603"},
        {"role": "user", "content": 'say "yes"\n'},
    ]
    options = {"temperature": 0.0, "reasoning_effort": "low", "max_tokens": 700}
    with serving(answer()) as server:
        asked(server, question(messages=messages, tools=tools), **options)
        (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "test-model",
        "messages": messages,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "health", "strict": True, "schema": SCHEMA},
        },
        "tools": list(tools),
        "temperature": 0.0,
        "reasoning_effort": "low",
        "max_completion_tokens": 700,
        "max_tokens": 700,
        "stream": False,
    }


def test_each_tier_has_its_model_and_each_schema_is_sent_as_it_is() -> None:
    async def use(one: Endpoint) -> None:
        for number in range(3):
            for tier in ("planner", "scheduler", "deployer"):
                schema = {"type": "object", "title": f"{tier}{number}"}
                await one.complete(question(tier=tier, form=ReplySchema("health", schema)))
        await one.complete(question(tier="planner"))

    with serving(answer()) as server:
        with_endpoint(server, use)
        said = [
            (body["model"], body["response_format"]["json_schema"]["schema"].get("title"))
            for body in server.asked()
        ]
    assert {model for model, _ in said} == {"test-model"}
    tiers = ("planner", "scheduler", "deployer")
    assert [title for _, title in said] == [f"{t}{n}" for n in range(3) for t in tiers] + [None]


# --- retries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        *(complaint(status, "try again") for status in (408, 409, 429, 500, 502, 503, 504, 529)),
        Reply(reset=True),
        Reply(raw=b""),
        Reply(raw=b"what?\r\n\r\n"),
        Reply(completion(), cut=0),
        Reply(completion(), cut=40),
    ],
    ids=lambda fault: str(fault.status if fault.status != 200 else fault)[:40],
)
def test_passing_faults_are_tried_again(fault: Reply) -> None:
    with serving([fault, answer()]) as server:
        got = asked(server)
        assert len(server.requests) == 2
    assert (got.content, got.attempts, got.error) == ('{"ok":true}', 2, "")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_refusals_are_not_tried_again(status: int) -> None:
    with serving(complaint(status, "no, never")) as server:
        got = asked(server)
        assert len(server.requests) == 1
    assert got.error == f"HTTP {status}: no, never"
    assert (got.attempts, got.late, got.cost_usd) == (1, False, 0.0)


def test_an_empty_account_is_not_tried_again() -> None:
    with serving(complaint(429, "no credit", code="insufficient_quota")) as server:
        assert asked(server).error == "HTTP 429: no credit"
        assert len(server.requests) == 1


def test_retries_are_bounded() -> None:
    with serving(Reply("", 503, {"retry-after-ms": "1"})) as server:
        got = asked(server, question(limit_s=30.0))
        assert got.attempts == len(server.requests) == ATTEMPTS
    assert not got.late


def test_a_server_that_is_not_there() -> None:
    got = asked(f"http://127.0.0.1:{closed_port()}/v1", question(limit_s=1.0))
    assert "no reply" in got.error
    assert "Connect call failed" in got.error
    assert got.attempts > 1
    assert got.took_s < 1.0


# --- the size ----------------------------------------------------------------------------------


def too_large(**fields: Any) -> Reply:
    return Reply(b" " * (LARGEST_BODY + 1), **fields)


@pytest.mark.parametrize("status", [200, 400])
def test_a_reply_of_any_size_is_not_taken(status: int) -> None:
    with serving(too_large(status=status)) as server:
        got = asked(server)
        assert len(server.requests) == 1  # it would not get smaller
    assert got.error == "the reply is larger than 8 MB"
    assert not got.late


def test_it_is_the_size_after_decompression_that_counts() -> None:
    packed = gzip.compress(b" " * (LARGEST_BODY + 1))
    assert len(packed) < 10_000
    headers = {"content-encoding": "gzip"}
    with serving(Reply(packed, headers=headers)) as server:
        assert asked(server).error == "the reply is larger than 8 MB"
    small = gzip.compress(json.dumps(completion()).encode())
    with serving(Reply(small, headers=headers)) as server:
        assert asked(server).content == '{"ok":true}'


def test_a_reply_without_end_is_left_in_time() -> None:
    """Of what a server pours out no more is kept than the largest reply."""
    with serving(Reply(b" " * 200_000_000)) as server:
        asked(server)  # imports what it needs
        tracemalloc.start()
        got = asked(server)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert got.error == "the reply is larger than 8 MB"
    assert most < 3 * LARGEST_BODY


# --- the limit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [Reply(hang=True), Reply(completion(), cut=30, stall=True), Reply(completion(), delay_s=5.0)],
    ids=["silent", "stalled in the body", "slow"],
)
def test_the_limit_holds_whatever_the_server_does(reply: Reply) -> None:
    with serving(reply) as server:

        async def use(one: Endpoint) -> tuple[Completion, float]:
            began_s = time.perf_counter()
            return await one.complete(question(limit_s=0.4)), time.perf_counter() - began_s

        got, real_s = with_endpoint(server, use)
    assert got.late
    assert got.error == "no reply before the limit"
    assert 0.4 < got.took_s <= real_s + 1e-6
    assert real_s < 0.4 + SLACK_S


def test_the_limit_holds_over_all_attempts() -> None:
    with serving(complaint(500, "busy")) as server:
        began_s = time.perf_counter()
        got = asked(server, question(limit_s=0.8))
        assert time.perf_counter() - began_s < 0.8 + 2 * SLACK_S
    assert got.error.startswith("HTTP 500: busy")


def test_time_that_is_up_already_is_late() -> None:
    with serving(answer()) as server:
        got = asked(server, question(limit_s=-1.0))
    assert got.late
    assert got.error


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("headers", [{"retry-after": "0.4"}, {"retry-after-ms": "400"}])
def test_retry_after_is_honoured(status: int, headers: dict[str, str]) -> None:
    fault = Reply({"error": {"message": "slow down"}}, status, headers)
    with serving([fault, answer()]) as server:
        got = asked(server)
        first, second = server.requests
    assert 0.4 <= second.at_s - first.at_s < 0.4 + SLACK_S
    assert got.took_s >= 0.4


def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    with serving(Reply({"error": {"message": "slow"}}, 429, {"retry-after": "60"})) as server:
        got = asked(server, question(limit_s=5.0))
        assert len(server.requests) == 1
    assert got.took_s < 1.0
    assert not got.late
    assert "the server wants 60 s" in got.error


def test_a_pause_holds_all_callers() -> None:
    def script(request: Request) -> Reply:
        first = len(server.requests) == 1
        return Reply("", 429, {"retry-after": "0.5"}) if first else answer()

    async def use(one: Endpoint) -> list[Completion]:
        first = asyncio.create_task(one.complete(question()))
        await asyncio.sleep(0.2)
        others = (one.complete(question(node=str(number))) for number in range(3))
        return await asyncio.gather(first, *others)

    with serving(script) as server:
        got = with_endpoint(server, use)
        begun_s = [request.at_s - server.requests[0].at_s for request in server.requests[1:]]
    assert len(begun_s) == 4
    assert min(begun_s) >= 0.49
    assert all(one.took_s > 0.25 for one in got)  # the server made them wait: charged


def test_waiting_for_our_own_rate_limit_is_not_charged() -> None:
    limits = Limiter(requests_per_min=120)

    async def use(one: Endpoint) -> Completion:
        for _ in range(120):
            limits.reserve(0)
        return await one.complete(question(limit_s=0.3))

    with serving(answer()) as server:
        began_s = time.perf_counter()
        got = with_endpoint(server, use, limits=limits)
    assert time.perf_counter() - began_s > 0.5
    assert not got.error
    assert got.took_s < 0.3


def test_usage_corrects_the_rate_limit() -> None:
    limits = Limiter(tokens_per_min=6000)
    usage = {"prompt_tokens": 6000, "completion_tokens": 600}
    with serving(answer(usage=usage)) as server:
        asked(server, limits=limits)
    assert limits.reserve(0) == pytest.approx(6.0, abs=0.5)


def test_without_usage_the_estimate_stands() -> None:
    limits = Limiter(tokens_per_min=6000)
    messages = [{"role": "user", "content": "x" * 20_000}]
    with serving(answer(usage=None)) as server:
        asked(server, question(messages=messages), limits=limits)
    assert limits.reserve(2000) > 5.0  # about 5000 of 6000 are spent


# --- together ----------------------------------------------------------------------------------


def test_six_calls_are_under_way_at_once() -> None:
    with serving(Reply(completion(), delay_s=0.5)) as server:

        async def use(one: Endpoint) -> list[Completion]:
            calls = (one.complete(question(tier="deployer", node=str(n))) for n in range(6))
            return list(await asyncio.gather(*calls))

        began_s = time.perf_counter()
        got = with_endpoint(server, use)
        assert time.perf_counter() - began_s < 1.5
        assert server.most_at_once == 6
    assert all(one.content for one in got)


def test_a_call_costs_little_processor_time() -> None:
    calls = 300
    messages = [{"role": "user", "content": "x" * 8000}]

    async def use(one: Endpoint) -> float:
        await one.complete(question(messages=messages))
        began_s = time.thread_time()
        for number in range(calls):
            await one.complete(question(slot=number, messages=messages))
        return (time.thread_time() - began_s) / calls

    with serving(answer()) as server:
        each_s = with_endpoint(server, use)
    assert each_s < 0.003  # about 0.6 ms on an idle machine


def test_connections_are_kept_and_closed() -> None:
    async def use(one: Endpoint) -> None:
        for _ in range(5):
            await one.complete(question())
        await one.close()
        await one.close()
        assert (await one.complete(question())).content

    with serving(answer()) as server:
        with_endpoint(server, use)
        gc.collect()  # a connection left open would complain now
        assert server.connections == 2


# --- surroundings ------------------------------------------------------------------------------


def test_loopback_is_reached_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with serving(answer()) as server:
        assert asked(server).content


def test_key_and_address_come_from_the_caller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-key")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-environment-admin")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-environment")
    custom = "x-environment: 1\nAuthorization: Bearer sk-environment\nuser-agent: environment"
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", custom)
    with serving(answer()) as server:
        asked(server)
        asked(server, key="")
        sent = [json.dumps(dict(request.headers)) for request in server.requests]
    assert KEY in sent[0]
    assert not any("environment" in headers for headers in sent)


def test_openai_is_told_of_organisation_and_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.delenv("OPENAI_PROJECT_ID", raising=False)

    async def told(url: str) -> dict[str, str]:
        sdk = AsyncOpenAI(api_key=KEY)
        headers = sent_headers(Address.of(url), sdk)
        await sdk.close()
        return headers

    ours = asyncio.run(told("https://api.openai.com/v1"))
    assert ours["openai-organization"] == "org-mine"
    assert "openai-project" not in ours
    for url in ("https://api.openai.com.example/v1", "http://api.openai.com/v1"):
        assert "openai-organization" not in asyncio.run(told(url))


@pytest.mark.parametrize(
    "reply",
    [
        complaint(401, f"Incorrect API key provided: {KEY}"),
        Reply(f"Bearer {KEY} is wrong", 500),
        Reply(f"<p>{KEY}</p>"),
        answer(f'{{"key":"{KEY}"}}'),
        Reply(raw=f"{KEY}\r\n\r\n".encode()),
    ],
)
def test_the_key_appears_nowhere(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def use(one: Endpoint) -> str:
        got = await one.complete(question(limit_s=0.5))
        return f"{got!r} {one!r} {one.notes!r} {one.address!r} {one.transport!r}"

    with serving(reply) as server:
        shown = with_endpoint(server, use)
    assert KEY not in shown
    assert "***" in shown
    assert KEY not in caplog.text


def test_constructing_an_endpoint_touches_nothing() -> None:
    assert endpoint(f"http://127.0.0.1:{closed_port()}").has_key


def test_measured_time_is_that_of_the_clock_given() -> None:
    """A run ten times as fast as real time: a wait for our own rate limit is excused in full."""

    def now_s() -> float:
        return 10.0 * time.perf_counter()

    limits = Limiter(requests_per_min=600)
    for _ in range(605):  # half a second for the next
        limits.reserve(0)
    with serving(Reply(completion(), delay_s=0.1)) as server:
        got = asked(server, question(limit_s=60.0), now_s=now_s, limits=limits)
    assert not got.late
    assert 1.0 <= got.took_s < 4.0
