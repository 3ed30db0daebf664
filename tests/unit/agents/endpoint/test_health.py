"""The check before a run: what is wrong is said with its value and with what to do."""

from __future__ import annotations

import time
import traceback
from typing import Any

import pytest

from controller.agents.endpoint import health
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
from tests.unit.agents.test_replies import FORMATS


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
    assert body["stream"] is False
    assert [one["role"] for one in body["messages"]] == ["system", "user"]
    assert "tools" not in body


def words(schema: Any) -> set[str]:
    """The keywords of a schema that are not names of its own."""
    if isinstance(schema, list):
        return {word for one in schema for word in words(one)}
    if not isinstance(schema, dict):
        return set()
    found = set(schema) | {
        word for key, one in schema.items() if key not in HOLDERS for word in words(one)
    }
    for holder in HOLDERS & schema.keys():
        found |= words(list(schema[holder].values()))
    return found


HOLDERS = {"properties", "$defs"}


def test_the_check_has_every_feature_of_the_agents_schemas() -> None:
    """A server that does not know one of them says so before a run."""
    with serving(answer()) as server:
        checked(server)
        (body,) = server.asked()
    known = words(body["response_format"]["json_schema"]["schema"])
    for form in FORMATS:
        assert words(form.schema) <= known | {"const"}  # an enum of one value


def test_the_planners_model_is_asked_with_the_tools_that_it_will_be_offered() -> None:
    tool = {"type": "function", "function": {"name": "try", "parameters": {}}}

    async def use(one: Endpoint) -> list[str]:
        await one.check(5.0, tools=(tool,))
        return one.notes

    with serving(answer()) as server:
        assert with_endpoint(server, use) == []
        assert server.asked()[0]["tools"] == [tool]
    fault = complaint(400, "this model does not support tools")
    with serving(lambda request: fault if "tools" in request.body else answer()) as server:
        (note,) = with_endpoint(server, use)
    assert note == "test-model: no tools offered (HTTP 400: this model does not support tools)"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("response_format", complaint(500, "Internal Server Error")),
        ("response_format", complaint(400, "Bad Request")),
        ("response_format", Reply("Unprocessable", 422)),
        ("response_format", complaint(404, "No endpoints found that can handle the request.")),
        ("tools", complaint(400, "invalid request")),
        ("stream", complaint(501, "nope")),
    ],
)
def test_a_refusal_that_names_nothing_is_got_around(name: str, fault: Reply) -> None:
    tool = {"type": "function", "function": {"name": "try", "parameters": {}}}
    listed = Reply({"object": "list", "data": [{"id": "test-model"}]})

    def script(request: Request) -> Reply:
        if request.method == "GET":
            return listed
        return fault if name in request.body else answer()

    async def use(one: Endpoint) -> list[str]:
        await one.check(5.0, tools=(tool,))
        return one.notes

    with serving(script) as server:
        (note,) = with_endpoint(server, use)
        kept = server.asked()[-1]
    assert name not in kept
    assert len({"response_format", "tools", "stream"} & kept.keys()) == 2
    assert note.startswith("test-model: ")


@pytest.mark.parametrize(
    "fault",
    [
        complaint(503, "Loading model", type="unavailable_error"),
        Reply({"error": "Model x is currently loading", "estimated_time": 0.1}, 503),
        Reply({"error": {"code": 503, "message": "model is still warming up"}}),
    ],
)
def test_a_model_that_loads_is_waited_for(fault: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_S", 0.05)
    said: list[str] = []

    async def use(one: Endpoint) -> None:
        await one.check(5.0, say=said.append)

    with serving([fault] * 5 + [answer()]) as server:
        with_endpoint(server, use)
    (told,) = said
    assert told.startswith("waiting for test-model at ")
    assert "to load" in told


def test_a_model_that_failed_to_load_is_not() -> None:
    with serving(complaint(503, "loading failed: out of memory")) as server:
        assert "loading failed" in checked(server)


@pytest.mark.parametrize("content", ["", "Sure.", None])
def test_a_model_that_answers_poorly_is_no_reason_to_stop(content: str | None) -> None:
    with serving(answer(content, finish="length")) as server:
        assert checked(server) == ""


def test_a_model_whose_answers_stay_in_its_reasoning_is_not_used() -> None:
    """Every later call would meet the same: a run of fallbacks."""
    with serving(answer(None, message={"reasoning_content": 'So {"ok":true}'})) as server:
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
        assert len(server.asked()) == 1
    assert said.startswith("InputError")
    assert "Invalid 'temperature'" in said
    assert "correct the temperature that you gave" in said


def test_a_remedy_names_nothing_that_was_not_given() -> None:
    with serving(complaint(400, "I will not")) as server:
        said = checked(server)
    assert "I will not" in said
    assert not any(word in said for word in ("temperature", "effort", "limit", "key"))
    assert "see the server's log" in said


def test_a_model_that_is_listed_is_never_called_unknown() -> None:
    def script(request: Request) -> Reply:
        listed = Reply({"object": "list", "data": [{"id": "test-model"}]})
        return listed if request.method == "GET" else complaint(404, "test-model: nothing here")

    with serving(script) as server:
        said = checked(server)
    assert "no such model" not in said
    assert "nothing here" in said


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
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("text", "url", "loopback"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/", "http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1", True),
        ("https://api.openai.com/v1", "https://api.openai.com/v1", False),
        (" https://host.example/a/b ", "https://host.example/a/b", False),
        ("http://localhost.example/v1", "http://localhost.example/v1", False),
        ("http://0.0.0.0:8000/v1", "http://0.0.0.0:8000/v1", True),
        ("http://[::]:8000", "http://[::]:8000/v1", True),
        ("http://127.1:8000", "http://127.1:8000/v1", True),
        ("http://0/", "http://0/v1", True),
        ("http://2130706433/", "http://2130706433/v1", True),
        ("http://LOCALHOST.:80", "http://LOCALHOST.:80/v1", True),
        ("http://box.localhost", "http://box.localhost/v1", True),
        ("http://[::ffff:127.0.0.1]", "http://[::ffff:127.0.0.1]/v1", True),
        ("http://0.0.0.1/", "http://0.0.0.1/v1", False),
        ("http://[fe80::1%25lo]", "http://[fe80::1%25lo]/v1", False),
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
