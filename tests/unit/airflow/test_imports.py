"""Airflow's part lives where edgelm's core is not installed, and costs its processes little."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from controller.airflow.params import parameters

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
HEAVY = ("matplotlib", "numba", "numpy", "polars", "pyarrow", "scipy", "torch")
ALL = """
import importlib, json, pkgutil, sys
import controller.airflow
path, prefix = controller.airflow.__path__, "controller.airflow."
names = [one.name for one in pkgutil.walk_packages(path, prefix)]
for name in names:
    importlib.import_module(name)
print("found", json.dumps([names, sorted(sys.modules)]))
"""
PLUGIN = """
import json, sys
import airflow.plugins_manager
before = set(sys.modules)
import controller.airflow.plugin
print("found", json.dumps(sorted(set(sys.modules) - before)))
"""
PARAMS = """
import json
from airflow.sdk.definitions.param import ParamsDict
from controller.airflow.params import parameters, params_of
found = {dag_id: ParamsDict(params_of(dag_id)).validate() for dag_id in parameters()}
print("found", json.dumps(found))
"""


def found(code: str, home: Path) -> list:
    """Return what a program prints that Airflow's Python runs; skip where there is no Airflow."""
    if not PYTHON.exists():
        pytest.skip("no .venv-airflow: make airflow-setup")
    done = subprocess.run(
        [PYTHON, "-c", code], env={"AIRFLOW_HOME": str(home), "PATH": os.defpath}, cwd=home,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("found ")]
    return json.loads(line.removeprefix("found "))


def test_nothing_heavy_comes_with_any_module(tmp_path):
    names, modules = found(ALL, tmp_path)
    files = sorted(path.stem for path in (ROOT / "controller" / "airflow").glob("[a-z]*.py"))
    assert {name.rpartition(".")[2] for name in names} >= set(files)
    assert sorted(set(HEAVY) & {name.partition(".")[0] for name in modules}) == []


def test_airflow_takes_the_parameters_and_their_defaults(tmp_path):
    wanted = {
        dag_id: {name: schema["default"] for name, schema in schemas.items()}
        for dag_id, schemas in parameters().items()
    }
    assert found(PARAMS, tmp_path) == wanted


def test_the_plugin_brings_no_pages_to_components_that_have_none(tmp_path):
    new = found(PLUGIN, tmp_path)
    assert "controller.airflow.middleware" in new
    brought = {"controller.airflow.routes", "fastapi", "jinja2", "airflow.sdk"} & set(new)
    assert brought == set()
