"""Twin against live on the same arrivals: errors of latency and success by LM and load regime.

A regime belongs to a window of slots and an LM, and is read from the live run alone:

- *stable*: the mean backlog is at most the prompts born in a slot, so by Little's law a prompt
  waits a slot at most;
- *overloaded*: it is more, and over the window the backlog grew by more than a tenth of the prompts
  born in it;
- *backlogged*: it is more, and did not grow so.

Both runs have the same arrivals, but a strategy need not send them the same way. So means over the
requests born in a window are compared, and the share of requests with the same destination is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.calibration.estimates import LEAST_REQUESTS, mean_of_clusters
from controller.calibration.observed import NO_ROW, Observed
from controller.domain.requests import NOWHERE, RequestTable

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

REGIMES: Final = ("stable", "backlogged", "overloaded")
WINDOW_SLOTS: Final = 10
MOST_GROWTH: Final = 0.1  # share of a window's prompts by which backlog may grow in a regime


@dataclass(frozen=True, slots=True)
class Window:
    """Requests of one LM born in a window of one run. Latencies are means of successes."""

    lm: str
    regime: str
    requests: int
    live_s: float  # NaN without a success
    twin_s: float
    before_s: float  # of the twin with the experiment's own profile and testbed
    live_success: float
    twin_success: float
    same_way: float  # share of requests with the same destination in both


@dataclass(frozen=True, slots=True)
class Error:
    """Mean absolute error over windows with its bootstrap interval, None for one window."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Twin against live for one LM in one regime. Figures are None where requests are too few."""

    lm: str
    regime: str
    requests: int
    windows: int
    live_s: float | None = None
    twin_s: float | None = None
    latency_error_s: Error | None = None
    relative_error: float | None = None  # mean absolute error of latency over live's mean
    relative_error_before: float | None = None  # likewise, of the twin that was not calibrated
    live_success: float | None = None
    twin_success: float | None = None
    success_error: Error | None = None
    same_way: float | None = None


def windows(live: Observed, twin: RequestTable, before: RequestTable) -> list[Window]:
    """Return the windows of a live run in which requests were born, compared with the twin's run.

    Args:
        twin, before: of the same arrivals, row by row; calibrated, and not.
    """
    found = []
    slots = int(live.table.slot.max(initial=-1)) + 1
    for first in range(0, slots, WINDOW_SLOTS):
        last = min(first + WINDOW_SLOTS, slots)
        for i, lm in enumerate(live.scenario.testbed.lms):
            rows = (live.table.lm == i) & (live.table.slot >= first) & (live.table.slot < last)
            regime = _regime(live, i, first, last, rows)
            if regime is not None and rows.any():
                found.append(_window(lm.name, regime, rows, (live.table, twin, before)))
    return found


def compare(found: Sequence[Window], lms: Sequence[str]) -> list[Comparison]:
    """Return a comparison for each LM and regime, in order."""
    return [
        _comparison(lm, regime, [one for one in found if (one.lm, one.regime) == (lm, regime)])
        for lm in lms
        for regime in REGIMES
    ]


def _regime(live: Observed, i: int, first: int, last: int, rows: Bools) -> str | None:
    """Return the regime of an LM in slots [first, last); None where a state is missing."""
    pods = live.pods
    if last > len(pods) or np.any(pods.state[first:last] == NO_ROW):
        return None
    backlog = pods.backlog[:, :, i].sum(axis=1)
    born = int(live.table.prompts[rows].sum())
    if backlog[first:last].mean() <= born / (last - first):
        return "stable"
    grown = backlog[last - 1] - (backlog[first - 1] if first else 0)
    return "overloaded" if grown > MOST_GROWTH * born else "backlogged"


def _window(
    lm: str, regime: str, rows: Bools, tables: tuple[RequestTable, RequestTable, RequestTable]
) -> Window:
    live, twin, before = tables
    known = rows & (live.destination != NOWHERE) & (twin.destination != NOWHERE)
    same = live.destination[known] == twin.destination[known]
    return Window(
        lm=lm,
        regime=regime,
        requests=int(rows.sum()),
        live_s=_mean_latency_s(live, rows),
        twin_s=_mean_latency_s(twin, rows),
        before_s=_mean_latency_s(before, rows),
        live_success=float(live.success[rows].mean()),
        twin_success=float(twin.success[rows].mean()),
        same_way=float(same.mean()) if len(same) else float("nan"),
    )


def _mean_latency_s(table: RequestTable, rows: Bools) -> float:
    returned = table.latency_s[rows & table.success]
    return float(returned.mean()) if len(returned) else float("nan")


def _comparison(lm: str, regime: str, found: Sequence[Window]) -> Comparison:
    n = sum(one.requests for one in found)
    timed = [one for one in found if not np.isnan(one.live_s + one.twin_s + one.before_s)]
    if n < LEAST_REQUESTS or not timed:
        return Comparison(lm, regime, n, len(found))
    live_s, error_s = _mean(timed, "live_s"), _error(timed, "live_s", "twin_s")
    return Comparison(
        lm=lm,
        regime=regime,
        requests=n,
        windows=len(found),
        live_s=live_s,
        twin_s=_mean(timed, "twin_s"),
        latency_error_s=error_s,
        relative_error=error_s.value / live_s,
        relative_error_before=_error(timed, "live_s", "before_s").value / live_s,
        live_success=_mean(found, "live_success"),
        twin_success=_mean(found, "twin_success"),
        success_error=_error(found, "live_success", "twin_success"),
        same_way=_mean(timed, "same_way"),
    )


def _mean(found: Sequence[Window], name: str) -> float:
    return float(np.average(_column(found, name), weights=_column(found, "requests")))


def _error(found: Sequence[Window], live: str, twin: str) -> Error:
    differences = np.abs(_column(found, live) - _column(found, twin))
    value, low, high = mean_of_clusters(differences, _column(found, "requests"))
    return Error(value, None, None) if np.isnan(low) else Error(value, low, high)


def _column(found: Sequence[Window], name: str) -> Floats:
    return np.array([getattr(one, name) for one in found], np.float64)
