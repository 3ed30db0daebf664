"""Figures of an epoch's outcomes: latencies, success ratios and the objective (Eq. 5-10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Demand
from controller.domain.metrics import (
    normalised_jain,
    normalised_latency,
    objective,
    service_rates,
)
from controller.domain.scenario import Scenario
from controller.domain.state import Telemetry

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Performance:
    """Figures of a window of slots; tuples have one entry per LM, None where nothing is known."""

    latency_s: tuple[float | None, ...]  # mean over the successes
    success: tuple[float | None, ...]  # rho (Eq. 5) over the outcomes known, not the births
    f_norm: float
    t_norm: float
    t_mean_s: float | None  # over the successes of all LMs
    objective: float
    outcomes: int  # requests that the figures rest on; 0: they say nothing


def measure(telemetry: Telemetry, scenario: Scenario) -> Performance:
    """Return the figures of merit over the outcomes that became known in the window."""
    succeeded, latency_sum_s = telemetry.succeeded, telemetry.latency_sum_s
    outcomes = succeeded + telemetry.failed
    rates = service_rates(succeeded, outcomes)
    successes = int(succeeded.sum())
    t_mean_s = float(latency_sum_s.sum()) / successes if successes else None
    f_norm = normalised_jain(rates)
    t_norm = normalised_latency([] if t_mean_s is None else [t_mean_s], scenario.tau_s)
    return Performance(
        latency_s=_ratios(latency_sum_s, succeeded),
        success=_ratios(succeeded, outcomes),
        f_norm=f_norm,
        t_norm=t_norm,
        t_mean_s=t_mean_s,
        objective=objective(t_norm, f_norm, scenario.lam),
        outcomes=int(outcomes.sum()),
    )


def demand(telemetry: Telemetry) -> Demand:
    """Return the requests per slot and prompts per request that came in the window; 0 where none
    came."""
    slots = max(1, telemetry.last_slot - telemetry.first_slot + 1)
    requests = telemetry.arrived_requests.astype(np.float64)
    prompts: Floats = np.divide(
        telemetry.arrived_prompts, requests, out=np.zeros(len(requests)), where=requests > 0
    )
    return Demand(requests=requests / slots, prompts=prompts)


def _ratios(
    parts: Floats | NDArray[np.int64], wholes: NDArray[np.int64]
) -> tuple[float | None, ...]:
    pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
    return tuple(part / whole if whole else None for part, whole in pairs)
