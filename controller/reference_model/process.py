"""Starts the server as a child process and ends it; it ends by itself when its owner dies."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

    def end(self) -> None:
        """Stop it, with force if need be."""
        with self.child:  # closes its pipes
            self.child.terminate()
            try:
                self.child.wait(ENDED_S)
            except subprocess.TimeoutExpired:
                self.child.kill()


def start_server(latency: Latency, faults: str = "", seed: int = 0) -> Server:
    """Start one and wait until it listens.

    Raises:
        Permanent: it did not start; with what it said.
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


@contextmanager
def serving(latency: Latency, faults: str = "", seed: int = 0) -> Iterator[str]:
    """The URL of a server of one's own.

    Raises:
        Permanent: it did not start.
    """
    server = start_server(latency, faults, seed)
    try:
        yield server.url
    finally:
        server.end()


def _first_line(child: subprocess.Popen[str]) -> str:
    out = child.stdout
    if out is None or not select.select([out], [], [], STARTED_S)[0]:
        return ""
    return out.readline().strip()


def _fault_options(faults: str, seed: int) -> Sequence[str]:
    return ("--faults", faults, "--seed", str(seed)) if faults else ()
