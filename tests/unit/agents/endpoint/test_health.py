"""The check before a run: what is wrong is said with its value and with what to do."""

from __future__ import annotations

import time
import traceback
from typing import Any

import pytest

from controller.agents.endpoint.address import Address
from controller.agents.endpoint.endpoint import Endpoint
from controller.domain.errors import EdgelmError, InputError, Permanent
from tests.unit.agents.questions import KEY, endpoint, with_endpoint
from tests.unit.agents.servers import (
    Reply,
    Request,
    Server,
    answer,
    closed_port,
    complaint,
    serving,
)


def checked(server: Server | str, limit_s: float = 5.0, **options: Any) -> str:
    """What the check says; empty if nothing is wrong."""

    async def use(one: Endpoint) -> str:
        try:
            await one.check(limit_s)
        except EdgelmError as error:
            shown = "".join(traceback.format_exception(error))
            assert KEY not in shown
            return f"{type(error).__name__} {error}"
        return ""

    return with_endpoint(server, use, **options)


def test_a_healthy_server_is_asked_once_per_model() -> None:
    with serving(answer()) as server:
        assert checked(server) == ""
        (body,) = server.asked()
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"ok": {"type": "boolean"}}


@pytest.mark.parametrize("content", ["", "Sure.", None])
def test_a_model_that_answers_poorly_is_no_reason_to_stop(content: str | None) -> None:
    with serving(answer(content, finish="length")) as server:
        assert checked(server) == ""


def test_a_model_whose_answers_stay_in_its_reasoning_is_not_used() -> None:
    """Every later call would meet the same: a run of fallbacks."""
    with serving(answer(None, message={"reasoning_content": '{"ok":true}'})) as server:
        said = checked(server)
    assert said.startswith("InputError reasoner: model: test-model at")
    assert "leaves its answer empty" in said
    assert "parser for reasoning" in said


def test_no_key_for_a_server_elsewhere() -> None:
    said = checked("https://api.openai.com/v1", key=" ")
    assert said.startswith("InputError")
    assert "OPENAI_API_KEY is empty" in said
    assert "--reasoner reference" in said


def test_a_key_is_enough_to_try_a_server_elsewhere() -> None:
    said = checked("https://192.0.2.1/v1")  # which the tests are kept from reaching
    assert said.startswith("InputError reasoner: url: cannot be reached")


@pytest.mark.parametrize("key", ["", "EMPTY", "none"])
def test_a_server_in_the_lab_may_want_no_key(key: str) -> None:
    said = checked("http://192.0.2.1/v1", key=key)
    assert said.startswith("InputError reasoner: url: cannot be reached")


def test_a_key_is_not_sent_where_everybody_can_read_it() -> None:
    with pytest.raises(
        InputError, match=r"unencrypted .*'http://192\.0\.2\.1/v1'.* https"
    ) as caught:
        endpoint("http://192.0.2.1")
    assert KEY not in str(caught.value)
    assert "unset OPENAI_API_KEY" in str(caught.value)
    assert endpoint("https://192.0.2.1").has_key
    assert endpoint("http://[::1]:8000").has_key


def test_no_key_is_fine_on_this_machine() -> None:
    with serving(answer()) as server:
        assert checked(server, key="") == ""


def test_a_server_on_this_machine_may_want_a_key() -> None:
    with serving(complaint(401, "Unauthorized")) as server:
        said = checked(server, key="")
    assert "requires a key" in said
    assert "export OPENAI_API_KEY" in said


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key(status: int) -> None:
    with serving(complaint(status, f"Incorrect API key provided: {KEY}")) as server:
        said = checked(server)
        assert server.url in said
    assert said.startswith("InputError")
    assert "does not accept the key in OPENAI_API_KEY" in said
    assert "Incorrect API key provided: ***" in said


@pytest.mark.parametrize(
    "fault",
    [
        complaint(404, "The model `x` does not exist", code="model_not_found"),
        complaint(404, 'model "test-model" not found, try pulling it first'),
        complaint(404, "not found"),
        complaint(400, "invalid model ID", param="model"),
        Reply({"detail": "no such model: test-model"}, 404),
    ],
)
def test_an_unknown_model(fault: Reply) -> None:
    listed = {"object": "list", "data": [{"id": f"model-{number}"} for number in range(20)]}

    def script(request: Request) -> Reply:
        return Reply(listed) if request.path == "/v1/models" else fault

    with serving(script) as server:
        said = checked(server)
    assert said.startswith("InputError reasoner: model:")
    assert "(got 'test-model')" in said
    assert "choose one such as model-0, model-1," in said
    assert "model-9" not in said


