"""The controller and a node as services of their own: who is let in, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from urllib.parse import quote, urlencode

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
                if self.ask("GET", "/healthz")[0] == 200:
                    return
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
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("controller"), "controller", "controller")
    yield service
    assert service.end() == 0


@pytest.fixture
def controller(central: Service) -> Iterator[Service]:
    """A controller whose testbed nobody has."""
    yield central
    lease = central.ask("GET", "/v1/lease")[1]
    if lease is not None:
        query = urlencode({"holder": lease["holder"]})
        assert central.ask("DELETE", f"/v1/lease?{query}")[0] == 200


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


def take_lease(service: Service, holder: str, ttl_s: float = 60) -> int:
    """Take the testbed, or keep it; return the fence."""
    body = {"holder": holder, "ttl_s": ttl_s}
    status, lease = service.ask("PUT", "/v1/lease", body)
    assert status == 200, lease
    return int(lease["fence"])


def begin(
    service: Service, fence: int | None = None, attempt: int = 0, **changes: Any
) -> tuple[int, Any]:
    """Ask for a run, with a lease of our own if none is given."""
    one = live_experiment(**changes)
    fence = take_lease(service, "us") if fence is None else fence
    token = {"Fencing-Token": f"{fence}.{attempt}"}
    body = {"experiment": one.canonical_json()}
    return service.ask("PUT", f"/v1/runs/{one.run_id}", body, token)


def cancel(service: Service, run: Any) -> tuple[int, Any]:
    token = {"Fencing-Token": run["fencing_token"]}
    return service.ask("POST", f"/v1/runs/{run['id']}/cancel", headers=token)


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
    reports = f"/v1/runs/{run['id']}.1/nodes/vm2/reports"

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
        assert cancel(controller, run)[0] == 200


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


def test_a_front_door_for_anyone_stays_on_loopback(tmp_path: Path) -> None:
    said = refused_start("node", "vm2", "--front-port", "0", "--front-host", "0.0.0.0")  # noqa: S104
    assert "--users FILE" in said
    said = refused_start("node", "vm2", "--users", str(tmp_path / "users.json"))
    assert "--front-port" in said
    said = refused_start(
        "node", "vm2", "--port", "0", "--front-port", "0", "--users", str(tmp_path / "users.json")
    )
    assert "users.json: cannot be read" in said


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


def test_a_run_is_begun_once_and_cancelled_by_its_newest_attempt_alone(controller: Service) -> None:
    status, first = begin(controller, attempt=1)
    assert (status, first["phase"], first["holder"]) == (200, "waiting", "us")
    assert first["waiting_for"][-1] == "player"
    status, again = begin(controller, attempt=2)
    assert (status, again["id"]) == (200, first["id"])
    assert again["fencing_token"] != first["fencing_token"]
    status, said = begin(controller, attempt=1)
    assert (status, said["problem"]) == (412, "attempt 1 was overtaken by attempt 2")
    other, said = begin(controller, seed=7)
    assert other == 409
    assert first["id"] in said["problem"]
    assert controller.ask("POST", f"/v1/runs/{first['id']}/cancel")[0] == 409
    status, said = cancel(controller, first)
    assert status == 409, "the older attempt's word"
    assert f"us has begun or found this run with {again['fencing_token']}" in said["problem"]
    assert controller.ask("GET", f"/v1/runs/{first['id']}")[1]["phase"] == "waiting"
    status, said = cancel(controller, again)
    assert (status, said["phase"]) == (200, "cancelled")
    told = [event["event"] for event in controller.ask("GET", "/v1/events")[1]]
    assert told[-2:] == ["cancel refused", "cancelled"]


def test_a_run_that_was_cancelled_is_begun_anew(controller: Service) -> None:
    _, first = begin(controller, seed=21)
    assert cancel(controller, first)[1]["phase"] == "cancelled"
    _, again = begin(controller, seed=21)
    assert (again["id"], again["phase"]) == (first["id"], "waiting")
    state = {"arrivals": [], "records": [], "state": None}
    reports = "/v1/runs/{}.{}/nodes/vm2/reports"
    shown = controller.shown_by("vm2")
    assert controller.ask("POST", reports.format(first["id"], 1), state, shown)[0] == 404
    assert controller.ask("POST", reports.format(first["id"], 2), state, shown)[0] == 200
    cancel(controller, again)


def test_one_holder_has_the_testbed(controller: Service) -> None:
    fence = take_lease(controller, "campaign a", 0.5)
    assert controller.ask("GET", "/v1/state")[1]["lease"]["holder"] == "campaign a"
    wanted = {"holder": "campaign b", "ttl_s": 60}
    status, said = controller.ask("PUT", "/v1/lease", wanted)
    assert (status, said["lease"]["fence"]) == (409, fence)
    assert "held by campaign a until " in said["problem"]
    assert take_lease(controller, "campaign a", 0.5) == fence
    renewal = {"holder": "campaign a", "ttl_s": 0.5, "fence": fence}
    assert controller.ask("PUT", "/v1/lease", renewal)[1]["fence"] == fence
    _, run = begin(controller, fence, seed=22)

    time.sleep(0.6)  # its holder is stuck
    assert controller.ask("GET", "/v1/lease") == (200, None)
    status, said = begin(controller, fence, seed=23)
    assert (status, "take the testbed's lease first" in said["problem"]) == (409, True)
    newer = take_lease(controller, "campaign b")
    status, said = begin(controller, fence, seed=23)
    assert (status, "held by campaign b" in said["problem"]) == (409, True)
    status, said = controller.ask("PUT", "/v1/lease", renewal)
    assert (status, "was lost" in said["problem"]) == (409, True)
    status, other = begin(controller, newer, seed=23)
    assert (status, other["phase"]) == (200, "waiting")
    found = controller.ask("GET", "/v1/events")[1]
    ended = [one for one in found if one["event"] == "cancelled"][-1]
    assert (ended["run"], ended["problem"]) == (
        run["id"], "the lease of campaign a has ended",
    )  # fmt: skip
    cancel(controller, other)
    assert controller.ask("DELETE", "/v1/lease?holder=campaign+a")[0] == 200, "does nothing"
    assert controller.ask("GET", "/v1/lease")[1]["fence"] == newer
    _, left = begin(controller, newer, seed=24)
    assert controller.ask("DELETE", "/v1/lease?holder=campaign+b")[0] == 200
    assert controller.ask("GET", "/v1/lease")[1] is None
    found = controller.ask("GET", f"/v1/runs/{left['id']}")[1]
    assert (found["phase"], found["problem"]) == (
        "cancelled", "campaign b has given the testbed back",
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"holder": ""},
        {"holder": "a", "ttl_s": 0},
        {"holder": "a", "ttl_s": "Infinity"},
        {"ttl_s": 1},
        {"holder": "a", "fence": 0},
        {"holder": "a", "more": 1},
    ],
)
def test_a_lease_that_cannot_be_is_refused(controller: Service, body: Any) -> None:
    assert controller.ask("PUT", "/v1/lease", body)[0] == 422


def test_the_player_may_play_and_no_more(controller: Service, node: Service) -> None:
    shown = controller.shown_by("player")
    assert controller.ask("GET", f"/v1/player/news?instance={'0' * 32}", None, shown) == (
        200,
        {"run": None, "nodes": ANY},
    )
    for path in ("/v1/events", "/v1/state", "/v1/lease", "/v1/runs/0123456789ab/records"):
        assert controller.ask("GET", path, None, shown)[0] == 403
    assert controller.ask("PUT", "/v1/traces/" + "0" * 64, b"", shown)[0] == 403
    assert controller.ask("GET", "/v1/traces/" + "0" * 64, None, shown)[0] == 404
    shown = node.shown_by("player")
    assert node.ask("POST", "/v1/runs/0123456789ab.1/requests", {}, shown)[0] == 409, "no run"
    assert node.ask("POST", "/v1/runs/0123456789ab.1/transfers", {}, shown)[0] == 403


def test_a_trace_is_kept_for_the_player(controller: Service) -> None:
    content = b"a,b\n1,2\n"
    path = f"/v1/traces/{hashlib.sha256(content).hexdigest()}"
    assert controller.ask("PUT", path, b"else")[0] == 422
    assert controller.ask("PUT", path, content)[0] == 200
    assert controller.ask("GET", path, None, controller.shown_by("player")) == (200, content)


def test_events_are_waited_for(controller: Service) -> None:
    known = len(controller.ask("GET", "/v1/events")[1])
    began_s = time.monotonic()
    assert controller.ask("GET", f"/v1/events?after={known}&wait_s=1")[1] == []
    assert time.monotonic() - began_s > 0.9
    _, run = begin(controller, seed=3)
    lease, begun = controller.ask("GET", f"/v1/events?after={known}&wait_s=30")[1]
    assert (lease["event"], begun["run"]) == ("lease", run["id"])
    cancel(controller, run)


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
        ("GET", "/v1/runs/0123456789ab/played", None, 404),
        ("POST", "/v1/runs/0123456789ab.1/nodes/vm2/reports", {}, 422),
        ("POST", "/v1/runs/0123456789ab/nodes/vm2/reports", {}, 422),
        ("POST", "/v1/player/runs/0123456789ab.1/played", {}, 404),
        ("POST", "/v1/player/runs/0123456789ab.1/played", {"accepted": 1}, 422),
        ("PUT", "/v1/traces/abc", b"", 422),
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


def test_a_nodes_state_is_had_by_way_of_the_controller(controller: Service) -> None:
    assert controller.ask("GET", "/v1/nodes/vm8/state")[0] == 404
    assert controller.ask("GET", "/v1/nodes/vm8/news?url=http://127.0.0.1:1")[0] == 200
    status, said = controller.ask("GET", "/v1/nodes/vm8/state")
    assert status == 502
    assert "vm8 does not answer at http://127.0.0.1:1" in said["problem"]
    shown = controller.shown_by("vm2")
    assert controller.ask("GET", "/v1/nodes/vm8/state", headers=shown)[0] == 403


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


def test_a_second_player_is_noticed(controller: Service) -> None:
    news = "/v1/player/news?instance="
    assert controller.ask("GET", news + "1" * 32)[0] == 200
    status, said = controller.ask("GET", news + "2" * 32)
    assert (status, said["problem"]) == (409, "a player is there already: a testbed has one")


def test_a_run_that_cannot_be_played_fails(controller: Service) -> None:
    _, run = begin(controller, seed=31)
    played = f"/v1/player/runs/{run['id']}.1/played"
    shown = controller.shown_by("player")
    assert controller.ask("POST", played, {"problem": "the player: no such trace"}, shown)[0] == 200
    found = controller.ask("GET", f"/v1/runs/{run['id']}")[1]
    assert (found["phase"], found["problem"]) == ("failed", "the player: no such trace")
    assert controller.ask("POST", played, {"problem": "again"}, shown)[0] == 404
