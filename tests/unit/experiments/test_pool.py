"""Workers that die at bad moments. What campaigns make of it is in tests/integration."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from controller.experiments.pool import DONE, FAILED, Confirm, Engine, Pool, Reply, Task

ASKS, SLEEPS = "asks", "sleeps"


def execute(experiment: str, root: Path, confirm: Confirm) -> Mapping[str, bytes]:
    """A run that asks a person, or one that is not over before it is killed."""
    if experiment == ASKS:
        confirm("Go on?")
        return {}
    (root / "pid").write_text(str(os.getpid()))
    time.sleep(60)
    return {}


def warm_up() -> None:
    """Nothing to compile."""


def test_a_run_whose_worker_dies_while_a_person_is_asked_has_failed(tmp_path: Path) -> None:
    """Its end is heard in a later round than that in which its process was seen dead."""
    (tmp_path / "runs").mkdir()

    def kill_the_other(text: str) -> bool:
        assert text == "Go on?"
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        time.sleep(0.5)
        return True

    replies: list[Reply] = []
    with Pool(tmp_path, Engine(execute, warm_up), 2, kill_the_other) as pool:
        pool.begin(Task("b" * 12, SLEEPS))
        give_up_s = time.monotonic() + 30
        while not (tmp_path / "pid").exists() and time.monotonic() < give_up_s:
            time.sleep(0.05)
        pool.begin(Task("a" * 12, ASKS))
        while not pool.idle and time.monotonic() < give_up_s:
            replies += pool.replies(1.0)
        assert pool.idle
    assert {reply.run_id: reply.state for reply in replies} == {"a" * 12: DONE, "b" * 12: FAILED}
