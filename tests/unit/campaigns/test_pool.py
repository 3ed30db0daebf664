"""Workers that die at bad moments. What campaigns make of it is in tests/integration."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.campaigns.pool import DONE, FAILED, Ended, Engine, Listener, Pool, Task
from controller.campaigns.watch import Advance

ASKS, SLEEPS = "asks", "sleeps"


def execute(experiment: str, root: Path, listener: Listener) -> Mapping[str, bytes]:
    """A run that asks a person, or one that is not over before it is killed."""
    if experiment == ASKS:
        listener.advanced("a" * 12, Advance(3, 10, 1_200, 0.5))
        listener.confirm("Go on?")
        return {}
    (root / "pid").write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def warm_up() -> None:
    """Nothing to compile."""


@dataclass
class KillsTheOther:
    """Whoever is asked kills the worker that sleeps."""

    folder: Path
    heard: list[str] = field(default_factory=list)

    def confirm(self, text: str) -> bool:
        self.heard.append(text)
        os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        time.sleep(0.5)
        return True

    def advanced(self, run_id: str, advance: Advance) -> None:
        self.heard.append(f"{run_id}: {advance}")


def test_a_run_whose_worker_dies_while_a_person_is_asked_has_failed(tmp_path: Path) -> None:
    """Its end is heard in a later round than that in which its process was seen dead."""
    (tmp_path / "runs").mkdir()
    ended: list[Ended] = []
    person = KillsTheOther(tmp_path)
    listener = Listener(person.confirm, person.advanced)
    with Pool(tmp_path, Engine(execute, warm_up), 2, listener) as pool:
        pool.begin(Task("b" * 12, SLEEPS))
        give_up_s = time.monotonic() + 30
        while not (tmp_path / "pid").exists() and time.monotonic() < give_up_s:
            time.sleep(0.05)
        pool.begin(Task("a" * 12, ASKS))
        while not pool.idle and time.monotonic() < give_up_s:
            ended += pool.ended(1.0)
        assert pool.idle
    assert person.heard == ["aaaaaaaaaaaa: slot 3 of 10, 1,200 tokens, $0.50", "Go on?"]
    assert {one.run_id: one.state for one in ended} == {"a" * 12: DONE, "b" * 12: FAILED}


class Stumbles(KillsTheOther):
    """Whoever is told cannot bear it."""

    def advanced(self, run_id: str, advance: Advance) -> None:
        raise BrokenPipeError(run_id)


def test_an_error_of_whoever_is_told_is_not_taken_for_a_workers_death(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    stumbles = Stumbles(tmp_path)
    listener = Listener(stumbles.confirm, stumbles.advanced)
    with Pool(tmp_path, Engine(execute, warm_up), 1, listener) as pool:
        pool.begin(Task("a" * 12, ASKS))
        with pytest.raises(BrokenPipeError):
            _listen(pool)


def _listen(pool: Pool) -> None:
    for _ in range(30):
        pool.ended(1.0)
