"""The server as a child process: started, watched, started anew; it ends by itself when its owner
dies."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from controller.domain.errors import Permanent
from controller.reference_model.completions import Latency

STARTED_S: Final = 60.0  # a busy machine takes a few
ENDED_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs as a child process."""

    url: str
    child: subprocess.Popen[str]

    @property
    def is_alive(self) -> bool:
        return self.child.poll() is None

    def end(self, patience_s: float = ENDED_S) -> None:
        """Stop it, with force after ``patience_s``."""
        with self.child:  # closes its pipes
            self.child.terminate()
            try:
                self.child.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.child.kill()


def start_server(latency: Latency, faults: str = "", seed: int = 0) -> Server:
    """Start one and wait until it listens.

    Raises:
        Permanent: it did not start; quotes its output.
    """
    command = [
        sys.executable, "-m", "controller.cli", "reasoner", "--port", "0", "--with-parent",
        "--first-token-s", repr(latency.first_token_s), "--token-s", repr(latency.token_s),
        *_fault_options(faults, seed),
    ]  # fmt: skip
    child = subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    line = _first_line(child)
    server = Server(line, child)
    if not line.startswith("http"):
        server.end()
        raise Permanent(f"the reference reasoner did not start: {line or 'no word'}")
    return server


class KeptServer:
    """A server of this process that is started anew when it is lost.

    Its answers follow from what it is asked alone, so a restart shows in nothing but real time.

    Args:
        start: starts a server; raises Permanent if it cannot.
    """

    def __init__(self, start: Callable[[], Server]) -> None:
        self._start = start
        self._server = start()
        self._lock = threading.Lock()  # several runs' event loops may miss the server at once

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def is_alive(self) -> bool:
        return self._server.is_alive

    @property
    def pid(self) -> int:
        """Process id of the present server."""
        return self._server.child.pid

    def cpu_s(self) -> float | None:
        """Return the processor time that the process has taken; None where the system does not
        say."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def restart(self, lost_url: str) -> None:
        """End the server at ``lost_url`` and start another, unless that has been done since.

        Raises:
            Permanent: no other one starts.
        """
        await asyncio.to_thread(self._restart, lost_url)

    def _restart(self, lost_url: str) -> None:
        with self._lock:
            if self._server.url == lost_url:
                self._server.end(patience_s=0.0)
                self._server = self._start()

    def end(self) -> None:
        """Stop the server."""
        self._server.end()


@contextmanager
def serving(latency: Latency, faults: str = "", seed: int = 0) -> Iterator[KeptServer]:
    """Keep a server of one's own.

    Raises:
        Permanent: it does not start.
    """
    server = KeptServer(partial(start_server, latency, faults, seed))
    try:
        yield server
    finally:
        server.end()


def _first_line(child: subprocess.Popen[str]) -> str:
    out = child.stdout
    if out is None or not select.select([out], [], [], STARTED_S)[0]:
        return ""
    return out.readline().strip()


def _fault_options(faults: str, seed: int) -> Sequence[str]:
    return ("--faults", faults, "--seed", str(seed)) if faults else ()
