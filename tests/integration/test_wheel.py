"""The wheel works where there is no checkout: its data ship inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (built,) = folder.glob("edgelm-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a new environment: the wheel in it, its dependencies borrowed from this one. They
    are borrowed by a path file, which does not follow the path file of our editable install."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    uv = Path(sys.executable).with_name("uv")
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python"]
    subprocess.run([*install, folder / "bin" / "python", wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Standard output of a command in an empty folder with an empty home."""
    home, here = folder / "home", folder / "here"
    home.mkdir()
    here.mkdir()
    done = subprocess.run(
        [installed / arguments[0], *arguments[1:]],
        cwd=here,
        env={"HOME": str(home), "PATH": os.defpath, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_data_file_is_in_the_wheel_once(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = {"inventory": "controller/data/inventory", "templates": "controller/data/templates"}
    folders["controller/data"] = "controller/data"
    folders["playbooks"] = "controller/data/playbooks"
    expected = {
        f"{inside}/{file.relative_to(ROOT / folder)}"
        for folder, inside in folders.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and not {"__pycache__", ".ansible"} & set(file.parts)
    }
    assert expected - set(names) == set()
    assert len(names) == len(set(names))
    assert "controller/py.typed" in names
    packages = ("controller/", "lm_server/", "edgelm-")
    assert not [name for name in names if not name.startswith(packages)]
    assert "lm_server/__main__.py" in names


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    program = "import controller; print(controller.__file__)"
    where = run(installed, tmp_path, "python", "-c", program)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_list_knows_the_shipped_names(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "edgelm", "list")
    for file in [*ROOT.glob("inventory/*.yaml"), *ROOT.glob("controller/data/*/*.yaml")]:
        assert file.stem in listed


def test_files_outside_are_validated(installed: Path, tmp_path: Path) -> None:
    testbed = tmp_path / "mine.yaml"
    testbed.write_bytes((ROOT / "inventory" / "paper.yaml").read_bytes())
    assert "mine.yaml" in run(installed, tmp_path, "edgelm", "validate", str(testbed))


def test_the_smallest_campaign_runs_and_reports(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "edgelm", "run", "smoke", "--out", "results")
    results = tmp_path / "here" / "results"
    assert (results / "campaign.json").is_file()
    assert list(results.glob("runs/*/summary.json"))
