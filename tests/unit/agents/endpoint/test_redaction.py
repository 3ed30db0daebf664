"""The key that a server repeats, in all the ways in which one can be written."""

from __future__ import annotations

import base64
import html
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import pytest

from controller.agents.endpoint.endpoint import Endpoint
from controller.agents.endpoint.redaction import MARK, Redactor
from controller.domain.errors import EdgelmError
from tests.unit.agents.questions import KEY, asked, endpoint, question, with_endpoint
from tests.unit.agents.servers import Reply, answer, complaint, completion, serving

SECRET = KEY[8:]  # the part that nobody could guess


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


def percent(text: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in text)


def based(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "a bearer's": lambda key: f"Authorization: Bearer {key}",
    "in capitals": str.upper,
    "JSON escapes": escaped,
    "JSON escapes in capitals": lambda key: escaped(key).upper().replace("\\U", "\\u"),
    "JSON escapes twice": lambda key: json.dumps(escaped(key)),
    "JSON within JSON within JSON": lambda key: json.dumps(json.dumps({"k": escaped(key)})),
    "escapes of some": lambda key: "".join(
        escaped(one) if place % 2 else one for place, one in enumerate(key)
    ),
    "a needless backslash": lambda key: key.replace("-", "\\-"),
    "Python escapes": lambda key: "".join(f"\\x{ord(letter):02X}" for letter in key),
    "URL": percent,
    "URL in capitals": lambda key: percent(key).upper(),
    "URL twice": lambda key: quote(percent(key)),
    "HTML": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    "HTML with hexadecimals": lambda key: "".join(f"&#x{ord(letter):X};" for letter in key),
    "HTML with zeros": lambda key: key.replace("-", "&#00045;").replace("t", "&#0116;"),
    "HTML within JSON escapes": lambda key: escaped("".join(f"&#{ord(one)};" for one in key)),
    "URL within HTML": lambda key: html.escape(percent(key).replace("%", "&#37;")),
    "base64": based,
    "base64 of a bearer's": lambda key: based(f"Bearer {key}"),
    "base64 of a pair": lambda key: based(f"me:{key}, you"),
    "base64 at another place": lambda key: based(f"{{'key':'{key}'}}"),
    "base64 within a URL": lambda key: quote(based(key + "??>>"), safe=""),
    "hexadecimals": lambda key: key.encode().hex(),
    "over two lines": lambda key: f"{key[:9]}\n  {key[9:]}",
    "with signs that nobody sees": lambda key: "\u200b".join(key),
    "UTF-16": lambda key: "\0".join(key),
}


def leaks(text: str) -> bool:
    """The secret part, or what can be turned back into it with ease, is in the text."""
    forms = (SECRET, SECRET.upper(), based(SECRET)[4:-4], SECRET.encode().hex())
    bare = text.replace("\0", "").replace("\u200b", "").replace("\n", "").replace(" ", "")
    return any(form in bare for form in forms)


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
def test_the_key_is_found_in_whatever_way_it_is_written(write: Callable[[str], str]) -> None:
    redacted = Redactor(KEY).text(f"before {write(KEY)} after")
    assert MARK in redacted
    for _ in range(4):
        assert not leaks(redacted)
        redacted = html.unescape(redacted.encode().decode("unicode_escape"))
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


def test_all_else_stays_as_it_is() -> None:
    plain = '{"a": "100 %41 of &amp; \\u0041 \\\\n", "b": [1, 2.50]}'
    assert Redactor(KEY).body(plain.encode()) == plain.encode()
    assert Redactor(KEY).text(plain) == plain


def test_a_key_of_digits_is_found_as_a_number() -> None:
    content = Redactor("123456789012").body(b'{"error": {"code": 123456789012}}')
    assert content == b'{"error": {"code": ***}}'


