"""Refusal of unknown parameters: what is refused, and that all else passes byte for byte."""

import asyncio
import json
import re

import pytest

from controller.airflow.middleware import MOST_BYTES, NewRuns
from controller.airflow.params import parameters

PATH = "/api/v2/dags/run_campaign/dagRuns"
MANY = json.dumps({"conf": {"strategy": 1, "strategies": ["RF"], "zzz": 2}}).encode()


class Airflow:
    """An application that keeps what it gets."""

    def __init__(self) -> None:
        self.scope, self.bodies, self.after = None, [], None

    async def __call__(self, scope, receive, send) -> None:
        self.scope = scope
        while True:
            message = await receive()
            self.bodies.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        self.after = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"created"})


def post(parts, path=PATH, known=True, method="POST", kind="http"):
    """Return status, document and application after a request that comes in parts."""
    airflow, sent = Airflow(), []
    left = [
        {"type": "http.request", "body": part, "more_body": k + 1 < len(parts)}
        for k, part in enumerate(parts)
    ]

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async def is_known(scope):
        return known

    headers = [(b"content-length", str(len(b"".join(parts))).encode()), (b"x", b"y")]
    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    asyncio.run(NewRuns(airflow, is_known=is_known)(scope, receive, send))
    body = b"".join(one.get("body", b"") for one in sent)
    return sent[0]["status"], body if body == b"created" else json.loads(body), airflow


def test_unknown_keys_are_refused_before_anything_is_created():
    status, document, airflow = post([MANY])
    assert status == 400
    assert airflow.scope is None
    choices = ", ".join(parameters()["run_campaign"])
    assert document == {
        "detail": "run_campaign has no parameter 'strategy'; did you mean strategies? it has "
        f"{choices}. run_campaign has no parameter 'zzz'; it has {choices}."
    }


@pytest.mark.parametrize("path", [f"{PATH}/", f"/base{PATH}"])
def test_other_ways_to_the_same_place(path):
    assert post([MANY], path)[0] == 400


def test_a_key_may_be_split_over_messages():
    assert post([MANY[:20], MANY[20:21], b"", MANY[21:]])[0] == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 10**5,
     b'{"dag_run_id": "mine", "conf": null}', b'{"dag_run_id": "mine", "conf": []}',
     b'{ "dag_run_id":  "mine", "conf": {"seeds":  3}, "note": "x"}'],
)  # fmt: skip
def test_all_else_is_airflows_and_unchanged(body):
    status, _, airflow = post([body])
    assert status == 200
    assert b"".join(airflow.bodies) == body
    assert airflow.after == {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("dag_id", "conf", "name"),
    [
        ("run_campaign", {"campaign": "paper"}, "paper"),
        ("run_campaign", {}, "smoke"),
        ("run_campaign", None, "smoke"),
        ("run_epochs", {"strategy": "RF"}, "RF"),
    ],
)
def test_a_run_without_an_id_is_named_by_what_it_is(dag_id, conf, name):
    body = json.dumps({"dag_run_id": None, "logical_date": None, "conf": conf}).encode()
    first, second = (post([body], f"/api/v2/dags/{dag_id}/dagRuns")[2] for _ in range(2))
    found = json.loads(first.bodies[0])
    assert re.fullmatch(rf"{name}-[0-9a-f]{{6}}", found["dag_run_id"])
    assert {**found, "dag_run_id": None} == json.loads(body)
    assert second.bodies != first.bodies, "no two have one name"
    length = str(len(first.bodies[0])).encode()
    assert sorted(first.scope["headers"]) == [(b"content-length", length), (b"x", b"y")]


def test_other_dags_runs_are_named_by_airflow():
    body = b'{"conf": {}}'
    assert post([body], "/api/v2/dags/analyse_campaign/dagRuns")[2].bodies == [body]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/api/v2/dags/stranger/dagRuns", "POST"),
        ("/api/v2/dags/run_campaign/dagRuns/list", "POST"),
        ("/api/v2/dags/run_campaign/dagRuns/one/clear", "POST"),
        ("/api/v2/dags/run_campaign/x/dagRuns", "POST"),
        (PATH, "GET"),
        (PATH, "PATCH"),
    ],
)
def test_other_requests_pass_as_they_come(path, method):
    parts = [MANY[:9], MANY[9:]]
    status, _, airflow = post(parts, path, method=method)
    assert status == 200
    assert airflow.bodies == parts


def test_who_has_not_logged_in_is_airflows():
    parts = [MANY[:9], MANY[9:]]
    assert post(parts, known=False)[2].bodies == parts


def test_a_body_is_bounded():
    big = json.dumps({"conf": {}, "note": "x" * MOST_BYTES}).encode()
    status, document, airflow = post([big[:MOST_BYTES], big[MOST_BYTES:]])
    assert status == 413
    assert str(MOST_BYTES) in document["detail"]
    assert airflow.scope is None


def test_a_sender_that_leaves_creates_nothing():
    airflow, sent = Airflow(), []
    left = [{"type": "http.request", "body": MANY[:9], "more_body": True}]

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async def is_known(scope):
        return True

    scope = {"type": "http", "method": "POST", "path": PATH}
    asyncio.run(NewRuns(airflow, is_known=is_known)(scope, receive, send))
    assert airflow.scope is None
