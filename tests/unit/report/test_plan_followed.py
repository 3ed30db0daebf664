"""Requests, pods and policies of runs that are small enough to be counted by hand."""

import html
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from controller.report.analysis.alignment import Alignment, Movements, align, movements
from controller.report.analysis.policies import Policy, has_intent, in_force, policies_of
from controller.report.analysis.requests import with_waits
from controller.report.render import make_renderer
from controller.report.sections.plan_followed import compare_mal, tabulate_alignments
from controller.results.campaign import read_campaign
from tests.samples.sample_campaign import Sample, write_sample
from tests.unit.report.campaigns import data_of

NODES, LMS = ("a", "b"), ("x", "y")


def policy(slot=0, shares=None, roles=None) -> Policy:
    return Policy(
        slot=slot,
        shares=shares or {"x": {"a": 1.0}, "y": {"b": 1.0}},
        roles=roles or {"a": ["x"], "b": ["y"]},
        outcome="ok", took_s=1.0, detail="", tokens_in=0, tokens_out=0, cost_usd=None,
    )  # fmt: skip


def moves(requests, ready) -> Movements:
    """Requests as (LM, destination or -1, prompts, born, success, wait_s)."""
    lm, to, prompts, born, success, wait_s = (np.array(c) for c in zip(*requests, strict=True))
    return Movements(
        NODES, LMS, np.array(ready, bool), lm, to, prompts, born, success.astype(bool),
        wait_s.astype(float), found_pod(ready, lm, to, born),
    )  # fmt: skip


def found_pod(ready, lm, to, born) -> np.ndarray:
    """By the report's own rule, for requests that arrive in their slot of birth."""
    slot, node, kind = (axis.ravel() for axis in np.indices(np.shape(ready)))
    slots = pl.DataFrame(
        {
            "slot": slot,
            "node": [NODES[n] for n in node],
            "lm": [LMS[i] for i in kind],
            "state": np.where(np.ravel(ready), "ready", "off"),
        }
    )
    requests = pl.DataFrame(
        {"slot": born, "lm": [LMS[i] for i in lm],
         "destination": [None if n < 0 else NODES[n] for n in to],
         "born_s": born * 30.0, "arrived_s": born * 30.0, "uplink_s": 0.0, "queue_s": 0.0},
        schema_overrides={"destination": pl.String},
    )  # fmt: skip
    return with_waits(requests, slots, 30.0)["found_pod"].to_numpy()


BOTH = [[1, 0], [0, 1]]  # x runs on a, y on b: as the policy says


def test_a_run_that_follows_its_policy_is_aligned():
    run = moves([(0, 0, 4, 1, 1, 0.5), (1, 1, 4, 1, 1, 0.5)], [BOTH, BOTH])
    found = align(run, [policy()])
    shares = found.drift, found.off_role, found.pods_off_role, found.roles_idle
    assert (*shares, found.no_pod, found.plan_uncovered) == (0,) * 6
    assert isnan(found.no_pod_wait_s)


def test_drift_counts_prompts_that_went_elsewhere():
    run = moves([(0, 0, 3, 1, 1, 0), (0, 1, 1, 1, 1, 0), (1, 1, 4, 1, 1, 0)], [BOTH, BOTH])
    found = align(run, [policy()])
    # A quarter of x's prompts, none of y's; both have four.
    assert found.drift == pytest.approx(0.125)
    assert found.off_role == pytest.approx(1 / 3)


def test_a_policy_is_held_against_what_was_born_under_it():
    swapped = policy(1, {"x": {"b": 1.0}, "y": {"a": 1.0}}, {"a": ["y"], "b": ["x"]})
    run = moves([(0, 0, 1, 1, 1, 0), (0, 1, 1, 2, 1, 0)], [BOTH, BOTH, BOTH])
    assert align(run, [policy(), swapped]).drift == 0
    assert in_force([policy(), swapped], 4).tolist() == [0, 0, 1, 1]


def test_a_request_meets_the_pods_of_the_slot_before():
    ready = [[[0, 0], [0, 0]], BOTH, BOTH]
    run = moves([(0, 0, 1, 0, 1, 7.0), (0, 0, 1, 1, 0, np.nan), (0, 0, 1, 2, 1, 0)], ready)
    found = align(run, [policy()])
    assert found.no_pod == pytest.approx(2 / 3)
    assert found.no_pod_wait_s == 7.0
    assert found.no_pod_lost == 0.5


def test_pods_are_held_against_roles_and_shares():
    crossed = [[0, 1], [0, 1]]  # y on both, x nowhere
    found = align(moves([(1, 1, 1, 0, 1, 0)], [crossed]), [policy()])
    assert found.pods_off_role == 0.5
    assert found.roles_idle == 0.5
    assert found.plan_uncovered == 0.5


