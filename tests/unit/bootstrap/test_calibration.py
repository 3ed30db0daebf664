"""`edgelm calibrate` on campaign folders: files that a run takes, held-out seeds, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.bootstrap.twin import twin_engine
from controller.campaigns.grid import resolve_grid
from controller.campaigns.progress import choose_progress
from controller.campaigns.runner import run_grid
from controller.cli import app
from controller.domain.errors import InputError
from tests.samples.small import small_campaign


def campaign(folder: Path, **changes: object) -> Path:
    fields = {"strategies": ("RF",), "epoch_slots": 30, **changes}
    grid = resolve_grid(small_campaign(**fields), Path("small"))
    run_grid(grid, folder, twin_engine(), 1, choose_progress())
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaign(tmp_path_factory.mktemp("fit") / "c", seeds=[0, 1])


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return campaign(tmp_path_factory.mktemp("held") / "c", seeds=[2])


def edgelm(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_runs_of_the_twin_calibrate_it_to_itself(
    fitted: Path, held_out: Path, tmp_path: Path
) -> None:
    profile, testbed = tmp_path / "p.yaml", tmp_path / "t.yaml"
    found = json.loads(
        edgelm("calibrate", fitted, "--out", profile, "--testbed-out", testbed,
               "--check", held_out, "--json")
    )  # fmt: skip
    seen = [one for one in found["service"] if one["value"] is not None]
    assert {one["lm"] for one in seen} == {"LM1", "LM2", "LM3", "LM4"}
    assert all(one["value"] == pytest.approx(1.0) for one in seen)
    rows = [one for one in found["check"]["rows"] if one["latency_error_s"]]
    assert rows
    assert all(one["relative_error"] < 1e-3 and one["same_way"] == 1 for one in rows)
    assert "not what a GPU does" in found["check"]["note"]
    edgelm("validate", profile, testbed)
    edgelm("run", "paper", "--strategy", "RF", "--seeds", 1, "--epochs", 1, "--profile", profile,
           "--testbed", testbed, "--out", tmp_path / "again", "--no-report")  # fmt: skip


def test_the_text_says_too_few_instead_of_a_number(fitted: Path, held_out: Path) -> None:
    shown = edgelm("calibrate", fitted, "--check", held_out)
    assert "service LM1 on NVIDIA A5000          too few (0): keeps its old number" in shown
    assert "LM1   overloaded         0 too few" in shown


def test_runs_that_were_fitted_to_are_not_held_out(fitted: Path) -> None:
    with pytest.raises(InputError, match=r"runs/.*seed: is not held out.*other seeds"):
        edgelm("calibrate", fitted, "--check", fitted)


def test_runs_of_two_profiles_are_refused(fitted: Path, tmp_path: Path) -> None:
    scaled = [{"name": "a5000", "scale": {"cpu_service": 1.5}}]
    other = campaign(tmp_path / "c", profiles=scaled, seeds=[0])
    with pytest.raises(InputError, match=r"another profile.*a5000-cpu_service.*by themselves"):
        edgelm("calibrate", fitted, other)


def test_bad_folders_and_names_are_refused(fitted: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no campaign folder"):
        edgelm("calibrate", tmp_path)
    with pytest.raises(InputError, match="FOLDER: has a folder twice"):
        edgelm("calibrate", fitted, fitted)
    with pytest.raises(InputError, match=r"no name of a YAML file.*\.yaml"):
        edgelm("calibrate", fitted, "--out", tmp_path / "profile.txt")
