"""A running Airflow: closed to others, at work, steady in memory, and back after every kill."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from airflow_local import components, processes
from airflow_local.components import COMPONENTS
from airflow_local.home import USER
from airflow_local.rest import Rest, RestError
from tests.airflow.sockets import listening
from tests.airflow.standalone import ROOT, Standalone, need_airflow, standalone

DAGS = Path(__file__).parent / "dags"
SLOPE_MB = 1.0  # of memory for a task
TASKS = 200
AT_ONCE = 20


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with standalone(tmp_path_factory.mktemp("airflow"), DAGS) as running:
        yield running


def test_it_listens_on_loopback_alone(airflow: Standalone) -> None:
    airflow.wait(airflow.trigger("trivial"))  # workers and task runners have been there too
    found = {name: listening(airflow.pids(name)) for name in COMPONENTS}
    assert found.pop("api-server") == [("127.0.0.1", airflow.settings.port)]
    assert found == {"scheduler": [], "triggerer": [], "dag-processor": []}


def test_only_the_password_opens_it(airflow: Standalone) -> None:
    who = {"username": USER, "password": airflow.settings.password()}
    for path in ("dags", "connections", "variables"):
        with pytest.raises(RestError) as error:
            Rest(airflow.url).get(path)
        assert error.value.status == 401
    with pytest.raises(RestError) as error:
        Rest(airflow.url, USER, "wrong").get("dags")
    assert error.value.status == 401
    assert Rest(airflow.url, **dict(zip(("user", "password"), who.values(), strict=True))).get(
        "dags"
    )


def test_secrets_are_in_private_files_and_on_no_command_line(airflow: Standalone) -> None:
    home = airflow.settings.home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("airflow.cfg", "airflow.db", airflow.settings.password_file.name):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    commands = b"".join(
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for name in COMPONENTS
        for pid in airflow.pids(name)
    )
    assert b"airflow" in commands
    assert airflow.settings.password().encode() not in commands
    logs = "".join(airflow.component_log(name) for name in COMPONENTS)
    assert airflow.settings.password() not in logs


def test_a_run_can_be_followed_and_its_logs_read(airflow: Standalone) -> None:
    run = airflow.trigger("trivial", {"count": 2}, run_id="followed")
    assert airflow.wait(run)["state"] == "success"
    wanted = {("numbers", -1): "success", ("work", 0): "success", ("work", 1): "success"}
    assert airflow.states(run) == wanted
    assert "number 1, home" in airflow.log(run, "work", map_index=1)
    with pytest.raises(RestError, match="409"):
        airflow.trigger("trivial", run_id="followed")
    with pytest.raises(RestError, match="400"):
        airflow.trigger("trivial", {"count": "many"})


def test_tasks_can_be_cleared_and_marked(airflow: Standalone) -> None:
    run = airflow.trigger("trivial", {"count": 1, "seconds": 60})
    airflow.wait_for_task(run, "work", ["running"], map_index=0)
    airflow.mark(run, "work", "failed", map_index=0)
    assert airflow.wait(run)["state"] == "failed"
    again = airflow.trigger("trivial", {"count": 1})
    airflow.wait(again)
    airflow.clear(again, ("work", 0))
    assert airflow.wait(again)["state"] == "success"
    assert airflow.task(again, "work", 0)["try_number"] == 2
    airflow.mark_run(again)
    assert airflow.run(again)["state"] == "failed"


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_it_goes_on_after_a_component_ended(
    airflow: Standalone, name: str, number: signal.Signals
) -> None:
    waiting, working = airflow.trigger("waiting"), airflow.trigger("trivial", {"count": 2})
    airflow.wait_for_task(waiting, "wait", ["deferred"])
    took_s = airflow.restart(name, number)
    print(f"{name} is back after {took_s:.1f} s")
    assert airflow.wait(working)["state"] == "success"
    assert airflow.wait(waiting)["state"] == "success"


def test_memory_hardly_grows_with_tasks(airflow: Standalone) -> None:
    airflow.wait(airflow.trigger("trivial", {"count": AT_ONCE}))
    seen = [airflow.memory_mb()]
    begin_s = time.monotonic()
    for _ in range(TASKS // AT_ONCE):
        assert (
            airflow.wait(airflow.trigger("trivial", {"count": AT_ONCE - 1}))["state"] == "success"
        )
        seen.append(airflow.memory_mb())
    took_s = time.monotonic() - begin_s
    done = np.arange(len(seen)) * AT_ONCE
    for name in COMPONENTS:
        slope = np.polyfit(done, [one[name] for one in seen], 1)[0]
        print(f"{name}: {seen[-1][name]:.0f} MB, {1000 * slope:+.0f} kB a task")
    total = [sum(one[name] for name in COMPONENTS) for one in seen]
    slope = float(np.polyfit(done, total, 1)[0])
    print(f"all: {total[0]:.0f} to {total[-1]:.0f} MB over {done[-1]} tasks in {took_s:.0f} s,"
          f" {1000 * slope:+.0f} kB a task")  # fmt: skip
    assert slope < SLOPE_MB


def test_nothing_outlives_a_killed_test(tmp_path: Path) -> None:
    need_airflow()
    program = (
        "import pathlib, sys, time; from tests.airflow.standalone import standalone;"
        "places = [pathlib.Path(one) for one in sys.argv[1:]]\n"
        "with standalone(*places, names=['api-server']): print(flush=True); time.sleep(600)"
    )
    paths = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'airflow'}"}
    command = [sys.executable, "-c", program, tmp_path, DAGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=paths, text=True) as test:
        assert test.stdout is not None
        test.stdout.readline()
        noted = processes.read(tmp_path / "airflow" / "run")
        assert [one for record in noted.values() for one in record.members()]
        test.kill()
    end_s = time.monotonic() + 2 * processes.TERM_S
    while any(record.members() for record in noted.values()):
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_an_end_leaves_nothing(tmp_path: Path) -> None:
    with standalone(tmp_path, DAGS) as airflow:
        run = airflow.trigger("trivial", {"count": 2, "seconds": 120})
        airflow.wait_for_task(run, "work", ["running"], map_index=0)
        airflow.kill("scheduler")
        noted = processes.read(components.records(airflow.settings))
        assert noted["scheduler"].members()
        begin_s = time.monotonic()
        airflow.end()
        print(f"ended in {time.monotonic() - begin_s:.1f} s")
        assert [one for record in noted.values() for one in record.members()] == []
    assert json.loads(airflow.settings.password_file.read_text())[USER]
