"""Servers with tiny models of random weights: text, captions, images over HTTP.

They need the extra `lm` (torch, transformers, diffusers): `make e2e` installs it and runs this.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.lm_server.servers import Server, wait_for

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="no torch here; run `make e2e`"
    ),
    pytest.mark.filterwarnings("ignore"),  # what transformers and diffusers warn of is theirs
]
LOAD_S = 90.0  # imports of diffusers take 8 s on an idle machine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from lm_server.tiny import build

    return build(tmp_path_factory.mktemp("models"))


def serving(folder: Path, engine: str, model: Path) -> Iterator[Server]:
    server = Server(folder)
    server.engine, server.model = engine, model
    try:
        server.start(ready=False)
        wait_for(lambda: server.ask("GET", "/readyz")[0] == 200, LOAD_S)
        yield server
    finally:
        if server.process is not None:
            server.kill()


@pytest.fixture(scope="module")
def text(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("text"), "text", models["gpt2"])


@pytest.fixture(scope="module")
def caption(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("caption"), "caption", models["blip"])


@pytest.fixture(scope="module")
def image(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("image"), "image", models["stable-diffusion"])


def answers(server: Server, name: str, prompts: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Media type and content of every prompt's result."""
    body = {"id": name, "prompts": prompts, "deadline_unix_s": time.time() + 120}
    status, _ = server.ask("POST", "/v1/requests", body)
    assert status == 202
    assert server.wait_for_end(name)["state"] == "done"
    results = server.ask("GET", f"/v1/requests/{name}/results")[1]["results"]
    return [(one["media_type"], base64.b64decode(one["base64"])) for one in results]


def photo(width: int = 60, height: int = 40) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (width, height), (180, 20, 20)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_text_has_the_tokens_that_were_asked_for(text: Server) -> None:
    prompts = [{"text": "Hello", "output_tokens": count} for count in (3, 12, 7)]
    found = answers(text, "tokens", prompts)
    assert all(kind.startswith("text/plain") for kind, _ in found)
    # The tiny vocabulary has a token per byte, so tokens can be counted; bytes that are no letters
    # decode to a replacement of several bytes.
    assert [len(content.decode()) for _, content in found] == [3, 12, 7]
    assert answers(text, "again", prompts) == found


def test_a_long_text_is_cut_to_what_the_model_can_read(text: Server) -> None:
    [(_, content)] = answers(text, "long", [{"text": "word " * 400, "output_tokens": 5}])
    assert len(content.decode()) == 5


def test_an_image_gets_a_caption(caption: Server) -> None:
    found = answers(caption, "photo", [{"image_base64": photo(), "output_tokens": 6}])
    assert found[0][0].startswith("text/plain")
    assert found[0][1].decode().split()


@pytest.mark.parametrize("content", ["", base64.b64encode(b"no image").decode(), "!!"])
def test_what_is_no_image_fails_and_the_server_goes_on(caption: Server, content: str) -> None:
    name = f"broken-{len(content)}"
    body = {
        "id": name, "prompts": [{"image_base64": content}], "deadline_unix_s": time.time() + 60,
    }  # fmt: skip
    caption.ask("POST", "/v1/requests", body)
    assert caption.wait_for_end(name)["state"] == "engine_error"
    assert answers(caption, f"after-{name}", [{"image_base64": photo(), "output_tokens": 2}])


def test_an_image_that_unpacks_to_too_much_is_refused(caption: Server) -> None:
    body = {
        "id": "bomb", "prompts": [{"image_base64": photo(5000, 5000)}],
        "deadline_unix_s": time.time() + 60,
    }  # fmt: skip
    caption.ask("POST", "/v1/requests", body)
    assert caption.wait_for_end("bomb")["state"] == "engine_error"


def test_images_have_the_size_that_was_asked_for_and_a_seed_gives_the_same(image: Server) -> None:
    from PIL import Image

    prompts = [
        {"text": "a dog", "seed": seed, "width": 64, "height": 48, "steps": 3}
        for seed in (1, 2, 1)
    ]  # fmt: skip
    found = answers(image, "images", prompts)
    assert {kind for kind, _ in found} == {"image/png"}
    sizes = {Image.open(io.BytesIO(content)).size for _, content in found}
    assert sizes == {(64, 48)}
    first, other, again = (content for _, content in found)
    assert first == again
    assert first != other


def test_requests_at_once_all_get_their_images(image: Server) -> None:
    from PIL import Image

    def ask(k: int) -> list[tuple[str, bytes]]:
        return answers(image, f"at-once-{k}", [{"text": "a cat", "seed": k, "steps": 2}])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    for [(_, content)] in found:
        Image.open(io.BytesIO(content)).verify()


def test_a_cancelled_image_frees_the_engine_within_a_step(image: Server) -> None:
    body = {
        "id": "slow", "prompts": [{"text": "a cat", "steps": 200}],
        "deadline_unix_s": time.time() + 120,
    }  # fmt: skip
    image.ask("POST", "/v1/requests", body)
    wait_for(lambda: image.state("slow")["computing"] is not None)
    began_s = time.monotonic()
    waits_s = []
    for _ in range(20):  # the worker computes; the front answers
        asked_s = time.monotonic()
        assert image.ask("GET", "/healthz")[0] == 200
        waits_s.append(time.monotonic() - asked_s)
    assert sorted(waits_s)[-2] < 0.25, "a probe waited for the engine"
    assert image.ask("DELETE", "/v1/requests/slow")[0] == 202
    wait_for(lambda: image.state("slow")["state"] == "cancelled")
    assert time.monotonic() - began_s < 8, "200 steps take much longer"


def test_the_parts_of_loading_are_told(text: Server) -> None:
    metrics = text.ask("GET", "/metrics")[1].decode()
    for phase in ("import", "weights", "warm_up"):
        assert f'phase="{phase}"' in metrics


def test_a_folder_that_is_no_model_ends_the_server_with_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    server = Server(tmp_path)
    server.engine, server.model = "image", tmp_path / "empty"
    server.start(ready=False)
    assert server.wait() != 0
    assert "model_index.json" in server.log.read_text()
