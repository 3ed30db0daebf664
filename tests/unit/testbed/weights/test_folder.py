"""Folders of weights are checked file by file before a server meets them."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from controller.domain.errors import InputError
from controller.testbed.weights.catalog import SOURCES, source_of
from controller.testbed.weights.folder import MANIFEST, check, describe, folders_in, seal


def safetensors(values: int = 4) -> bytes:
    head = {"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4 * values)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    folder = tmp_path / "sd15"
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
    }
    for part in ("unet", "tokenizer", "scheduler"):
        (folder / part).mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(safetensors())
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    return folder


def sealed(folder: Path, revision: str = "") -> Path:
    about = {"origin": "hub", "revision": revision, "licence": "MIT"}
    seal(folder, describe(folder, folder.name, **about))
    return folder


def problem(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        check(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    return message


def test_a_sealed_folder_is_good_also_elsewhere(model: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(sealed(model), tmp_path / "copied")
    manifest = check(copied)
    assert manifest is not None
    assert set(manifest.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert manifest.engine == "text-to-text"


def test_the_state_of_a_download_is_not_sealed(model: Path) -> None:
    (model / ".cache").mkdir()
    (model / ".cache" / "lock").write_text("")
    sealed(model)
    shutil.rmtree(model / ".cache")
    assert check(model) is not None


def test_each_damaged_file_is_named_with_the_remedy(model: Path) -> None:
    sealed(model, revision="0" * 40)
    (model / "tokenizer.json").unlink()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(safetensors()[:-1] + b"x")
    message = problem(model)
    assert "tokenizer.json is missing" in message
    assert "config.json has 2 bytes instead of 22" in message
    assert "model.safetensors is not the file that was sealed" in message
    assert f"edgelm models pull gpt2 --to {model.parent}" in message


@pytest.mark.parametrize("content", ["", "[]", '{"lm": "gpt2"}'])
def test_a_damaged_manifest_is_told(model: Path, content: str) -> None:
    sealed(model)
    (model / MANIFEST).write_text(content)
    with pytest.raises(InputError, match="remove the file to check without checksums"):
        check(model)


def test_without_a_manifest_what_an_engine_reads_must_be_there(model: Path, pipeline: Path) -> None:
    assert check(model) is None
    assert check(pipeline) is None


def test_a_model_that_is_not_whole(model: Path) -> None:
    (model / "model.safetensors").write_bytes(safetensors()[:-1])
    (model / "tokenizer.json").unlink()
    message = problem(model)
    assert "model.safetensors is cut off" in message
    assert "tokenizer.json is missing" in message


def test_weights_that_are_pickled_are_no_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "*.safetensors is missing" in problem(model)


@pytest.mark.parametrize("head", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]"])
def test_a_file_that_is_no_safetensors_is_cut_off(model: Path, head: bytes) -> None:
    (model / "model.safetensors").write_bytes(head)
    assert "model.safetensors is cut off" in problem(model)


def test_a_pipeline_that_is_not_whole(pipeline: Path) -> None:
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(pipeline / "scheduler")
    (pipeline / "tokenizer" / "vocab.json").unlink()
    message = problem(pipeline)
    assert "unet/*.safetensors is missing" in message
    assert "scheduler/ is missing" in message
    assert "tokenizer/tokenizer.json is missing" in message


@pytest.mark.parametrize("index", ["{", "[]"])
def test_an_index_that_cannot_be_read(model: Path, index: str) -> None:
    (model / "config.json").write_text(index)
    assert "config.json is not" in problem(model)


def test_weights_are_found_one_folder_down(model: Path, pipeline: Path, tmp_path: Path) -> None:
    assert folders_in(model) == [model]
    assert folders_in(tmp_path) == [model, pipeline]


def test_a_folder_without_weights_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights here"):
        folders_in(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        folders_in(tmp_path / "nowhere")


def test_unknown_weights_name_the_known_ones() -> None:
    with pytest.raises(InputError, match="gpt2, gpt2-large, blip, sd15"):
        source_of("gpt5")


def test_every_revision_is_a_commit() -> None:
    assert all(len(bytes.fromhex(one.revision)) == 20 for one in SOURCES.values())
