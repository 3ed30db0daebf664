"""The commands on weights, as far as they go without PyTorch."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from controller.testbed.weights.folder import describe, seal
from tests.unit.test_cli import edgelm

ROOT = Path(__file__).parents[2]


def test_check_tells_good_from_bad_and_goes_on(tmp_path: Path) -> None:
    for name in ("blip", "gpt2"):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        about = {"origin": "hub x/y", "revision": "0" * 40, "licence": "MIT"}
        seal(folder, describe(folder, name, **about))
    (tmp_path / "weights" / "blip" / "config.json").unlink()
    done = edgelm("models", "check", tmp_path / "nowhere", tmp_path / "weights")
    assert done.returncode == 2
    assert "nowhere: there is no such folder" in done.stderr
    assert "blip: config.json is missing" in done.stderr
    assert "gpt2: good gpt2 (hub x/y, 0.0 MB, licence MIT)" in done.stdout


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is here: nothing is missing")
@pytest.mark.parametrize("command", [["tiny", "."], ["pull", "gpt2", "--to", "."]])
def test_without_the_extra_the_message_names_it(command: list[str], tmp_path: Path) -> None:
    done = edgelm("models", *command, folder=tmp_path)
    assert done.returncode == 1
    assert "edgelm[lm]" in done.stderr
    assert "make lm-setup" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_names_are_checked_before_libraries(tmp_path: Path) -> None:
    done = edgelm("models", "pull", "gpt5", "--to", tmp_path)
    assert done.returncode == 2
    assert "choose of gpt2, gpt2-large, blip, sd15" in done.stderr
    done = edgelm("models", "pull", "gpt2", "blip", "--to", tmp_path, "--revision", "0" * 40)
    assert done.returncode == 2
    assert "pull the LMs one by one" in done.stderr


def test_the_servers_libraries_are_those_that_edgelm_names() -> None:
    server = extras(ROOT / "lm_dockerfiles" / "server" / "pyproject.toml")
    assert server <= extras(ROOT / "pyproject.toml")
    assert "torch" in str(server)


def extras(path: Path) -> set[str]:
    return set(tomllib.loads(path.read_text())["project"]["optional-dependencies"]["lm"])
