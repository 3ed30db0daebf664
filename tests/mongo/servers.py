"""Servers of MongoDB's protocol for tests: processes of mongo-dev, which ``make mongo-dev`` builds
from main.go, on loopback and in a folder of the test's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.telemetry.exporters import free_port, wait_for_port

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgelm" / "bin"


class MongoDev:
    """One server; it may be ended and started again on its port and folder."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        with (self._folder.parent / "mongo.log").open("a") as log:
            self.process = subprocess.Popen(
                [self._program, "-listen", f"127.0.0.1:{self.port}", "-dir", str(self._folder)],
                stderr=log,
            )
        wait_for_port(self.port)

    def kill(self) -> None:
        """End it at once, as a power cut of its machine would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Stop it so that connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def mongo_dev(folder: Path) -> Iterator[MongoDev]:
    """Run a server; skip the test where it was not built."""
    program = shutil.which("mongo-dev", path=f"{_CACHE}:{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("no server of MongoDB's protocol: make mongo-dev")
    server = MongoDev(program, folder / "mongo")
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.kill()


def until(happened: object, limit_s: float = 30.0) -> None:
    """Wait until the callable returns something true."""
    assert callable(happened)
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.02)
