"""Epochs on a testbed by Airflow: services on this machine, emulated engines, a real controller."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import polars as pl
import pytest

from controller.airflow.folders import folder_of
from controller.bootstrap.cluster import Address
from controller.bootstrap.condition import read_state
from controller.bootstrap.serve import local_testbed
from controller.inputs.catalog import load_testbed
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER
from tests.airflow.standalone import ROOT, Run, Standalone, standalone, until
from tests.live.services import processes

EPOCHS = {"strategy": "RF", "engines": "emulated", "epochs": 1}
QUICK, SLOW = 60.0, 1.0  # seconds of a run per real second
TASK = "run_on_testbed"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    names = load_testbed("paper").to_domain().node_names
    with local_testbed(names, tmp_path_factory.mktemp("services"), QUICK) as started:
        yield started


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, results: Path, testbed: Address
) -> Iterator[Standalone]:
    connection = {
        "conn_type": "edgelm", "host": "127.0.0.1", "port": int(testbed.url.rpartition(":")[2]),
        "extra": {"keys_file": testbed.keys_file},
    }  # fmt: skip
    environment = {
        "EDGELM_RESULTS": str(results),
        "AIRFLOW_CONN_EDGELM_DEFAULT": json.dumps(connection),
        "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state")),
    }
    folder = tmp_path_factory.mktemp("airflow")
    with standalone(folder, ROOT / "dags", environment) as started:
        started.rest.call("PATCH", "dags/run_epochs", {"is_paused": False})
        until(lambda: started.rest.get("dags/run_epochs/dagRuns")["total_entries"], 60)
        scheduled = started.rest.get("dags/run_epochs/dagRuns")["dag_runs"][0]["dag_run_id"]
        today = Run("run_epochs", scheduled)  # the one of its schedule, which is not ours
        started.mark_run(today)
        started.wait(today)
        yield started


@pytest.fixture(autouse=True)
def _nobody_has_the_testbed(airflow: Standalone, testbed: Address) -> Iterator[None]:
    """End what a test has left, so that the next one begins with a free testbed."""
    yield
    for state in ("running", "queued"):
        left = airflow.rest.get_all("dags/run_epochs/dagRuns", "dag_runs", state=state)
        for one in left:
            airflow.mark_run(Run("run_epochs", one["dag_run_id"]))
    lease = state_of(testbed)["lease"]
    if lease is not None:
        query = urlencode({"holder": lease["holder"]})
        shown = headers(testbed.keys(), CONTROLLER)
        where = f"{testbed.url}/v1/lease?{query}"
        wanted = Request(where, headers=shown, method="DELETE")  # noqa: S310 - loopback
        with urlopen(wanted, timeout=10):  # noqa: S310
            pass


def state_of(testbed: Address) -> dict[str, Any]:
    return read_state(testbed.url, headers(testbed.keys(), CONTROLLER))


def begin(airflow: Standalone, seed: int, time_scale: float, name: str | None = None) -> Run:
    return airflow.trigger("run_epochs", {**EPOCHS, "seed": seed, "time_scale": time_scale}, name)


def deferred(airflow: Standalone, run: Run) -> dict[str, Any]:
    return airflow.wait_for_task(run, TASK, ("deferred",), 0, 120)


def test_an_epoch_is_run_collected_and_reported(
    airflow: Standalone, testbed: Address, results: Path
) -> None:
    run = begin(airflow, 1, QUICK)
    deferred(airflow, run)
    lease = state_of(testbed)["lease"]
    assert lease["holder"] == f"run_epochs/{run.run_id}"
    found = airflow.wait(run, limit_s=400)
    assert found["state"] == "success", airflow.log(run, TASK, 1, 0)
    assert state_of(testbed)["lease"] is None, "given back"
    folder = results / folder_of(*run)
    (made,) = [path for path in (folder / "runs").iterdir() if path.name[0] != "."]
    summary = json.loads((made / "summary.json").read_bytes())
    assert (summary["target"], summary["time_scale"]) == ("emulated", QUICK)
    assert pl.read_parquet(made / "requests.parquet").height > 100
    assert (folder / "report" / "index.html").exists()
    assert "ok    player" in airflow.log(run, "health")


def test_the_triggerer_may_end_and_the_run_goes_on(
    airflow: Standalone, testbed: Address, results: Path
) -> None:
    run = begin(airflow, 2, QUICK)
    deferred(airflow, run)
    airflow.kill("triggerer", signal.SIGTERM)
    time.sleep(3)
    assert state_of(testbed)["run"]["phase"] in ("waiting", "running")
    airflow.start("triggerer")
    assert airflow.wait(run, limit_s=400)["state"] == "success"


def test_who_marks_it_failed_has_it_cancelled(airflow: Standalone, testbed: Address) -> None:
    run = begin(airflow, 3, SLOW)
    deferred(airflow, run)
    until(lambda: state_of(testbed)["run"]["phase"] == "running", 60)
    airflow.mark(run, TASK, "failed", 0)
    took_s = until(lambda: state_of(testbed)["run"]["phase"] == "cancelled", 10)
    print(f"cancelled {took_s:.1f} s after it was marked failed")
    assert airflow.wait(run)["state"] == "failed"
    until(lambda: state_of(testbed)["lease"] is None, 30)


def test_no_attempt_cancels_a_later_ones_run(airflow: Standalone, testbed: Address) -> None:
    """Cleared while deferred, twenty times: the one run goes on."""
    run = begin(airflow, 4, SLOW)
    deferred(airflow, run)
    until(lambda: state_of(testbed)["run"]["phase"] == "running", 60)
    begun = state_of(testbed)["run"]
    for attempt in range(2, 22):
        airflow.clear(run, (TASK, 0))
        until(lambda n=attempt: airflow.task(run, TASK, 0)["try_number"] >= n, 60)
        deferred(airflow, run)
        now = state_of(testbed)["run"]
        assert now["id"] == begun["id"]
        assert now["phase"] in ("waiting", "running")
    newest = state_of(testbed)["run"]["fencing_token"]
    assert state_of(testbed)["run"]["began_unix_s"] == begun["began_unix_s"]
    assert newest.partition(".")[0] == begun["fencing_token"].partition(".")[0], "one lease"
    assert int(newest.partition(".")[2]) > int(begun["fencing_token"].partition(".")[2])
    airflow.mark(run, TASK, "failed", 0)
    until(lambda: state_of(testbed)["run"]["phase"] == "cancelled", 10)
    airflow.wait(run)


def test_a_testbed_that_is_taken_is_waited_for(airflow: Standalone, testbed: Address) -> None:
    first = begin(airflow, 5, SLOW, "first")
    deferred(airflow, first)
    second = begin(airflow, 6, QUICK, "second")
    deferred(airflow, second)
    said = airflow.log(second, TASK, 1, 0)
    assert re.search(
        r"the testbed is held by run_epochs/first until \d\d:\d\d:\d\d UTC \(fence \d+\)", said
    )
    assert state_of(testbed)["lease"]["holder"] == "run_epochs/first"
    airflow.mark(first, TASK, "failed", 0)
    assert airflow.wait(second, limit_s=400)["state"] == "success"


def test_a_testbed_that_is_not_well_is_left_alone(
    airflow: Standalone, testbed: Address, results: Path
) -> None:
    (node,) = processes(Path(testbed.keys_file).parents[1], ["node", "vm3"])
    os.kill(node, signal.SIGSTOP)
    try:
        run = begin(airflow, 7, QUICK)
        assert airflow.wait(run)["state"] == "failed"
        said = airflow.log(run, "health")
        assert re.search(r"WRONG node vm3: does not answer.* -> look into the log", said)
        assert "ok    player" in said
        assert not (results / folder_of(*run)).exists()
    finally:
        os.kill(node, signal.SIGCONT)


def test_without_a_triggerer_a_task_says_so(airflow: Standalone, testbed: Address) -> None:
    airflow.kill("triggerer", signal.SIGTERM)
    try:
        run = begin(airflow, 9, QUICK)
        airflow.wait_for_task(run, TASK, ("up_for_retry", "failed"), 0, 120)
        assert "no triggerer runs, and a deferred task would wait" in airflow.log(run, TASK, 1, 0)
        assert state_of(testbed)["lease"] is None
    finally:
        airflow.start("triggerer")
    airflow.mark_run(run)
    airflow.wait(run)


def test_a_person_answers_for_the_agents_policies(airflow: Standalone, testbed: Address) -> None:
    chosen = {"strategy": "MA", "mode": "approve", "seed": 8, "time_scale": SLOW}
    run = airflow.trigger("run_epochs", {**EPOCHS, **chosen})
    airflow.wait_for_task(run, "approve_policy", ("awaiting_input",), 0, 180)
    detail = airflow.rest.get(f"{run.path}/taskInstances/approve_policy/0/hitlDetails")
    assert "LM4" in detail["body"]
    airflow.answer(run, "approve_policy", "Approve", 0)
    airflow.wait_for_task(run, "approve_policy", ("success",), 0, 60)
    until(lambda: state_of(testbed)["run"]["policy_slot"] == 0, 30)
    airflow.mark(run, TASK, "failed", 0)
    airflow.wait(run)


@pytest.fixture
def given_hosts(tmp_path: Path) -> str:
    """Seven machines of the paper's testbed at ports where nobody answers."""
    hosts = {f"vm{k}": {"ansible_host": "127.0.0.1", "ansible_port": k} for k in range(1, 8)}
    path = tmp_path / "hosts.yaml"
    path.write_text(json.dumps({"hosts": hosts}))
    return str(path)


