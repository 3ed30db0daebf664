"""A controller whose database hangs, or is gone: what those who look on are shown."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from controller.testbed.keys import write_keys
from tests.live.test_http import KEYS, Service, take_lease
from tests.mongo.servers import mongo_dev, until
from tests.waiting import waits


@waits
def test_the_state_is_shown_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongo_dev(tmp_path) as database, contextlib.ExitStack() as stack:
        monkeypatch.setenv("EDGELM_MONGODB", database.url)
        (tmp_path / "controller").mkdir()
        service = Service(tmp_path / "controller", "controller", "controller")
        stack.callback(service.process.kill)
        take_lease(service, "us", 600)
        assert state(service)["lease"]["holder"] == "us"
        for leave, come_back in (
            (database.pause, database.resume),
            (database.kill, database.start),
        ):
            leave()
            until(lambda: state(service)["store_fault"])  # a signal takes a moment
            assert state(service)["lease"] is None
            assert "holder unknown while the store is away" in status_of(tmp_path, service)
            body = {"holder": "others", "ttl_s": 60}
            code, said = service.ask("PUT", "/v1/lease", body)
            assert (code, list(said)) == (503, ["problem"])
            come_back()
            until(lambda: not state(service)["store_fault"])
            assert state(service)["lease"]["holder"] == "us"
        assert service.end() == 0


def state(service: Service) -> Any:
    """The state, which takes no longer than clients wait."""
    began_s = time.monotonic()
    code, found = service.ask("GET", "/v1/state")
    assert code == 200
    assert time.monotonic() - began_s < 4
    return found


def status_of(folder: Path, service: Service) -> str:
    """What `edgelm status` shows."""
    keys = folder / "controller" / "operator.json"
    write_keys(keys, KEYS["operator"])
    return subprocess.run(
        [
            sys.executable, "-m", "controller.cli", "status", "--keys", str(keys),
            "--controller", f"http://127.0.0.1:{service.port}",
        ],
        check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"},
    ).stdout  # fmt: skip
