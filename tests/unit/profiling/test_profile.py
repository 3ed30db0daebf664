"""`edgelm profile` against the emulated engine, whose times are known, through its real HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.domain.errors import InputError
from controller.inputs.catalog import load_profile

REFERENCE = {"input_tokens": 50, "output_tokens": 100}
TIMES = {
    "seconds": 0.3,
    "batch_factors": [1, 1.5, 1.9, 2.3],
    "start_s": 0.5,
    "stop_s": 0.4,
    # A quarter of the reference prompt's time is fixed, three quarters go into output tokens.
    "work": {"fixed": 0.25, "output_tokens": 0.0075, "reference": REFERENCE},
}
OVERHEAD = 0.15  # share: pipe, sync and a late wake-up, medians on a busy machine


def profile(folder: Path, *more: object, **times: Any) -> str:
    model = folder / "times.json"
    model.write_text(json.dumps({**TIMES, **times}))
    done = CliRunner().invoke(
        app,
        ["profile", "--engine", "emulated", "--model", str(model), "--lm", "LM1", "--out",
         str(folder / "p.yaml"), "--repeats", "3", *map(str, more)],
    )  # fmt: skip
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    profile(folder, "--cores", "1", "--batches", "1,2,4,8", "--hardware", "Test CPU")
    return folder


def test_known_times_are_recovered(folder: Path) -> None:
    lm = load_profile(folder / "p.yaml").lms["LM1"]
    times = lm.cpu["Test CPU"]
    assert times.cores == (1.0,)
    assert times.seconds[0] == pytest.approx(0.3, rel=OVERHEAD)
    assert times.seconds[0] >= 0.3
    assert lm.batching.cpu is not None
    # 8 prompts are two batches of the engine, so the list ends with 4; 3 lie between 2 and 4.
    assert lm.batching.cpu.factors == pytest.approx((1, 1.5, 1.9, 2.3), rel=OVERHEAD)
    assert lm.work.output_tokens == pytest.approx(0.75, abs=0.1)
    assert lm.work.input_tokens == pytest.approx(0.0, abs=0.1)
    assert lm.life_cycle.start_cpu_s >= 0.5
    assert lm.life_cycle.stop_s == pytest.approx(0.4, abs=0.35)
    assert 0.02 < lm.footprint.ram.gb < 0.5


def test_a_measurement_of_an_emulation_says_so_and_the_rest_stays(folder: Path) -> None:
    base, made = load_profile("a5000"), load_profile(folder / "p.yaml")
    assert made.lms["LM1"].cpu["Test CPU"].source == "estimated"
    assert "Emulated engine" in made.lms["LM1"].cpu["Test CPU"].how
    assert made.lms["LM2"] == base.lms["LM2"]
    assert made.lms["LM1"].payload == base.lms["LM1"].payload


def test_a_repetition_measures_only_what_is_missing(folder: Path) -> None:
    points = folder / "p.points.json"
    content = json.loads(points.read_text())
    lost = content["points"].pop()
    points.write_text(json.dumps(content))
    shown = profile(folder, "--cores", "1", "--batches", "1,2,4,8", "--hardware", "Test CPU")
    assert "7 of 8 points are measured already" in shown
    again = json.loads(points.read_text())["points"]
    assert again[:-1] == content["points"]
    assert (again[-1]["prompts"], again[-1]["size"]) == (lost["prompts"], lost["size"])
    assert "starting" not in profile(
        folder, "--cores", "1", "--batches", "1,2,4,8", "--hardware", "Test CPU"
    )


def test_points_of_another_setup_are_not_mixed_in(folder: Path) -> None:
    with pytest.raises(InputError, match=r"p\.points\.json.*setup\.hardware.*Other.*--points"):
        profile(folder, "--cores", "1", "--hardware", "Other CPU")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--lm", "LM9"), "--lm.*no LM of profile a5000.*LM1, LM2"),
        (("--cores", "0"), "--cores.*whole numbers from 1"),
        (("--cores", "1000"), "--cores.*whole numbers from 1"),
        (("--device", "tpu"), "--device.*cpu or gpu"),
        (("--device", "gpu"), "--hardware.*needed for a GPU"),
        (("--python", "/nowhere/python"), "--python.*no Python that runs"),
        (("--model", "/nowhere"), "--model.*is not there"),
        (("--engine", "none-such"), "does not start.*invalid choice"),
    ],
)
def test_wrong_options_say_what_is_right(
    tmp_path: Path, options: tuple[str, str], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        profile(tmp_path, *options)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not start.*cannot be loaded.*p\.points\.log"):
        profile(tmp_path, "--cores", "1", seconds=-1)
    assert (tmp_path / "p.points.log").exists()
    assert not _lm_servers_of(tmp_path)


def _lm_servers_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(path.parent.name)
    return found