@pytest.mark.parametrize("listing", [Reply("", 404), Reply("<html>"), Reply({"data": [1]})])
def test_an_unknown_model_without_a_list(listing: Reply) -> None:
    fault = complaint(404, "gone", code="model_not_found")

    def script(request: Request) -> Reply:
        return listing if request.method == "GET" else fault

    with serving(script) as server:
        assert "see the provider's list of models" in checked(server)


def test_an_address_where_nobody_listens() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    began_s = time.perf_counter()
    said = checked(url)
    assert time.perf_counter() - began_s < 3.0
    assert said.startswith("InputError reasoner: url: cannot be reached")
    assert repr(url) in said
    assert "start the server or correct the address" in said


@pytest.mark.parametrize(
    "reply",
    [
        Reply("<html>hello</html>"),
        Reply("<html>no</html>", 404),
        Reply({"detail": "Not Found"}, 404),
        Reply({"detail": "Method Not Allowed"}, 405),
        Reply({"status": "fine"}),
        Reply("", 301, {"location": "https://example.org/"}),
    ],
)
def test_a_server_of_another_kind(reply: Reply) -> None:
    with serving(reply) as server:
        said = checked(server)
        assert repr(server.url) in said
    assert said.startswith("InputError")
    assert "does not support OpenAI's chat completions" in said
    assert "/v1" in said


def test_an_option_with_a_wrong_value() -> None:
    with serving(complaint(400, "Invalid 'temperature': above maximum")) as server:
        said = checked(server, temperature=9.0)
    assert said.startswith("InputError")
    assert "Invalid 'temperature'" in said


@pytest.mark.parametrize(
    "reply", [complaint(500, "overloaded"), complaint(429, "no credit", code="insufficient_quota")]
)
def test_a_server_in_trouble_is_not_the_users_mistake(reply: Reply) -> None:
    with serving(reply) as server:
        said = checked(server)
    assert said.startswith("Permanent")
    assert "overloaded" in said or "no credit" in said


def test_a_silent_server() -> None:
    with serving(Reply(hang=True)) as server:
        began_s = time.perf_counter()
        said = checked(server, limit_s=0.3)
    assert time.perf_counter() - began_s < 1.5
    assert said.startswith("Permanent")
    assert "did not answer within 0.3 s" in said


def test_the_check_learns_what_the_server_does_not_know() -> None:
    def script(request: Request) -> Reply:
        wanted = "response_format" in request.body
        return complaint(400, "response_format is unknown") if wanted else answer()

    with serving(script) as server:
        assert checked(server) == ""
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("text", "url", "loopback"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/", "http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1", True),
        ("https://api.openai.com/v1", "https://api.openai.com/v1", False),
        (" https://host.example/a/b ", "https://host.example/a/b", False),
        ("http://localhost.example/v1", "http://localhost.example/v1", False),
    ],
)
def test_addresses(text: str, url: str, loopback: bool) -> None:
    assert Address.of(text) == Address(url, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http://host:99999/v1",
        "http://[::1",
        "/v1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match=r"give an address such as https://api\.openai\.com/v1"):
        endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{KEY}@host/v1",
        f"http://host/v1?key={KEY}",
        f"http://host/v1#{KEY}",
        f"http://user:{KEY}@host:99999/v1",
        f"http://user:{KEY}%40host/v1",
        f"http://user:{KEY}/x@host/v1",
        f"user:{KEY}@host/v1",
        f"ftp://user:{KEY}@host",
    ],
)
def test_an_address_with_a_secret_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InputError) as caught:
        endpoint(text)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["sk-one two", "sk-\u00fcber", "sk-one\nsk-two"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        endpoint("https://api.openai.com/v1", key=key)
    assert "sk-" not in str(caught.value)


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    with serving(answer()) as server:
        assert checked(server, key=f" {KEY}\n") == ""
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_permanent_is_not_bad_input() -> None:
    assert not issubclass(Permanent, InputError)
