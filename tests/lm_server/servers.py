"""LM servers as processes of their own, and a client that is as plain as can be."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "lm_dockerfiles" / "server"
NOON = 3600.0  # seconds from now: a deadline that no test reaches, however busy the machine is


class Server:
    """One server on one data folder; it may be ended and started again."""

    def __init__(self, folder: Path, **times: Any) -> None:
        self.data, self.log = folder / "data", folder / "log"
        self.model = folder / "times.json"
        self.model.write_text(json.dumps({"seconds": 0.05, "batch_factors": [1, 1.5], **times}))
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.engine, self.paths = "emulated", [PACKAGE]
        self.python = sys.executable

    def start(self, *options: str, ready: bool = True) -> None:
        command = [
            self.python, "-m", "lm_server", "--engine", self.engine, "--model", self.model,
            "--data", self.data, "--port", "0", "--floor-gb", "0", *options,
        ]  # fmt: skip
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self.paths))},
            )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.log.read_text()
        if ready:
            wait_for(lambda: self.ask("GET", "/readyz")[0] == 200)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and answer, JSON where it is JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content

    def submit(self, name: str, prompts: int = 2, deadline_s: float = NOON, text: str = "") -> Any:
        body = {
            "id": name,
            "prompts": [{"text": text, "seed": k} for k in range(prompts)],
            "deadline_unix_s": time.time() + deadline_s,
        }
        return self.ask("POST", "/v1/requests", body)

    def state(self, name: str) -> dict[str, Any]:
        status, view = self.ask("GET", f"/v1/requests/{name}")
        assert status == 200, view
        return view

    def wait_for_end(self, name: str) -> dict[str, Any]:
        wait_for(lambda: self.state(name)["state"] != "open")
        return self.state(name)

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def worker(self) -> int:
        """Process id of the worker."""
        assert self.process is not None
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                spawned = b"lm_server.computing" in (path / "cmdline").read_bytes()
                if parent == self.process.pid and spawned:
                    return int(path.name)
        raise AssertionError("there is no worker")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """Send TERM; return the exit status."""
        self.terminate()
        return self.wait()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        status = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.process = None
        return status


@contextlib.contextmanager
def serving(folder: Path, *options: str, **times: Any) -> Iterator[Server]:
    server = Server(folder, **times)
    try:
        server.start(*options)
        yield server
    finally:
        if server.process is not None:
            server.kill()


def wait_for(happened: Callable[[], bool], limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.02)
