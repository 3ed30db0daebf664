"""A real Airflow for tests: components on loopback, started, killed and looked into by name.

    with standalone(tmp_path, dags) as airflow:
        run = airflow.trigger("trivial", {"count": 3})
        assert airflow.wait(run)["state"] == "success"

It is started by the code of ``make airflow``. A run is named by its DAG and run id (``Run``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_local import components, dags, home, processes
from airflow_local.cli import settings_of
from airflow_local.home import USER, Settings
from airflow_local.rest import Rest, RestError, part
from tests.unit.telemetry.exporters import free_port

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-airflow" / "bin" / "airflow"
EDGELM = Path(sys.executable).with_name("edgelm")
WELL_S = 240.0
TRIES = 10
FINAL = ("success", "failed")

Options = Mapping[tuple[str, str], str]


class Run(NamedTuple):
    """A run of a DAG."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"dags/{part(self.dag_id)}/dagRuns/{part(self.run_id)}"


class Standalone:
    """Components of Airflow that run, or do not, as the test wants."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = settings.url
        self.rest = Rest(settings.url, USER, settings.password())
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    # Components, by the names of ``components.COMPONENTS``.

    def start(self, *names: str) -> float:
        """Start components, all by default, and wait until they are well. Return the seconds."""
        begin_s, since = time.monotonic(), components.now()
        for name in names or components.COMPONENTS:
            self.running[name] = components.start(self.settings, name)
        started = {name: self.running[name] for name in names or components.COMPONENTS}
        components.wait_until_well(self.settings, started, since, WELL_S)
        return time.monotonic() - begin_s

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a component's own process and wait for its end; what it started lives on."""
        os.kill(self.running[name].pid, number)
        self.running.pop(name).wait(60)

    def end(self, *names: str) -> None:
        """End components, all by default, with all that they and their earlier lives started."""
        if names:
            processes.end(components.records(self.settings), names)
        else:
            components.end_all(self.settings)
        for name in names or tuple(self.running):
            if name in self.running:
                self.running.pop(name).wait(60)

    def restart(self, name: str, number: signal.Signals = signal.SIGKILL) -> float:
        """Kill a component, start it again and return the seconds until it is well."""
        self.kill(name, number)
        return self.start(name)

    def memory_mb(self) -> dict[str, float]:
        """Return the memory (PSS) of each component with all that it started."""
        noted = processes.read(components.records(self.settings))
        return {name: processes.memory_mb(record) for name, record in noted.items()}

    def pids(self, name: str) -> list[int]:
        """Return the ids of a component and of what it started, as long as they run."""
        return self.record(name).members()

    def record(self, name: str) -> processes.Record:
        """Return the record of a component's newest process."""
        return processes.read(components.records(self.settings))[name]

    def command(self, *arguments: str) -> str:
        """Run a command of Airflow's own, as a person at a terminal does; return what it prints."""
        done = subprocess.run(
            [self.settings.program, *arguments], env=home.environment(self.settings),
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout

    def component_log(self, name: str) -> str:
        return components.log_of(self.settings, name).read_text(errors="replace")

    # Runs and tasks.

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> Run:
        """Begin a run with parameters. Raises RestError 400 if Airflow refuses them."""
        wanted = {"logical_date": None, "conf": conf or {}, "dag_run_id": run_id}
        answer = self.rest.call("POST", f"dags/{part(dag_id)}/dagRuns", wanted)
        return Run(dag_id, answer["dag_run_id"])

    def run(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = self.rest.get(run.path)
        return found

    def wait(
        self, run: Run, states: Collection[str] = FINAL, limit_s: float = 300.0
    ) -> dict[str, Any]:
        """Wait until a run is in one of these states and return it."""
        return self._until(lambda: self.run(run), states, limit_s, run)

    def tasks(self, run: Run) -> list[dict[str, Any]]:
        """Return the newest attempt of every task."""
        return self.rest.get_all(f"{run.path}/taskInstances", "task_instances")

    def states(self, run: Run) -> dict[tuple[str, int], str | None]:
        """Return the state of every task, by its name and its index, which is -1 if unmapped."""
        return {(one["task_id"], one["map_index"]): one["state"] for one in self.tasks(run)}

    def task(self, run: Run, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return a task; one without a state where a mapped task has not been expanded yet."""
        mapped = "" if map_index < 0 else f"/{map_index}"
        try:
            found: dict[str, Any] = self.rest.get(
                f"{run.path}/taskInstances/{part(task_id)}{mapped}"
            )
        except RestError as error:
            if error.status != 404 or map_index < 0:
                raise
            return {"state": None, "try_number": 0}
        return found

    def wait_for_task(
        self,
        run: Run,
        task_id: str,
        states: Collection[str],
        map_index: int = -1,
        limit_s: float = 120.0,
    ) -> dict[str, Any]:
        """Wait until a task is in one of these states, as deferred or running, and return it."""

        def look() -> dict[str, Any]:
            try:
                return self.task(run, task_id, map_index)
            except RestError as error:
                if error.status != 404:
                    raise
                return {"state": "not mapped yet"}

        return self._until(look, states, limit_s, run)

    def log(self, run: Run, task_id: str, attempt: int = 1, map_index: int = -1) -> str:
        """Return what an attempt of a task has logged, a line for each event and exception."""
        path = f"{run.path}/taskInstances/{part(task_id)}/logs/{attempt}"
        answer = self.rest.get(path, map_index=map_index, full_content=True)
        lines = [str(line.get("event", "")) for line in answer["content"]]
        errors = [one for line in answer["content"] for one in line.get("error_detail") or []]
        return "\n".join([*lines, *(str(one.get("exc_value")) for one in errors)])

    def answer(self, run: Run, task_id: str, option: str, map_index: int = -1) -> None:
        """Answer a question, a few seconds after it was asked: Airflow 3.3.2 fails a task whose
        answer comes before its first process is known to have ended."""
        time.sleep(6)
        chosen = {"chosen_options": [option], "params_input": {}}
        path = f"{run.path}/taskInstances/{part(task_id)}/{map_index}/hitlDetails"
        self._change("PATCH", path, chosen)

    def clear(self, run: Run, *tasks: str | tuple[str, int], downstream: bool = False) -> None:
        """Clear tasks, whatever their state, so that they run anew."""
        wanted = {
            "dry_run": False, "only_failed": False, "dag_run_id": run.run_id, "task_ids": tasks,
            "include_downstream": downstream,
        }  # fmt: skip
        self._change("POST", f"dags/{part(run.dag_id)}/clearTaskInstances", wanted)

    def mark(self, run: Run, task_id: str, state: str = "failed", map_index: int = -1) -> None:
        """Set the state of a task (success, failed or skipped), as a person does in the UI."""
        mapped = "" if map_index < 0 else f"/{map_index}"
        path = f"{run.path}/taskInstances/{part(task_id)}{mapped}"
        self._change("PATCH", path, {"new_state": state})

    def mark_run(self, run: Run, state: str = "failed") -> None:
        """Set the state of a run, which ends its tasks."""
        self._change("PATCH", run.path, {"state": state})

    def _change(self, method: str, path: str, content: Any) -> None:
        """Ask Airflow for a change, again while another writer has its SQLite."""
        for left in reversed(range(TRIES)):
            try:
                self.rest.call(method, path, content)
                return
            except RestError as error:
                if "Database error" not in error.text or not left:
                    raise
                time.sleep(0.5)

    def _until(
        self, look: Callable[[], dict[str, Any]], states: Collection[str], limit_s: float, run: Run
    ) -> dict[str, Any]:
        end_s = time.monotonic() + limit_s
        while True:
            found = look()
            if found["state"] in states:
                return found
            assert time.monotonic() < end_s, f"{found['state']}, not {states}: {self.states(run)}"
            time.sleep(0.3)


def until(holds: Callable[[], object], limit_s: float) -> float:
    """Wait until something holds; return the seconds."""
    begin_s = time.monotonic()
    while not holds():
        assert time.monotonic() - begin_s < limit_s
        time.sleep(0.2)
    return time.monotonic() - begin_s


def installed() -> bool:
    return PROGRAM.exists()


def need_airflow() -> None:
    """Skip the test where there is no Airflow."""
    if not installed():
        pytest.skip("no .venv-airflow: make airflow-setup")


def make_settings(
    folder: Path,
    dag_folder: Path,
    environment: Mapping[str, str] | None = None,
    options: Options | None = None,
    parallelism: int = 4,
) -> Settings:
    """Return settings of an Airflow of its own, below a folder and on a free port."""
    return Settings(
        home=folder / "airflow",
        dags=dag_folder,
        program=PROGRAM,
        port=free_port(),
        parallelism=parallelism,
        options=options or {},
        environment={"EDGELM_COMMAND": str(EDGELM), **(environment or {})},
    )


@contextlib.contextmanager
def standalone(
    folder: Path,
    dag_folder: Path,
    environment: Mapping[str, str] | None = None,
    options: Options | None = None,
    names: Sequence[str] = components.COMPONENTS,
    parallelism: int = 4,
) -> Iterator[Standalone]:
    """Run Airflow's components until the block, or this process, ends.

    ``options`` are values of airflow.cfg, by section and key; ``environment`` is added to what the
    components, and so the tasks, see. Waits until the folder's DAGs can be triggered. Skips the
    test where there is no Airflow.
    """
    need_airflow()
    settings = make_settings(folder, dag_folder, environment, options, parallelism)
    home.make_folders(settings)
    home.write_settings(settings)
    with guarded(components.records(settings)):
        components.migrate(settings)
        airflow = Standalone(settings)
        try:
            with dags.begin_inspection(settings) as inspection:
                if names:
                    airflow.start(*names)
                found = dags.end_inspection(settings, inspection)
            assert not found["errors"], found["errors"]
            if {"api-server", "dag-processor"} <= set(names):
                dags.wait_until_listed(settings, set(found["dags"]))
            yield airflow
        finally:
            airflow.end()


@contextlib.contextmanager
def supervised(
    folder: Path, dag_folder: Path, environment: Mapping[str, str]
) -> Iterator[Standalone]:
    """Run Airflow by ``make airflow``'s own command, whose supervisor starts again what dies, until
    the block, or this process, ends. Skips the test where there is no Airflow."""
    need_airflow()
    given = {
        **os.environ, **environment, "EDGELM_COMMAND": str(EDGELM),
        "AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__CORE__DAGS_FOLDER": str(dag_folder),
        "AIRFLOW__API__PORT": str(free_port()),
    }  # fmt: skip
    settings = settings_of(given)
    home.make_folders(settings)
    with guarded(components.records(settings)):
        try:
            control(given, "start")
            yield Standalone(settings)
        finally:
            control(given, "stop")


def control(environment: Mapping[str, str], command: str) -> None:
    """Run a command of airflow/control.py. Raises CalledProcessError if it fails."""
    program = [sys.executable, ROOT / "airflow" / "control.py", command]
    subprocess.run(program, env=environment, check=True, timeout=400)


@contextlib.contextmanager
def guarded(records: Path) -> Iterator[None]:
    """End what is noted in a folder when this block ends, or when this process does."""
    guard = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("guard.py"), records],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "airflow")},
    )
    try:
        yield
    finally:
        guard.communicate()
