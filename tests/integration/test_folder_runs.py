"""A campaign's folder as all that one needs: run further, in parts, by several processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GRID = ("smoke", "--strategy", "RF,RL", "--seeds", "2", "--no-report")


def edgelm(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def states(out: Path) -> dict[str, str]:
    runs = json.loads((out / "campaign.json").read_text())["runs"]
    return {run["id"]: run["state"] for run in runs}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A campaign of four runs, one of them made."""
    out = tmp_path / "out"
    assert edgelm("run", *GRID, "--seeds", "1", "--strategy", "RF", "--out", out).returncode == 0
    (first,) = states(out)
    done = edgelm("run", *GRID, "--only", first, "--out", out)
    assert "1 of 1 run is done, 0 of them now" in done.stdout
    assert list(states(out).values()).count("pending") == 3
    return out


def test_a_folder_goes_on_with_what_it_was_begun_with(begun: Path) -> None:
    done = edgelm("run", begun, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 runs are done, 3 of them now" in done.stdout
    assert set(states(begun).values()) == {"done"}


def test_two_processes_make_different_runs_of_one_folder_at_once(begun: Path) -> None:
    waiting = [run for run, state in states(begun).items() if state == "pending"]
    command = [sys.executable, "-m", "controller.cli", "run", str(begun), "--json", "--only"]
    processes = [
        subprocess.Popen([*command, ids], stdout=subprocess.PIPE, text=True)
        for ids in (",".join(waiting[:2]), waiting[2])
    ]
    documents = [json.loads(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [(each["runs"], each["done"]) for each in documents] == [(2, 2), (1, 1)]
    assert {each["report"] for each in documents} == {None}  # would be written by both at once
    assert set(states(begun).values()) == {"done"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--only", "ffffffffffff"), r"--only: has no such run (got 'ffffffffffff')"),
        (("--seeds", "3"), "--seeds: is a campaign's folder, whose grid is resolved already"),
        (("--strategy", "RF"), "--strategy: is a campaign's folder"),
        (("--mode", "off"), "--mode: is a campaign's folder"),
        (("--model", "x"), "--reasoner: is a campaign's folder"),
        (("--out", "elsewhere"), "--out: is a campaign's folder"),
    ],
)
def test_what_does_not_go_with_a_folder_is_one_clear_error(
    begun: Path, options: tuple[str, ...], named: str
) -> None:
    before = states(begun)
    done = edgelm("run", begun, *options)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert states(begun) == before


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    done = edgelm("run", tmp_path)
    assert done.returncode == 2
    assert "is no campaign folder" in done.stderr


def test_a_plan_writes_a_folder_that_can_be_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = edgelm("plan", *GRID[:-1], "--out", out, "--rows", "2", "--hours-at-most", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["label"] for row in document["rows"]] == ["RF, RL, seed 0", "RF, RL, seed 1"]
    assert (document["runs"], document["pending"], document["usd"]) == (4, 4, 0.0)
    assert 0 < document["minutes"] < 1
    assert set(states(out).values()) == {"pending"}
    row = ",".join(document["rows"][0]["runs"])
    made = edgelm("run", out, "--only", row)
    assert "2 of 2 runs are done, 2 of them now" in made.stdout
    again = edgelm("plan", out, "--json")
    assert json.loads(again.stdout)["digest"] == document["digest"]
    assert json.loads(again.stdout)["rows"] == [
        {"label": f"{strategy}, seed 1", "runs": [run]}
        for strategy, run in zip(("RF", "RL"), document["rows"][1]["runs"], strict=True)
    ]
    text = edgelm("plan", out).stdout
    assert "smoke on twin: 4 runs, 2 to make" in text
    assert "cost: 0.00 USD" in text


def test_a_plan_for_a_testbed_says_what_each_run_is_and_is_not_run_on_the_twin(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    done = edgelm("plan", *GRID[:-1], "--target", "emulated", "--time-scale", "20", "--out", out,
                  "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["minutes"] == 4 * (50 * 30 + 900) / 20 / 60
    for run in states(out):
        experiment = json.loads((out / "experiments" / f"{run}.json").read_text())
        assert experiment["target"] == "emulated"
    refused = edgelm("run", out)
    assert refused.returncode == 2
    assert "is planned for another target" in refused.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--target", "live", "--hours-at-most", "1"), "--hours-at-most: 4 pending runs"),
        (("--time-scale", "20"), "--time-scale: the twin has no time scale"),
        (("--strategy", "MA", "--reasoner", "openai", "--usd-at-most", "9"), "is unknown"),
        (("--strategy", "NONE"), "--strategy"),
    ],
)
def test_a_plan_that_is_refused_writes_nothing(
    tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    out = tmp_path / "out"
    done = edgelm("plan", *GRID[:-1], *options, "--out", out)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_check_says_what_is_not_whole(begun: Path) -> None:
    lacking = [run for run, state in states(begun).items() if state == "pending"]
    done = edgelm("check", begun, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert (document["campaign"], document["runs"], document["done"]) == ("smoke", 4, 1)
    assert document["lacking"] == [{"id": run, "problem": "not finished"} for run in lacking]
    assert [one["strategy"] for one in document["strategies"]] == ["RF"]
    assert (document["reasoners"], document["targets"]) == ([], ["twin"])

    assert edgelm("run", begun, "--no-report").returncode == 0
    done = edgelm("check", begun)
    assert (done.returncode, done.stdout) == (0, f"4 of 4 runs are whole, in {begun}\n")

    damaged, gone = lacking[:2]
    with (begun / "runs" / damaged / "slots.parquet").open("ab") as file:
        file.write(b"x")
    (begun / "runs" / gone).rename(begun / "elsewhere")
    done = edgelm("check", begun)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert f"{damaged}: RF, seed 1: damaged: slots.parquet does not match its digest" in lines[0]
    assert f"{gone}: RL, seed 0: marked done, but files are missing" in lines[1]
    assert lines[2] == f"2 of 4 runs are whole, in {begun}"


def test_check_of_what_is_no_campaign_is_an_error(tmp_path: Path) -> None:
    done = edgelm("check", tmp_path)
    assert done.returncode == 2
    assert "is no campaign folder" in done.stderr


def test_compare_says_how_two_campaigns_differ(tmp_path: Path) -> None:
    paths = tmp_path / "one", tmp_path / "other"
    for out, load in zip(paths, ("1", "4"), strict=True):
        grid = (*GRID, "--strategy", "RF", "--seeds", "3", "--load", load)
        assert edgelm("run", *grid, "--out", out).returncode == 0
    done = edgelm("compare", paths[0], paths[1])
    assert done.returncode == 2  # loads differ
    assert "RF with seeds 0, 1, 2 here, RF with seeds 0, 1, 2 there" in done.stderr
    done = edgelm("compare", paths[0], paths[0])
    assert done.returncode == 0
    assert "RF, 3 seeds" in done.stdout
    assert done.stdout.endswith("no regression\n")
    done = edgelm("compare", paths[0], paths[0], "--tolerance", "0.5", "--json")
    document = json.loads(done.stdout)
    assert (document["regression"], document["tolerance"]) == (False, 0.5)
    assert [one["strategy"] for one in document["strategies"]] == ["RF"]
