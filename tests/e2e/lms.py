"""Servers of LMs with weights, in the environments that make lm-setup and llama-setup build."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lm_server.servers import Server, wait_for

ROOT = Path(__file__).parents[2]
START_S = 360.0  # imports alone take 20 s where cores are shared, minutes where many share them
ANSWER_S = 120.0


def environment(name: str, target: str) -> Path:
    """Return bin/ of an environment beside this one; skip the test if it was not built."""
    folder = ROOT / name
    if not (folder / "ready").exists():
        pytest.skip(f"needs {name}: make {target}")
    return folder / "bin"


class LmServer(Server):
    """A server with an engine that computes."""

    def __init__(self, folder: Path, python: Path, engine: str, model: Path) -> None:
        super().__init__(folder)
        self.python, self.engine, self.model = str(python), engine, model

    def post(self, name: str, *prompts: dict[str, Any], deadline_s: float = 300.0) -> int:
        """Send a request; return the status."""
        body = {"id": name, "prompts": prompts, "deadline_unix_s": time.time() + deadline_s}
        status, answer = self.ask("POST", "/v1/requests", body)
        assert status < 500, answer
        return status

    def results(self, name: str, *prompts: dict[str, Any]) -> list[bytes]:
        """Send a request and return the result of each prompt."""
        assert self.post(name, *prompts) == 202
        return self.wait_for_results(name)

    def wait_for_results(self, name: str) -> list[bytes]:
        wait_for(lambda: self.state(name)["state"] != "open", ANSWER_S)
        view = self.state(name)
        assert view["state"] == "done", self.log.read_text()
        results = []
        for k in view["recorded"]:
            status, content = self.ask("GET", f"/v1/requests/{name}/results/{k}")
            assert status == 200
            # The client takes for JSON what looks like it: a text such as "7".
            results.append(content if isinstance(content, bytes) else repr(content).encode())
        return results


@contextlib.contextmanager
def serving_lm(folder: Path, python: Path, engine: str, model: Path) -> Iterator[LmServer]:
    folder.mkdir(exist_ok=True)
    server = LmServer(folder, python, engine, model)
    try:
        server.start(ready=False)
        wait_for(lambda: server.ask("GET", "/readyz")[0] == 200, START_S)
        yield server
    finally:
        if server.process is not None:
            server.kill()
