"""Calls as they are read: what becomes of each field, and what prompts come of it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_server import messages

from controller.inputs.catalog import load_testbed
from controller.testbed.front import bodies, fields, pictures
from controller.testbed.front.errors import Refused
from controller.testbed.front.reading import Call, read_chat, read_completion, read_image
from tests.live.front_doors import PNG

LMS = load_testbed("paper").to_domain().lms
DOCS = Path(__file__).parents[4] / "docs" / "front-door.md"
BASE: dict[Callable[..., Call], dict[str, Any]] = {
    read_chat: {"model": "LM1", "messages": [{"role": "user", "content": "Hello"}]},
    read_completion: {"model": "LM1", "prompt": "Hello"},
    read_image: {"model": "LM4", "prompt": "A cat"},
}
TABLES = {
    read_chat: fields.CHAT, read_completion: fields.COMPLETIONS, read_image: fields.IMAGES,
}  # fmt: skip


def refusal(read: Callable[..., Call], **changes: Any) -> Refused:
    with pytest.raises(Refused) as raised:
        read({**BASE[read], **changes}, LMS)
    assert raised.value.status in (400, 404)
    return raised.value


def chat(content: Any, model: str = "LM3", **further: Any) -> Call:
    messages = [{"role": "user", "content": content}]
    return read_chat({"model": model, "messages": messages, **further}, LMS)


def image(url: str, **further: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **further}}


def test_every_prompt_is_one_that_an_lm_server_takes() -> None:
    calls = [read(body, LMS) for read, body in BASE.items()]
    calls.append(chat([image(f"data:image/png;base64,{PNG}")]))
    for call in calls:
        for prompt in call.prompts:
            messages.Prompt.model_validate(prompt)


def test_limits_are_those_of_the_lm_servers() -> None:
    assert bodies.MOST_TEXT == messages.MOST_TEXT
    assert bodies.MOST_TOKENS == messages.MOST_TOKENS
    assert bodies.MOST_SIDE == messages.MOST_PIXELS
    assert bodies.MOST_STEPS == messages.MOST_STEPS
    assert bodies.MOST_PROMPTS <= messages.MOST_PROMPTS
    assert pictures.MOST_IMAGE == messages.MOST_IMAGE


@pytest.mark.parametrize("read", BASE, ids=["chat", "completion", "image"])
def test_fields_are_refused_or_ignored_as_the_table_says(read: Callable[..., Call]) -> None:
    plain = read({**BASE[read], "seed": 1}, LMS)
    for name, fate in TABLES[read].items():
        if fate is fields.HONOURED:
            continue
        strange = {"anything": [1, "b"]}
        if fate is fields.IGNORED:
            assert read({**BASE[read], "seed": 1, name: strange}, LMS) == plain
            continue
        found = refusal(read, **{name: strange})
        assert (found.code, found.param) == ("unsupported_parameter", name)
        for neutral in (None, *fate.neutral):
            assert read({**BASE[read], "seed": 1, name: neutral}, LMS) == plain


@pytest.mark.parametrize("read", BASE, ids=["chat", "completion", "image"])
def test_an_unknown_field_is_refused_and_named(read: Callable[..., Call]) -> None:
    found = refusal(read, top_k=4)
    assert (found.code, found.param) == ("unknown_parameter", "top_k")
    assert "secret words" not in refusal(read, **{"secret words": 1}).message


@pytest.mark.parametrize("read", BASE, ids=["chat", "completion", "image"])
def test_a_value_is_never_repeated(read: Callable[..., Call]) -> None:
    for name, fate in TABLES[read].items():
        if fate is not fields.IGNORED:
            assert "s3cret" not in refusal(read, **{name: {"a": "s3cret"}}).message


def test_the_docs_have_every_field() -> None:
    text = DOCS.read_text()
    for table in TABLES.values():
        for name in table:
            assert f"`{name}`" in text, name


def test_true_is_no_number() -> None:
    assert refusal(read_chat, temperature=True).param == "temperature"
    assert read_chat({**BASE[read_chat], "temperature": 1.0}, LMS).prompts


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_what_is_missing_is_named(missing: str) -> None:
    body = {key: one for key, one in BASE[read_chat].items() if key != missing}
    with pytest.raises(Refused) as raised:
        read_chat(body, LMS)
    assert (raised.value.code, raised.value.param) == ("missing_required_parameter", missing)


@pytest.mark.parametrize("body", [[], "text", 3, None])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    for read in BASE:
        with pytest.raises(Refused):
            read(body, LMS)


def test_a_conversation_becomes_lines() -> None:
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "Hi.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Who?", "name": "bob"},
    ]
    call = read_chat({"model": "LM1", "messages": said}, LMS)
    assert call.prompts[0]["text"] == (
        "system: Be brief.\nuser: Hello\nassistant: Hi.\nuser: Who?\nassistant:"
    )
    assert chat("Hello", "LM1").prompts[0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "tool", "content": "a"}], "messages.0.role"),
        ([{"role": "user", "content": "a", "colour": 1}], "messages.0.colour"),
        ([{"role": "assistant", "content": "a", "tool_calls": [{}]}], "messages.0.tool_calls"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0"),
        ([{"role": "user", "content": " "}], "messages"),
        ([], "messages"),
    ],
)
def test_messages_that_cannot_be_read_are_named(messages: Any, param: str) -> None:
    assert refusal(read_chat, messages=messages).param == param


def test_seeds_follow_each_other_and_are_any_integer() -> None:
    seeds = [one["seed"] for one in chat("a", "LM1", n=3, seed=-1).prompts]
    assert seeds == [2**63 - 1, 0, 1]
    free = {one["seed"] for _ in range(4) for one in chat("a", "LM1", n=2).prompts}
    assert len(free) == 8


def test_the_limit_of_tokens_has_two_names() -> None:
    assert chat("a", "LM1").prompts[0]["output_tokens"] == bodies.DEFAULT_TOKENS
    assert chat("a", "LM1", max_tokens=3).prompts[0]["output_tokens"] == 3
    assert chat("a", "LM1", max_completion_tokens=4).prompts[0]["output_tokens"] == 4


def test_prompts_of_a_completion_are_repeated_in_order() -> None:
    call = read_completion({"model": "LM2", "prompt": ["a", "b"], "n": 2}, LMS)
    assert [one["text"] for one in call.prompts] == ["a", "a", "b", "b"]
    assert refusal(read_completion, prompt=["a"] * 5, n=2).param == "n"
    assert refusal(read_completion, prompt=[[1, 2]]).param == "prompt"


def test_an_image_has_a_size_and_a_model_that_may_be_left_out() -> None:
    call = read_image({"prompt": "a", "size": "64x128", "n": 2, "steps": 4}, LMS)
    assert (call.lm, len(call.prompts)) == ("LM4", 2)
    assert call.prompts[0].items() >= {"width": 64, "height": 128, "steps": 4}.items()
    assert "width" not in read_image({"prompt": "a", "size": "auto"}, LMS).prompts[0]
    for size in ("63x64", "64x4096", "large", "0x8"):
        assert refusal(read_image, size=size).param == "size"
    assert read_image({"prompt": "a", "response_format": "b64_json"}, LMS).prompts
    url = refusal(read_image, response_format="url")
    assert (url.code, url.param) == ("unsupported_parameter", "response_format")
    with pytest.raises(Refused) as raised:
        read_image({"prompt": "a"}, (*LMS, LMS[3]))
    assert raised.value.param == "model"


@pytest.mark.parametrize(
    "head",
    ["data:image/png;base64,", "DATA:Image/PNG;BASE64,", " data:image/png;charset=x;base64,"],
)
def test_data_uris_are_read_in_any_case(head: str) -> None:
    call = chat([{"type": "text", "text": "a"}, image(head + PNG, detail="low")])
    assert call.prompts[0]["image_base64"] == PNG
    assert call.prompts[0]["text"] == "a"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest", "unsupported_image_url"),
        ("file:///etc/passwd", "unsupported_image_url"),
        ("data:image/png;base64,####", "invalid_image"),
        ("data:image/png,abc", "invalid_image"),
        ("data:text/plain;base64,YQ==", "invalid_image"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "invalid_image"),
        ("data:image/png;base64," + "A" * pictures.MOST_IMAGE, "image_too_large"),
    ],
)
def test_images_that_cannot_be_taken_are_refused(url: str, code: str) -> None:
    with pytest.raises(Refused) as raised:
        chat([image(url)])
    assert (raised.value.code, raised.value.param) == (code, "messages.0.content.0.image_url.url")


def test_an_image_that_would_unpack_to_gigabytes_is_refused() -> None:
    content = base64.b64decode(PNG)
    bomb = content[:16] + struct.pack(">II", 60_000, 60_000) + content[24:]
    with pytest.raises(Refused) as raised:
        chat([image(f"data:image/png;base64,{base64.b64encode(bomb).decode()}")])
    assert raised.value.code == "image_too_large"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_pixels_are_read_from_headers(form: str) -> None:
    import io

    from PIL import Image

    for options in ({}, {"lossless": True}) if form == "WEBP" else ({},):
        file = io.BytesIO()
        Image.new("RGB", (30, 20)).save(file, form, **options)
        assert pictures.pixels_of(file.getvalue()) == 600


HEADS = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF1234WEBPVP8X", b"RIFF1234WEBPVP8L"]


@given(st.binary(max_size=80), st.sampled_from(HEADS))
def test_any_bytes_are_an_image_or_none(content: bytes, head: bytes) -> None:
    pixels = pictures.pixels_of(head + content)
    assert pixels is None or pixels >= 0


def test_models_and_endpoints_must_suit() -> None:
    assert refusal(read_chat, model="gpt-4o").status == 404
    assert refusal(read_chat, model="LM4").code == "unsupported_model"
    assert refusal(read_completion, model="LM3").code == "unsupported_model"
    assert refusal(read_image, model="LM1").code == "unsupported_model"
    assert chat("a", "openai-community/gpt2").lm == "LM1"


def test_images_go_to_lms_that_take_them_alone() -> None:
    one = image(f"data:image/png;base64,{PNG}")
    with pytest.raises(Refused) as raised:
        chat([one], "LM1")
    assert (raised.value.status, raised.value.code) == (400, "unsupported_content")
    for parts in ([{"type": "text", "text": "a"}], [one, one]):
        with pytest.raises(Refused) as raised:
            chat(parts)
        assert raised.value.code == "unsupported_content"


def test_a_call_does_not_show_its_contents() -> None:
    assert "Hello" not in repr(chat("Hello", "LM1"))
