"""Notes of DAG runs: what came of a run, where Airflow lists runs.

Tasks have no way to write them but Airflow's own API, as a user: the connection `edgelm_airflow`
has its address and login, and in extra `password_file`, a JSON object of passwords by login that
its owner alone can read. Without that connection there are no notes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from controller.airflow.command import Log

CONNECTION: Final = "edgelm_airflow"
TIMEOUT_S: Final = 20.0
LONGEST: Final = 1000  # characters that Airflow keeps


def write_note(dag_id: str, run_id: str, text: str, log: Log) -> None:
    """Set a run's note. What goes wrong is logged and fails nothing."""
    try:
        _write(dag_id, run_id, text[:LONGEST])
    except AirflowException:
        log.info("no note, since there is no connection %s: %s", CONNECTION, text)
    except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
        log.warning("no note (%r): %s", error, text)


def _write(dag_id: str, run_id: str, text: str) -> None:
    one = BaseHook.get_connection(CONNECTION)
    passwords = json.loads(Path(one.extra_dejson["password_file"]).read_text())
    login = {"username": one.login, "password": passwords[one.login]}
    url = f"{one.schema or 'http'}://{one.host}:{one.port}"
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        answer = client.post("/auth/token", json=login).raise_for_status()
        shown = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        path = f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
        client.patch(path, json={"note": text}, headers=shown).raise_for_status()
