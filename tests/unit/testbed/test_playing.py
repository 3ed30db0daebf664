"""The player keeps the traces and records that it needs, and no others."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import aiohttp

from controller.bootstrap.services import PlayedWork
from controller.testbed.handshake import KEPT_TRACES
from controller.testbed.keys import Keys
from controller.testbed.playing import Playbook, PlayerService
from tests.samples.small import small_experiment
from tests.unit.telemetry.exporters import exporter, text


def test_a_new_trace_takes_the_place_of_the_one_that_was_used_longest_ago(tmp_path: Path) -> None:
    folder, names = tmp_path / "traces", [f"{number:064x}" for number in range(KEPT_TRACES)]
    folder.mkdir()
    for age, name in enumerate(names):
        (folder / f"{name}.csv").touch()
        os.utime(folder / f"{name}.csv", (1000 - age, 1000 - age))
    oldest, new = names[-1], hashlib.sha256(b"new").hexdigest()

    async def fetch() -> None:
        async with aiohttp.ClientSession() as session:
            await service._fetch(session, oldest)  # it is here, and used now
            await service._fetch(session, new)

    with exporter(text("new")) as port:
        service = PlayerService(f"http://127.0.0.1:{port}", tmp_path, Keys(), PlayedWork)
        asyncio.run(fetch())
    left = {path.stem for path in folder.iterdir()}
    assert left == {*names, new} - {names[-2]}


def test_records_of_other_runs_are_removed(tmp_path: Path) -> None:
    work = PlayedWork(small_experiment(target="emulated").canonical_json())
    requests = work.requests(tmp_path)
    for name in ("former", "now"):
        Playbook(tmp_path / f"{name}.jsonl", requests).close()
    book = Playbook(tmp_path / "now.jsonl", requests)
    book.forget_others()
    book.close()
    assert [path.name for path in tmp_path.iterdir()] == ["now.jsonl"]
