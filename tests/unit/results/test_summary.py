import asyncio
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from controller import strategies
from controller.domain import metrics
from controller.domain.decisions import (
    Call,
    Decision,
    Deployment,
    InForce,
    RoutingPlan,
)
from controller.domain.randomness import Streams
from controller.domain.requests import RequestTable
from controller.domain.state import CPU, OFF, ClusterState
from controller.inputs.catalog import load_profile
from controller.loop import Strategy, run
from controller.results.journal import Entry, RunJournal, made_of
from controller.results.summary import Usage, figures, summarise
from controller.results.writing import run_summary
from controller.twin.cluster import Twin
from controller.twin.records import request_table
from tests.samples.small import small_outcome

CALLS = {
    "calls", "ok", "repaired", "fallback", "late", "guarded", "tokens_in", "tokens_out", "cost_usd",
    "latency_mean_s",
}  # fmt: skip


def table_of(lm: list[int], latency_s: list[float], failure: list[int]) -> RequestTable:
    ints, none = np.zeros(len(lm), np.int64), np.full(len(lm), np.nan)
    columns = {f.name: none for f in dataclasses.fields(RequestTable)}
    columns |= dict.fromkeys(
        ("origin", "destination", "prompts", "slot", "attempts", "recomputed_prompts"), ints
    )
    columns |= {"lm": np.array(lm, np.int64), "failure": np.array(failure, np.int64)}
    columns |= {"latency_s": np.array(latency_s)}
    return RequestTable(**columns)


def documented_keys() -> set[str]:
    """The keys of summary.json that docs/records.md describes."""
    page = (Path(__file__).parents[3] / "docs" / "records.md").read_text()
    table = page.split("## summary.json")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`(\w+)`", row)}


def test_summary_has_the_keys_agreed() -> None:
    summary = run_summary(small_outcome())
    assert set(summary) == documented_keys()
    assert set(summary["decisions"]) == {"planner", "scheduler", "deployer"}
    assert all(set(calls) == CALLS for calls in summary["decisions"].values())
    assert [epoch["epoch"] for epoch in summary["per_epoch"]] == [0, 1]
    assert list(summary["per_lm"]) == ["LM1", "LM2", "LM3", "LM4"]
    assert 0 < summary["gpu_utilisation"] <= 1
    assert summary["reasoner"] is None


def test_figures_by_hand() -> None:
    # LM1: 2 of 2, LM2: 1 of 2, LM3: 0 of 1, LM4: nothing arrived.
    table = table_of([0, 0, 1, 1, 2], [90.0, 180.0, 360.0, np.nan, np.nan], [0, 0, 0, 1, 2])
    scenario = small_outcome().scenario
    found = figures(scenario, table, np.full(5, True))
    jain = (1 + 0.5 + 0) ** 2 / (3 * (1 + 0.25))
    f_norm = (jain - 1 / 3) / (1 - 1 / 3)
    assert found["jain"] == pytest.approx(jain)
    assert found["f_norm"] == pytest.approx(f_norm)
    assert found["t_mean_s"] == pytest.approx(210)
    assert found["t_norm"] == pytest.approx(210 / 900)
    assert found["objective"] == pytest.approx(0.5 * 210 / 900 + 0.5 * (1 - f_norm))
    assert found["success_rate"] == pytest.approx(3 / 5)
    assert found["t_p50_s"] == pytest.approx(180)
    assert found["per_lm"]["LM1"] == {"arrivals": 2, "successes": 2, "rho": 1.0, "t_mean_s": 135.0}
    assert found["per_lm"]["LM3"] == {"arrivals": 1, "successes": 0, "rho": 0.0, "t_mean_s": None}
    assert found["per_lm"]["LM4"] == {"arrivals": 0, "successes": 0, "rho": None, "t_mean_s": None}


def test_nothing_arrived_is_no_figure() -> None:
    found = figures(small_outcome().scenario, table_of([], [], []), np.zeros(0, np.bool_))
    assert found["success_rate"] is None
    assert found["t_mean_s"] is None
    assert found["objective"] == 0.5  # T_norm = 1, nobody is treated unfairly


