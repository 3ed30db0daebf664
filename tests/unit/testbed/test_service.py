"""The controller's service without HTTP: what it takes up again, and what wakes a waiting run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.bootstrap.services import LiveWork
from controller.ports import Store
from controller.store.sqlite import open_store
from controller.testbed.central.service import Controller, FencingToken
from controller.testbed.handshake import KEPT_TRACES
from tests.samples.small import small_experiment

ONE = small_experiment(target="emulated", epoch_slots=8)
NODES = ONE.testbed.to_domain().node_names
PLAYER = "0" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(open_store(tmp_path / "store.sqlite")) as opened:
        yield opened


@contextlib.asynccontextmanager
async def opened(folder: Path, store: Store) -> AsyncIterator[Controller]:
    controller = Controller(folder, store, LiveWork)
    await controller.open()
    try:
        yield controller
    finally:
        await controller.close()


async def all_but(controller: Controller, away: str) -> None:
    for node in NODES:
        if node != away:
            await controller.hear(node, f"http://{node}:8701")
    await controller.hear_player(PLAYER)


async def begin(controller: Controller) -> Any:
    token = FencingToken((await controller.take_lease("a test", 60.0)).fence)
    return await controller.begin(ONE.run_id, ONE.canonical_json(), 20.0, token)


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def test_a_node_that_comes_back_wakes_a_run_that_waits(tmp_path: Path, store: Store) -> None:
    async def check() -> None:
        async with opened(tmp_path, store) as controller:
            url = f"http://{NODES[0]}:8701"
            controller.nodes[NODES[0]] = (url, time.time() - 100)  # it was there once
            await all_but(controller, NODES[0])
            run = await begin(controller)
            await asyncio.sleep(0.1)
            assert (run.phase, controller.lacking(run)) == ("waiting", [NODES[0]])
            await controller.hear(NODES[0], url)
            await until(lambda: run.phase == "running")

    asyncio.run(check())


def test_traces_make_room_for_newer_ones_but_not_that_of_a_run_that_is_going(
    tmp_path: Path, store: Store
) -> None:
    async def check() -> None:
        async with opened(tmp_path, store) as controller:
            for number in range(KEPT_TRACES + 3):
                await controller.take_trace(f"{number:064x}", b"t,lm")
            left = sorted(path.stem for path in (tmp_path / "traces").iterdir())
            assert left == [f"{number:064x}" for number in range(3, KEPT_TRACES + 3)]

            oldest = controller.trace_path(f"{3:064x}")
            os.utime(oldest, (0, 0))
            run = await begin(controller)
            run.document["experiment"] = f'{{"sha256": "{oldest.stem}"}}'
            for number in range(100, 100 + KEPT_TRACES):
                await controller.take_trace(f"{number:064x}", b"t,lm")
            assert oldest.exists()
            assert len(list(oldest.parent.iterdir())) == KEPT_TRACES + 1

    asyncio.run(check())


def test_a_run_of_an_earlier_version_is_taken_up(tmp_path: Path, store: Store) -> None:
    """Documents of former versions lack holder, fence and incarnation."""
    former = {
        "id": ONE.run_id, "experiment": ONE.canonical_json(), "token": "x", "phase": "waiting",
        "began_unix_s": time.time(), "speed": 20.0, "slots": 8, "played": None,
    }  # fmt: skip
    store.put("runs", ONE.run_id, former)

    async def check() -> None:
        async with opened(tmp_path, store) as controller:
            assert controller.current is not None
            assert (controller.current.run_id, controller.current.phase) == (ONE.run_id, "waiting")
            assert controller.current.progress()["id"] == ONE.run_id

    asyncio.run(check())


def test_a_run_that_cannot_be_read_ends_and_the_controller_starts(
    tmp_path: Path, store: Store
) -> None:
    broken = {"id": "0123456789ab", "experiment": "{}", "phase": "running", "began_unix_s": 0.0}
    store.put("runs", "0123456789ab", broken)

    async def check() -> None:
        async with opened(tmp_path, store) as controller:
            assert controller.current is None
            assert (await begin(controller)).phase == "waiting"

    asyncio.run(check())
    kept = store.get("runs", "0123456789ab")
    assert kept is not None
    assert kept["phase"] == "failed"
    assert kept["problem"].startswith("cannot be read: ")


def test_a_fault_of_the_player_ends_its_run_and_no_other(tmp_path: Path, store: Store) -> None:
    async def check() -> None:
        async with opened(tmp_path, store) as controller:
            first = await begin(controller)
            await controller.fail(first, "no such trace")
            assert (first.phase, first.document["ended_by"]) == ("failed", "player")
            second = await begin(controller)
            assert second.key == f"{ONE.run_id}.2"
            await controller.fail(first, "late")
            assert second.phase == "waiting"

    asyncio.run(check())
