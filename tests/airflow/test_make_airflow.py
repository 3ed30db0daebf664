"""``make airflow``, ``airflow-status`` and ``airflow-stop``, as a person uses them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_local import processes
from airflow_local.home import USER, VISIBLE_S
from airflow_local.rest import Rest
from tests.airflow.standalone import ROOT, need_airflow
from tests.unit.telemetry.exporters import free_port

DAGS = Path(__file__).parent / "dags"


class Control:
    """airflow/control.py with an AIRFLOW_HOME of its own."""

    def __init__(self, folder: Path) -> None:
        self.home, self.dags, self.port = folder / "home", folder / "dags", free_port()
        shutil.copytree(DAGS, self.dags)
        self.environment = {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__API__PORT": str(self.port),
        }

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, ROOT / "airflow" / "control.py", command]
        return subprocess.run(
            program, env=self.environment, capture_output=True, text=True, check=False, timeout=400
        )

    def supervisor(self) -> processes.Record:
        return processes.from_text((self.home / "run" / "lock").read_text())

    def left(self) -> list[int]:
        noted = processes.read(self.home / "run").values()
        return [pid for record in noted for pid in record.members()]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    need_airflow()
    made = Control(tmp_path)
    yield made
    made("stop")


def test_a_day_with_airflow(control: Control) -> None:
    begin_s = time.monotonic()
    started = control("start")
    print(f"healthy after {time.monotonic() - begin_s:.1f} s")
    assert started.returncode == 0, started.stderr
    assert started.stdout.count(f"http://127.0.0.1:{control.port}") == 1
    (password,) = re.findall(r"user admin, password (\S+),", started.stdout)

    # A second start says so and prints no password.
    again = control("start")
    assert again.returncode == 0
    assert "running already" in again.stdout
    assert password not in again.stdout

    shown = control("status")
    assert shown.returncode == 0
    assert shown.stdout.count("is well") == 4

    # An edit is seen.
    rest = Rest(f"http://127.0.0.1:{control.port}", USER, password)
    (control.dags / "new_dag.py").write_text(
        "from airflow.sdk import DAG\nwith DAG('new', schedule=None): ...\n"
    )
    edited = control.dags / "trivial_dag.py"
    edited.write_text(
        edited.read_text()
        .replace("def waiting()", "def renamed()")
        .replace("waiting()", "renamed()")
    )
    begin_s = time.monotonic()
    while not {"new", "renamed"} <= {one["dag_id"] for one in rest.get("dags")["dags"]}:
        assert time.monotonic() - begin_s < VISIBLE_S
        time.sleep(0.2)
    print(f"edits seen after {time.monotonic() - begin_s:.1f} s")

    # A component that is killed comes back.
    noted = processes.read(control.home / "run")
    os.kill(noted["triggerer"].pid, signal.SIGKILL)
    until(lambda: processes.read(control.home / "run").get("triggerer", noted["triggerer"]).pid
          != noted["triggerer"].pid)  # fmt: skip
    until(lambda: control("status").returncode == 0)
    assert "triggerer ended with -9" in (control.home / "logs" / "supervisor.log").read_text()

    begin_s = time.monotonic()
    ended = control("stop")
    print(f"ended in {time.monotonic() - begin_s:.1f} s")
    assert "has ended" in ended.stdout
    assert control.left() == []
    assert "does not run" in control("stop").stdout
    assert control("status").returncode == 1

    # The next start has the same password and does not print it.
    restarted = control("start")
    assert restarted.returncode == 0, restarted.stderr
    assert password not in restarted.stdout
    assert Rest(f"http://127.0.0.1:{control.port}", USER, password).get("dags")

    # What a killed supervisor leaves is shown, and ended.
    record = control.supervisor()
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: not record.alive())
    shown = control("status")
    assert "does not run" in shown.stdout
    assert control.left()
    noted = processes.read(control.home / "run")
    assert "has ended" in control("stop").stdout
    assert [pid for one in noted.values() for pid in one.members()] == []


def test_a_dag_that_does_not_load_is_shown_while_airflow_runs(control: Control) -> None:
    (control.dags / "broken_dag.py").write_text("from airflow.sdk import DAG, nothing_like_this\n")
    started = control("start")
    assert started.returncode == 1
    assert "broken_dag.py does not load" in started.stderr
    assert "cannot import name 'nothing_like_this'" in started.stderr
    assert control("status").returncode == 0


def test_a_component_that_cannot_start_ends_all(control: Control) -> None:
    control.environment["AIRFLOW__CORE__EXECUTOR"] = "NoSuchExecutor"
    started = control("start")
    assert started.returncode == 1
    assert "scheduler ended with 1" in started.stderr
    assert "NoSuchExecutor" in started.stderr
    assert str(control.home / "logs" / "scheduler.log") in started.stderr
    assert control.left() == []
    assert "does not run" in control("status").stdout


def until(happened: object, limit_s: float = 90.0) -> None:
    assert callable(happened)
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.3)
