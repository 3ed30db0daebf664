"""Services of a testbed on one machine: started, restarted when they die, ended together.

The process that runs this leads a group of its own. It ends the whole group when its input ends, so
nothing is left when whoever started it is gone, even by a kill.

Example: python -m controller.testbed.local services.json
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOOK_S: Final = 0.1
PAUSE_S: Final = 0.5  # before a service that died is started again
GRACE_S: Final = 10.0  # from TERM to KILL


@dataclass
class Service:
    """A process that is to run."""

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    again_s: float = 0.0

    def keep_running(self) -> None:
        """Start it if it does not run, a moment after it died."""
        if self.process is not None and self.process.poll() is not None:
            self.process, self.again_s = None, time.monotonic() + PAUSE_S
        if self.process is None and time.monotonic() >= self.again_s:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603 - our own command
                    self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )


def start(services: dict[str, list[str]], folder: Path) -> subprocess.Popen[bytes]:
    """Start services, by name, in a group of their own; they end when the process's input does."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "services.json"
    plan.write_text(json.dumps(services))
    with (folder / "services.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "controller.testbed.local", str(plan)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def main() -> None:
    """Run the services of a file until the input ends."""
    plan = Path(sys.argv[1])
    services = [
        Service(name, arguments, plan.with_name(f"{name}.log"))
        for name, arguments in json.loads(plan.read_text()).items()
    ]
    ended: list[int] = []

    def end(number: int, frame: Any) -> None:
        del frame
        ended.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    while not ended:
        for service in services:
            service.keep_running()
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], LOOK_S)
        if readable and not os.read(sys.stdin.fileno(), 1024):
            break
    _end_all(services)


def _end_all(services: list[Service]) -> None:
    """End every process of this group: services in order, then whatever is left."""
    running = [one.process for one in services if one.process is not None]
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    end_s = time.monotonic() + GRACE_S
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end_s - time.monotonic()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(0.2)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
