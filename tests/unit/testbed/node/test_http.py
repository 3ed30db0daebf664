"""Who may do what at a node, by its routes and a run that says whose a request is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from controller.testbed.keys import make_keys
from controller.testbed.node.calls import FIRST_CALL
from controller.testbed.node.executor import checksum_of
from controller.testbed.node.http import make_app
from controller.testbed.node.records import Outcome, Request
from controller.testbed.node.wire import to_wire

KEYS = make_keys(["vm2", "vm3", "vm4"], b"of a test")
RUN = "/v1/runs/0123456789ab"


class Executor:
    """Request 1 of vm3 is hosted here; request 2 was sent to vm3."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def origin_of(self, key: int) -> str | None:
        return {1: "vm3"}.get(key)

    def host_of(self, key: int) -> str | None:
        return {2: "vm3"}.get(key)

    def result(self, key: int) -> bytes:
        return b"{}"

    def post(self, event: Any) -> None:
        self.done.append(type(event).__name__)

    async def take_transfer(self, request: Request, attempt: int, payload: bytes) -> None:
        self.done.append("transfer")

    async def take_result(self, outcome: Outcome, host: str, result: bytes) -> None:
        self.done.append("result")


class Run:
    run_id, node = "0123456789ab", "vm2"

    def __init__(self) -> None:
        self.executor: Any = Executor()

    def now_s(self) -> float:
        return 1.0

    def slot_of(self, time_s: float) -> int:
        return int(time_s)

    def fault_of(self, lm: str, prompts: list[dict[str, Any]]) -> str:
        return ""


class Holder:
    has_room = True

    def __init__(self) -> None:
        self.current = Run()

    def describe(self) -> dict[str, Any]:
        return {}

    async def metrics(self) -> str:
        return ""


HOLDER = Holder()


def ask(caller: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> int:
    shown = {"Authorization": f"Bearer {KEYS[caller].token_for('vm2')}", **(headers or {})}
    with TestClient(make_app(HOLDER, KEYS["vm2"])) as client:
        return int(client.post(f"{RUN}/{path}", headers=shown, content=body).status_code)


def transfer(caller: str, origin: str, key: int) -> int:
    request = Request(key, "LM1", origin, 1, 0, 0.0, 1, checksum_of(b""))
    return ask(
        caller,
        "transfers",
        {"Edgelm-Request": json.dumps(to_wire(request)), "Edgelm-Attempt": "1"},
    )


def result(caller: str, host: str, key: int) -> int:
    outcome = Outcome(key, "", 1.0, 1.0, 2.0, 1.0, 0)
    return ask(
        caller,
        "results",
        {
            "Edgelm-Outcome": json.dumps(to_wire(outcome)),
            "Edgelm-Host": host,
            "Edgelm-Checksum": checksum_of(b""),
        },
    )


@pytest.mark.parametrize(
    ("caller", "key", "status"),
    [("vm3", 1, 202), ("operator", 1, 202), ("vm4", 1, 403), ("vm3", 2, 403), ("operator", 2, 202)],
)
def test_a_request_is_ended_by_its_origin_alone(caller: str, key: int, status: int) -> None:
    assert ask(caller, f"requests/{key}/cancel") == status


@pytest.mark.parametrize(
    ("caller", "origin", "key", "status"),
    [
        ("vm3", "vm3", 5, 200), ("vm3", "vm3", 1, 200), ("vm4", "vm3", 5, 403),
        ("vm4", "vm4", 1, 422), ("operator", "vm3", 5, 200),
    ],
)  # fmt: skip
def test_a_request_comes_from_its_origin(caller: str, origin: str, key: int, status: int) -> None:
    assert transfer(caller, origin, key) == status


@pytest.mark.parametrize(
    ("caller", "host", "key", "status"),
    [
        ("vm3", "vm3", 2, 200), ("vm4", "vm3", 2, 403), ("vm4", "vm4", 2, 403),
        ("vm4", "vm4", 9, 200), ("operator", "vm3", 2, 200),
    ],
)  # fmt: skip
def test_a_result_comes_from_where_the_request_is(
    caller: str, host: str, key: int, status: int
) -> None:
    assert result(caller, host, key) == status


def test_calls_are_none_of_clients_business() -> None:
    """Their ids are the front door's to give, and their results their callers'."""
    body = {"request_id": FIRST_CALL, "lm": "LM1", "prompts": [{"text": "x"}]}
    assert ask("operator", "requests", body=json.dumps(body).encode()) == 422
    shown = {"Authorization": f"Bearer {KEYS['operator'].token_for('vm2')}"}
    with TestClient(make_app(HOLDER, KEYS["vm2"])) as client:
        for key, status in ((7, 200), (FIRST_CALL + 7, 404)):
            assert client.get(f"{RUN}/requests/{key}/results", headers=shown).status_code == status


@pytest.mark.parametrize("born_s", ["Infinity", "-Infinity", "NaN"])
def test_a_birth_at_no_time_is_refused(born_s: str) -> None:
    body = f'{{"request_id": 1, "lm": "LM1", "prompts": [{{"text": "x"}}], "born_s": {born_s}}}'
    assert ask("operator", "requests", body=body.encode()) == 422
