"""Front doors of a real testbed, asked by the official client. Engines are emulated."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import polars as pl
import pytest

from controller.bootstrap.cluster import CALLS
from controller.bootstrap.condition import read_state
from controller.telemetry.names import NODE_PODS
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER
from controller.testbed.node.calls import FIRST_CALL
from tests.live.front_doors import HELLO, PNG, Doors, Run, doors, front_experiment, picture

SPEED = 20.0
CANARY = "canary-9c2e"
CALL = {"model": "LM1", "messages": HELLO, "max_tokens": 3}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with doors(tmp_path_factory.mktemp("doors") / "services", SPEED) as found:
        yield found


@pytest.fixture(scope="module")
def finished(there: Doors) -> dict[str, Any]:
    """The files of a run beside which users called, and what they got."""
    one = front_experiment(seed=3)
    run = Run(there, one)
    alice, bob = there.client("alice"), there.client("bob", node=1)
    with ThreadPoolExecutor(4) as pool:
        answers = {
            "chat": pool.submit(
                alice.chat.completions.create, model="LM1", n=2, max_tokens=5,
                messages=[{"role": "user", "content": CANARY}],
            ),
            "text": pool.submit(
                bob.completions.create, model="LM2", prompt=[CANARY, "b"], max_tokens=3
            ),
            "image": pool.submit(bob.images.generate, prompt=CANARY, n=2, size="64x64"),
            "caption": pool.submit(
                alice.chat.completions.create, model="LM3",
                messages=picture(text=CANARY), max_tokens=4,
            ),
        }  # fmt: skip
        got = {name: answer.result(120) for name, answer in answers.items()}
    return {"files": run.files.result(240), "run_id": one.run_id, **got}


@pytest.fixture(scope="module")
def door(there: Doors, finished: dict[str, Any]) -> Iterator[Doors]:
    """Front doors beside a run that is on for longer than any test takes."""
    run = Run(there, front_experiment(seed=4, epoch_slots=2000))
    there.client().chat.completions.create(**CALL)  # its server is there from here on
    yield there
    run.end()


def test_every_modality_is_answered(finished: dict[str, Any]) -> None:
    chat = finished["chat"]
    assert [one.index for one in chat.choices] == [0, 1]
    assert len({one.message.content for one in chat.choices}) == 2, "each has its own seed"
    assert chat.choices[0].message.role == "assistant"
    assert chat.choices[0].finish_reason == "stop"
    assert chat.usage is None, "nobody counted tokens"
    text = finished["text"]
    assert [len(one.text.split()) for one in text.choices] == [3, 3]
    image = finished["image"]
    assert len(image.data) == 2
    assert all(base64.b64decode(one.b64_json).startswith(b"\x89PNG") for one in image.data)
    assert len(finished["caption"].choices[0].message.content.split()) == 4


def test_calls_are_on_record_beside_the_workload(finished: dict[str, Any]) -> None:
    files = finished["files"]
    calls = pl.read_parquet(io.BytesIO(files[CALLS]))
    workload = pl.read_parquet(io.BytesIO(files["requests.parquet"]))
    assert calls.schema == workload.schema
    assert sorted(calls["lm"]) == ["LM1", "LM2", "LM3", "LM4"]
    assert calls["success"].all()
    assert calls["request_id"].min() >= FIRST_CALL
    assert calls["request_id"].is_unique().all()
    assert workload["request_id"].to_list() == list(range(len(workload)))
    assert workload.filter(pl.col("failure") == "unfinished").is_empty()
    assert dict(calls.select("lm", "prompts").iter_rows()) == {
        "LM1": 2, "LM2": 2, "LM3": 1, "LM4": 2,
    }  # fmt: skip
    assert calls["latency_s"].is_not_null().all()
    summary = json.loads(files["summary.json"])
    arrivals = {lm: one["arrivals"] for lm, one in summary["per_lm"].items()}
    assert sum(arrivals.values()) == len(workload), "the summary's own figures are the workload's"
    assert summary["calls"]["requests"] == 4
    assert 0 <= summary["calls"]["with_workload"]["f_norm"] <= 1


def test_what_users_say_and_get_stays_out_of_everything_else(
    there: Doors, finished: dict[str, Any]
) -> None:
    """Neither logs, records nor the controller have it, and a node drops it once it is answered."""
    secrets = [CANARY.encode(), PNG.encode(), *there.keys.values()]
    secrets += [finished["chat"].choices[0].message.content.encode()]
    secrets += [finished["image"].data[0].b64_json.encode()]
    marks = [one.encode() if isinstance(one, str) else one for one in secrets]
    contents = {"requests", "results"}  # folders of LM servers, as for every request
    looked = 0
    for path in there.folder.rglob("*"):
        if path.is_file() and path.parent.name not in contents and "node.sqlite" not in path.name:
            content = path.read_bytes()
            assert not [mark for mark in marks if mark in content], path
            looked += 1
    assert looked > 20
    for name, content in finished["files"].items():
        assert not [mark for mark in marks if mark in content], name
    left = 0
    for path in there.folder.glob(f"*/runs/{finished['run_id']}.*/node.sqlite"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            for table in ("payloads", "results"):
                query = f"SELECT COUNT(*) FROM {table} WHERE id >= {FIRST_CALL}"  # noqa: S608
                left += database.execute(query).fetchone()[0]
    assert left == 0


def test_a_nodes_metrics_have_a_line_per_lm_with_the_state_of_its_pod(door: Doors) -> None:
    shown = headers(door.testbed.keys(), CONTROLLER)
    nodes = read_state(door.testbed.url, shown)["nodes"]
    for url in nodes.values():
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - loopback
            lines = answer.read().decode().splitlines()
        pods = [line for line in lines if line.startswith(NODE_PODS.name + "{")]
        found = {text_of(line, "lm"): text_of(line, "state") for line in pods}
        assert sorted(found) == ["LM1", "LM2", "LM3", "LM4"]
        assert set(found.values()) <= {"off", "starting", "ready", "stopping", "pending"}
        assert all(line.endswith((" 1", " 1.0")) for line in pods)


def text_of(line: str, label: str) -> str:
    """Return a label's value in a line of Prometheus' format."""
    return line.partition(f'{label}="')[2].partition('"')[0]


def test_a_stream_is_the_same_text(door: Doors) -> None:
    client = door.client()
    call = {**CALL, "seed": 5, "max_tokens": 40}
    whole = client.chat.completions.create(**call).choices[0].message.content
    chunks = list(
        client.chat.completions.create(**call, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    parts = [one.choices[0].delta.content or "" for one in chunks[:-1]]
    assert "".join(parts) == whole
    assert len([part for part in parts if part]) > 1
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], None)
    texts = client.completions.create(model="LM1", prompt="a", max_tokens=4, stream=True)
    assert len("".join(one.choices[0].text for one in texts).split()) == 4


def test_the_async_client_gets_what_it_asks_for(door: Doors) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(**door.settings("bob", node=1)) as client:
            return await asyncio.gather(
                client.chat.completions.create(**CALL),
                client.chat.completions.create(model="openai-community/gpt2", messages=HELLO, n=3),
                client.models.retrieve("openai-community/gpt2"),
                client.models.list(),
            )

    one, three, model, models = asyncio.run(ask())
    assert (one.model, len(one.choices)) == ("LM1", 1)
    assert (three.model, len(three.choices)) == ("openai-community/gpt2", 3)
    assert (model.id, model.root) == ("LM1", "openai-community/gpt2")
    assert [one.id for one in models.data] == ["LM1", "LM2", "LM3", "LM4"]


def test_a_stop_ends_a_text(door: Doors) -> None:
    call = {**CALL, "seed": 7, "max_tokens": 20}
    whole = door.client().chat.completions.create(**call).choices[0].message.content
    word = whole.split()[5]
    cut = door.client().chat.completions.create(**call, stop=[word]).choices[0].message.content
    assert cut == whole.partition(word)[0]


@pytest.mark.parametrize(
    ("changes", "kind", "code", "param"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "LM4"}, openai.BadRequestError, "unsupported_model", "model"),
        ({"temperature": 0.3}, openai.BadRequestError, "unsupported_parameter", "temperature"),
        ({"extra_body": {"top_k": 3}}, openai.BadRequestError, "unknown_parameter", "top_k"),
        ({"messages": picture()}, openai.BadRequestError, "unsupported_content",
         "messages.0.content.1"),
        ({"n": 9}, openai.BadRequestError, "invalid_value", "n"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_the_clients_own_error(
    door: Doors, changes: dict[str, Any], kind: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(kind) as raised:
        door.client().chat.completions.create(**{**CALL, **changes})
    assert (raised.value.code, raised.value.param) == (code, param)


def test_an_image_by_url_is_refused(door: Doors) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        door.client().images.generate(model="LM4", prompt="a", response_format="url")
    assert raised.value.param == "response_format"


def test_a_foreign_key_opens_nothing(door: Doors) -> None:
    for key in ("sk-edgelm-none", door.keys["alice"] + "x", "none"):
        with pytest.raises(openai.AuthenticationError) as raised:
            door.client(key).chat.completions.create(**CALL)
        assert raised.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            door.client(key).models.list()


def test_the_nodes_own_routes_are_not_behind_the_front_door(door: Doors) -> None:
    for path in ("/v1/state", "/metrics", "/v1/runs/0123456789ab/requests/1/results"):
        connection = HTTPConnection("127.0.0.1", door.port, timeout=20)
        connection.request("GET", path, headers={"Authorization": f"Bearer {door.keys['alice']}"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (404, "unknown_url")
        connection.close()


def test_too_many_at_once_are_told_to_wait(door: Doors) -> None:
    path = door.folder / "users.json"
    before = path.read_text()
    document = json.loads(before)
    document["users"]["bob"]["at_once"] = 2
    path.write_text(json.dumps(document))

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(**door.settings("bob")) as client:
            calls = [client.chat.completions.create(**CALL) for _ in range(6)]
            return await asyncio.gather(*calls, return_exceptions=True)

    try:
        found = asyncio.run(ask())
    finally:
        path.write_text(before)
    refused = [one for one in found if isinstance(one, openai.RateLimitError)]
    assert len(refused) == 4
    assert {one.code for one in refused} == {"rate_limit_exceeded"}
    assert all(int(one.response.headers["retry-after"]) >= 1 for one in refused)
    assert sum(not isinstance(one, Exception) for one in found) == 2


def test_a_key_that_is_taken_out_of_the_file_opens_nothing_any_more(door: Doors) -> None:
    path = door.folder / "users.json"
    before = path.read_text()
    document = json.loads(before)
    del document["users"]["bob"]
    path.write_text(json.dumps(document))
    try:
        with pytest.raises(openai.AuthenticationError):
            door.client("bob").models.list()
        door.client("alice").models.list()
    finally:
        path.write_text(before)
    door.client("bob").models.list()


def test_callers_that_go_away_end_their_requests(door: Doors) -> None:
    """Nobody waits for these images any more, so none but those in hand are made."""
    headers = {"Content-Type": "application/json"}
    headers["Authorization"] = f"Bearer {door.keys['alice']}"
    body = json.dumps({"model": "LM4", "prompt": "a", "n": 8})
    connections = [HTTPConnection("127.0.0.1", door.port, timeout=30) for _ in range(6)]
    for connection in connections:
        connection.request("POST", "/v1/images/generations", body, headers)
    time.sleep(0.5)
    for connection in connections:
        connection.close()
    end_s = time.monotonic() + 20
    while len(cancelled(door)) < len(connections) - 1:
        assert time.monotonic() < end_s, "requests go on"
        time.sleep(0.2)


def cancelled(door: Doors) -> list[Any]:
    """Records of cancelled calls, as the controller has them."""
    from controller.testbed.handshake import headers
    from controller.testbed.keys import CONTROLLER

    shown = headers(door.testbed.keys(), CONTROLLER)
    run = front_experiment(seed=4, epoch_slots=2000).run_id
    url = f"{door.testbed.url}/v1/runs/{run}/records"
    asked = urllib.request.Request(url, headers=shown)  # noqa: S310 - our own
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 - our own
        records = [json.loads(line) for line in answer.read().splitlines()]
    return [
        one for one in records
        if one["failure"] == "cancelled" and one["request"]["request_id"] >= FIRST_CALL
    ]  # fmt: skip


def test_without_a_run_callers_are_told_to_wait(tmp_path: Path) -> None:
    with doors(tmp_path / "services", SPEED) as found:
        with pytest.raises(openai.InternalServerError) as raised:
            found.client().chat.completions.create(**CALL)
        assert (raised.value.status_code, raised.value.code) == (503, "no_run")
        assert int(raised.value.response.headers["retry-after"]) >= 1
        # A run that is ended answers those who wait.
        run = Run(found, front_experiment(seed=9, epoch_slots=2000))
        drawn = found.client().images.generate
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(drawn, model="LM4", prompt="a", n=8) for _ in range(4)]
            time.sleep(0.5)
            run.end()
            errors = [call.exception(60) for call in calls]
        codes = [one.code for one in errors if isinstance(one, openai.APIStatusError)]
        assert "run_ended" in codes
        assert set(codes) <= {"run_ended", "no_run"}
