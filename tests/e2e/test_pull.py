"""Weights are fetched from a hub: pinned, whole, resumed."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.testbed.weights.catalog import SOURCES
from controller.testbed.weights.folder import check, read_manifest
from tests.e2e.hub import Hub, hub
from tests.e2e.lms import environment

GPT2 = SOURCES["gpt2"]


@pytest.fixture(scope="session")
def edgelm() -> Path:
    return environment(".venv-lm", "lm-setup") / "edgelm"


@pytest.fixture
def gpt2_hub(tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not wanted")
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    (folder / "model.safetensors").write_bytes(os.urandom(30_000_000))
    with hub(GPT2.repository, GPT2.revision, folder) as server:
        yield server


def pull(edgelm: Path, url: str, to: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": url, "HF_HOME": str(to.parent / "home"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    return subprocess.run(
        [edgelm, "models", "pull", "gpt2", "--to", to, *more],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_an_engine_reads_is_fetched_once(edgelm: Path, gpt2_hub: Hub, tmp_path: Path) -> None:
    to = tmp_path / "weights"
    done = pull(edgelm, gpt2_hub.url, to)
    assert done.returncode == 0, done.stderr
    assert "licence: MIT" in done.stdout
    assert GPT2.revision in done.stdout
    manifest = check(to / "gpt2")
    assert manifest is not None
    assert set(manifest.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    sent = gpt2_hub.sent
    again = pull(edgelm, gpt2_hub.url, to)
    assert again.returncode == 0, again.stderr
    assert gpt2_hub.sent == sent


def test_a_download_that_was_cut_goes_on(edgelm: Path, gpt2_hub: Hub, tmp_path: Path) -> None:
    gpt2_hub.cut = 20_000_000
    to = tmp_path / "weights"
    for _ in range(2):  # the library may go on by itself
        done = pull(edgelm, gpt2_hub.url, to)
    assert done.returncode == 0, done.stderr
    assert check(to / "gpt2") is not None
    assert gpt2_hub.sent < 45_000_000  # from the start it would be 50


def test_other_bytes_than_listed_are_refused(edgelm: Path, gpt2_hub: Hub, tmp_path: Path) -> None:
    gpt2_hub.lie = True
    done = pull(edgelm, gpt2_hub.url, tmp_path / "weights")
    assert done.returncode == 1
    assert "model.safetensors: not the bytes that the hub lists" in done.stderr
    assert read_manifest(tmp_path / "weights" / "gpt2") is None


def test_a_branch_or_an_unknown_commit_is_no_revision(
    edgelm: Path, gpt2_hub: Hub, tmp_path: Path
) -> None:
    done = pull(edgelm, gpt2_hub.url, tmp_path / "weights", "--revision", "main")
    assert done.returncode == 2
    assert "give its commit" in done.stderr
    done = pull(edgelm, gpt2_hub.url, tmp_path / "weights", "--revision", "1" * 40)
    assert done.returncode == 1
    assert "cannot fetch openai-community/gpt2" in done.stderr


def test_without_a_hub_the_way_round_is_told(edgelm: Path, tmp_path: Path) -> None:
    done = pull(edgelm, "http://127.0.0.1:9", tmp_path / "weights")
    assert done.returncode == 1
    assert "edgelm models check" in done.stderr
    assert "HF_ENDPOINT" in done.stderr
    assert "Traceback" not in done.stderr