def test_a_text_that_shows_the_key_at_ever_deeper_layers_ends() -> None:
    """Each key stands some layers of escapes below the one before it."""
    text = ""
    for _ in range(100):
        text = KEY[:-1] + percent(KEY[-1]) + " " + text
        for _ in range(4):
            text = text.replace("%", "%25")
    began_s = time.thread_time()
    assert Redactor(KEY).body(json.dumps({"error": text}).encode()) == b'{"error": "***"}'
    assert time.thread_time() - began_s < 2.0


@pytest.mark.parametrize("key", ["", "EMPTY", "none"])
def test_a_placeholder_is_no_secret(key: str) -> None:
    assert Redactor(key).text(f"it is {key}") == f"it is {key}"


PLACES: dict[str, Callable[[str], Reply]] = {
    "content": lambda text: answer(text),
    "parts": lambda text: answer(
        [{"type": "text", "text": text[:7]}, text[7:9], {"text": text[9:]}]
    ),
    "refusal": lambda text: answer(None, message={"refusal": text}),
    "arguments": lambda text: answer(
        None,
        message={"tool_calls": [{"id": text, "function": {"name": text, "arguments": text}}]},
    ),
    "decoded arguments": lambda text: answer(
        None, message={"tool_calls": [{"function": {"name": "f", "arguments": {text: [text]}}}]}
    ),
    "model": lambda text: answer(model=text),
    "finish": lambda text: answer(finish=text),
    "a name": lambda text: Reply({text: 1, **completion(), "choices": [], "error": {text: text}}),
    "a name given twice": lambda text: Reply(f'{{"detail": "{text}", "detail": 1}}', 500),
    "a name given twice in a 200": lambda text: Reply(f'{{"error": "{text}", "error": "no"}}'),
    "an error in a 200": lambda text: Reply({"error": {"message": text}}),
    "an error": lambda text: complaint(401, text, code=text, param=text),
    "a passing error": lambda text: complaint(500, text),
    "an option's refusal": lambda text: complaint(
        400, f"response_format is not supported: {text}", param="response_format"
    ),
    "a page": lambda text: Reply(f"<html>{text}</html>", 502),
    "a page in a 200": lambda text: Reply(f"<html>{text}</html>"),
    "a header": lambda text: Reply("", 302, {"location": f"http://127.0.0.1:9/{quote(text)}"}),
    "no HTTP": lambda text: Reply(raw=f"{text}\r\n{text}\r\n\r\n".encode("utf-8", "replace")),
    "UTF-16": lambda text: Reply(json.dumps(completion(text)).encode("utf-16")),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("way", ["plain", "JSON escapes", "URL", "base64"])
def test_the_key_is_found_wherever_a_server_puts_it(
    place: Callable[[str], Reply], way: str
) -> None:
    with serving(place(WRITTEN[way](KEY))) as server:
        got = asked(server, question(limit_s=1.0))
    assert not leaks(json.dumps(asdict(got), ensure_ascii=False)), got


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_no_message_of_the_check_shows_the_key(place: Callable[[str], Reply]) -> None:
    """Nor what a programmer sees of an exception, an endpoint, or the notes."""

    async def use(one: Endpoint) -> str:
        shown = f"{one!r}{one.transport!r}{vars(one)!r}"
        try:
            await one.check(1.0)
        except EdgelmError as error:
            shown += "".join(traceback.format_exception(error)) + repr(error)
        return shown + repr(one.notes)

    with serving(place(escaped(KEY))) as server:
        assert not leaks(with_endpoint(server, use))


def test_no_list_of_models_shows_the_key() -> None:
    def script(request: Any) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": f"model-{escaped(KEY)}"}]})
        return complaint(404, "no such model")

    async def use(one: Endpoint) -> str:
        try:
            await one.check(2.0)
        except EdgelmError as error:
            return str(error)
        return ""

    with serving(script) as server:
        said = with_endpoint(server, use)
    assert "model-***" in said
    assert not leaks(said)


def test_an_endpoint_says_nothing_of_its_key() -> None:
    one = endpoint("http://127.0.0.1:9")
    assert SECRET not in f"{one!r} {one.transport!r} {vars(one)!r}"
