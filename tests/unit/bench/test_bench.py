"""The benchmark measures what its keys say. How fast anything is, no test asks."""

from __future__ import annotations

import json

import pytest

from controller.bench.suite import NO_REFERENCE, Effort, report, run_bench
from controller.reference_model.answers import answer
from controller.strategies import build

TINY = Effort(
    slots=4, scaling_slots=3, solver_slots={6: 12, 12: 3}, agent_slots={6: 12}, repetitions=1
)


def test_the_benchmark_has_its_keys_and_says_what_it_does() -> None:
    said: list[str] = []
    figures = run_bench(build, answer, said.append, TINY)
    assert json.loads(json.dumps(figures)) == figures
    assert set(figures) == {
        "twin.slots_per_s",
        "twin.requests_per_s",
        "twin.simpy_ratio",
        "twin.scaling",
        "solver.decision_s",
        "agents.calls",
        "machine",
    }
    assert figures["twin.slots_per_s"] > 0
    assert figures["twin.simpy_ratio"] > 0  # a checkout has the reference model
    scaling = figures["twin.scaling"]
    assert set(scaling) == {"6", "12"}
    assert scaling["12"]["slot_s"] == pytest.approx(12 * scaling["12"]["slot_node_s"])
    for tiers in figures["solver.decision_s"].values():
        assert set(tiers) == {"planner", "scheduler", "deployers"}
        for spent in tiers.values():
            assert 0 < spent["median_s"] <= spent["p95_s"] <= spent["max_s"]
    assert figures["solver.decision_s"]["6"]["planner"]["calls"] > 1
    agents = figures["agents.calls"]["6"]
    assert {tier: one["calls"] for tier, one in agents.items()} == {
        "planner": 1,
        "scheduler": 1,
        "deployer": 6,
    }
    for one in agents.values():
        assert 0 < one["call_median_s"] <= one["call_p95_s"] <= one["call_max_s"]
        assert min(one["prompt_tokens"], one["schema_tokens"], one["reply_tokens"]) > 0
    assert {"cpu", "cores", "python", "numpy", "numba"} <= set(figures["machine"])
    assert len(said) == 6


def test_the_report_says_where_the_comparison_is_to_be_had() -> None:
    figures = {
        "twin.slots_per_s": 12345.6,
        "twin.requests_per_s": 234567.8,
        "twin.simpy_ratio": 21.04,
        "twin.scaling": {"6": {"slot_s": 6e-5, "slot_node_s": 1e-5}},
        "solver.decision_s": {
            "6": {"planner": {"calls": 2, "median_s": 0.1, "p95_s": 0.2, "max_s": 0.3}}
        },
        "agents.calls": {
            "6": {
                "deployer": {
                    "calls": 6,
                    "call_median_s": 0.0005,
                    "prompt_tokens": 1100,
                    "schema_tokens": 120,
                    "reply_tokens": 44,
                }
            }
        },
        "machine": {"cpu": "a fast one", "cores": 2},
    }
    text = report(figures)
    assert "12,346 slots/s, 234,568 requests/s" in text
    assert "21.0 times the SimPy model" in text
    assert "0.50 ms a call without the model,   6 at once; tokens: 1,100 prompt" in text
    assert "cpu a fast one, cores 2" in text
    assert NO_REFERENCE in report({**figures, "twin.simpy_ratio": None})
