"""Malformed input of any kind is refused: no answer of the server is a 5xx."""

import http.client
import json
import string
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lm_server.servers import Server, serving

METHODS = ("GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH")
FIELDS = ("id", "prompts", "deadline_unix_s", "text", "image_base64", "seed", "width", "stranger")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
    max_leaves=8,
)
prompts = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text() | json_values,
        "image_base64": st.text() | json_values,
        "seed": st.integers() | json_values,
        "output_tokens": st.integers(-1, 5000) | json_values,
        "width": st.integers(0, 3000) | json_values,
        "height": st.integers(0, 3000) | json_values,
        "steps": st.integers() | json_values,
    },
)
requests = st.fixed_dictionaries(
    {
        "id": st.text(string.ascii_letters + "._:-", min_size=1, max_size=3) | json_values,
        "prompts": st.lists(prompts, max_size=2) | json_values,
        "deadline_unix_s": st.floats() | st.just(0.0) | json_values,
    }
)
bodies = (
    st.binary()
    | (json_values | requests).map(lambda value: json.dumps(value).encode())
    # Escapes that are no text: a half of a surrogate pair.
    | st.just(b'{"id": "a", "prompts": [{"text": "\\ud800"}], "deadline_unix_s": 0}')
    | st.just(b"[" * 100_000)
)
names = st.text(max_size=5).map(lambda text: quote(text, safe="", errors="ignore"))
paths = st.one_of(
    st.just("/v1/requests"),
    st.builds("/v1/requests/{}".format, names),
    st.builds("/v1/requests/{}/results".format, names),
    st.builds("/v1/requests/{}/results/{}".format, names, st.integers() | names),
    st.sampled_from(["/healthz", "/metrics", "/openapi.json"]),
    names.map("/{}".format),
)
values = st.one_of(st.integers(), st.floats(), st.sampled_from(["true", "", "nan", "1e400"]), names)
queries = st.dictionaries(st.sampled_from(["after", "wait_s", "attached", "x"]), values)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), seconds=0) as server:
        yield server


def send(server: Server, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    client = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=40)
    try:
        client.request(method, path, body, headers)
        with client.getresponse() as answer:
            answer.read()
            return answer.status
    finally:
        client.close()


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(method=st.sampled_from(METHODS), path=paths, query=queries, body=bodies)
def test_no_call_is_answered_with_a_server_error(
    server: Server, method: str, path: str, query: dict[str, Any], body: bytes
) -> None:
    if any(value == "true" for value in query.values()):
        query.pop("attached", None)
    target = path + "?" + "&".join(f"{name}={value}" for name, value in query.items())
    assert send(server, method, target, body, {}) < 500


@settings(max_examples=200, deadline=None)
@given(body=requests.map(lambda value: json.dumps(value).encode()))
def test_no_request_is_answered_with_a_server_error(server: Server, body: bytes) -> None:
    status = send(server, "POST", "/v1/requests", body, {"Content-Type": "application/json"})
    assert status in (200, 202, 409, 422, 429)
    assert server.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "-1"},
        {"Content-Length": "x"},
        {"Transfer-Encoding": "nonsense"},
        {"Content-Type": "application/xml"},
        {"Expect": "100-continue"},
        {"X-Long": "x" * 20_000},
    ],
)
def test_strange_headers_are_no_server_error(server: Server, headers: dict[str, str]) -> None:
    assert send(server, "POST", "/v1/requests", b"{}", headers) < 500


def test_a_wrong_method_names_the_right_ones(server: Server) -> None:
    client = http.client.HTTPConnection(urlsplit(server.url).netloc)
    client.request("PUT", "/v1/requests/a")
    with client.getresponse() as answer:
        assert (answer.status, answer.getheader("Allow")) == (405, "DELETE, GET")
    client.close()


def test_the_document_names_every_status_that_is_answered(server: Server) -> None:
    document = server.ask("GET", "/openapi.json")[1]
    submit = document["paths"]["/v1/requests"]["post"]
    assert {"200", "202", "409", "413", "422", "429", "503"} == set(submit["responses"])
    assert {one["name"] for one in submit["parameters"]} == {"wait_s", "attached"}
    fields = submit["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(fields) == {"id", "prompts", "deadline_unix_s"}
