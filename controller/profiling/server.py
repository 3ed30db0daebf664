"""One LM server as a process on some cores, and its client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import InputError, Permanent

READY_S: Final = 1800.0  # until weights are loaded, at most
ANSWER_S: Final = 3600.0  # a request's deadline
WAIT_S: Final = 20.0  # of one long poll
POLL_S: Final = 0.01
PHASE = re.compile(r'^edgelm_engine_load_seconds\{phase="(\w+)"\} (\S+)$', re.MULTILINE)
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class LmServer:
    """A server that runs from ``start`` to ``stop``. Its group has all its processes.

    Args:
        python: interpreter with ``lm_server`` and what the engine imports.
        search: folder to find ``lm_server`` in before those of the interpreter, or "".
        folder: for its data.
        log: file that its words are added to.
    """

    def __init__(
        self,
        python: str,
        search: str,
        arguments: Sequence[str],
        folder: Path,
        cores: Sequence[int],
        log: Path,
    ) -> None:
        self._cores, self._log = set(cores), log
        data = folder / f"data-{time.time_ns()}"
        self._command = [
            python, "-m", "lm_server", *arguments, "--data", str(data), "--port", "0",
            "--floor-gb", "0", "--silent-s", "120",
        ]  # fmt: skip
        paths = [path for path in (search, os.environ.get("PYTHONPATH", "")) if path]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def start(self) -> float:
        """Start it; return the seconds until it was ready.

        Raises:
            InputError: it ended instead; quotes its last line.
            Permanent: it is not ready in time.
        """
        began_s = time.monotonic()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, self._cores),
            )
        assert self._process.stdout is not None  # noqa: S101 - for mypy
        self._url = self._process.stdout.readline().strip()
        while self._url and self._process.poll() is None:
            if self._is_ready():
                return time.monotonic() - began_s
            if time.monotonic() - began_s > READY_S:
                raise Permanent(f"the LM server is not ready after {READY_S:g} s: see {self._log}")
            time.sleep(POLL_S)
        self._process.wait()
        raise InputError(
            "the LM server", f"does not start: {self._last_line()}",
            remedy=f"see {self._log}; engine, model and --python must go together",
        )  # fmt: skip

    def stop(self) -> float:
        """Send TERM; return the seconds until it had ended."""
        assert self._process is not None  # noqa: S101
        began_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=120)
        return time.monotonic() - began_s

    def kill(self) -> None:
        """End whatever is left of it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def serve(self, name: str, prompts: list[dict[str, Any]]) -> tuple[float, int]:
        """Have prompts computed; return the seconds from the first batch's begin until the last
        was on disk, and the number of batches.

        Raises:
            Permanent: the request failed.
        """
        body = {"id": name, "prompts": prompts, "deadline_unix_s": time.time() + ANSWER_S}
        view = self._ask("POST", f"/v1/requests?wait_s={WAIT_S}", body)
        while view["state"] == "open":
            done = len(view["recorded"])
            view = self._ask("GET", f"/v1/requests/{name}?wait_s={WAIT_S}&after={done}")
        if view["state"] != "done":
            why = view.get("reason") or view["state"]
            raise Permanent(f"the LM server gave a request up ({why}): see {self._log}")
        batches = view["batches"]
        ends = max(one["recorded_unix_s"] for one in batches)
        return ends - min(one["began_unix_s"] for one in batches), len(batches)

    def is_emulated(self) -> bool:
        """Return True if its engine computes nothing."""
        return bool(self._ask("GET", "/readyz")["emulated"])

    def phases_s(self) -> dict[str, float]:
        """Return the seconds of loading by phase."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=WAIT_S) as answer:  # noqa: S310
            return {name: float(value) for name, value in PHASE.findall(answer.read().decode())}

    def peak_ram_gb(self) -> float:
        """Return the sum of its processes' largest resident sizes."""
        kilobytes = 0
        for folder in self._processes():
            with suppress(OSError):  # it has just ended
                found = PEAK.search((folder / "status").read_text())
                kilobytes += int(found.group(1)) if found else 0
        return kilobytes * 1024 / 1e9

    def waiting(self) -> tuple[int, int]:
        """Return nanoseconds that its threads have run, and that they could have but for others on
        their cores."""
        ran, waited = 0, 0
        for process in self._processes():
            for task in process.glob("task/*/schedstat"):
                try:
                    run, wait, _ = map(int, task.read_text().split())
                except (OSError, ValueError):  # it has just ended, or this kernel does not count
                    continue
                ran, waited = ran + run, waited + wait
        return ran, waited

    def _processes(self) -> Iterator[Path]:
        """Yield the folders of its processes in /proc."""
        assert self._process is not None  # noqa: S101
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.getpgid(int(folder.name)) == self._process.pid:
                    yield folder

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/readyz")["ready"])
        except (OSError, KeyError):
            return False

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S + 60) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise
            raise Permanent(f"the LM server refuses {path}: {error.read().decode()}") from error

    def _last_line(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else "no word of why"
