"""Who has the testbed, asked of servers that answer, refuse, babble or say nothing."""

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.airflow.testbed import Address, Holding, address_of, look
from controller.testbed.keys import make_keys, write_keys
from tests.unit.telemetry.exporters import exporter, free_port

LEASE = {"key": "testbed", "holder": "run_campaign/one", "fence": 7, "until_unix_s": 1_796_000_000}


@dataclass(frozen=True)
class Connection:
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    extra_dejson: dict[str, Any] = field(default_factory=dict)


KEYS = make_keys(["vm2"], b"of a test")["operator"]


def asked(
    folder: Path, status: int, content: bytes, headers: dict[str, str] | None = None
) -> Holding:
    seen = []
    write_keys(folder / "operator.json", KEYS)

    def answer(handler):
        seen.append((handler.path, handler.headers.get("Authorization")))
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with exporter(answer) as port:
        found = look(Address(f"http://127.0.0.1:{port}", str(folder / "operator.json")))
    assert seen == [("/v1/lease", f"Bearer {KEYS.token_for('controller')}")]
    return found


def test_a_held_testbed(tmp_path):
    found = asked(tmp_path, 200, json.dumps(LEASE).encode())
    assert (found.holder, found.fence, found.problem) == ("run_campaign/one", 7, "")
    assert found.until == datetime.fromtimestamp(1_796_000_000, UTC)


def test_a_free_testbed(tmp_path):
    found = asked(tmp_path, 200, b"null")
    assert (found.holder, found.until, found.problem) == ("", None, "")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token(status, tmp_path):
    assert asked(tmp_path, status, b"{}").problem.startswith(f"it refuses the token ({status})")


@pytest.mark.parametrize("status", [404, 500])
def test_another_status(status, tmp_path):
    assert asked(tmp_path, status, b"{}").problem == f"it answers {status}"


def test_a_token_is_not_carried_elsewhere(tmp_path):
    assert (
        asked(tmp_path, 302, b"", {"Location": "http://127.0.0.1:1/"}).problem == "it answers 302"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"{}", b"7", b"\xff", b"[" * 10**5, b" " * 10**6 + b"null",
     json.dumps({**LEASE, "until_unix_s": 1e300}).encode(),
     json.dumps({**LEASE, "fence": "x"}).encode()],
)  # fmt: skip
def test_an_answer_that_is_no_lease(content, tmp_path):
    assert asked(tmp_path, 200, content).problem == "its answer is no lease: is this a controller?"


def test_nobody_there():
    found = look(Address(f"http://127.0.0.1:{free_port()}"))
    assert found.problem.startswith("it cannot be reached: ")


def test_silence():
    with exporter(lambda handler: time.sleep(1.0)) as port:
        found = look(Address(f"http://127.0.0.1:{port}"), timeout_s=0.2)
    assert found.problem == "it does not answer within 0.2 s"


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection("vm1", 8700), "http://vm1:8700"),
        (Connection("vm1", 8700, "https"), "https://vm1:8700"),
        (Connection(" http://vm1:8700/ "), "http://vm1:8700"),
        (Connection("https://edge.example/testbed/", 8700), "https://edge.example:8700/testbed"),
        (Connection("http://[::1]:8700"), "http://[::1]:8700"),
        (Connection("http://me:word@vm1:8700"), "http://vm1:8700"),
    ],
)
def test_addresses(connection, url):
    assert address_of(connection) == Address(url)


@pytest.mark.parametrize(
    "connection",
    [Connection(), Connection(" "), Connection("ftp://vm1"), Connection("file:///etc/passwd"),
     Connection("http://"), Connection("http://vm1:port"), Connection("vm1", 1, "gopher")],
)  # fmt: skip
def test_what_is_no_address(connection):
    with pytest.raises(ValueError, match=r"host|Port"):
        address_of(connection)


def test_keys_stay_in_their_file(tmp_path):
    path = tmp_path / "operator.json"
    found = address_of(Connection("vm1", 8700, None, {"keys_file": str(path), "time_scale": 20}))
    assert found == Address("http://vm1:8700", str(path), 20.0)
    assert look(found).problem.startswith(f"--keys: {found.keys_file}: cannot be read")
    write_keys(path, KEYS)
    assert KEYS.token_for("controller") not in str(found.document())
    assert KEYS.token_for("controller") in found.headers()["Authorization"]
