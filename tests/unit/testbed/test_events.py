"""The controller's log of events."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from controller.bootstrap.services import LiveWork
from controller.ports import Store
from controller.store.sqlite import memory_store, open_store
from controller.testbed.central.events import EventLog
from controller.testbed.central.service import Controller


def test_events_told_at_once_each_have_a_number(tmp_path: Path) -> None:
    async def tell() -> None:
        controller = Controller(tmp_path, store, LiveWork)
        await asyncio.gather(*(controller.tell("node", node=f"vm{k}") for k in range(9)))

    with contextlib.closing(open_store(tmp_path / "store.sqlite")) as store:
        asyncio.run(tell())
        numbers = [one["number"] for one in store.find("events", sort=[("number", 1)])]
    assert numbers == list(range(1, 10))


def log_of(store: Store, count: int, kept: int = 5, going: str = "", run: str = "") -> EventLog:
    """Return a log that was told ``count`` events of a run."""
    log = EventLog(store, kept)
    log.open()
    for _ in range(count):
        event = log.add("running", {"run": run})
        log.keep(event, log.forget(going))
    return log


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [one["number"] for one in events]


def test_the_newest_events_are_kept_in_memory_and_store() -> None:
    with contextlib.closing(memory_store()) as store:
        log = log_of(store, 8)
        assert numbers(store.find("events", sort=[("number", 1)])) == [4, 5, 6, 7, 8]
        assert numbers(log.after(6)) == [7, 8]
        assert numbers(log.after(3)) == [4, 5, 6, 7, 8]
        assert log.after(8) == log.after(99) == []


def test_who_asks_for_forgotten_events_is_told_so() -> None:
    with contextlib.closing(memory_store()) as store:
        log = log_of(store, 8)
        for after in (0, 2):
            gap, *others = log.after(after)
            assert (gap["event"], gap["number"]) == ("forgotten", 3)
            assert numbers(others) == [4, 5, 6, 7, 8]


def test_a_run_that_is_going_keeps_its_events_and_those_that_followed() -> None:
    with contextlib.closing(memory_store()) as store:
        log_of(store, 3, run="former")
        log = log_of(store, 8, going="now", run="now")
        assert numbers(log.after(3)) == [4, 5, 6, 7, 8, 9, 10, 11]
        event = log.add("done", {"run": "now"})
        log.keep(event, log.forget(""))
        assert numbers(store.find("events", sort=[("number", 1)])) == [8, 9, 10, 11, 12]


def test_a_log_that_is_opened_again_counts_on() -> None:
    with contextlib.closing(memory_store()) as store:
        log_of(store, 8)
        assert log_of(store, 1).newest == 9
        assert log_of(store, 0, kept=2).newest == 9
        assert numbers(log_of(store, 1, kept=2).after(8)) == [9, 10]