def test_refused_requests_go_nowhere_and_drift_nowhere():
    found = align(moves([(0, -1, 5, 0, 0, np.nan), (0, 0, 1, 0, 1, 0)], [BOTH]), [policy()])
    assert found.drift == 0
    assert found.off_role == 0


def test_equal_shares_on_all_hosts_are_no_intent():
    spread = {"x": {"a": 0.5, "b": 0.5}, "y": {"b": 1.0}}
    hosts = {"a": ["x"], "b": ["x", "y"]}
    assert not has_intent([policy(shares=spread, roles=hosts)])
    assert has_intent([policy(shares=spread, roles={"a": ["x", "y"], "b": ["x", "y"]})])
    assert has_intent([policy(shares={"x": {"a": 0.4, "b": 0.6}, "y": {"b": 1}}, roles=hosts)])
    assert not has_intent([])


def test_files_are_read_as_they_are_written(tmp_path: Path):
    write_sample(tmp_path, Sample(strategies=("MA",), seeds=(0,), epochs=2, agents=("MA",)))
    (run,) = read_campaign(tmp_path).runs
    found, policies = movements(run.requests, run.slots, 30.0), policies_of(run.policies)
    assert found.nodes == ("vm2", "vm3", "vm4")
    assert found.ready.shape == (25, 3, 4)
    assert [p.slot for p in policies] == [0, 10, 20]
    # Every node serves its own requests; LM1 is meant for vm2 and vm4, the others for vm4.
    drift = align(found, policies).drift
    assert drift == pytest.approx((3 * 2 / 3 + (1 / 3 + 1 / 12 + 5 / 12) / 2) / 4, abs=0.01)


def runs(**alignments: list[Alignment]) -> dict[str, dict[int, Alignment]]:
    return {strategy: dict(enumerate(of)) for strategy, of in alignments.items()}


def words(data, found) -> str:
    text = make_renderer()("words/alignment.html.j2", compare_mal(data, found))
    return html.unescape(" ".join(text.split(" "))).replace("\n", " ")


GOOD = Alignment(0.05, 0.0, 0.003, 10.0, 0.0, 0.0, 0.0, 0.0)
BAD = Alignment(0.15, 0.0, 0.2, 30.0, 0.1, 0.3, 0.1, 0.25)


def test_words_on_mal_follow_from_the_numbers():
    data = data_of([("MAL", 0, 0.2), ("MAL", 1, 0.3), ("RL", 0, 0.1), ("RL", 1, 0.2)])
    apart = words(data, runs(MAL=[BAD, BAD], MA=[GOOD, GOOD]))
    assert "Misaligned it is: compared with MA, more of its requests meet no ready pod" in apart
    assert "20\u00a0% against 0.3\u00a0%" in apart
    assert "stay within the roles" in apart
    same = words(data, runs(MAL=[GOOD, GOOD], MA=[GOOD, GOOD]))
    assert "misalignment is no cause" in same
    assert "cannot be told to be less fair than RL" in same
    assert "MAL" not in words(data, runs(SOLVER=[GOOD]))


DATA = data_of([("MAL", 0, 0.2), ("MAL", 1, 0.3)])


def cells_of(*alignments: Alignment) -> dict[str, tuple[str, str]]:
    table = tabulate_alignments(DATA, runs(MAL=list(alignments)))
    assert table is not None
    ((_, cells),) = table.page_rows()
    return {table.columns[k].title: (cells[k].text, cells[k].small) for k in table.kept()}


def test_the_table_has_an_interval_and_no_empty_columns():
    assert cells_of(BAD, GOOD)["Met no pod"] == ("10.2\u00a0%", "± 125.2\u00a0%")
    assert tabulate_alignments(DATA, runs()) is None


def test_an_interval_has_the_decimals_of_its_mean():
    near = replace(BAD, no_pod=0.2006, no_pod_wait_s=30.1, drift=0.151)
    found = cells_of(BAD, near)
    assert found["Met no pod"] == ("20.0\u00a0%", "± 0.4\u00a0%")
    assert found["Drift"] == ("15.0\u00a0%", "± 0.6\u00a0%")
    assert found["Waited for it (s)"] == ("30.1", "± 0.6")


def test_an_interval_that_says_nothing_is_left_out():
    found = cells_of(replace(GOOD, no_pod=0.0006), replace(GOOD, no_pod=0.0007, drift=0.05001))
    assert found["Met no pod"] == ("under 0.1\u00a0%", "")
    assert found["Drift"] == ("5.0\u00a0%", "")
    assert found["Requests off role"] == ("0\u00a0%", "")
    assert cells_of(BAD)["Drift"] == ("15.0\u00a0%", "")
