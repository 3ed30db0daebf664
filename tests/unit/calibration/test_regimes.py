"""Regimes by data, and errors that are known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from controller.bootstrap.twin import draw_requests, simulate
from controller.calibration.observed import NO_ROW, Observed, observe
from controller.calibration.regimes import REGIMES, Window, compare, windows
from controller.results.run import run_in_memory
from controller.results.writing import run_files
from tests.samples.small import small_experiment


@pytest.fixture(scope="module")
def live() -> Observed:
    one = small_experiment(epoch_slots=20)
    scenario = one.scenario()
    run = run_in_memory("RF", run_files(one.canonical_json(), simulate(one)))
    requests = draw_requests(one, scenario)
    return observe(run, scenario, requests, "twin", faultless=True)


def with_backlog(live: Observed, by_slot: list[int]) -> Observed:
    """Return the run with this backlog of every LM at its first node, the last number repeated."""
    backlog = np.zeros_like(live.pods.backlog)
    rows = by_slot + by_slot[-1:] * (len(backlog) - len(by_slot))
    backlog[:, 0, :] = np.array(rows)[:, None]
    return replace(live, pods=replace(live.pods, backlog=backlog))


@pytest.mark.parametrize(
    ("by_slot", "regime"),
    [
        ([0] * 10, "stable"),
        ([1000] * 10, "backlogged"),
        (list(range(1000, 0, -100)), "backlogged"),
        (list(range(0, 1000, 100)), "overloaded"),
    ],
)
def test_a_regime_follows_from_backlog_and_its_growth(
    live: Observed, by_slot: list[int], regime: str
) -> None:
    # The first window grows from nothing, so its level counts in the second alone.
    found = windows(with_backlog(live, by_slot[:1] * 10 + by_slot), live.table, live.table)
    second = found[len(found) // 2 :]
    assert len(second) == 4
    assert {one.regime for one in second} == {regime}


def test_a_twin_that_repeats_the_run_has_no_error(live: Observed) -> None:
    found = compare(windows(live, live.table, live.table), live.scenario.testbed.lm_names)
    known = [one for one in found if one.latency_error_s is not None]
    assert known
    assert all(one.latency_error_s and one.latency_error_s.value == 0 for one in known)
    assert all(one.same_way == 1 for one in known)
    assert sum(one.requests for one in found) == len(live.table)


def test_errors_are_those_that_were_put_in(live: Observed) -> None:
    """Latencies 2 s longer, before the calibration 3 s shorter; every second request lost."""
    lost = np.arange(len(live.table)) % 2 == 0
    twin = replace(
        live.table,
        latency_s=np.where(lost, np.nan, live.table.latency_s + 2),
        failure=np.where(lost, 1, 0),
    )
    even = replace(live.table, failure=twin.failure)  # the live run loses the same ones
    before = replace(even, latency_s=live.table.latency_s - 3)
    names = live.scenario.testbed.lm_names
    for one in compare(windows(replace(live, table=even), twin, before), names):
        if one.latency_error_s is not None:
            assert one.latency_error_s.value == pytest.approx(2)
            assert one.live_s is not None
            assert one.relative_error_before == pytest.approx(3 / one.live_s)
    whole = 0  # LMs of which one regime has all windows
    for one in compare(windows(live, twin, before), names):
        rows = live.table.lm == names.index(one.lm)
        if one.success_error is not None and one.requests == rows.sum():
            whole += 1
            assert one.success_error.value == pytest.approx(lost[rows].mean())
    assert whole


def test_few_requests_give_no_number() -> None:
    row = Window("LM1", "stable", 14, 5.0, 6.0, 7.0, 1.0, 1.0, 1.0)
    found = {one.regime: one for one in compare([row, row], ["LM1"])}
    assert tuple(found) == REGIMES
    assert (found["stable"].requests, found["stable"].latency_error_s) == (28, None)
    enough = compare([row, row, replace(row, requests=2)], ["LM1"])[0]
    assert enough.latency_error_s is not None
    assert enough.latency_error_s.value == pytest.approx(1.0)


def test_windows_without_states_are_left_out(live: Observed) -> None:
    state = live.pods.state.copy()
    state[3, 0, 0] = NO_ROW
    run = replace(live, pods=replace(live.pods, state=state))
    assert len(windows(run, live.table, live.table)) == 4  # of the second window
