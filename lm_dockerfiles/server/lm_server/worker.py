"""The front's end of the worker process, and the messages between both.

The worker is started with an interpreter of its own, not by multiprocessing: that would start a
third process beside every server, and fork what the front has loaded or load it again.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

LOADING: Final = "loading"
LOADED: Final = "loaded"
RESULTS: Final = "results"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
OUT_OF_MEMORY: Final = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Batch:
    """Message to the worker. ``number`` is what a stop refers to."""

    number: int
    prompts: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Message of the worker."""

    kind: str  # one of the constants above
    number: int = 0
    results: tuple[bytes, ...] = ()
    seconds: float = 0.0
    error: str = ""
    is_last: bool = False  # the worker leaves after it
    threads: int = 0
    # LOADING and LOADED describe the engine:
    batch: int = 1  # prompts at most in a batch
    emulated: bool = False
    stop_s: float = 0.0  # real seconds that an emulated pod takes to end
    phases: dict[str, float] = field(default_factory=dict)  # LOADED: seconds of each part of it


class Shared:
    """Two numbers in memory that front and worker share: the last beat, and the batch to stop."""

    def __init__(self, descriptor: int) -> None:
        memory = memoryview(mmap.mmap(descriptor, 16))
        self._beat, self._stop = memory[:8].cast("d"), memory[8:].cast("q")

    @property
    def beaten_s(self) -> float:
        """Monotonic time of the last beat."""
        return self._beat[0]

    @property
    def stop(self) -> int:
        """Number of the batch that is not wanted any more."""
        return self._stop[0]

    @stop.setter
    def stop(self, number: int) -> None:
        self._stop[0] = number

    def beat(self) -> None:
        self._beat[0] = time.monotonic()


class Worker:
    """A running worker process, seen from the front."""

    def __init__(self, engine: str, path: Path) -> None:
        ours, theirs = socket.socketpair()
        memory = os.memfd_create("lm_server")
        try:
            os.ftruncate(memory, 16)
            self._shared = Shared(memory)
            self._shared.beat()
            numbers = [theirs.fileno(), memory]
            # Its standard input ends with the front, however that ends, and the worker with it.
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "lm_server.computing", engine, path, *map(str, numbers)],
                stdin=subprocess.PIPE,
                pass_fds=numbers,
            )
        finally:
            os.close(memory)
            theirs.close()
        self.connection: Connection = Connection(ours.detach())

    @property
    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._shared.beaten_s

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def send(self, batch: Batch) -> None:
        self.connection.send(batch)

    def stop(self, number: int) -> None:
        """Stop the batch of this number within one token, step or slice."""
        self._shared.stop = number

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.connection.close()
