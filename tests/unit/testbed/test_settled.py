"""When a run is over: with requests of which the player does not know whether a node has them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from controller.bootstrap.services import LiveWork
from controller.domain.phases import RUNNING
from controller.store.sqlite import open_store
from controller.testbed.central.service import Controller, FencingToken
from tests.samples.small import small_experiment


def test_a_request_whose_acceptance_nobody_saw_is_waited_for(tmp_path: Path) -> None:
    """Two were tried, one answer was lost in a kill, and one record is there."""
    one = small_experiment(target="emulated", epoch_slots=8)

    async def check() -> None:
        with contextlib.closing(open_store(tmp_path / "store.sqlite")) as store:
            controller = Controller(tmp_path, store, LiveWork)
            token = FencingToken((await controller.take_lease("a test", 60.0)).fence)
            run = await controller.begin(one.run_id, one.canonical_json(), 1.0, token)
            await controller.close()  # nobody decides here
            await run.update(phase=RUNNING, began_unix_s=time.time())
            await run.take_played(b"{}", tried=2)
            records: dict[int, Any] = run.records
            records[0] = None
            assert not await run.settled()
            records[1] = None
            assert await run.settled()

    asyncio.run(check())
