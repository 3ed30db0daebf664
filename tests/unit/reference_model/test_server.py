"""The reference reasoner over HTTP, as its own process and through the official client."""

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from controller.domain.errors import Permanent
from controller.reference_model.completions import Latency
from controller.reference_model.process import serving
from tests.unit.reference_model.duets import messages
from tests.unit.reference_model.test_faults import request
from tests.unit.reference_model.test_schemas import SCHEMAS


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Latency(0.25, 0.5)) as own:
        yield own.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as one:
        yield one


def post(url: str, body: bytes) -> tuple[int, dict[str, Any], Any]:
    """Status, headers and JSON of a raw request."""
    asked = urllib.request.Request(f"{url}/chat/completions", body)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(asked, timeout=20) as reply:  # noqa: S310
            return reply.status, dict(reply.headers), json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def test_the_official_client_lists_its_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["edgelm-reference"]


def test_an_idle_connection_is_not_closed_before_the_client_drops_it(url: str) -> None:
    # Clients keep idle connections for 5 to 15 s. A server that closed one just then would lose
    # a request, and a run would depend on the machine's speed.
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    for idle_s in (6.0, 0.0):
        connection.request("GET", f"{where.path}/models")
        assert connection.getresponse().read()
        kept = connection.sock
        time.sleep(idle_s)
    assert connection.sock is kept
    connection.close()


def test_the_official_client_gets_an_agents_decision(client: openai.OpenAI) -> None:
    found = client.chat.completions.with_raw_response.create(
        model="edgelm-reference",
        messages=request()["messages"],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "deployment", "strict": True, "schema": SCHEMAS["deployer"]},
        },
    )
    completion = found.parse()
    (choice,) = completion.choices
    assert json.loads(choice.message.content or "")["LM1"]["mode"] != "off"
    assert (choice.finish_reason, completion.model) == ("stop", "edgelm-reference")
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens > usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    declared_s = float(found.headers["x-edgelm-latency-s"])
    assert declared_s == pytest.approx(0.25 + 0.5 * usage.completion_tokens)


def test_the_official_client_gets_json_of_its_schema(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="edgelm-reference",
        messages=[{"role": "user", "content": "Are you there?"}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "health", "strict": True, "schema": SCHEMAS["health"]},
        },
    )
    assert json.loads(completion.choices[0].message.content or "") == {"ok": True}


def test_an_unknown_model_is_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt-9' does not exist") as caught:
        client.chat.completions.create(
            model="gpt-9", messages=[{"role": "user", "content": "Hello"}]
        )
    assert caught.value.code == "model_not_found"


def test_streaming_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="streaming is not supported"):
        client.chat.completions.create(
            model="edgelm-reference", messages=[{"role": "user", "content": "Hello"}], stream=True
        )


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (json.dumps({**request(), "messages": "Hello"}).encode(), "messages must be a list"),
        (json.dumps({**request(), "messages": ["Hello"]}).encode(), "messages must be a list"),
        (
            json.dumps({**request(), "messages": messages({"agent": "mayor"}, {})}).encode(),
            "no such agent: 'mayor'",
        ),
        (
            json.dumps({**request(), "messages": messages([], {})}).encode(),
            "the <context> block is no JSON object",
        ),
        (
            json.dumps({**request(), "messages": messages({"agent": "planner"}, {})}).encode(),
            "the context lacks something: KeyError('nodes')",
        ),
        (
            json.dumps(
                {
                    "model": "edgelm-reference",
                    "messages": [{"role": "user", "content": "Hello"}],
                    "response_format": {"type": "json_schema", "json_schema": {}},
                }
            ).encode(),
            "unknown schema",
        ),
    ],
)
def test_what_it_cannot_read_is_400_and_says_why(url: str, body: bytes, problem: str) -> None:
    status, headers, found = post(url, body)
    assert status == 400
    assert problem in found["error"]["message"]
    assert found["error"]["type"] == "invalid_request_error"
    assert "x-edgelm-latency-s" in headers


def test_a_kept_connection_answers_without_delay(url: str) -> None:
    """Where Nagle's algorithm is on, every answer but the first takes 40 ms."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    body = json.dumps(request()).encode()
    took_s = []
    for _ in range(9):
        started_s = time.perf_counter()
        connection.request("POST", f"{parts.path}/chat/completions", body)
        connection.getresponse().read()
        took_s.append(time.perf_counter() - started_s)
    connection.close()
    assert min(took_s[1:]) < 0.03, took_s


def test_any_other_path_is_404_in_json(url: str) -> None:
    status, _, found = post(f"{url}/more", b"{}")
    assert (status, found["error"]["message"]) == (
        404,
        "no such path: /v1/more/chat/completions",
    )


def test_a_dropped_connection_is_dropped() -> None:
    with (
        serving(Latency(), "drop=1") as own,
        openai.OpenAI(base_url=own.url, api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="edgelm-reference", messages=request()["messages"])


def test_the_server_ends_with_its_block() -> None:
    with serving(Latency()) as own:
        assert [model.id for model in openai.OpenAI(base_url=own.url, api_key="x").models.list()]
    host, port = own.url.removeprefix("http://").removesuffix("/v1").split(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), 5):
        pass


def test_a_server_that_cannot_start_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Permanent, match="did not start"), serving(Latency(), "flood=1"):
        pass
    assert "no such fault" in capfd.readouterr().err


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "controller.cli", "reasoner", "--port", port],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert "edgelm reasoner: --port: cannot listen on the address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--port", "70000"), "less than or equal to 65535"),
        (("--host", "no such host"), "edgelm reasoner: --host: is no address of this machine"),
    ],
)
def test_a_wrong_place_to_listen_is_named(options: tuple[str, str], problem: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controller.cli", "reasoner", "--port", "0", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert problem in done.stderr
