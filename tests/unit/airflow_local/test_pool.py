"""A pool that takes no more tasks is known as such, one that is merely busy or empty is not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_local import processes
from airflow_local.home import HEALTH_S, Settings, make_folders, write_settings
from airflow_local.pool import LOOK_S, Look, Pool, idle_of, look_at
from tests.unit.telemetry.exporters import free_port

IDLE = "airflow worker -- LocalExecutor: <idle>"


def look(idle: set[int], queued: set[str]) -> Look:
    return Look(frozenset(idle), frozenset(queued))


def seconds_until_stuck(looks: Iterator[Look], limit_s: float = 300.0) -> float | None:
    """Return when a pool that is seen so counts as stuck, None if never."""
    now_s = 0.0
    pool = Pool(lambda: next(looks), lambda: now_s)
    while now_s < limit_s:
        if pool.stuck():
            return now_s
        now_s += 0.5
    return None


def forever(*looks: Look) -> Iterator[Look]:
    while True:
        yield from looks


def test_a_task_that_no_idle_process_takes_shows_a_stuck_pool() -> None:
    found = seconds_until_stuck(forever(look({1, 2}, {"a"})))
    assert found is not None
    assert HEALTH_S <= found <= HEALTH_S + LOOK_S


def test_others_that_come_and_go_hide_it_not() -> None:
    assert seconds_until_stuck(forever(look({1, 2}, {"a"}), look({2, 3}, {"a", "b"})))


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([look({1, 2}, set())], id="nothing is queued"),
        pytest.param([look(set(), {"a"})], id="all are busy"),
        pytest.param([look({1}, {"a"}), look({1}, {"b"})], id="tasks are taken"),
        pytest.param([look({1}, {"a"}), look({2}, {"a"})], id="processes take others"),
        pytest.param([look({1}, {"a"})] * 5 + [look(set(), set())], id="Airflow does not answer"),
    ],
)
def test_a_pool_that_works_is_left_alone(looks: list[Look]) -> None:
    assert seconds_until_stuck(forever(*looks)) is None


def test_a_new_scheduler_gets_its_time() -> None:
    looks = [look({1}, {"a"})] * 6 + [look(set(), set())] * 2 + [look({9}, {"a"})] * 100
    found = seconds_until_stuck(iter(looks))
    assert found is not None
    assert found >= 8 * LOOK_S + HEALTH_S


def test_idle_processes_are_known_by_their_titles(tmp_path: Path) -> None:
    records = tmp_path / "run"
    records.mkdir()
    script = 'for title in "$@"; do (exec -a "$title" cat < <(sleep 60)) & done; wait'
    titles = [IDLE, IDLE.replace(":", " [blue]:"), IDLE.replace("<idle>", "01a2-ff"), "other"]
    process = processes.start(
        "scheduler", ["bash", "-c", script, "bash", *titles], os.environ,
        records=records, log=tmp_path / "log",
    )  # fmt: skip
    record = processes.read(records)["scheduler"]
    end_s = time.monotonic() + 10
    try:
        while len(idle_of(record)) < 2:
            assert time.monotonic() < end_s
            time.sleep(0.02)
        assert len(idle_of(record)) == 2
    finally:
        processes.end(records)
        process.wait(10)


def test_where_nothing_answers_nothing_is_known(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path, Path("airflow"), free_port(), 2)
    make_folders(settings)
    write_settings(settings)
    assert not look_at(settings, settings.home / "run" / "scheduler.json")
