"""What a client of an LM server meets: identity, deadlines, cancellation, limits, probes."""

import concurrent.futures
import json
import os
import signal
import statistics
import time
from pathlib import Path

import pytest

from tests.lm_server.servers import Server, serving, wait_for

CANARY = "CANARY-7f3a"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_results_are_there_prompt_by_prompt(server: Server) -> None:
    assert server.submit("plain", prompts=3)[0] == 202
    view = server.wait_for_end("plain")
    assert (view["state"], view["recorded"], view["emulated"]) == ("done", [0, 1, 2], True)
    status, content = server.ask("GET", "/v1/requests/plain/results/2")
    assert (status, len(content.split())) == (200, 100)
    assert server.ask("GET", "/v1/requests/plain/results/3")[0] == 404


def test_the_same_request_again_computes_nothing(server: Server) -> None:
    body = {"id": "twice", "prompts": [{"seed": 1}], "deadline_unix_s": time.time() + 60}
    assert server.ask("POST", "/v1/requests", body)[0] == 202
    server.wait_for_end("twice")
    before = server.metric("edgelm_engine_prompts_total")
    status, view = server.ask("POST", "/v1/requests", body)
    assert (status, view["state"]) == (200, "done")
    assert server.metric("edgelm_engine_prompts_total") == before
    other = {**body, "prompts": [{"seed": 2}]}
    assert server.ask("POST", "/v1/requests", other)[0] == 409


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "../../etc/passwd"}, "id"),
        ({"id": ""}, "id"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [{}] * 65}, "prompts"),
        ({"prompts": [{"seed": -1}]}, "prompts.0.seed"),
        ({"prompts": [{"text": CANARY * 4000}]}, "prompts.0.text"),
        ({"deadline_unix_s": "soon"}, "deadline_unix_s"),
        ({"deadline_unix_s": "1900000000"}, "deadline_unix_s"),
        ({"deadline_unix_s": True}, "deadline_unix_s"),
        ({"prompts": [{"width": 2049}]}, "prompts.0.width"),
        ({"prompts": [{"height": 7}]}, "prompts.0.height"),
        ({"prompts": [{"steps": 0}]}, "prompts.0.steps"),
        ({"stranger": 1}, "stranger"),
    ],
)
def test_a_wrong_request_is_refused_by_its_field(
    server: Server, change: dict[str, object], field: str
) -> None:
    body = {"id": "wrong", "prompts": [{"seed": 1}], "deadline_unix_s": time.time() + 60}
    status, answer = server.ask("POST", "/v1/requests", {**body, **change})
    assert status == 422
    assert answer["problems"][0]["field"] == field
    assert CANARY not in json.dumps(answer)


def test_what_is_no_request_or_too_large_is_refused(server: Server) -> None:
    assert server.ask("POST", "/v1/requests", [1, 2])[0] == 422
    assert server.ask("POST", "/v1/requests", "x" * 17_000_000)[0] == 413
    assert server.ask("GET", "/v1/requests/nobody")[0] == 404
    assert server.ask("DELETE", "/v1/requests/nobody")[0] == 404


def test_a_deadline_that_has_passed_costs_no_engine_time(server: Server) -> None:
    before = server.metric("edgelm_engine_busy_seconds_total")
    server.submit("late", prompts=4, deadline_s=-1)
    assert server.wait_for_end("late")["state"] == "deadline"
    assert server.metric("edgelm_engine_busy_seconds_total") == before


def test_contents_are_nowhere_but_in_requests_and_results(server: Server) -> None:
    server.submit("secret", text=CANARY)
    server.wait_for_end("secret")
    assert CANARY.encode() not in server.ask("GET", "/metrics")[1]
    assert CANARY not in server.log.read_text()
    assert CANARY not in (server.data / "checkpoint.csv").read_text()
    for path in (server.data / "requests").iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_deadline_and_delete_free_the_engine_between_slices(tmp_path: Path) -> None:
    with serving(tmp_path, "--silent-s", "1", seconds=30) as server:
        server.submit("slow", prompts=1, deadline_s=0.5)
        server.submit("next", prompts=1)
        assert server.wait_for_end("slow")["state"] == "deadline"
        wait_for(lambda: server.metric("edgelm_queue_prompts") == 1)
        began_s = time.monotonic()
        assert server.ask("DELETE", "/v1/requests/next")[0] == 202
        assert server.wait_for_end("next")["state"] == "cancelled"
        assert time.monotonic() - began_s < 1

        # A busy worker delays no probe; a stopped one is noticed.
        server.submit("busy", prompts=1)
        times_s = []
        for _ in range(100):
            began_s = time.monotonic()
            assert server.ask("GET", "/healthz")[0] == 200
            times_s.append(time.monotonic() - began_s)
        assert statistics.quantiles(times_s, n=100)[98] < 0.25  # two shared cores
        worker = server.worker()
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: server.ask("GET", "/healthz")[0] == 503)
        os.kill(worker, signal.SIGCONT)
        wait_for(lambda: server.ask("GET", "/healthz")[0] == 200)


def test_equal_requests_at_once_are_one(server: Server) -> None:
    body = {"id": "at-once", "prompts": [{"text": "x" * 30_000}], "deadline_unix_s": 4e9}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calls = [pool.submit(server.ask, "POST", "/v1/requests", body) for _ in range(12)]
    assert sorted(call.result()[0] for call in calls) == [200] * 11 + [202]
    server.wait_for_end("at-once")


def test_a_full_queue_says_when_to_come_back(server: Server) -> None:
    answers = [server.submit(f"many-{k}", prompts=64, deadline_s=0.3)[0] for k in range(6)]
    assert answers[:4] == [202] * 4
    assert 429 in answers
    for k in range(4):
        server.wait_for_end(f"many-{k}")


def test_images_come_as_images(tmp_path: Path) -> None:
    with serving(tmp_path, output="image") as server:
        server.submit("image", prompts=1)
        server.wait_for_end("image")
        content = server.ask("GET", "/v1/requests/image/results/0")[1]
        assert content.startswith(b"\x89PNG")
