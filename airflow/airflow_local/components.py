"""The four components: how each is started, and when all of them are well."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from airflow_local import processes
from airflow_local.home import Settings, StartError, environment
from airflow_local.rest import Rest, RestError

COMPONENTS: Final = ("api-server", "scheduler", "triggerer", "dag-processor")

_LAST_LINES: Final = 15
_MIGRATE_S: Final = 600.0
_LOOK_S: Final = 0.25


def records(settings: Settings) -> Path:
    """Return the folder in which running components are noted."""
    return settings.home / "run"


def migrate(settings: Settings) -> None:
    """Bring the database to this version of Airflow; StartError has its log's end."""
    log = settings.logs / "db-migrate.log"
    with log.open("wb") as output:
        done = subprocess.run(  # noqa: S603 - our own command
            [settings.program, "db", "migrate"], env=environment(settings), check=False,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=_MIGRATE_S,
        )  # fmt: skip
    if done.returncode:
        raise StartError(f"airflow db migrate ended with {done.returncode}{last_lines(log)}")


def start(settings: Settings, name: str) -> subprocess.Popen[bytes]:
    """Start a component; what its earlier life has logged is kept beside its log."""
    log = log_of(settings, name)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    return processes.start(
        name, _command(settings, name), environment(settings), records=records(settings), log=log
    )


def end_all(settings: Settings) -> list[str]:
    """End all components and return the names of those of which something ran."""
    return end_noted(records(settings))


def end_noted(folder: Path) -> list[str]:
    """End what is noted in a folder, the API server last: tasks report their end to it."""
    names = {record.name for record in processes.read(folder).values()}
    return processes.end(folder, names - {COMPONENTS[0]}) + processes.end(folder)


def log_of(settings: Settings, name: str) -> Path:
    return settings.logs / f"{name}.log"


def _command(settings: Settings, name: str) -> list[str | Path]:
    """Return a component's command: without log servers, which listen on every interface."""
    options = {
        "api-server": ["--host", "127.0.0.1", "--port", str(settings.port)],
        "scheduler": ["--skip-serve-logs"],
        "triggerer": ["--skip-serve-logs"],
        "dag-processor": [],
    }
    return [settings.program, name, *options[name]]


def unwell(settings: Settings, names: Iterable[str], since: datetime | None = None) -> list[str]:
    """Return those components that Airflow does not call healthy.

    To Airflow a dead component is healthy for 30 s: with ``since``, only later heartbeats count.
    """
    try:
        health = Rest(settings.url, limit_s=10).get("monitor/health")
    except (OSError, RestError, ValueError):
        return list(names)
    return [name for name in names if not _well(health, name, since)]


def _well(health: Mapping[str, Any], name: str, since: datetime | None) -> bool:
    if name == "api-server":
        return bool(health["metadatabase"]["status"] == "healthy")
    part = name.replace("-", "_")
    shown = health.get(part) or {}
    latest = shown.get(f"latest_{part}_heartbeat")
    fresh = latest is not None and (since is None or datetime.fromisoformat(latest) >= since)
    return fresh and bool(shown["status"] == "healthy")


def wait_until_well(
    settings: Settings,
    started: Mapping[str, subprocess.Popen[bytes]],
    since: datetime,
    limit_s: float,
) -> None:
    """Wait until the components that were started are well.

    Raises StartError as soon as one has ended, or after ``limit_s``, with the end of its log.
    """
    end_s = time.monotonic() + limit_s
    while sick := unwell(settings, started, since):
        for name, process in started.items():
            if process.poll() is not None:
                ended = f"{name} ended with {process.returncode}"
                raise StartError(ended + last_lines(log_of(settings, name)))
        if time.monotonic() > end_s:
            said = last_lines(log_of(settings, sick[0]))
            raise StartError(f"not well after {limit_s:.0f} s: {', '.join(sick)}{said}")
        time.sleep(_LOOK_S)


def now() -> datetime:
    return datetime.now(UTC)


def last_lines(log: Path) -> str:
    """Return the end of a log and its path, to be put after a message."""
    lines: Sequence[str] = ()
    if log.exists():
        with log.open(errors="replace") as file:
            lines = deque(file, _LAST_LINES)
    return "\n" + "".join(f"    {line.rstrip()}\n" for line in lines) + f"  log: {log}"
