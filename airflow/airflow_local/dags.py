"""Whether the DAGs of the folder load, and whether the running Airflow has them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from airflow_local.components import last_lines
from airflow_local.home import USER, Settings, StartError, environment
from airflow_local.rest import Rest

INSPECT: Final = Path(__file__).parents[1] / "inspect_dags.py"

_LIMIT_S: Final = 120.0
_LOOK_S: Final = 0.5


def begin_inspection(settings: Settings) -> subprocess.Popen[bytes]:
    """Begin to load the DAG folder, in a process beside the components that start meanwhile."""
    python = settings.program.with_name("python")
    with _log(settings).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [python, INSPECT, settings.dags], env=environment(settings),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip


def end_inspection(settings: Settings, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return what was found: see airflow/inspect_dags.py. Raises StartError if that failed."""
    try:
        answer, _ = process.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise StartError(f"{settings.dags}: loading takes over {_LIMIT_S:.0f} s") from None
    if process.returncode:
        raise StartError(f"{settings.dags} cannot be loaded{last_lines(_log(settings))}")
    found: dict[str, Any] = json.loads(answer)
    return found


def wait_until_listed(settings: Settings, wanted: set[str], limit_s: float = _LIMIT_S) -> None:
    """Wait until the API lists DAGs, so that they can be triggered; StartError after a limit."""
    rest = Rest(settings.url, USER, settings.password())
    end_s = time.monotonic() + limit_s
    while missing := wanted - {dag["dag_id"] for dag in rest.get_all("dags", "dags")}:
        if time.monotonic() > end_s:
            raise StartError(f"not listed after {limit_s:.0f} s: {', '.join(sorted(missing))}")
        time.sleep(_LOOK_S)


def _log(settings: Settings) -> Path:
    return settings.logs / "inspect-dags.log"
