"""The front door's HTTP over a run that is made up: who gets which answer, and what is logged."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from controller.domain.requests import FAILURES
from controller.inputs.catalog import load_testbed
from controller.testbed.front import door
from controller.testbed.front.errors import FAILURES as ANSWERS
from controller.testbed.front.routes import make_app
from controller.testbed.front.users import Users
from controller.testbed.node.executor import Ended
from controller.testbed.node.records import Record, Request

CANARY = "canary-51ad"
CHAT = {"model": "LM1", "messages": [{"role": "user", "content": "Hello"}]}


class Executor:
    """An executor whose calls end as a test wants."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.error: Exception | None = None
        self.asked: list[Request] = []

    async def call(self, request: Request, payload: bytes) -> tuple[Record, bytes | None]:
        self.asked.append(request)
        if self.error:
            raise self.error
        record = Record(request, "vm2", 1, self.failure)
        texts = [f"{CANARY} {k}" for k in range(request.prompts)]
        results = [
            {"index": k, "base64": base64.b64encode(text.encode()).decode()}
            for k, text in enumerate(texts)
        ]
        found = json.dumps({"results": results[::-1]}).encode()
        return record, None if self.failure else found


class Run:
    node, began_unix_s, takes_calls = "vm2", 5.0, True
    lms = load_testbed("paper").to_domain().lms

    def __init__(self) -> None:
        self.executor = Executor()
        self.named = 2**62

    def now_s(self) -> float:
        return -1.0

    def slot_of(self, time_s: float) -> int:
        return int(time_s // 30)

    def slot_left_s(self) -> float:
        return 12.5

    async def new_call_id(self) -> int:
        self.named += 1
        return self.named


class Holder:
    def __init__(self) -> None:
        self.current: Run | None = Run()
        self.has_room = True


@pytest.fixture
def holder() -> Holder:
    return Holder()


@pytest.fixture
def client(holder: Holder) -> TestClient:
    return TestClient(make_app(holder, Users(None)), raise_server_exceptions=False)


def executor(holder: Holder) -> Executor:
    assert holder.current
    return holder.current.executor


def test_results_are_in_the_order_of_their_prompts(holder: Holder, client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "n": 3})
    choices = answer.json()["choices"]
    assert [one["message"]["content"] for one in choices] == [f"{CANARY} {k}" for k in range(3)]
    (request,) = executor(holder).asked
    assert answer.headers["x-request-id"] == str(request.request_id)
    assert (request.origin, request.prompts, request.born_s) == ("vm2", 3, 0.0)


def test_every_failure_of_a_record_has_an_answer(holder: Holder, client: TestClient) -> None:
    assert set(ANSWERS) == set(FAILURES) - {""}
    for failure, (status, code, _, again) in ANSWERS.items():
        executor(holder).failure = failure
        answer = client.post("/v1/chat/completions", json=CHAT)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (status, code, "server_error")
        assert answer.headers.get("Retry-After") == ("13" if again else None)
        assert answer.headers.get("x-should-retry") == (None if again else "false")
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda holder: setattr(holder, "current", None), "no_run"),
        (lambda holder: setattr(holder, "has_room", False), "no_room"),
        (lambda holder: setattr(holder.current, "takes_calls", False), "run_ending"),
        (lambda holder: setattr(executor(holder), "error", Ended()), "run_ended"),
    ],
)
def test_who_comes_at_the_wrong_time_is_told_to_wait(
    holder: Holder, client: TestClient, change: Callable[[Holder], None], code: str
) -> None:
    change(holder)
    answer = client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
    assert int(answer.headers["Retry-After"]) >= 1


def test_contents_are_never_logged(
    holder: Holder, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = "/v1/chat/completions"
    said = {**CHAT, "messages": [{"role": "user", "content": CANARY}]}
    executor(holder).error = RuntimeError(CANARY)
    answer = client.post(path, json=said)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert CANARY not in answer.text
    executor(holder).error = None
    client.post(path, json=said)
    client.post(path, json={**said, CANARY: 1})
    client.post(path, json={**said, "n": CANARY})
    client.post(path, content=b'{"messages": "' + CANARY.encode())
    client.post(path, json={**said, "model": CANARY})
    client.get(f"/v1/models/{CANARY}")
    own = [one.getMessage() for one in caplog.records if not one.name.startswith("httpx")]
    assert any("RuntimeError" in one for one in own), "the test looks at the wrong place"
    assert not [one for one in own if CANARY in one]


def test_a_body_must_say_what_it_is(client: TestClient) -> None:
    """A page in a browser can send text to another site unasked, but no JSON."""
    content = json.dumps(CHAT)
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post(
            "/v1/chat/completions", content=content, headers={"Content-Type": kind}
        )
        assert (answer.status_code, answer.json()["error"]["type"]) == (
            415, "invalid_request_error",
        )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN", b'"a"'])
def test_what_is_no_json_object_is_refused(client: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = client.post("/v1/completions", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_body_that_is_too_large_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST_BYTES", 1000)
    answer = client.post("/v1/completions", json={"model": "LM1", "prompt": "a" * 2000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_places_are_told_in_the_same_shape(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/v1/files", 404), ("GET", "/v1/completions", 405), ("GET", "/docs", 404),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_description_has_all_calls_and_their_bodies(client: TestClient) -> None:
    found = client.get("/openapi.json").json()["paths"]
    assert set(found) == {
        "/v1/chat/completions", "/v1/completions", "/v1/images/generations", "/v1/models",
        "/v1/models/{model}",
    }  # fmt: skip
    body = found["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["additionalProperties"] is False
    assert set(body["schema"]["required"]) == {"model", "messages"}
