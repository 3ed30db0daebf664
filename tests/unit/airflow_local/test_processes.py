"""Processes are ended with all that they started, and nobody else's are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_local import processes

# A shell, one child in its session and one in a session of its own.
TREE = "sleep 60 & setsid sleep 60 & wait"


Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a shell script; what is left of it in the end is ended."""
    (tmp_path / "run").mkdir()
    begun = []

    def start(script: str, name: str = "one") -> subprocess.Popen[bytes]:
        command = ["sh", "-c", script]
        begun.append(
            processes.start(
                name, command, os.environ, records=tmp_path / "run", log=tmp_path / "log"
            )
        )
        return begun[-1]

    yield start
    processes.end(tmp_path / "run")
    for process in begun:
        process.wait(1)


def until(happened: object) -> None:
    assert callable(happened)
    end_s = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_all_that_a_process_started_is_ended(tmp_path: Path, begin: Begin) -> None:
    process = begin(TREE)
    record = processes.read(tmp_path / "run")["one"]
    until(lambda: len(record.members()) == 3)
    assert processes.end(tmp_path / "run") == ["one"]
    assert record.members() == []
    assert processes.read(tmp_path / "run") == {}
    assert process.wait(1) == -signal.SIGTERM


def test_what_a_killed_process_leaves_is_found_and_ended(tmp_path: Path, begin: Begin) -> None:
    process = begin(TREE)
    record = processes.read(tmp_path / "run")["one"]
    until(lambda: len(record.members()) == 3)
    process.kill()
    process.wait()
    assert not record.alive()
    assert len(record.members()) == 2
    assert processes.end(tmp_path / "run") == ["one"]
    assert record.members() == []


def test_who_ignores_term_is_killed(
    tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TERM_S", 0.5)
    process = begin("trap '' TERM; sleep 60 & echo up; wait; sleep 60")
    until(lambda: "up" in (tmp_path / "log").read_text())
    processes.end(tmp_path / "run")
    assert process.wait(1) == -signal.SIGKILL


def test_a_stranger_with_the_same_id_is_left_alone(tmp_path: Path, begin: Begin) -> None:
    process = begin("sleep 60")
    record = processes.read(tmp_path / "run")["one"]
    stranger = replace(record, started=record.started - 1, mark="another")
    earlier = replace(record, boot="another", name="earlier")
    for one in (stranger, earlier):
        (tmp_path / "run" / f"{one.name}.json").write_text(one.as_text())
        assert not one.alive()
        assert one.members() == []
    assert processes.end(tmp_path / "run") == []
    assert process.poll() is None
    process.kill()
    process.wait()


def test_what_an_earlier_process_of_the_name_left_is_ended_too(
    tmp_path: Path, begin: Begin
) -> None:
    process = begin(TREE)
    earlier = processes.read(tmp_path / "run")["one"]
    until(lambda: len(earlier.members()) == 3)
    process.kill()
    process.wait()
    begin("sleep 60")
    assert set(processes.read(tmp_path / "run")) == {"one", f"one-{earlier.pid}"}
    assert processes.end(tmp_path / "run", ["one"]) == ["one"]
    assert earlier.members() == []
    assert processes.read(tmp_path / "run") == {}


def test_one_of_several_is_ended_by_its_name(tmp_path: Path, begin: Begin) -> None:
    begin("sleep 60", "one")
    other = begin("sleep 60", "other")
    assert processes.end(tmp_path / "run", ["one", "unknown"]) == ["one"]
    assert list(processes.read(tmp_path / "run")) == ["other"]
    assert other.poll() is None


def test_memory_counts_what_a_process_started(tmp_path: Path, begin: Begin) -> None:
    hold = "import time; x = b'1' * 50_000_000; time.sleep(60)"
    begin(f"'{sys.executable}' -c \"{hold}\" & wait")
    record = processes.read(tmp_path / "run")["one"]
    until(lambda: processes.memory_mb(record) > 50)
    assert processes.memory_mb(record) < 100
