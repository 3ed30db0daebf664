"""The reference reasoner over HTTP, as its own process and through the official client."""

import http.client
import json
import random
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


def exchange(url: str, sent: bytes, timeout_s: float = 20.0) -> bytes:
    """All that the server sends back before it closes or falls silent."""
    parts = urlsplit(url)
    found = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s) as one:
        one.sendall(sent)
        try:
            while part := one.recv(65536):
                found += part
        except TimeoutError:
            found += b"(silence)"
    return found


def told(answer: bytes) -> tuple[int, Any]:
    """Status and JSON of an answer as it came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def request_line(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("DELETE", "/v1/models", 405, "/v1/models does not take DELETE"),
        ("GET", "/v1/chat/completions", 405, "does not take GET"),
        ("POST", "/v1/models/edgelm-reference", 405, "does not take POST"),
        ("GET", "/", 404, "no such path: /"),
        ("GET", "/v1/models/gpt-9", 404, "'gpt-9' does not exist"),
    ],
)
def test_errors_of_paths_and_methods_are_json(
    url: str, method: str, path: str, status: int, problem: str
) -> None:
    answer = exchange(url, request_line(method, path, "Host: localhost"))
    found, body = told(answer)
    assert found == status
    assert problem in body["error"]["message"]
    assert (b"allow: " in answer) == (status == 405)


def test_its_model_has_an_address(client: openai.OpenAI) -> None:
    assert client.models.retrieve("edgelm-reference").owned_by == "edgelm"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: 127.0.0.1:8765"], 200),
        (["Host: localhost"], 200),
        (["Host: [::1]:80"], 200),
        (["Host: LocalHost:1"], 200),
        ([f"Host: {socket.gethostname()}"], 200),
        (["Host: localhost:80", "Origin: http://localhost:80"], 200),
        (["Host: evil.example"], 403),
        (["Host: 127.0.0.1.evil.example"], 403),
        (["Host: localhost@evil.example"], 403),
        (["Host: "], 403),
        (["Host: localhost", "Origin: https://evil.example"], 403),
        (["Host: localhost", "Origin: null"], 403),
    ],
)
def test_web_pages_of_others_are_refused(url: str, headers: list[str], status: int) -> None:
    found, body = told(exchange(url, request_line("GET", "/v1/models", *headers)))
    assert found == status
    assert status == 200 or "error" in body


def posted(url: str, body: bytes) -> tuple[int, str]:
    status, _, found = post(url, body)
    return status, found.get("error", {}).get("message", "")


def test_a_large_body_is_refused_while_it_comes(url: str) -> None:
    length = 200_000_000
    head = request_line(
        "POST", "/v1/chat/completions", "Host: localhost", f"Content-Length: {length}"
    )
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as one:
        one.sendall(head)
        sent = 0
        try:
            while sent < length:
                sent += one.send(b" " * 1_000_000)
        except OSError:  # it has answered, and listens no more
            pass
        assert sent < 60_000_000
    assert posted(url, b"{}")[0] == 404  # and it lives


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[" * 100_000, "not JSON"),
        (b"[" * 500 + b"]" * 500, "nests more than 100 times"),
        (b'{"model":' + b'{"a":' * 400 + b"1" + b"}" * 401, "nests more than 100 times"),
        (b'{"model": NaN}', "NaN is no number of JSON"),
        (b'{"n": -Infinity}', "-Infinity is no number of JSON"),
        (b"9" * 5000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_bodies_that_are_none_are_400(url: str, body: bytes, problem: str) -> None:
    status, message = posted(url, body)
    assert status == 400
    assert problem in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("stream", True),
        ("logprobs", True),
        ("modalities", ["audio"]),
        ("functions", [{}]),
        ("response_format", {"type": "xml"}),
        ("response_format", "json"),
        ("tools", [None]),
        ("tools", {"a": 1}),
    ],
)
def test_what_it_cannot_do_is_refused(url: str, field: str, value: Any) -> None:
    status, _, found = post(url, json.dumps({**request(), field: value}).encode())
    assert (status, found["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    "usual",
    [{"n": 1}, {"stream": False}, {"temperature": 0.2, "seed": 1, "max_tokens": 9}, {"n": None}],
)
def test_what_says_nothing_to_an_optimiser_is_ignored(url: str, usual: dict[str, Any]) -> None:
    assert post(url, json.dumps({**request(), **usual}).encode())[0] == 200


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where the leaves of JSON stand."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        if isinstance(part, dict | list):
            yield from places(part)
        yield value, key


STRANGE = [0, -1, 1e308, -1e308, 10**30, 1e-308, 2**63, "x", "", None, True, [], {}, "1e9", 1e9]


def test_200_fuzzed_prompts_are_answered_or_refused_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(14)  # noqa: S311 (no secret hangs on it)
    statuses = []
    with serving(Latency()) as own:
        for _ in range(200):
            wanted = json.loads(json.dumps(request()))
            message = rng.choice([one for one in wanted["messages"] if "{" in one["content"]])
            text = message["content"]
            start, end = text.index("{"), text.rindex("}") + 1
            told = json.loads(text[start:end])
            holder, key = rng.choice(list(places(told)))
            holder[key] = rng.choice(STRANGE)
            message["content"] = text[:start] + json.dumps(told) + text[end:]
            statuses.append(posted(own.url, json.dumps(wanted).encode())[0])
        assert own.is_alive
    assert set(statuses) <= {200, 400}
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_client_that_goes_away_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    body = json.dumps(request()).encode()
    head = request_line(
        "POST", "/v1/chat/completions", "Host: localhost", f"Content-Length: {len(body)}"
    )
    with serving(Latency()) as own:
        parts = urlsplit(own.url)
        for sent in (head, head + body[:50], head + body, b"GET / HT", b"\x00\xff"):
            with socket.create_connection((parts.hostname or "", parts.port or 0), 20) as one:
                one.sendall(sent)
        assert posted(own.url, body)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/chat",
        request_line("POST", "/v1/chat/completions", "Host: localhost", "Content-Length: 9") + b"{",
    ],
)
def test_half_a_request_is_not_waited_for_without_end(sent: bytes) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SHORT_OF_PATIENCE], stdout=subprocess.PIPE, stdin=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with server:
        assert server.stdout is not None
        assert b"(silence)" not in exchange(server.stdout.readline().strip(), sent)
        server.terminate()


SHORT_OF_PATIENCE = """
from controller.reference_model import admission, server
from controller.reference_model.completions import Latency
from controller.reference_model.faults import NO_FAULTS
admission.IDLE_S = 0.3
server.serve("127.0.0.1", 0, Latency(), NO_FAULTS, lambda url: print(url, flush=True))
"""


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
