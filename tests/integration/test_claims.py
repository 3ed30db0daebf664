"""Processes that share a campaign's folder and a store of claims, and nothing else: each run is
made once, whoever is killed and whatever is away."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from controller.campaigns.claims import LeaseClaims
from controller.campaigns.pool import Engine, Listener
from controller.campaigns.progress import Lines
from controller.campaigns.runner import run_grid
from controller.ports import Store
from controller.results.completeness import is_complete
from controller.results.folder import run_id_of
from controller.store.mongo import open_mongo
from tests.mongo.servers import MongoDev, mongo_dev, until
from tests.samples.small import small_grid
from tests.samples.stores import shared_sqlite
from tests.unit.results.test_folder import FILES

SPAWN = multiprocessing.get_context("spawn")
SEEDS = 6
RUNS = 2 * SEEDS
TTL_S = 1.5


def execute(experiment: str, root: Path, listener: Listener) -> Mapping[str, bytes]:
    """A run that takes a while and leaves a trace of each attempt."""
    with (root / "failures" / "attempts").open("a") as log:
        log.write(f"{run_id_of(experiment.encode())}\n")
    time.sleep(0.2)
    return {**FILES, "experiment.json": experiment.encode()}


def warm_up() -> None:
    """Nothing to compile."""


def work(root: Path, claims: LeaseClaims, results: Queue[int]) -> None:
    """The life of one process: finish the grid, tell how many runs it made."""
    os.setsid()
    with (root.parent / f"log-{os.getpid()}").open("w") as log:
        engine = Engine(execute, warm_up)
        tally = run_grid(small_grid(seeds=SEEDS), root, engine, 1, Lines(log), claims=claims)
    assert tally.complete
    results.put(tally.made)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "campaign" / "failures").mkdir(parents=True)
    return tmp_path / "campaign"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path) as started:
        yield started


STORES: dict[str, Callable[[pytest.FixtureRequest], Callable[[], Store]]] = {
    "sqlite": lambda test: partial(shared_sqlite, test.getfixturevalue("tmp_path") / "claims"),
    "mongo": lambda test: partial(open_mongo, test.getfixturevalue("server").url),
}


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def claims(request: pytest.FixtureRequest) -> LeaseClaims:
    return LeaseClaims(request.param(request), ttl_s=TTL_S)


def begun(root: Path, claims: LeaseClaims, results: Queue[int]) -> BaseProcess:
    process = SPAWN.Process(target=work, args=(root, claims, results))
    process.start()
    return process


def attempts(root: Path) -> list[str]:
    log = root / "failures" / "attempts"
    return log.read_text().split() if log.exists() else []


def finished(root: Path) -> list[str]:
    return [path.name for path in (root / "runs").glob("[0-9a-f]*") if is_complete(path)]


def test_two_processes_that_race_for_every_run_make_each_once(
    root: Path, claims: LeaseClaims
) -> None:
    results: Queue[int] = SPAWN.Queue()
    processes = [begun(root, claims, results) for _ in range(2)]
    made = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sum(made) == RUNS
    assert sorted(attempts(root)) == sorted(finished(root))
    assert len(attempts(root)) == RUNS


def test_the_run_of_a_killed_process_is_made_by_the_other_when_its_lease_has_ended(
    root: Path, claims: LeaseClaims
) -> None:
    results: Queue[int] = SPAWN.Queue()
    first = begun(root, claims, results)
    until(lambda: len(attempts(root)) > len(finished(root)) > 0)
    assert first.pid
    os.killpg(first.pid, signal.SIGKILL)
    first.join()
    kept = len(finished(root))
    assert kept < RUNS
    second = begun(root, claims, results)
    assert results.get(timeout=120) == RUNS - kept
    second.join()
    assert len(set(attempts(root))) == RUNS
    assert len(attempts(root)) - RUNS <= 1  # the one in flight


def test_while_the_store_is_away_the_work_waits_and_says_so(root: Path, server: MongoDev) -> None:
    claims = LeaseClaims(partial(open_mongo, server.url, timeout_s=0.5), ttl_s=TTL_S)
    results: Queue[int] = SPAWN.Queue()
    process = begun(root, claims, results)
    until(lambda: len(finished(root)) > 0)
    server.kill()
    logs = f"log-{process.pid}"
    until(lambda: "waiting for the store of claims: mongodb://" in (root.parent / logs).read_text())
    kept = finished(root)
    time.sleep(2 * TTL_S)
    assert finished(root) == kept
    server.start()
    assert results.get(timeout=120) == RUNS
    process.join()
    assert len(attempts(root)) == RUNS


def test_commands_with_homes_of_their_own_share_the_work(tmp_path: Path, server: MongoDev) -> None:
    out = tmp_path / "out"
    grid = ("smoke", "--strategy", "RF,RL", "--seeds", "3", "--epochs", "6", "--no-report")
    command = [sys.executable, "-m", "controller.cli", "run", *grid, "--jobs", "1"]
    processes = []
    for name in ("one", "other"):
        home = tmp_path / name
        home.mkdir()
        environment = {**os.environ, "HOME": str(home), "EDGELM_CLAIMS": server.url}
        processes.append(
            subprocess.Popen(
                [*command, "--out", str(out)],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    made = [re.search(r"6 of 6 runs are done, (\d+) of them now", text) for text, _ in results]
    assert sum(int(found[1]) for found in made if found) == 6, results
    assert not list((out / "runs").glob(".*.lock"))


def test_a_url_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controller.cli", "run", "smoke", "--out", str(tmp_path / "out")],
        env={**os.environ, "EDGELM_CLAIMS": "http://127.0.0.1:1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "not a URL of MongoDB" in done.stderr
    assert not (tmp_path / "out").exists()
