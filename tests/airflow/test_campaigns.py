"""Campaigns by Airflow: from the REST API to the report, the same bytes as `edgelm run`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_local.rest import RestError
from controller.airflow.folders import folder_of
from tests.airflow.standalone import EDGELM, ROOT, Run, Standalone, standalone, until

DAGS = ("run_campaign", "run_epochs", "analyse_campaign", "nightly_regression", "bring_up_testbed")
CAMPAIGN = {"campaign": "smoke", "strategies": ["RR", "RL", "RF", "SOLVER"], "seeds": 2, "rows": 4}
RUNS = 8


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[Standalone]:
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    shutil.copytree(ROOT / "dags", dags)
    shutil.copy(Path(__file__).parent / "dags" / "late_dag.py", dags)
    with standalone(folder, dags, {"EDGELM_RESULTS": str(results)}) as started:
        yield started


@pytest.fixture(scope="module")
def made_by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same campaign by `edgelm run`."""
    folder = tmp_path_factory.mktemp("by-hand") / "campaign"
    chosen = ["--strategy", "RR,RL,RF,SOLVER", "--seeds", "2", "--out", str(folder)]
    subprocess.run([EDGELM, "run", "smoke", *chosen, "--no-report"], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def campaign(airflow: Standalone) -> Run:
    """A campaign that Airflow has brought to its end."""
    run = airflow.trigger("run_campaign", CAMPAIGN)
    found = airflow.wait(run)
    assert found["state"] == "success", {
        task: airflow.log(run, *task[:1]) for task, state in airflow.states(run).items()
        if state == "failed"
    }  # fmt: skip
    return run


def same_runs(one: Path, other: Path) -> list[str]:
    """Assert that two campaigns have the same runs, to the byte but for the time they took; return
    their ids."""
    ids = sorted(path.name for path in (one / "runs").iterdir() if path.name[0] != ".")
    assert ids == sorted(path.name for path in (other / "runs").iterdir() if path.name[0] != ".")
    for run_id in ids:
        for name in ("experiment.json", "requests.parquet", "slots.parquet", "decisions.jsonl"):
            mine, theirs = (root / "runs" / run_id / name for root in (one, other))
            assert mine.read_bytes() == theirs.read_bytes(), f"{run_id}/{name}"
        summaries = [json.loads((root / "runs" / run_id / "summary.json").read_bytes())
                     for root in (one, other)]  # fmt: skip
        for summary in summaries:
            del summary["wall_s"]
        assert summaries[0] == summaries[1]
    return ids


def test_a_campaign_has_the_bytes_of_edgelm_run(
    campaign: Run, results: Path, made_by_hand: Path
) -> None:
    folder = results / folder_of(*campaign)
    assert len(same_runs(folder, made_by_hand)) == RUNS
    manifest = json.loads((folder / "campaign.json").read_bytes())
    assert {run["state"] for run in manifest["runs"]} == {"done"}
    assert (folder / "report" / "index.html").stat().st_size > 10_000


def test_rows_have_names_and_the_run_says_what_came_of_it(
    airflow: Standalone, campaign: Run
) -> None:
    rows = [one for one in airflow.tasks(campaign) if one["task_id"] == "run_on_twin"]
    names = sorted(one["rendered_map_index"] for one in rows)
    assert names == ["RR, RL, RF, seed 0", "RR, RL, RF, seed 1", "SOLVER, seed 0", "SOLVER, seed 1"]
    states = airflow.states(campaign)
    assert states["run_on_testbed", -1] == states["release", -1] == "skipped"
    plan = airflow.log(campaign, "plan")
    assert "smoke" in plan
    assert "8 of 8 runs to make on twin, about " in plan
    assert campaign.run_id.startswith("smoke-")
    note = airflow.run(campaign)["note"]
    assert note.startswith("smoke: 8 of 8 runs; SOLVER 0.0")
    assert "(100.0% succeed), RF 0.0" in note


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"campaign": "no-such"}, "campaign"),
        ({"strategies": ["XX"]}, "strategies"),
        ({"seeds": 0}, "seeds"),
        ({"load": "much"}, "load"),
        ({"hours_at_most": -1}, "hours_at_most"),
        ({"strategy": "RF"}, "did you mean strategies?"),
    ],
)
def test_parameters_are_refused_before_anything_begins(
    airflow: Standalone, conf: dict[str, Any], said: str
) -> None:
    with pytest.raises(RestError) as refused:
        airflow.trigger("run_campaign", conf)
    assert refused.value.status == 400
    assert said in refused.value.text


def test_a_budget_that_is_exceeded_begins_nothing(airflow: Standalone, results: Path) -> None:
    run = airflow.trigger("run_campaign", {**CAMPAIGN, "hours_at_most": 1e-9})
    assert airflow.wait(run)["state"] == "failed"
    assert "--hours-at-most" in airflow.log(run, "plan")
    assert not (results / folder_of(*run)).exists()
    assert airflow.states(run)["check", -1] == "failed"
    assert "is no campaign's folder" in airflow.log(run, "check")


def test_a_finished_campaign_is_compared_with_the_one_before(
    airflow: Standalone, campaign: Run
) -> None:
    def analyses() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = airflow.rest.get_all(
            "dags/analyse_campaign/dagRuns", "dag_runs", order_by="run_after"
        )
        return found

    until(lambda: len(analyses()) == 1, 60)
    first = Run("analyse_campaign", analyses()[0]["dag_run_id"])
    assert airflow.wait(first)["state"] == "success"
    assert airflow.states(first)["compare", -1] == "skipped"
    assert airflow.run(first)["note"] == f"{folder_of(*campaign)}: the first of its name"
    again = airflow.trigger("run_campaign", CAMPAIGN)
    assert airflow.wait(again)["state"] == "success"
    until(lambda: len(analyses()) == 2, 60)
    second = Run("analyse_campaign", analyses()[1]["dag_run_id"])
    assert airflow.wait(second)["state"] == "success"
    note = airflow.run(second)["note"]
    assert note.startswith(f"{folder_of(*again)} against {folder_of(*campaign)}: ")
    assert "REGRESSION" not in note
    assert "SOLVER +0.0000" in note


def test_a_thousand_runs_are_64_rows(airflow: Standalone, results: Path) -> None:
    begin_s = time.monotonic()
    chosen = {"campaign": "smoke", "strategies": ["RR", "RL"], "seeds": 500, "rows": 64}
    run = airflow.trigger("run_campaign", chosen)
    found = airflow.wait(run, limit_s=900)
    assert found["state"] == "success", airflow.states(run)
    rows = [one for one in airflow.tasks(run) if one["task_id"] == "run_on_twin"]
    assert len(rows) == 64
    assert len({one["rendered_map_index"] for one in rows}) == 64
    assert found["note"].startswith("smoke: 1000 of 1000 runs")
    print(f"1000 runs in 64 rows took {time.monotonic() - begin_s:.0f} s")


def test_a_run_that_is_late_is_told_about(airflow: Standalone) -> None:
    run = airflow.trigger("late")
    assert airflow.wait(run)["state"] == "success"
    until(lambda: "is not over 0.001 hours" in airflow.component_log("triggerer"), 60)


def test_serialising_again_makes_no_version(airflow: Standalone) -> None:
    for _ in range(3):
        airflow.command("dags", "reserialize")
    for dag in DAGS:
        found = airflow.rest.get(f"dags/{dag}/dagVersions")
        assert found["total_entries"] == 1, dag
