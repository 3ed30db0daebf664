"""Every DAG loads in Airflow's own venv, quickly and lightly, and says what an operator needs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
FOLDER = ROOT / "dags"
PARSE_S = 1.0  # for the whole folder
DEFAULT_OWNER = "airflow"
DEFAULT_RETRIES = 97  # what a task has that sets none

BAD = """
import colorsys, scipy
from airflow.sdk import dag, task

@dag(schedule=None)
def bad():
    @task
    def silent(): ...
    silent()

bad()
"""
BROKEN = "from airflow.sdk import DAG, nothing_like_this\n"


def inspected(folder: Path, home: Path, path: str = "") -> dict[str, Any]:
    """Return what airflow/inspect_dags.py finds in a folder; skip where there is no Airflow."""
    if not PYTHON.exists():
        pytest.skip("no .venv-airflow: make airflow-setup")
    done = subprocess.run(
        [PYTHON, ROOT / "airflow" / "inspect_dags.py", folder],
        env={
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": str(DEFAULT_RETRIES),
            "PATH": os.defpath,
            "PYTHONPATH": path,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def faults(found: dict[str, Any]) -> list[str]:
    """Return what is wrong with DAGs, a line for each."""
    wrong = [f"{file}: {error.strip().splitlines()[-1]}" for file, error in found["errors"].items()]
    wrong += [f"loads {name}" for name in found["heavy"]]
    for dag_id, dag in found["dags"].items():
        wrong += [f"{dag_id}: no {field}" for field in ("doc", "tags") if not dag[field]]
        for task_id, one in {"": dag, **dag["tasks"]}.items():
            name = f"{dag_id}.{task_id}".rstrip(".")
            wrong += [f"{name}: no owner"] if one["owner"] in ("", DEFAULT_OWNER) else []
        for task_id, task in dag["tasks"].items():
            wanted = {"doc": task["doc"], "timeout": task["timeout_s"]}
            wrong += [f"{dag_id}.{task_id}: no {field}" for field, has in wanted.items() if not has]
            wrong += [f"{dag_id}.{task_id}: no retries"] * (task["retries"] == DEFAULT_RETRIES)
    return wrong


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return inspected(FOLDER, tmp_path_factory.mktemp("airflow"))


def test_every_dag_is_whole(found: dict[str, Any]) -> None:
    assert faults(found) == []


def test_all_dags_are_parsed_quickly(found: dict[str, Any]) -> None:
    assert found["seconds"] < PARSE_S


def test_names_follow_the_files(found: dict[str, Any]) -> None:
    wanted = {dag_id: f"{dag_id}_dag.py" for dag_id in found["dags"]}
    assert {dag_id: dag["file"] for dag_id, dag in found["dags"].items()} == wanted


def test_a_careless_dag_is_caught(tmp_path: Path) -> None:
    folder, heavy = tmp_path / "dags", tmp_path / "heavy"
    for one in (folder, heavy):
        one.mkdir()
    (heavy / "scipy.py").touch()  # as if it were installed beside Airflow
    (folder / "bad_dag.py").write_text(BAD)
    (folder / "broken_dag.py").write_text(BROKEN)
    wrong = faults(inspected(folder, tmp_path / "home", str(heavy)))
    assert wrong[0].startswith("broken_dag.py: ImportError: cannot import name 'nothing_like_this'")
    fields = ("doc", "timeout", "retries")
    assert sorted(wrong[1:]) == sorted(
        ["loads scipy", "bad: no doc", "bad: no tags", "bad: no owner", "bad.silent: no owner"]
        + [f"bad.silent: no {field}" for field in fields]
    )
