"""Starts the server as a child process and ends it; it ends by itself when its owner dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from controller.domain.errors import Permanent
from controller.reasoner.completions import Latency

ENDED_S = 5.0


@contextmanager
def serving(latency: Latency, faults: str = "", seed: int = 0) -> Iterator[str]:
    """The URL of a server of one's own.

    Raises:
        Permanent: it did not start; with what it said.
    """
    command = [
        sys.executable, "-m", "controller.cli", "reasoner", "--port", "0", "--with-parent",
        "--first-token-s", repr(latency.first_token_s), "--token-s", repr(latency.token_s),
        *_fault_options(faults, seed),
    ]  # fmt: skip
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            line = child.stdout.readline() if child.stdout else ""
            if not line.startswith("http"):
                raise Permanent(
                    f"the reference reasoner did not start: {line.strip() or 'no word'}"
                )
            yield line.strip()
        finally:
            child.terminate()
            try:
                child.wait(ENDED_S)
            except subprocess.TimeoutExpired:
                child.kill()


def _fault_options(faults: str, seed: int) -> Sequence[str]:
    return ("--faults", faults, "--seed", str(seed)) if faults else ()
