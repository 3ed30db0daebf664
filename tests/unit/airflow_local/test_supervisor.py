"""A start that fails says why and leaves nothing, with a shell script in the place of Airflow."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_local import components, processes, supervisor
from airflow_local.home import Settings, StartError, make_folders, write_settings
from airflow_local.supervisor import AlreadyRunning, Supervisor
from tests.unit.telemetry.exporters import exporter, free_port, text

ROOT = Path(__file__).parents[3]
SLEEPS = "exec sleep 60"


def fake(tmp_path: Path, scheduler: str = SLEEPS, migrate: str = "exit 0") -> Settings:
    """Settings with a program whose components sleep, or do what a test wants."""
    program = tmp_path / "airflow"
    cases = f"db) {migrate};; scheduler) {scheduler};; *) {SLEEPS};;"
    program.write_text(f'#!/bin/sh\ncase "$1" in {cases} esac\n')
    program.chmod(0o755)
    python = program.with_name("python")
    python.write_text(f"#!/bin/sh\n{SLEEPS}\n")
    python.chmod(0o755)
    (tmp_path / "dags").mkdir(exist_ok=True)
    return Settings(tmp_path / "home", tmp_path / "dags", program, free_port(), 2)


def run(settings: Settings) -> None:
    """Run a supervisor, whose signals then end no test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        Supervisor(settings, lambda text: None).run(lambda errors, new: None)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_component_that_dies_at_once_ends_all_and_shows_its_log(tmp_path: Path) -> None:
    settings = fake(tmp_path, scheduler="echo no such executor >&2; exit 7")
    with pytest.raises(StartError, match="scheduler ended with 7\n    no such executor") as error:
        run(settings)
    assert str(settings.logs / "scheduler.log") in str(error.value)
    assert processes.read(components.records(settings)) == {}
    assert left(tmp_path) == []


def test_a_database_that_cannot_be_migrated_shows_why(tmp_path: Path) -> None:
    settings = fake(tmp_path, migrate="echo database of a newer version; exit 1")
    with pytest.raises(StartError, match="db migrate ended with 1\n    database of a newer"):
        run(settings)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    settings = fake(tmp_path)
    wanted = pytest.raises(StartError, match=rf"port {settings.port} .* AIRFLOW__API__PORT=")
    with socket.create_server(("127.0.0.1", settings.port)), wanted:
        run(settings)


def test_a_missing_dag_folder_is_named(tmp_path: Path) -> None:
    settings = fake(tmp_path)
    settings.dags.rmdir()
    with pytest.raises(StartError, match=f"no DAG folder {settings.dags}"):
        run(settings)


def test_a_second_supervisor_gives_way_and_leaves_settings_alone(tmp_path: Path) -> None:
    settings = fake(tmp_path)
    make_folders(settings)
    write_settings(settings)
    before = (settings.home / "airflow.cfg").stat().st_mtime_ns
    assert supervisor.holder(settings) is None
    program = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'w');"
        "fcntl.flock(lock, fcntl.LOCK_EX); lock.write(sys.argv[2]); lock.flush();"
        "print(flush=True); time.sleep(60)"
    )
    record = processes.this("supervisor")
    arguments = [sys.executable, "-c", program, components.records(settings) / "lock"]
    with subprocess.Popen([*arguments, record.as_text()], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert supervisor.holder(settings) == record
        with pytest.raises(AlreadyRunning):
            run(settings)
        other.kill()
    assert supervisor.holder(settings) is None
    assert (settings.home / "airflow.cfg").stat().st_mtime_ns == before


def test_what_a_killed_supervisor_left_is_ended_by_the_next(tmp_path: Path) -> None:
    settings = fake(tmp_path, migrate="exit 1")
    make_folders(settings)
    process = components.start(settings, "triggerer")
    with pytest.raises(StartError):
        run(settings)
    assert process.wait(5) == -signal.SIGTERM


@pytest.mark.parametrize("age_s", [0, 3600])
def test_only_a_heartbeat_since_the_start_counts(tmp_path: Path, age_s: float) -> None:
    since = components.now()
    beat = components.datetime.fromtimestamp(since.timestamp() + 1 - age_s, since.tzinfo)
    health = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": beat.isoformat()},
        "triggerer": {"status": "unhealthy", "latest_triggerer_heartbeat": beat.isoformat()},
        "dag_processor": None,
    }
    with exporter(text(json.dumps(health))) as port:
        settings = Settings(tmp_path, tmp_path, Path("airflow"), port, 2)
        sick = components.unwell(settings, components.COMPONENTS, since)
    wanted = ["triggerer", "dag-processor"]
    assert sorted(sick) == sorted(wanted if age_s == 0 else ["scheduler", *wanted])


def left(folder: Path) -> list[str]:
    """Return the commands that still run and name a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found
