"""The controller and a node as services of their own: who is let in, and what is refused."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from controller import __version__
from controller.telemetry.exposition import problems
from controller.telemetry.names import Emitter
from controller.testbed.keys import make_keys, write_keys
from controller.testbed.node.records import Record, Request
from controller.testbed.node.wire import to_wire
from tests.live.services import live_experiment
from tests.lm_server.test_access import make_certificate
from tests.unit.telemetry.exporters import free_port

KEYS = make_keys(["vm2", "vm3"], b"of a test")


class Service:
    """A service that was started, and how to ask it."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        keys = folder / "keys.json"
        write_keys(keys, KEYS[name])
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "controller.cli", *arguments, "--port", str(self.port),
                    "--data", str(folder / "data"), "--keys", str(keys),
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
        sent = {"Content-Type": "application/json", **self.shown_by("operator")}
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

    def shown_by(self, caller: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEYS[caller].token_for(self.name)}"}

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("controller"), "controller", "controller")
    yield service
    assert service.end() == 0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    away = "http://127.0.0.1:9"
    service = Service(tmp_path_factory.mktemp("node"), "vm2", "node", "vm2", "--controller", away)
    yield service
    assert service.end() == 0


def refused_start(*arguments: str) -> str:
    """Start a service that refuses to; return what it says."""
    found = subprocess.run(
        [sys.executable, "-m", "controller.cli", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 2
    return found.stderr


def begin(service: Service, **changes: Any) -> tuple[int, Any]:
    one = live_experiment(**changes)
    return service.ask("PUT", f"/v1/runs/{one.run_id}", {"experiment": one.canonical_json()})


def test_a_foreign_token_is_refused(controller: Service, node: Service) -> None:
    for service in (controller, node):
        own = KEYS["operator"].token_for(service.name)
        elsewhere = KEYS["operator"].token_for("vm3")
        for shown in ("", "Bearer", f"Bearer {own}x", own[:-1], "Basic abc", f"Bearer {elsewhere}"):
            status, said = service.ask("GET", "/v1/state", headers={"Authorization": shown})
            assert status == 401
            assert own not in json.dumps(said)


NEWS = "/v1/nodes/{}/news?url=http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("caller", "method", "path", "expected"),
    [
        ("vm2", "GET", NEWS.format("vm2"), 200),
        ("vm2", "GET", NEWS.format("vm3"), 403),
        ("vm2", "POST", "/v1/runs/0123456789ab/nodes/vm3/reports", 403),
        ("vm2", "PUT", "/v1/runs/0123456789ab/nodes/vm3/files/journal.jsonl", 403),
        ("vm2", "PUT", "/v1/runs/0123456789ab", 403),
        ("vm2", "POST", "/v1/runs/0123456789ab/cancel", 403),
        ("vm2", "GET", "/v1/runs/0123456789ab/records", 403),
        ("vm2", "GET", "/v1/events", 403),
    ],
)
def test_a_node_may_do_its_own_work_alone(
    controller: Service, caller: str, method: str, path: str, expected: int
) -> None:
    body = {} if method in ("POST", "PUT") else None
    assert controller.ask(method, path, body, controller.shown_by(caller))[0] == expected


def test_a_report_of_what_is_not_the_nodes_own_is_refused(controller: Service) -> None:
    _, run = begin(controller, seed=11)
    request = {"request_id": 1, "lm": "LM1", "origin": "vm3", "prompts": 1, "slot": 0,
               "born_s": 0.0, "payload_bytes": 1, "checksum": "c"}  # fmt: skip
    reports = f"/v1/runs/{run['id']}/nodes/vm2/reports"

    def send(**changes: Any) -> tuple[int, Any]:
        record = to_wire(Record(Request(**{**request, **changes}), None, 0, "refused"))
        body = {"arrivals": [], "records": [record], "state": None}
        return controller.ask("POST", reports, body, controller.shown_by("vm2"))

    try:
        status, said = send()
        assert (status, "another origin" in said["problem"]) == (422, True)
        status, said = send(origin="vm2", lm="LM9")
        assert (status, "unknown LM" in said["problem"]) == (422, True)
        assert send(origin="vm2")[0] == 200
        assert controller.ask("GET", f"/v1/runs/{run['id']}")[1]["records"] == 1
    finally:
        path = f"/v1/runs/{run['id']}/cancel"
        controller.ask("POST", path, headers={"Fencing-Token": run["token"]})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://[", "vm2:8701", "http://"])
def test_an_address_that_is_none_is_refused(controller: Service, url: str) -> None:
    status, said = controller.ask("GET", f"/v1/nodes/vm2/news?url={quote(url)}")
    assert status == 422
    assert "http(s)://HOST:PORT" in said["problem"]


def test_nodes_may_send_each_other_requests_and_no_more(node: Service) -> None:
    shown = node.shown_by("vm3")
    for path in ("transfers", "results", "requests/1/cancel"):
        assert node.ask("POST", f"/v1/runs/0123456789ab/{path}", {}, shown)[0] == 409, "no run"
    assert node.ask("POST", "/v1/runs/0123456789ab/requests", {}, shown)[0] == 403
    assert node.ask("GET", "/v1/runs/0123456789ab/requests/1/results", None, shown)[0] == 403


def test_a_node_without_the_weights_it_was_given_does_not_start(tmp_path: Path) -> None:
    said = refused_start("node", "vm2", "--port", "0", "--weights", str(tmp_path / "none"))
    assert "there is no such folder" in said
    assert "edgelm models pull" in said


def test_keys_of_another_service_are_named(tmp_path: Path) -> None:
    write_keys(tmp_path / "vm3.json", KEYS["vm3"])
    said = refused_start("node", "vm2", "--port", "0", "--keys", str(tmp_path / "vm3.json"))
    assert "holds the keys of vm3" in said
    assert "give the file of vm2" in said


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


def test_services_speak_tls_to_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", tls[1])
    ports = [free_port(), free_port()]
    url = f"https://127.0.0.1:{ports[0]}"
    commands = {
        "controller": ["controller"],
        "vm2": ["node", "vm2", "--controller", url],
    }
    edgelm = [sys.executable, "-m", "controller.cli"]
    with contextlib.ExitStack() as stack:
        for (name, command), port in zip(commands.items(), ports, strict=True):
            write_keys(tmp_path / f"{name}.json", KEYS[name])
            place = ["--port", str(port), "--data", str(tmp_path / name)]
            keys = ["--keys", str(tmp_path / f"{name}.json")]
            process = subprocess.Popen([*edgelm, *command, *place, *keys, *tls])
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        write_keys(tmp_path / "operator.json", KEYS["operator"])
        end_s, found = time.monotonic() + 40, {"nodes": {}}
        while found["nodes"].get("vm2", {}).get("clock_offset_s") is None:
            assert time.monotonic() < end_s, "the node did not find the controller"
            asked = subprocess.run(
                [
                    *edgelm, "status", "--json", "--controller", url,
                    "--keys", str(tmp_path / "operator.json"),
                ],
                capture_output=True, check=False,
            )  # fmt: skip
            found = json.loads(asked.stdout) if asked.returncode == 0 else found
    node = found["nodes"]["vm2"]
    assert node["url"] == f"https://127.0.0.1:{ports[1]}"
    assert node["fault"] == ""
    assert abs(node["clock_offset_s"]) < 1


def test_metrics_are_those_of_the_table(controller: Service, node: Service) -> None:
    for service, emitter in ((controller, Emitter.CONTROLLER), (node, Emitter.NODE)):
        status, text = service.ask("GET", "/metrics")
        assert status == 200
        assert problems(text.decode(), emitter) == []


def test_a_port_that_is_taken_is_named(controller: Service, tmp_path: Path) -> None:
    port = str(controller.port)
    said = refused_start("controller", "--port", port, "--data", str(tmp_path))
    assert port in said
    assert "Traceback" not in said
