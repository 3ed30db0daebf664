"""What a run's agents are handed: servers, limits and rehearsals."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controller.agency import (
    _SERVERS,
    MOST_REQUESTS,
    Access,
    Calls,
    _limiter,
    _reference,
    staffed,
)
from controller.domain.decisions import Demand
from controller.experiments.reasoning import Reasoner
from controller.reasoner.completions import Latency
from tests.unit.experiments.small import small_experiment
from tests.unit.policies.states import idle, open_policy


def rehearsed(requests: float) -> Mapping[str, Any]:
    """What the tool says of a candidate that expects so many requests of each LM a slot."""
    experiment = small_experiment(strategy="MA", reasoner=Reasoner())
    scenario = experiment.scenario()
    lms = len(scenario.testbed.lms)
    demand = Demand(np.full(lms, requests), np.full(lms, 2.0))
    policy = replace(open_policy(scenario), demand=demand)

    async def ask() -> Mapping[str, Any]:
        async with staffed(experiment, scenario, Calls(silent=True), Access()) as kit:
            assert kit is not None
            return await kit.rehearse(policy, idle(scenario))

    return asyncio.run(ask())


def test_a_candidate_is_rehearsed() -> None:
    found = rehearsed(2.0)
    assert 0 < found["objective"] <= 1


@pytest.mark.parametrize("requests", [1e4, 1e9])
def test_a_forecast_that_would_fill_the_memory_is_not_rehearsed(requests: float) -> None:
    assert f"over {6 * MOST_REQUESTS} requests a slot" in rehearsed(requests)["error"]


def test_runs_of_a_process_share_the_limits_of_an_address() -> None:
    access = Access(requests_per_min=10.0)
    waits_s = [_limiter("http://shared:1/v1", access).reserve(1.0) for _ in range(12)]
    assert waits_s[:10] == [0.0] * 10
    assert waits_s[11] > 5.0
    assert _limiter("http://other:1/v1", access).reserve(1.0) == 0.0


def test_a_reference_reasoner_that_died_is_started_again() -> None:
    latency = Latency(first_token_s=0.123)
    url = _reference(latency)
    assert _reference(latency) == url
    child = _SERVERS[latency].child
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    try:
        assert _reference(latency) != url
        assert _SERVERS[latency].is_alive
    finally:
        _SERVERS.pop(latency).end()
