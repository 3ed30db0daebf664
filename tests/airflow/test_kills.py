"""kill -9 of workers, the scheduler and the triggerer, ten times in the midst of a campaign."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_local import processes
from airflow_local.pool import idle_of
from controller.airflow.folders import folder_of
from tests.airflow.standalone import EDGELM, ROOT, Standalone, supervised
from tests.airflow.test_campaigns import same_runs

DAGS = Path(__file__).parent / "dags"
CAMPAIGN = {
    "campaign": "paper", "strategies": ["RR", "RL", "RF", "SOLVER"], "seeds": 6, "epochs": 20,
    "rows": 6,
}  # fmt: skip
RUNS = 24
KILLS = 10


class Watch(threading.Thread):
    """Looks which runs are in a folder, and whether one was ever put there a second time."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self._runs, self.over = runs, threading.Event()
        self.made: Counter[str] = Counter()
        self._inodes: dict[str, int] = {}

    def run(self) -> None:
        while not self.over.wait(0.05):
            with contextlib.suppress(OSError):
                for one in os.scandir(self._runs):
                    inode = one.inode()
                    if one.name[0] != "." and self._inodes.get(one.name) != inode:
                        self._inodes[one.name] = inode
                        self.made[one.name] += 1


@contextlib.contextmanager
def watched(runs: Path) -> Iterator[Counter[str]]:
    watch = Watch(runs)
    watch.start()
    try:
        yield watch.made
    finally:
        watch.over.set()
        watch.join()


def strike(airflow: Standalone, rng: random.Random) -> str:
    """Kill something that runs, as long as the supervisor of `make airflow` has brought back what
    was killed before; return what it was."""
    kind = rng.choice(["worker", "worker at work", "scheduler", "triggerer"])
    component = "triggerer" if kind == "triggerer" else "scheduler"
    record = airflow.record(component)
    chosen = [record.pid]
    if kind == "worker":
        chosen = workers(record)
    elif kind == "worker at work":
        chosen = [pid for pid in workers(record) if pid not in idle_of(record)]
    try:
        os.kill(rng.choice(chosen), signal.SIGKILL)
    except (ProcessLookupError, IndexError):
        return ""
    return kind


def workers(scheduler: processes.Record) -> list[int]:
    """Return the processes of the scheduler's pool and all that they have started."""
    return sorted(pid for pid in scheduler.members() if pid != scheduler.pid)


def test_kills_lose_nothing_and_make_nothing_twice(tmp_path: Path) -> None:
    rng, results = random.Random(7), tmp_path / "results"  # noqa: S311 - no secret
    results.mkdir()
    by_hand = tmp_path / "by-hand"
    chosen = ["--strategy", "RR,RL,RF,SOLVER", "--seeds", "6", "--epochs", "20", "--no-report"]
    subprocess.run([EDGELM, "run", "paper", *chosen, "--out", by_hand], check=True, timeout=600)
    environment = {"EDGELM_RESULTS": str(results), "AIRFLOW__CORE__PARALLELISM": "4"}
    with supervised(tmp_path, ROOT / "dags", environment) as airflow:
        run = airflow.trigger("run_campaign", CAMPAIGN)
        folder, killed = results / folder_of(*run), Counter[str]()
        with watched(folder / "runs") as made:
            airflow.wait_for_task(run, "run_on_twin", ("running",), 0)
            while killed.total() < KILLS:
                time.sleep(rng.uniform(0.5, 4.0))
                killed.update(filter(None, [strike(airflow, rng)]))
            print(f"killed {dict(killed)} while {len(made)} of {RUNS} runs were made")
            begin_s = time.monotonic()
            found = airflow.wait(run, limit_s=600)
            print(f"complete {time.monotonic() - begin_s:.0f} s after the last kill")
        attempts = {key: airflow.task(run, *key)["try_number"] for key in airflow.states(run)}
        print(f"attempts {attempts}")
        assert found["state"] == "success", airflow.states(run)
        assert len(made) == RUNS
        assert set(made.values()) == {1}, "a run was made twice"
        assert len(same_runs(folder, by_hand)) == RUNS
        manifest = json.loads((folder / "campaign.json").read_bytes())
        assert {one["state"] for one in manifest["runs"]} == {"done"}


def test_a_scheduler_whose_queue_died_with_a_worker_is_started_again(tmp_path: Path) -> None:
    environment = {"AIRFLOW__CORE__PARALLELISM": "4"}
    with supervised(tmp_path, DAGS, environment) as airflow:
        scheduler = airflow.record("scheduler")
        begin_s = time.monotonic()
        while not idle_of(scheduler):
            assert time.monotonic() - begin_s < 30
            time.sleep(0.2)
        readers = [pid for pid in idle_of(scheduler) if wchan(pid) == "anon_pipe_read"]
        if len(readers) != 1:
            pytest.skip("/proc shows not who reads the queue")
        os.kill(readers[0], signal.SIGKILL)
        begin_s = time.monotonic()
        run = airflow.trigger("trivial", {"count": 2})
        assert airflow.wait(run, limit_s=240)["state"] == "success"
        print(f"complete {time.monotonic() - begin_s:.0f} s after a worker died with the queue")
        assert airflow.record("scheduler").pid != scheduler.pid
        said = (airflow.settings.logs / "supervisor.log").read_text()
        assert "idle processes of the scheduler do not take them" in said


def wchan(pid: int) -> str:
    """Return the function of the kernel in which a process waits."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text()
    return ""
