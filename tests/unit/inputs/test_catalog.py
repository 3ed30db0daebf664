"""Shipped files are found by name, in a checkout and in an installed wheel; others by path."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controller.domain.errors import InputError
from controller.inputs import catalog

ROOT = Path(__file__).parents[3]


def test_names_are_those_of_the_files() -> None:
    assert {"campus", "paper"} <= set(catalog.names("testbeds"))
    assert {"a5000", "t4"} <= set(catalog.names("profiles"))
    assert catalog.names("testbeds") == sorted(path.stem for path in ROOT.glob("inventory/*.yaml"))


@pytest.mark.parametrize("name", catalog.names("testbeds"))
def test_every_shipped_testbed_loads_under_its_own_name(name: str) -> None:
    assert catalog.load_testbed(name).name == name


@pytest.mark.parametrize("name", catalog.names("profiles"))
def test_every_shipped_profile_loads_under_its_own_name(name: str) -> None:
    assert catalog.load_profile(name).name == name


def test_a_path_works_like_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_bytes(catalog.locate("testbeds", "paper").read_bytes())
    monkeypatch.chdir(tmp_path)
    for given in (copy, "./mine.yaml", "mine.yaml"):
        assert catalog.load_testbed(given) == catalog.load_testbed("paper")


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError) as caught:
        catalog.load_testbed("papr")
    message = str(caught.value)
    assert "'papr'" in message
    assert "campus" in message
    assert "paper" in message


@pytest.mark.parametrize("given", ["./nowhere.yaml", "nowhere.yml", "/", "."])
def test_a_path_without_a_file_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="paper"):
        catalog.locate("testbeds", given)


def test_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(InputError, match=r"'testbed'.*testbeds, profiles, workloads, campaigns"):
        catalog.names("testbed")


def test_a_wrong_file_is_named() -> None:
    with pytest.raises(InputError, match=r"(?s)a5000\.yaml: .*all: is missing"):
        catalog.load_testbed(catalog.locate("profiles", "a5000"))


def test_templates_are_in_the_checkout() -> None:
    assert catalog.template_dir() == ROOT / "templates"


def test_everything_is_found_in_a_wheel_far_from_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    site = tmp_path / "site"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    script = (
        "from controller.inputs import catalog as c; import controller;"
        "print(controller.__file__, c.load_testbed('paper').name, c.load_profile('a5000').name,"
        " c.template_dir(), c.locate('testbeds', 'campus'), sep='\\n')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    package, testbed, profile, templates, campus = result.stdout.split()
    assert Path(package) == site / "controller" / "__init__.py"
    assert (testbed, profile) == ("paper", "a5000")
    assert Path(templates) == site / "controller" / "data" / "templates"
    assert Path(campus) == site / "controller" / "data" / "inventory" / "campus.yaml"
