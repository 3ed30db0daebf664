"""The processes in which LocalExecutor runs tasks, and whether they still take any.

One of the idle ones reads the queue of tasks and holds its lock meanwhile. If that one is killed,
the lock stays taken for ever: the others wait, so do those that the scheduler starts in its place,
and the scheduler counts as healthy. Airflow itself never gets out of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from airflow_local import processes
from airflow_local.home import HEALTH_S, USER, Settings
from airflow_local.rest import Rest, RestError

LOOK_S: Final = 5.0  # between looks
_TITLE: Final = "airflow worker -- LocalExecutor"
_IDLE: Final = ": <idle>"


@dataclass(frozen=True)
class Look:
    """Idle processes of the pool, and tasks that are queued for one."""

    idle: frozenset[int]
    queued: frozenset[str]

    def still(self, later: Look) -> Look:
        """Return what was idle and queued at this look and is so at a later one."""
        return Look(self.idle & later.idle, self.queued & later.queued)

    def __bool__(self) -> bool:
        return bool(self.idle and self.queued)


class Pool:
    """A watch over the pool of a scheduler.

    Args:
        look: what is idle and queued now.
        now_s: a clock that only goes forward.
    """

    def __init__(
        self, look: Callable[[], Look], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._look, self._now_s = look, now_s
        self._next_s = self._since_s = now_s()
        self._same = Look(frozenset(), frozenset())

    def stuck(self) -> bool:
        """Look, if it is time, and return whether a task has been queued for ``HEALTH_S`` while a
        process was idle that could have taken it."""
        if self._now_s() < self._next_s:
            return False
        found = self._look()
        self._next_s = self._now_s() + LOOK_S
        self._same = self._same.still(found)
        if not self._same:
            self._same, self._since_s = found, self._now_s()
        return bool(self._same) and self._now_s() - self._since_s >= HEALTH_S


def look_at(settings: Settings, scheduler: Path) -> Look:
    """Return what is idle and queued, nothing where it cannot be known: no LocalExecutor, no answer
    from Airflow, or not to our user.

    Args:
        scheduler: the record of the scheduler's process.
    """
    nothing = Look(frozenset(), frozenset())
    with contextlib.suppress(OSError, RestError, ValueError, KeyError):
        idle = idle_of(processes.from_text(scheduler.read_text()))
        if idle:
            rest = Rest(settings.url, USER, settings.password(), limit_s=LOOK_S)
            tasks = rest.get_all("dags/~/dagRuns/~/taskInstances", "task_instances", state="queued")
            return Look(idle, frozenset(f"{one['id']} {one['queued_when']}" for one in tasks))
    return nothing


def idle_of(scheduler: processes.Record) -> frozenset[int]:
    """Return the idle processes of a scheduler's pool, which say so in their titles."""
    found = []
    for pid in scheduler.members():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if title.startswith(_TITLE) and title.rstrip().endswith(_IDLE):
                found.append(pid)
    return frozenset(found)