def test_epochs_add_up_to_the_run() -> None:
    summary = run_summary(small_outcome())
    for lm, whole in summary["per_lm"].items():
        for count in ("arrivals", "successes"):
            assert sum(e["per_lm"][lm][count] for e in summary["per_epoch"]) == whole[count]
    rates = [lm["rho"] for lm in summary["per_lm"].values()]
    assert summary["f_norm"] == metrics.normalised_jain(rates)


def test_calls_are_counted_by_outcome() -> None:
    outcome = small_outcome()
    plan = RoutingPlan(np.zeros((6, 4), np.int64))
    calls = [
        Call(1.0, tokens_in=5, tokens_out=1, cost_usd=0.1),
        Call(2.0, "repaired", tokens_in=7, cost_usd=0.2),
        Call(3.0, "late", cost_usd=0.0),
    ]
    entries = [Entry(k, "scheduler", plan, (call,)) for k, call in enumerate(calls)]
    summary = summarise(
        outcome.scenario, outcome.requests, outcome.table, made_of(entries), Usage(1, 0, 0)
    )
    found = summary["decisions"]["scheduler"]
    assert found["cost_usd"] == pytest.approx(0.3)
    assert found["latency_mean_s"] == 2.0
    counts = ("calls", "ok", "repaired", "fallback", "late", "tokens_in")
    assert [found[key] for key in counts] == [3, 1, 1, 0, 1, 12]
    assert summary["decisions"]["planner"]["latency_mean_s"] is None


def test_an_unknown_cost_is_unknown() -> None:
    outcome = small_outcome()
    plan = RoutingPlan(np.zeros((6, 4), np.int64))
    entries = [Entry(0, "scheduler", plan, (Call(cost_usd=c),)) for c in (0.1, None)]
    summary = summarise(
        outcome.scenario, outcome.requests, outcome.table, made_of(entries), Usage(1, 0, 0)
    )
    assert summary["decisions"]["scheduler"]["cost_usd"] is None


def test_a_testbed_without_gpus_has_no_gpu_utilisation() -> None:
    outcome = small_outcome()
    nodes = tuple(dataclasses.replace(n, gpus=0) for n in outcome.scenario.testbed.nodes)
    testbed = dataclasses.replace(outcome.scenario.testbed, nodes=nodes)
    scenario = dataclasses.replace(outcome.scenario, testbed=testbed)
    table = table_of([], [], [])
    summary = summarise(scenario, outcome.requests, table, [], Usage(10, 0.0, 0))
    assert summary["gpu_utilisation"] is None


class Restless:
    """Wishes for other cores every slot, started or not."""

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        mode = np.tile([CPU, OFF, OFF, OFF], (len(state.rows), 1))
        cores = (mode == CPU) * (1.0 + (state.slot % 4))
        return Decision(Deployment(mode, cores, mode * 0), (Call(),) * len(state.rows))


def test_decisions_that_are_void_are_calls_but_not_ok() -> None:
    outcome = small_outcome()
    lasting = load_profile("a5000").scaled({"stop": 15.0}).to_domain()  # stops for over a slot
    scenario = dataclasses.replace(outcome.scenario, profile=lasting)
    parts = strategies.build("RF", scenario, Streams(0), {})
    strategy = Strategy(parts.planner, parts.scheduler, Restless())
    twin, journal = Twin(scenario, outcome.requests), RunJournal()
    slots = asyncio.run(run(scenario, twin, twin, twin, strategy, journal, 10))
    voided = sum(int(entry.voided.any(axis=1).sum()) for entry in journal.entries)
    assert voided > 0
    table = request_table(twin.records, outcome.requests.slot)
    usage = Usage(slots, 0.0, 0)
    summary = summarise(scenario, outcome.requests, table, journal.made(), usage)
    found = summary["decisions"]["deployer"]
    assert (found["calls"], found["ok"]) == (slots * 6, slots * 6 - voided)
