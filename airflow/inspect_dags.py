"""Load a DAG folder as Airflow does and print as JSON what is in it: run by .venv-airflow's Python.

Example: python airflow/inspect_dags.py dags
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HEAVY = ("matplotlib", "numba", "polars", "scipy", "torch")
DOCS = ("doc_md", "doc", "doc_json", "doc_yaml", "doc_rst")


def inspect(folder: Path) -> dict[str, object]:
    """Return DAGs, import errors, seconds and the heavy packages that loading has pulled in."""
    import airflow.sdk  # noqa: F401 - Airflow has paid for this before it parses a file
    from airflow.dag_processing.dagbag import BundleDagBag

    begin = time.perf_counter()
    bag = BundleDagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    took_s = time.perf_counter() - begin
    return {
        "seconds": took_s,
        "heavy": sorted(set(HEAVY) & {name.partition(".")[0] for name in sys.modules}),
        "errors": {Path(file).name: error for file, error in bag.import_errors.items()},
        "dags": {dag.dag_id: describe(dag) for dag in bag.dags.values()},
    }


def describe(dag: Any) -> dict[str, object]:
    return {
        "file": Path(dag.fileloc).name,
        "doc": dag.doc_md,
        "owner": dag.owner,
        "tags": sorted(dag.tags),
        "tasks": {
            task.task_id: {
                "owner": task.owner,
                "doc": next(filter(None, (getattr(task, name, None) for name in DOCS)), None),
                "retries": task.retries,
                "timeout_s": task.execution_timeout and task.execution_timeout.total_seconds(),
            }
            for task in dag.tasks
        },
    }


if __name__ == "__main__":
    # Loading may log to the standard output; the answer goes where nothing else does.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with answer:
        json.dump(inspect(Path(sys.argv[1]).resolve()), answer)
