"""The report's files against numbers worked out from the runs' own files."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.samples.sample_campaign import rows_of
from tests.unit.report.conftest import SAMPLE


def run_folders(campaign: Path, strategy: str, load: float = 1.0) -> list[Path]:
    runs = json.loads((campaign / "campaign.json").read_text())["runs"]
    return [
        campaign / "runs" / run["id"]
        for run in runs
        if run["strategy"] == strategy and run["load"] == load and run["state"] == "done"
    ]


def summaries(campaign: Path, strategy: str, load: float = 1.0) -> list[dict]:
    return [
        json.loads((folder / "summary.json").read_text())
        for folder in run_folders(campaign, strategy, load)
    ]


def requests(campaign: Path, strategy: str) -> pl.DataFrame:
    return pl.concat(
        pl.read_parquet(folder / "requests.parquet") for folder in run_folders(campaign, strategy)
    )


def test_summary_has_means_and_t_intervals_over_seeds(campaign):
    found = rows_of(campaign, "summary")
    assert len(found) == len(SAMPLE.strategies) * len(SAMPLE.loads)
    row = next(r for r in found if r["strategy"] == "SOLVER" and r["load"] == "1")
    values = [run["objective"] for run in summaries(campaign, "SOLVER")]
    margin = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert int(row["seeds"]) == 3
    assert float(row["objective"]) == pytest.approx(np.mean(values), rel=1e-5)
    assert float(row["objective_low"]) == pytest.approx(np.mean(values) - margin, rel=1e-5)
    assert float(row["objective_high"]) == pytest.approx(np.mean(values) + margin, rel=1e-5)
    ratios = [run["objective"] / run["bound"] for run in summaries(campaign, "SOLVER")]
    assert float(row["bound_ratio"]) == pytest.approx(np.mean(ratios), rel=1e-5)


def test_failed_runs_do_not_count(campaign):
    row = next(r for r in rows_of(campaign, "summary") if r["strategy"] == "RR")
    assert int(row["seeds"]) == 2
    assert float(row["objective"]) == pytest.approx(
        np.mean([run["objective"] for run in summaries(campaign, "RR", 0.5)]), rel=1e-5
    )


def test_significance_pairs_seeds(campaign):
    found = {row["strategy"]: row for row in rows_of(campaign, "significance")}
    assert set(found) == {"RR", "RL", "SOLVER"}  # LL is the best of the paper's baselines
    assert {row["reference"] for row in found.values()} == {"LL"}
    seeds = (0, 2)  # LL has no run with seed 1
    ours = [summaries(campaign, "SOLVER")[seed]["objective"] for seed in seeds]
    theirs = [run["objective"] for run in summaries(campaign, "LL")]
    assert int(found["SOLVER"]["pairs"]) == 2
    assert float(found["SOLVER"]["difference"]) == pytest.approx(
        np.mean(np.subtract(ours, theirs)), rel=1e-5
    )
    assert float(found["SOLVER"]["p_t"]) == pytest.approx(
        stats.ttest_rel(ours, theirs).pvalue, rel=1e-4
    )
    assert int(found["RR"]["pairs"]) == 1  # RR failed with seed 2
    assert found["RR"]["p_t"] == ""


def test_distributions_count_unanswered_requests(campaign):
    answered = requests(campaign, "RR").filter(pl.col("lm") == "LM4")
    curve = [
        (float(row["latency_s"]), float(row["share_answered"]))
        for row in rows_of(campaign, "latency-cdf")
        if row["strategy"] == "RR" and row["lm"] == "LM4"
    ]
    for time_s, share in curve[:: len(curve) // 7]:
        within = answered.filter(pl.col("success") & (pl.col("latency_s") <= time_s))
        assert share == pytest.approx(len(within) / len(answered), abs=2e-3)  # time is rounded
    assert curve[-1][1] == pytest.approx(answered["success"].mean(), abs=1e-5)


def test_failures_are_shares_of_all_requests(campaign):
    row = next(r for r in rows_of(campaign, "failures") if r["strategy"] == "RL")
    everything = requests(campaign, "RL")  # seeds have equally many, so means of shares are equal
    counts = dict(everything["failure"].drop_nulls().value_counts().iter_rows())
    for reason in ("deadline", "not_deployed"):
        assert float(row[reason]) == pytest.approx(counts[reason] / len(everything), rel=1e-5)


def test_components_are_means_over_seeds_of_successes(campaign):
    row = next(
        r for r in rows_of(campaign, "where-time-goes") if (r["strategy"], r["lm"]) == ("LL", "LM2")
    )
    means = [
        pl.read_parquet(folder / "requests.parquet")
        .filter(pl.col("success") & (pl.col("lm") == "LM2"))
        .select("uplink_s", "queue_s", "inference_s", "downlink_s")
        .mean()
        .row(0)
        for folder in run_folders(campaign, "LL")
    ]
    for name, expected in zip(
        ("uplink_s", "queue_s", "inference_s", "downlink_s"), np.mean(means, axis=0), strict=True
    ):
        assert float(row[name]) == pytest.approx(expected, rel=1e-5)


def test_per_lm_figures_are_the_summaries(campaign):
    row = next(
        r for r in rows_of(campaign, "fig6-per-lm") if (r["strategy"], r["lm"]) == ("SOLVER", "LM3")
    )
    runs = [run["per_lm"]["LM3"] for run in summaries(campaign, "SOLVER")]
    assert float(row["t_mean_s"]) == pytest.approx(np.mean([r["t_mean_s"] for r in runs]), rel=1e-5)
    assert float(row["success"]) == pytest.approx(np.mean([r["rho"] for r in runs]), rel=1e-5)


def test_epochs_are_the_summaries(campaign):
    found = [r for r in rows_of(campaign, "fig7-epochs") if r["strategy"] == "RL"]
    assert [int(r["epoch"]) for r in found] == [1, 2, 3]
    for k, row in enumerate(found):
        values = [run["per_epoch"][k]["objective"] for run in summaries(campaign, "RL")]
        assert float(row["objective"]) == pytest.approx(np.mean(values), rel=1e-5)


def test_backlog_sums_lms_and_averages_slots(campaign):
    slots = pl.read_parquet(run_folders(campaign, "SOLVER")[0] / "slots.parquet")
    row = next(
        r
        for r in rows_of(campaign, "backlog")
        if (r["strategy"], r["node"], r["bin"]) == ("SOLVER", "vm3", "7")
    )
    # 35 slots are fewer than the bins a figure may have: a bin is a slot
    cell = slots.filter((pl.col("node") == "vm3") & (pl.col("slot") == 7))
    assert float(row["backlog_prompts"]) == cell["backlog_prompts"].sum()


def test_activation_shares_are_of_time(campaign):
    slots = pl.read_parquet(run_folders(campaign, "LL")[0] / "slots.parquet")
    for row in rows_of(campaign, "activation")[:6]:
        cell = slots.filter((pl.col("node") == row["node"]) & (pl.col("lm") == row["lm"]))
        ready = cell.filter((pl.col("state") == "ready") & (pl.col("mode") == "gpu"))
        assert float(row["share_gpu"]) == pytest.approx(len(ready) / len(cell), abs=1e-5)
        assert sum(float(row[f"share_{s}"]) for s in ("off", "gpu", "cpu", "changing")) == (
            pytest.approx(1, abs=1e-4)
        )


def test_load_sweep_has_every_load_with_its_bound(campaign):
    found = rows_of(campaign, "load-sweep")
    assert [row["load"] for row in found if row["strategy"] == "RL"] == ["0.5", "1", "1.5"]
    row = next(r for r in found if r["strategy"] == "RL" and r["load"] == "1.5")
    runs = summaries(campaign, "RL", 1.5)
    assert float(row["bound"]) == pytest.approx(np.mean([r["bound"] for r in runs]), rel=1e-5)
    assert float(row["t_mean_s"]) == pytest.approx(np.mean([r["t_mean_s"] for r in runs]), rel=1e-5)


def test_the_parts_of_the_gap_add_up_to_the_objective(campaign):
    found = rows_of(campaign, "gap")
    assert [(row["load"], row["strategy"]) for row in found] == [
        (load, "SOLVER") for load in ("0.5", "1", "1.5")
    ]
    for row in found:
        runs = summaries(campaign, "SOLVER", float(row["load"]))
        objective = np.mean([run["objective"] for run in runs])
        assert float(row["bound"]) == pytest.approx(np.mean([r["bound"] for r in runs]), rel=1e-5)
        parts = [float(row[name]) for name in list(row)[2:-2]]
        assert sum(parts) == pytest.approx(objective, rel=1e-4)
        assert float(row["objective"]) == pytest.approx(objective, rel=1e-4)


def test_sensitivity_ranks_every_other_setting(campaign):
    found = rows_of(campaign, "sensitivity")
    assert [row["load"] for row in found] == ["0.5", "1.5"]
    for row in found:
        assert row["kendall_tau"] == "1"
        assert row["verdict"] == "holds"
        assert (row["rank_SOLVER"], row["rank_LL"]) == ("1", "2")


def test_runs_lists_what_is_missing(campaign):
    found = rows_of(campaign, "runs")
    assert len(found) == 36
    failed = [row for row in found if row["state"] == "failed"]
    assert {row["problem"] for row in failed} == {"Permanent: it broke"}
    assert {row["objective"] for row in failed} == {""}


def test_published_stands_beside_ours(campaign):
    found = {(row["strategy"], row["quantity"]): row for row in rows_of(campaign, "published")}
    assert found["MA", "mean latency"]["published"] == "74"
    assert found["MA", "mean latency"]["ours"] == ""
    gain = [
        slow["t_mean_s"] - fast["t_mean_s"]
        for slow, fast in zip(summaries(campaign, "RR"), summaries(campaign, "RL")[:2], strict=True)
    ]
    row = found["RL", "mean latency below RR's by"]
    assert float(row["ours"]) == pytest.approx(np.mean(gain), rel=1e-5)
    assert ("MAL", "success ratio of LM4") not in found  # not in this campaign
