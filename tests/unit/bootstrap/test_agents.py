"""What a run's agents are handed: servers, limits and rehearsals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.bootstrap.agents import (
    _SERVERS,
    MOST_REQUESTS,
    Access,
    _baseline,
    _limiter,
    _reference,
    check_reasoner,
    check_reasoners,
    staffed,
)
from controller.bootstrap.transcripts import RunTranscript, transcript_kept_at
from controller.bootstrap.twin import simulate
from controller.campaigns.reasoner import Models, Reasoner
from controller.domain.decisions import Demand
from controller.domain.errors import InputError
from controller.reference_model.completions import Latency
from tests.samples.small import small_experiment, small_grid
from tests.unit.agents.servers import Reply, Request, answer, complaint, serving
from tests.unit.policies.states import idle, open_policy


def rehearsed(requests: float) -> Mapping[str, Any]:
    """What the tool says of a candidate that expects so many requests of each LM a slot."""
    experiment = small_experiment(strategy="MA", reasoner=Reasoner())
    scenario = experiment.scenario()
    lms = len(scenario.testbed.lms)
    demand = Demand(np.full(lms, requests), np.full(lms, 2.0))
    policy = replace(open_policy(scenario), demand=demand)

    async def ask() -> Mapping[str, Any]:
        async with staffed(experiment, scenario, RunTranscript(silent=True), Access()) as kit:
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


def test_runs_of_a_process_share_their_reference_reasoner() -> None:
    latency = Latency(first_token_s=0.123)
    try:
        assert _reference(latency) is _reference(latency)
    finally:
        _SERVERS.pop(latency).end()


def test_a_campaigns_token_limit_reaches_the_server_by_the_name_that_it_knows() -> None:
    def script(request: Request) -> Reply:
        unknown = "max_completion_tokens" in request.body
        return complaint(400, "unknown field: max_completion_tokens") if unknown else answer()

    models = Models(planner="m", scheduler="m", deployer="m")
    with serving(script) as server:
        one = Reasoner(kind="url", url=server.url, models=models, max_tokens=700)
        notes = asyncio.run(check_reasoner(one, Access()))
        first, second = server.asked()
    assert first["max_completion_tokens"] == second["max_tokens"] == 700
    assert "max_completion_tokens" not in second
    assert "no max_completion_tokens sent" in notes[0]


def test_what_a_server_does_not_understand_is_in_the_summary_and_replays() -> None:
    def script(request: Request) -> Reply:
        system = any(one["role"] == "system" for one in request.body["messages"])
        return complaint(400, "System role not supported") if system else answer("{}")

    models = Models(planner="m", scheduler="m", deployer="m")
    with serving(script) as server:
        reasoner = Reasoner(kind="url", url=server.url, models=models)
        one = small_experiment(strategy="MAL", reasoner=reasoner, epoch_slots=1, tau_s=30.0)
        made = simulate(one)
    note = "m: system text sent within the user's message (HTTP 400: System role not supported)"
    assert made.reasoner is not None
    assert made.reasoner["notes"] == [note]
    assert made.transcript is not None
    lines = made.transcript.splitlines(keepends=True)
    again = simulate(one, RunTranscript(former=lines, silent=True))
    assert (again.reasoner, again.transcript) == (made.reasoner, made.transcript)


def test_tools_are_part_of_the_check_where_the_planner_uses_them() -> None:
    models = Models(planner="m", scheduler="m", deployer="m")
    with serving(answer()) as server:
        reasoner = {"kind": "url", "url": server.url, "models": models.model_dump()}
        entry = {"name": "MA", "parameters": {"what_if": 2}}
        for strategy in ("MA", entry):
            grid = small_grid(strategies=(strategy,), seeds=1, reasoners=(reasoner,))
            check_reasoners(grid, Access())
        plain, with_tools = server.asked()
    assert "tools" not in plain
    assert with_tools["tools"][0]["function"]["name"] == "try_policy"


class Nobody:
    """An approver whom nothing is to be asked of."""

    async def approve(self, *_: object) -> bool:
        raise AssertionError


def test_a_transcript_cut_within_a_letter_is_gone_on_with(tmp_path: Path) -> None:
    """A run whose process was killed while it wrote must not be stuck for ever."""
    path = tmp_path / "runs" / "transcript.jsonl"
    head, text = (
        '{"kind":"head","format":1}\n',
        '{"kind":"text","sha256":"0","content":"Größe"}\n',
    )
    with transcript_kept_at(path, tmp_path, Nobody()) as calls:
        assert calls.former == []
        calls.out.write(head)
    with path.open("ab") as file:
        file.write(text.encode()[: text.encode().index("ö".encode()) + 1])
    with transcript_kept_at(path, tmp_path, Nobody()) as calls:
        assert calls.former == [head]
        calls.out.write(text)
        assert calls.lines() == head + text
    assert path.read_text() == head + text


def test_a_transcript_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    path.write_bytes(b"\xff\n")
    with (
        pytest.raises(InputError, match="line 1 is no line"),
        transcript_kept_at(path, tmp_path, Nobody()),
    ):
        pass
    assert path.read_bytes() == b"\xff\n"


def test_the_baseline_is_measured_once_for_all_seeds_and_strategies(tmp_path: Path) -> None:
    runs = [small_experiment(seed=seed) for seed in (1, 2)]
    assert len({one.run_id for one in runs}) == 2
    said = {asyncio.run(_baseline(one, one.scenario(), tmp_path)) for one in runs}
    assert len(said) == 1
    assert len(list(tmp_path.iterdir())) == 1
