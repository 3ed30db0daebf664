"""The twin against an independent SimPy model of the same rules (docs/twin.md)."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_allclose, assert_array_equal

from controller.domain.requests import FAILURES
from tests.reference import Outcome, simulate
from tests.reference.cases import Case, Shape, build, cases
from tests.reference.playback import Played, play

TOLERANCE_S = 1e-6

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(slow, max_examples=300)
@given(cases())
def test_both_models_give_every_request_the_same_times(case: Case) -> None:
    assert_agreement(case)


@settings(slow, max_examples=200)
@given(cases(round_numbers=True))
def test_both_models_order_what_happens_at_one_instant_alike(case: Case) -> None:
    """All times are multiples of 1/4 s, hence exact: deadlines, arrivals, outages, batch ends,
    pod starts and commands fall on one another all the time."""
    assert_agreement(case)


def test_the_cases_exercise_what_they_are_for() -> None:
    """Guards the generator: cases in which nothing happens would agree too."""
    rng = np.random.default_rng(1)
    shapes = [
        Shape(int(rng.integers(2**32)), nodes=4, lms=4, slots=8, gpus=3, outages=3, change=0.2,
              load=1.0, round_numbers=False)
        for _ in range(20)
    ]  # fmt: skip
    played = [play(build(shape)) for shape in shapes]
    records = np.concatenate([p.twin.records for p in played])
    share = np.bincount(records["failure"], minlength=len(FAILURES)) / len(records)
    never = {"unfinished", "engine_error", "cancelled"}  # not in the twin
    assert all(share[[k for k, name in enumerate(FAILURES) if name not in never]] > 0.01)
    assert share[0] > 0.2
    assert (records["recomputed"] > 0).sum() > 10
    assert 0.5 < records["attempts"].mean() < 1.0
    assert sum(int(v.sum()) for p in played for v in p.voided) > 100
    assert sum(p.starts[-1] for p in played) > 100
    served = records["finished_s"] - records["started_s"]
    disturbed = (served > records["inference_s"] + TOLERANCE_S).sum()
    assert disturbed > 10  # stopped or lost while in service, and resumed


def assert_agreement(case: Case) -> None:
    played = play(case)
    expected = simulate(case.scenario, case.requests, case.script, case.outages)
    assert_same_requests(played, expected)
    assert_same_slots(played, expected)


def assert_same_requests(played: Played, expected: Outcome) -> None:
    records, jobs = played.twin.records, expected.jobs
    failures = [job.failure or "" for job in jobs]
    assert [FAILURES[code] for code in records["failure"]] == failures
    assert_array_equal(records["destination"], [job.destination for job in jobs])
    for name in ("done", "attempts", "recomputed"):
        assert_array_equal(records[name], [getattr(job, name) for job in jobs], err_msg=name)
    for name in ("arrived_s", "started_s", "finished_s", "returned_s", "inference_s"):
        times_s = [getattr(job, name) for job in jobs]
        assert_allclose(records[name], times_s, rtol=0, atol=TOLERANCE_S, err_msg=name)
    for name, end in (("uplink_s", "arrived_s"), ("downlink_s", "finished_s")):
        times_s = np.array([getattr(job, name) for job in jobs])
        there = ~np.isnan(records[end])
        assert_allclose(records[name][there], times_s[there], rtol=0, atol=TOLERANCE_S)


def assert_same_slots(played: Played, expected: Outcome) -> None:
    """The reference may go on a little longer: it learns of a late result when it is back."""
    assert len(played.states) <= len(expected.states)
    for slot, state in enumerate(played.states):
        assert_array_equal(state.pod, expected.states[slot])
        assert_array_equal(state.cards, expected.cards[slot])
        assert_array_equal(state.backlog, expected.backlogs[slot])
        assert_allclose(state.busy_s, expected.busy_s[slot], rtol=0, atol=TOLERANCE_S)
        assert_array_equal(played.voided[slot], expected.voided[slot])
        assert played.starts[slot] == expected.starts[slot]
