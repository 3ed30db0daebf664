"""The controller's log of events."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from controller.bootstrap.services import LiveWork
from controller.store.sqlite import open_store
from controller.testbed.central.service import Controller


def test_events_told_at_once_each_have_a_number(tmp_path: Path) -> None:
    async def tell() -> None:
        controller = Controller(tmp_path, store, LiveWork)
        await asyncio.gather(*(controller.tell("node", node=f"vm{k}") for k in range(9)))

    with contextlib.closing(open_store(tmp_path / "store.sqlite")) as store:
        asyncio.run(tell())
        numbers = [one["number"] for one in store.find("events", sort=[("number", 1)])]
    assert numbers == list(range(1, 10))
