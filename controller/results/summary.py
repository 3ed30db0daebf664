"""summary.json: a run's figures, every one from its requests through the paper's equations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain import metrics
from controller.domain.decisions import OUTCOMES, TIERS, VOID, plus
from controller.domain.requests import Requests, RequestTable
from controller.domain.scenario import Scenario
from controller.results.bound import lower_bound
from controller.results.journal import Made

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """The resources that a run has used."""

    slots: int  # slots run, the drain included
    gpu_busy_s: float | None  # None: nobody measured it
    pod_starts: int


def summarise(
    scenario: Scenario,
    requests: Requests,
    table: RequestTable,
    made: Iterable[Made],
    usage: Usage,
) -> dict[str, Any]:
    """Return summary.json but for what :func:`controller.results.writing.run_summary` adds. A
    figure without a base (the mean of no latency) is None."""
    everything = np.full(len(table), True)
    whole, decisions = figures(scenario, table, everything), list(made)
    epoch = table.slot // scenario.epoch_slots
    epochs = int(epoch.max(initial=-1)) + 1
    return {
        **whole,
        "bound": _bound(scenario, requests, whole["success_rate"]),
        "per_epoch": [{"epoch": e, **figures(scenario, table, epoch == e)} for e in range(epochs)],
        "gpu_utilisation": _gpu_utilisation(scenario, usage),
        "pod_starts": usage.pod_starts,
        "moved_bytes": moved_bytes(requests, table),
        "decisions": {tier: _decisions(decisions, tier) for tier in TIERS},
    }


def figures(scenario: Scenario, table: RequestTable, chosen: Bools) -> dict[str, Any]:
    """Return the figures of merit (Eq. 5-10) of the requests ``chosen`` (R,)."""
    succeeded = chosen & table.success
    types = len(scenario.testbed.lms)
    arrivals = np.bincount(table.lm[chosen], minlength=types)
    successes = np.bincount(table.lm[succeeded], minlength=types)
    rates = metrics.service_rates(successes, arrivals)
    latency_s = table.latency_s[succeeded]
    f_norm = metrics.normalised_jain(rates)
    t_norm = metrics.normalised_latency(latency_s, scenario.tau_s)
    return {
        "objective": metrics.objective(t_norm, f_norm, scenario.lam),
        "success_rate": float(successes.sum() / arrivals.sum()) if arrivals.sum() else None,
        "f_norm": f_norm,
        "jain": metrics.jain(rates),
        "t_mean_s": _mean(latency_s),
        "t_norm": t_norm,
        **_percentiles(latency_s),
        "per_lm": {
            lm.name: {
                "arrivals": int(arrivals[i]),
                "successes": int(successes[i]),
                "rho": None if np.isnan(rates[i]) else float(rates[i]),
                "t_mean_s": _mean(table.latency_s[succeeded & (table.lm == i)]),
            }
            for i, lm in enumerate(scenario.testbed.lms)
        },
    }


def moved_bytes(requests: Requests, table: RequestTable) -> float:
    """Return the bytes that crossed a link between nodes: of prompts that arrived and results that
    returned."""
    remote = table.destination != table.origin
    up = remote & ~np.isnan(table.arrived_s)
    down = remote & ~np.isnan(table.returned_s)
    return float(requests.uplink_bytes[up].sum() + requests.downlink_bytes[down].sum())


def summary_json(summary: dict[str, Any]) -> bytes:
    """Return the content of summary.json."""
    return (json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _percentiles(latency_s: NDArray[np.float64]) -> dict[str, float | None]:
    names = ("t_p50_s", "t_p95_s", "t_p99_s")
    if not latency_s.size:
        return dict.fromkeys(names)
    return dict(zip(names, np.percentile(latency_s, (50, 95, 99)).tolist(), strict=True))


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _gpu_utilisation(scenario: Scenario, usage: Usage) -> float | None:
    """Return the share of the physical GPUs' time with a busy slice, the drain included."""
    if usage.gpu_busy_s is None:
        return None
    gpus = sum(node.gpus for node in scenario.testbed.nodes)
    available_s = gpus * usage.slots * scenario.slot_s
    return usage.gpu_busy_s / available_s if available_s else None


def _bound(scenario: Scenario, requests: Requests, success_rate: float | None) -> float | None:
    """Return the objective that no strategy beats at this success rate, to ten digits: beyond
    them a linear program's optimum depends on the machine, and the bound has more slack."""
    if not success_rate:
        return None
    return float(f"{lower_bound(scenario, requests, success_rate).objective:.10g}")


def _decisions(made: Iterable[Made], tier: str) -> dict[str, Any]:
    """Return the counts, tokens, cost and latency of a tier's decisions. Those that the Pending
    rule voided count in ``calls`` only. Tokens or a cost that are unknown
    somewhere are unknown."""
    outcomes: dict[str, int] = {}
    took_s, calls, guarded = 0.0, 0, 0
    tokens_in: int | None = 0
    tokens_out: int | None = 0
    cost_usd: float | None = 0.0
    for one in made:
        if one.tier != tier:
            continue
        outcomes[one.outcome] = outcomes.get(one.outcome, 0) + 1
        calls += 1
        guarded += one.guarded
        took_s += one.took_s
        tokens_in = plus(tokens_in, one.tokens_in)
        tokens_out = plus(tokens_out, one.tokens_out)
        cost_usd = plus(cost_usd, one.cost_usd)
    return {
        "calls": calls,
        **{name: outcomes.get(name, 0) for name in OUTCOMES if name != VOID},
        "guarded": guarded,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "cost_usd": cost_usd if calls else None,
        "latency_mean_s": took_s / calls if calls else None,
    }
