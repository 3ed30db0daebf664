"""The controller and a node as services of their own: who is let in, and what is refused."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from controller import __version__
from controller.telemetry.exposition import problems
from controller.telemetry.names import Emitter
from tests.live.services import live_experiment

TOKEN = "a-token-of-a-test"  # noqa: S105


class Service:
    """A service that was started, and how to ask it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        token_file = folder / "token"
        token_file.write_text(TOKEN)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "controller.cli", *arguments, "--port", str(self.port),
                    "--data", str(folder / "data"), "--token-file", str(token_file),
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            try:
                return self.ask("GET", "/healthz")[0] == 200 and None
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Return the status and the content."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=40)
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        sent |= headers or {}
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        connection.request(method, path, content, sent)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("controller"), "controller")
    yield service
    assert service.end() == 0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    away = "http://127.0.0.1:9"
    service = Service(tmp_path_factory.mktemp("node"), "node", "vm2", "--controller", away)
    yield service
    assert service.end() == 0


def begin(service: Service, **changes: Any) -> tuple[int, Any]:
    one = live_experiment(**changes)
    return service.ask("PUT", f"/v1/runs/{one.run_id}", {"experiment": one.canonical_json()})


@pytest.mark.parametrize("token", ["", "Bearer", f"Bearer {TOKEN}x", TOKEN[:-1], "Basic abc"])
def test_a_foreign_token_is_refused(controller: Service, node: Service, token: str) -> None:
    for service in (controller, node):
        status, said = service.ask("GET", "/v1/state", headers={"Authorization": token})
        assert status == 401
        assert TOKEN not in json.dumps(said)


def test_another_version_is_refused(controller: Service, node: Service) -> None:
    for service in (controller, node):
        status, said = service.ask("GET", "/v1/state", headers={"Edgelm-Version": "9.9"})
        assert status == 426
        assert "9.9" in said["problem"]
        assert __version__ in said["problem"]


def test_a_run_is_begun_once_and_cancelled_by_its_token_alone(controller: Service) -> None:
    status, first = begin(controller)
    assert (status, first["phase"]) == (200, "waiting")
    assert begin(controller) == (200, first)
    other, said = begin(controller, seed=7)
    assert other == 409
    assert first["id"] in said["problem"]
    cancel = f"/v1/runs/{first['id']}/cancel"
    assert controller.ask("POST", cancel)[0] == 409
    assert controller.ask("POST", cancel, headers={"Fencing-Token": "wrong"})[0] == 409
    status, said = controller.ask("POST", cancel, headers={"Fencing-Token": first["token"]})
    assert (status, said["phase"]) == (200, "cancelled")
    told = [event["event"] for event in controller.ask("GET", "/v1/events")[1]]
    assert told[-2:] == ["begun", "cancelled"]


def test_events_are_waited_for(controller: Service) -> None:
    known = len(controller.ask("GET", "/v1/events")[1])
    began_s = time.monotonic()
    assert controller.ask("GET", f"/v1/events?after={known}&wait_s=1")[1] == []
    assert time.monotonic() - began_s > 0.9
    _, run = begin(controller, seed=3)
    assert controller.ask("GET", f"/v1/events?after={known}&wait_s=30")[1][0]["run"] == run["id"]
    path = f"/v1/runs/{run['id']}/cancel"
    controller.ask("POST", path, headers={"Fencing-Token": run["token"]})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"target": "twin"}, "target", id="for the twin"),
        pytest.param({"strategy": "ORACLE", "parameters": {}}, "strategy", id="knows the future"),
    ],
)
def test_what_services_cannot_run_is_refused(
    controller: Service, changes: dict[str, Any], field: str
) -> None:
    status, said = begin(controller, **changes)
    assert status == 422
    assert field in said["problem"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/runs/abc", {"experiment": "{}"}, 422),
        ("PUT", "/v1/runs/0123456789ab", {"experiment": "{}"}, 422),
        ("PUT", "/v1/runs/0123456789ab", {"experiment": "no JSON"}, 422),
        ("PUT", "/v1/runs/0123456789ab", {"experiment": "{}", "speed": -1}, 422),
        ("PUT", "/v1/runs/0123456789ab", b"\xff\xfe", 422),
        ("GET", "/v1/runs/0123456789ab", None, 404),
        ("GET", "/v1/runs/0123456789ab/records", None, 404),
        ("GET", "/v1/runs/0123456789ab/nodes/vm2/files/journal.jsonl", None, 404),
        ("GET", "/v1/runs/0123456789ab/nodes/vm2/files/token", None, 422),
        ("GET", "/v1/runs/0123456789ab/nodes/..%2f..%2f/files/journal.jsonl", None, 404),
        ("POST", "/v1/runs/0123456789ab/nodes/vm2/reports", {}, 422),
        ("POST", "/v1/runs/0123456789ab/played", {"requests": 1}, 404),
        ("GET", "/v1/events?after=-1", None, 422),
        ("GET", "/v1/events?wait_s=1e9", None, 422),
        ("GET", "/v1/nodes/vm2/news?url=x&after=1", None, 422),
    ],
)
def test_bad_input_of_the_controller(
    controller: Service, method: str, path: str, body: Any, status: int
) -> None:
    assert controller.ask(method, path, body)[0] == status


@pytest.mark.parametrize("path", ["requests", "transfers", "results", "requests/1/cancel"])
def test_a_node_without_a_run_takes_nothing(node: Service, path: str) -> None:
    assert node.ask("POST", f"/v1/runs/0123456789ab/{path}", {})[0] == 409


def test_two_nodes_of_one_name_are_noticed(controller: Service) -> None:
    first = "/v1/nodes/vm9/news?url=http://127.0.0.1:1"
    assert controller.ask("GET", first)[0] == 200
    status, said = controller.ask("GET", "/v1/nodes/vm9/news?url=http://127.0.0.1:2")
    assert status == 409
    assert "vm9" in said["problem"]
    assert controller.ask("GET", first)[0] == 200


def test_metrics_are_those_of_the_table(controller: Service, node: Service) -> None:
    for service, emitter in ((controller, Emitter.CONTROLLER), (node, Emitter.NODE)):
        status, text = service.ask("GET", "/metrics")
        assert status == 200
        assert problems(text.decode(), emitter) == []


def test_a_port_that_is_taken_is_named(controller: Service, tmp_path: Path) -> None:
    found = subprocess.run(
        [
            sys.executable, "-m", "controller.cli", "controller", "--port", str(controller.port),
            "--data", str(tmp_path),
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    assert str(controller.port) in found.stderr
    assert "Traceback" not in found.stderr
