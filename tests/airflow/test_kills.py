"""kill -9 of a worker, the scheduler and the triggerer, ten times in the midst of campaigns."""

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

from controller.airflow.folders import folder_of
from tests.airflow.standalone import EDGELM, ROOT, Standalone, standalone
from tests.airflow.test_campaigns import same_runs

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
    """Kill something; bring it back as the supervisor of `make airflow` does."""
    kind = rng.choice(["worker", "scheduler", "triggerer"])
    if kind != "worker":
        airflow.restart(kind)
        return kind
    workers = [pid for pid in airflow.pids("scheduler") if pid != airflow.running["scheduler"].pid]
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(rng.choice(workers), signal.SIGKILL)
    return kind


def test_kills_lose_nothing_and_make_nothing_twice(tmp_path: Path) -> None:
    rng, results = random.Random(7), tmp_path / "results"  # noqa: S311 - no secret
    results.mkdir()
    by_hand = tmp_path / "by-hand"
    chosen = ["--strategy", "RR,RL,RF,SOLVER", "--seeds", "6", "--epochs", "20", "--no-report"]
    subprocess.run([EDGELM, "run", "paper", *chosen, "--out", by_hand], check=True, timeout=600)
    with standalone(tmp_path, ROOT / "dags", {"EDGELM_RESULTS": str(results)}) as airflow:
        run = airflow.trigger("run_campaign", CAMPAIGN)
        folder, killed = results / folder_of(*run), Counter[str]()
        with watched(folder / "runs") as made:
            airflow.wait_for_task(run, "run_on_twin", ("running",), 0)
            while killed.total() < KILLS:
                time.sleep(rng.uniform(0.5, 4.0))
                killed[strike(airflow, rng)] += 1
            found = airflow.wait(run, limit_s=600)
        attempts = {key: airflow.task(run, *key)["try_number"] for key in airflow.states(run)}
        print(f"killed {dict(killed)}; attempts {attempts}")
        assert found["state"] == "success", airflow.states(run)
        assert len(made) == RUNS
        assert set(made.values()) == {1}, "a run was made twice"
        assert len(same_runs(folder, by_hand)) == RUNS
        manifest = json.loads((folder / "campaign.json").read_bytes())
        assert {one["state"] for one in manifest["runs"]} == {"done"}