def test_a_rejected_bring_up_is_red(airflow: Standalone, given_hosts: str) -> None:
    run = airflow.trigger("bring_up_testbed", {"hosts": given_hosts})
    airflow.wait_for_task(run, "approve", ("awaiting_input",))
    detail = airflow.rest.get(f"{run.path}/taskInstances/approve/-1/hitlDetails")
    assert "paper: 7 hosts" in detail["body"]
    airflow.answer(run, "approve", "Reject")
    assert airflow.wait(run)["state"] == "failed"
    assert "rejected by admin" in airflow.log(run, "approve")
    states = airflow.states(run)
    assert states["reach", -1] == states["tear_down", -1] == "upstream_failed"


def test_a_tear_down_of_nothing_is_refused_before_anybody_is_asked(airflow: Standalone) -> None:
    run = airflow.trigger("bring_up_testbed", {"testbed": "campus", "tear_down": True})
    assert airflow.wait(run)["state"] == "failed"
    assert "finds no bring-up" in airflow.log(run, "plan")
    assert airflow.states(run)["approve", -1] == "upstream_failed"


def test_an_approved_bring_up_does_its_phases(airflow: Standalone, given_hosts: str) -> None:
    if not (ROOT / ".venv-ansible" / "ready").exists():
        pytest.skip("no .venv-ansible: make ansible-setup")
    run = airflow.trigger("bring_up_testbed", {"hosts": given_hosts})
    airflow.wait_for_task(run, "approve", ("awaiting_input",))
    airflow.answer(run, "approve", "Approve")
    airflow.wait_for_task(run, "reach", ("up_for_retry", "failed"), -1, 300)
    log = airflow.log(run, "reach")
    assert "Wait for SSH" in log
    assert "does its SSH port answer from here?" in log
    states = airflow.states(run)
    assert states["drain", -1] == states["provision", -1] == states["tear_down", -1] == "skipped"
    airflow.mark_run(run)
