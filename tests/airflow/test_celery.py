"""Two workers that share a DAG folder and a data folder do a mapped DAG's tasks between them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from airflow_local import processes
from controller.airflow.folders import folder_of
from controller.results.manifest import read_manifest
from tests.airflow.celery import Cluster, celery
from tests.airflow.sockets import listening
from tests.airflow.standalone import EDGELM, ROOT
from tests.airflow.test_campaigns import same_runs
from tests.airflow.test_kills import watched
from tests.mongo.servers import mongo_dev

DAGS = Path(__file__).parent / "dags"
NAMES = ("one", "two")
TASKS = 16


def test_both_workers_take_part(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    with celery(tmp_path, DAGS, tmp_path / "data") as cluster:
        workers = {name: cluster.start_worker(name) for name in NAMES}
        print(f"Airflow and two workers are ready after {time.monotonic() - begin_s:.1f} s")

        begin_s = time.monotonic()
        run = cluster.airflow.trigger("trivial", {"count": TASKS})
        assert cluster.airflow.wait(run)["state"] == "success"
        print(f"{TASKS} tasks in {time.monotonic() - begin_s:.1f} s")

        logs = [cluster.airflow.log(run, "work", map_index=index) for index in range(TASKS)]
        by = Counter(name for log in logs for name in workers if f"worker-{name}" in log)
        print(f"tasks by worker: {dict(by)}")
        assert set(by) == set(workers)
        assert by.total() == TASKS

        for name, record in workers.items():
            print(f"worker {name}: {processes.memory_mb(record):.0f} MB")
            assert listening(record.members()) == []
        shown = {name: round(mb) for name, mb in cluster.airflow.memory_mb().items()}
        print(f"components: {shown} MB")
        for name in workers:
            assert tables(tmp_path / f"worker-{name}" / "airflow.db") == 0

        # A worker that loses power: what it had is done by the other.
        slow = cluster.airflow.trigger("trivial", {"count": 4, "seconds": 10})
        for index in range(4):
            cluster.airflow.wait_for_task(slow, "work", ["running"], map_index=index)
        begin_s = time.monotonic()
        cluster.kill_worker("one")
        assert cluster.airflow.wait(slow)["state"] == "success"
        print(f"complete {time.monotonic() - begin_s:.1f} s after a worker was killed")
    left = [pid for record in workers.values() for pid in record.members()]
    assert left == []


def tables(path: Path) -> int:
    """Return the tables of a worker's own database, which Airflow makes and does not use."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


CAMPAIGN = {"campaign": "paper", "strategies": ["RR", "RL", "RF", "SOLVER"], "seeds": 4, "rows": 8}
SMALL = ("--strategy", "RR,RL,RF,SOLVER", "--seeds", "4")
RUNS = 16


def test_a_campaign_on_two_workers_has_the_bytes_of_one(tmp_path: Path) -> None:
    results = tmp_path / "data" / "results"
    results.mkdir(parents=True)
    by_hand = tmp_path / "by-hand"
    edgelm("run", "paper", *SMALL, "--no-report", "--out", str(by_hand))
    with claiming(tmp_path, ROOT / "dags") as cluster:
        for name in NAMES:
            cluster.start_worker(name)
        begin_s = time.monotonic()
        run = cluster.airflow.trigger("run_campaign", CAMPAIGN)
        found = cluster.airflow.wait(run, limit_s=400)
        assert found["state"] == "success", cluster.airflow.states(run)
        print(f"{RUNS} runs on two workers in {time.monotonic() - begin_s:.0f} s")
    assert len(same_runs(results / folder_of(*run), by_hand)) == RUNS
    rows = {name: rows_of(tmp_path / f"worker-{name}" / "worker.log") for name in NAMES}
    print(f"rows by worker: {rows}")
    assert all(rows.values()), "both workers took part"
    assert set.union(*rows.values()) == set(range(8))


def test_two_workers_that_race_for_every_run_make_each_once(tmp_path: Path) -> None:
    results = tmp_path / "data" / "results"
    results.mkdir(parents=True)
    by_hand = tmp_path / "by-hand"
    edgelm("run", "paper", *SMALL, "--no-report", "--out", str(by_hand))
    edgelm("plan", "paper", *SMALL, "--out", str(results / "race"))
    planned = read_manifest(results / "race").runs
    with claiming(tmp_path, DAGS) as cluster:
        for name in NAMES:
            cluster.start_worker(name, concurrency=1)
        conf = {"folder": str(results / "race"), "runs": [one.id for one in planned]}
        begin_s = time.monotonic()
        with watched(results / "race" / "runs") as published:
            race = cluster.airflow.trigger("race", conf)
            found = cluster.airflow.wait(race, limit_s=400)
            assert found["state"] == "success", cluster.airflow.states(race)
        print(f"{RUNS} runs that two race for in {time.monotonic() - begin_s:.0f} s")
        assert len(published) == RUNS
        assert set(published.values()) == {1}
        logs = [cluster.airflow.log(race, "make", map_index=k) for k in range(2)]
        made = [int(re.findall(r"are done, (\d+) of them now", log)[-1]) for log in logs]
        print(f"runs made by each racer: {made}")
        assert sum(made) == RUNS
        assert min(made) > 0
    assert len(same_runs(results / "race", by_hand)) == RUNS


@contextlib.contextmanager
def claiming(folder: Path, dags: Path) -> Iterator[Cluster]:
    """Run Airflow for workers whose claims on runs are leases in a MongoDB."""
    data = folder / "data"
    named = {"EDGELM_RESULTS": str(data / "results")}
    with (
        mongo_dev(folder) as store,
        celery(folder, dags, data, {**named, "EDGELM_CLAIMS": store.url}) as cluster,
    ):
        yield cluster


def rows_of(log: Path) -> set[int]:
    """Return the rows of a campaign that a worker's log names."""
    found = re.findall(r"task_id=run_on_twin/map_index=(\d+)/", log.read_text(errors="replace"))
    return {int(one) for one in found}


def edgelm(*arguments: str) -> None:
    subprocess.run([EDGELM, *arguments], check=True, timeout=300)
