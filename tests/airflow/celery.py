"""CeleryExecutor for tests: Debian's Redis and PostgreSQL, and workers that share little.

    with celery(tmp_path, dags, data) as cluster:
        cluster.start_worker("one"), cluster.start_worker("two")
        run = cluster.airflow.trigger("trivial", {"count": 16})

A worker stands for a machine: its AIRFLOW_HOME is its own, it knows broker and API server, not the
metadata database. It shares the DAG folder and the data folder, in which task logs are too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_local import components, home, processes
from tests.airflow.standalone import PROGRAM, Standalone, guarded, need_airflow, standalone
from tests.unit.telemetry.exporters import free_port, wait_for_port

WORKER_S = 60.0
_OWNER = "postgres"


@dataclass
class Cluster:
    """A running Airflow with CeleryExecutor, and the workers that a test starts."""

    airflow: Standalone
    folder: Path
    dags: Path
    data: Path
    redis: str  # its URL without the database's number
    environment: Mapping[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, name: str, concurrency: int = 2) -> processes.Record:
        """Start a worker on a machine of its own, as it were, and wait until it takes tasks."""
        own = self.folder / f"worker-{name}"
        own.mkdir(parents=True, exist_ok=True)
        log = own / "worker.log"
        log.unlink(missing_ok=True)
        process = processes.start(
            name,
            [PROGRAM, "celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@%h",
             "--concurrency", str(concurrency), "--queues", "default"],
            self._worker_environment(own), records=self.records, log=log,
        )  # fmt: skip
        self.workers.append(process)
        end_s = time.monotonic() + WORKER_S
        while " ready." not in log.read_text(errors="replace"):
            assert time.monotonic() < end_s, components.last_lines(log)
            assert self.worker(name).alive(), components.last_lines(log)
            time.sleep(0.1)
        return self.worker(name)

    def worker(self, name: str) -> processes.Record:
        return processes.read(self.records)[name]

    def kill_worker(self, name: str) -> None:
        """Kill all processes of a worker at once, as a power cut of its machine would."""
        for pid in self.worker(name).members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def records(self) -> Path:
        return self.folder / "workers"

    def _worker_environment(self, own: Path) -> dict[str, str]:
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.airflow.url}/execution/",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.data / "logs"),
            "AIRFLOW__CELERY__BROKER_URL": f"{self.redis}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{self.redis}/1",
        }
        inherited = {key: value for key, value in home.environment(self.airflow.settings).items()
                     if not key.startswith("AIRFLOW")}  # fmt: skip
        return {**inherited, **settings, **self.environment, "AIRFLOW_HOME": str(own)}


@contextlib.contextmanager
def celery(
    folder: Path, dags: Path, data: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Run Airflow with CeleryExecutor and no worker yet, until the block, or this process, ends.

    ``environment`` is added to what components and workers, and so the tasks, see. Skips the test
    where Airflow, its Celery provider, Redis or PostgreSQL is absent.
    """
    need_celery()
    data.mkdir(parents=True, exist_ok=True)
    with redis(folder) as redis_url, postgresql(folder) as postgresql_url:
        options = {
            ("core", "executor"): "CeleryExecutor",
            ("database", "sql_alchemy_conn"): postgresql_url,
            ("celery", "broker_url"): f"{redis_url}/0",
            ("celery", "result_backend"): f"{redis_url}/1",
            ("logging", "base_log_folder"): str(data / "logs"),
        }
        with standalone(folder, dags, environment, options) as airflow:
            cluster = Cluster(airflow, folder, dags, data, redis_url, environment or {})
            cluster.records.mkdir()
            with guarded(cluster.records):
                try:
                    yield cluster
                finally:
                    processes.end(cluster.records)
                    for worker in cluster.workers:
                        worker.wait(10)


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that keeps nothing; yield its URL."""
    port = free_port()
    command = [
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--dir",
        ".",
    ]
    with _server(folder / "redis", command, port):
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL with a database ``airflow``; yield its URL for SQLAlchemy."""
    binaries, port = _postgresql_binaries(), free_port()
    assert binaries is not None
    with tempfile.TemporaryDirectory(prefix="edgelm-pg-", ignore_cleanup_errors=True) as place:
        data = (
            Path(place) / "data"
        )  # not below the test's folder, which PostgreSQL's user cannot enter
        as_owner: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses root
            owner = pwd.getpwnam(_OWNER)
            os.chown(place, owner.pw_uid, owner.pw_gid)
            as_owner = ["setpriv", f"--reuid={_OWNER}", f"--regid={owner.pw_gid}", "--clear-groups"]
        initdb = [binaries / "initdb", "-D", data, "-U", "airflow", "-A", "trust", "--no-sync"]
        subprocess.run([*as_owner, *initdb], check=True, capture_output=True, cwd="/")
        command = [*as_owner, binaries / "postgres", "-D", data, "-p", str(port), "-k", place,
                   "-h", "127.0.0.1", "-F"]  # fmt: skip
        with _server(folder / "postgresql", command, port, signal.SIGINT):  # INT: without waiting
            create = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "airflow"]
            _retry([*create, "airflow"])
            yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"


def need_celery() -> None:
    """Skip the test where something that it needs is absent, with the command that brings it."""
    need_airflow()
    if not PROGRAM.with_name("celery").exists():
        pytest.skip("no Celery in .venv-airflow: make airflow-celery-setup")
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis: apt-get install redis-server")
    if _postgresql_binaries() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")


def _postgresql_binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL of Debian's, which is on no PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    return found[-1] if found else None


@contextlib.contextmanager
def _server(
    folder: Path, command: Sequence[str | Path], port: int, number: signal.Signals = signal.SIGTERM
) -> Iterator[None]:
    folder.mkdir(parents=True)
    with guarded(folder):
        process = processes.start(
            "server", command, os.environ, records=folder, log=folder / "server.log"
        )
        try:
            wait_for_port(port)
            yield
        finally:
            process.send_signal(number)
            process.wait(30)


def _retry(command: Sequence[str | Path], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < end_s, done.stderr
        time.sleep(0.2)
