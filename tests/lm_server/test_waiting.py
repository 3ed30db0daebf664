"""Calls that wait for the engine: long polls, submissions that wait, attached clients."""

import base64
import concurrent.futures
import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lm_server.servers import Server, serving, wait_for

PROMPT_S = 0.6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, seconds=PROMPT_S, batch_factors=[1]) as server:
        yield server


def body(name: str, prompts: int = 1) -> dict[str, Any]:
    return {
        "id": name,
        "prompts": [{"seed": k, "output_tokens": 3} for k in range(prompts)],
        "deadline_unix_s": time.time() + 60,
    }


def test_a_poll_returns_with_the_next_prompt(server: Server) -> None:
    server.ask("POST", "/v1/requests", body("poll", prompts=2))
    for after in range(2):
        began_s = time.monotonic()
        view = server.ask("GET", f"/v1/requests/poll?after={after}&wait_s=20")[1]
        assert len(view["recorded"]) == after + 1
        assert time.monotonic() - began_s < PROMPT_S + 0.4
    began_s = time.monotonic()
    view = server.ask("GET", "/v1/requests/poll?after=2&wait_s=20")[1]  # it is over
    assert (view["state"], view["recorded"]) == ("done", [0, 1])
    assert time.monotonic() - began_s < 0.4


def test_a_poll_returns_when_its_time_is_up(server: Server) -> None:
    server.ask("POST", "/v1/requests", body("slow", prompts=1))
    began_s = time.monotonic()
    view = server.ask("GET", "/v1/requests/slow?wait_s=0.2")[1]
    assert 0.2 <= time.monotonic() - began_s < 0.5
    assert (view["state"], view["recorded"]) == ("open", [])
    assert server.ask("GET", "/v1/requests/nobody?wait_s=20")[0] == 404
    server.wait_for_end("slow")


@pytest.mark.parametrize("query", ["after=-1", "after=65", "wait_s=31", "wait_s=nan", "wait_s=x"])
def test_a_wrong_wait_is_refused_by_its_name(server: Server, query: str) -> None:
    server.ask("POST", "/v1/requests", body("wait"))
    status, answer = server.ask("GET", f"/v1/requests/wait?{query}")
    assert (status, answer["problems"][0]["field"]) == (422, f"query.{query.split('=')[0]}")


def test_batches_have_their_times(server: Server) -> None:
    before_s = time.time()
    server.ask("POST", "/v1/requests", body("timed", prompts=2))
    first = server.ask("GET", "/v1/requests/timed?after=0&wait_s=20")[1]
    assert len(first["batches"]) == 1
    wait_for(lambda: server.state("timed")["computing"] is not None, limit_s=PROMPT_S)
    assert server.state("timed")["computing"]["prompts"] == [1]
    began_s = server.state("timed")["computing"]["began_unix_s"]
    view = server.ask("GET", "/v1/requests/timed?after=1&wait_s=20")[1]
    assert view["batches"][0] == first["batches"][0]
    assert [one["prompts"] for one in view["batches"]] == [[0], [1]]
    assert view["batches"][1]["began_unix_s"] == pytest.approx(began_s, abs=1e-5)
    for one in view["batches"]:
        assert PROMPT_S <= one["recorded_unix_s"] - one["began_unix_s"] < PROMPT_S + 0.3
    assert before_s < view["batches"][0]["recorded_unix_s"] < began_s < time.time()
    assert server.state("timed")["computing"] is None


def test_batch_times_outlive_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.submit("kept", prompts=3)
        before = server.wait_for_end("kept")
        server.kill()
        server.start()
        after = server.state("kept")
    assert [one["prompts"] for one in after["batches"]] == [[0, 1], [2]]
    assert after["batches"] == before["batches"]


def test_all_results_come_in_one_answer(server: Server) -> None:
    server.ask("POST", "/v1/requests?wait_s=20", body("both", prompts=2))
    status, answer = server.ask("GET", "/v1/requests/both/results")
    assert status == 200
    for index, one in enumerate(answer["results"]):
        content = server.ask("GET", f"/v1/requests/both/results/{index}")[1]
        assert one["index"] == index
        assert one["media_type"] == "text/plain; charset=utf-8"
        assert base64.b64decode(one["base64"]) == content
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
    assert len(answer["results"]) == 2
    assert server.ask("GET", "/v1/requests/nobody/results")[0] == 404


def test_a_submission_may_wait_for_its_end(server: Server) -> None:
    one = body("direct")
    status, view = server.ask("POST", "/v1/requests?wait_s=20", one)
    assert (status, view["state"], view["recorded"]) == (202, "done", [0])
    assert server.ask("POST", "/v1/requests?wait_s=20", one)[0] == 200
    status, view = server.ask("POST", "/v1/requests?wait_s=0.1", body("patient"))
    assert (status, view["state"]) == (202, "open")
    server.wait_for_end("patient")


def leave(server: Server, name: str, after_s: float) -> None:
    """Submit an attached request and close the connection."""
    client = http.client.HTTPConnection(urlsplit(server.url).netloc)
    client.request("POST", "/v1/requests?attached=true", json.dumps(body(name)))
    time.sleep(after_s)
    client.close()


def test_an_attached_request_ends_with_its_connection(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=30) as server:
        leave(server, "left", 0.3)
        left_s = time.monotonic()
        assert server.wait_for_end("left")["state"] == "cancelled"
        assert time.monotonic() - left_s < 0.3  # a slice of 20 ms, and the call
        assert server.submit("next", prompts=1, deadline_s=0.2)[0] == 202
        assert server.wait_for_end("next")["state"] == "deadline"  # the engine was free


def test_an_attached_request_is_answered_at_its_end(server: Server) -> None:
    status, view = server.ask("POST", "/v1/requests?attached=true", body("stay"))
    assert (status, view["state"]) == (202, "done")


def test_who_repeats_an_attached_request_does_not_own_it(server: Server) -> None:
    one = body("owned")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        owner = pool.submit(server.ask, "POST", "/v1/requests?attached=true", one)
        wait_for(lambda: server.ask("GET", "/v1/requests/owned")[0] == 200)
        client = http.client.HTTPConnection(urlsplit(server.url).netloc)
        client.request("POST", "/v1/requests?attached=true", json.dumps(one))
        time.sleep(0.1)
        client.close()
        assert owner.result()[1]["state"] == "done"


def test_attached_requests_do_not_outlive_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=30) as server:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            call = pool.submit(server.ask, "POST", "/v1/requests?attached=true", body("gone"))
            wait_for(lambda: server.ask("GET", "/v1/requests/gone")[0] == 200)
            server.kill()
            with pytest.raises((OSError, http.client.HTTPException)):
                call.result()
        server.start()
        assert server.wait_for_end("gone")["state"] == "cancelled"


def test_a_shutdown_answers_those_who_wait(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--grace-s", "0.5", seconds=30) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        server.submit("one", prompts=1)
        poll = pool.submit(server.ask, "GET", "/v1/requests/one?wait_s=20")
        time.sleep(0.3)
        assert server.stop() == 0
        assert poll.result()[1]["state"] == "open"
