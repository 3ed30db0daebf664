"""Campaigns under fire: kills, full disks, company. Whatever happens, the folder ends up with the
same bytes as that of a campaign that nothing happened to."""

import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GRID = ("smoke", "--strategy", "RF,RL", "--seeds", "3", "--epochs", "6", "--no-report")
RUNS = 6
RUN = (sys.executable, "-m", "controller.cli", "run")


def edgelm(
    out: Path,
    *more: str,
    grid: tuple[str, ...] = GRID,
    jobs: int = 1,
    setup: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *grid, "--out", str(out), "--jobs", str(jobs), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=setup,
    )


@contextlib.contextmanager
def started(out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The campaign in a process group of its own, ended with the test."""
    process = subprocess.Popen(
        [*RUN, *GRID, "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def finished(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "runs").glob("[0-9a-f]*"))


def contents(out: Path) -> dict[str, bytes]:
    """Every file by path. wall_s is the one figure that no two runs share, and with it the digest
    of summary.json; locks are no results."""
    files = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and path.name not in (".active", ".lock"):
            content = path.read_bytes()
            if path.name == "summary.json":
                content = re.sub(rb'"wall_s": [0-9.]+', b"", content)
            if path.name == "SHA256SUMS":
                content = re.sub(rb"[0-9a-f]{64}  summary.json\n", b"", content)
            files[str(path.relative_to(out))] = content
    return files


def states(out: Path) -> list[str]:
    return [run["state"] for run in json.loads((out / "campaign.json").read_text())["runs"]]


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed campaign leaves."""
    out = tmp_path_factory.mktemp("peaceful") / "out"
    done = edgelm(out, jobs=2)
    assert done.returncode == 0, done.stderr
    assert states(out) == ["done"] * RUNS
    return contents(out)


def test_jobs_do_not_change_a_byte(peaceful: dict[str, bytes], tmp_path: Path) -> None:
    assert edgelm(tmp_path / "out", jobs=1).returncode == 0
    assert contents(tmp_path / "out") == peaceful


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
    return found


def stopped_within_a_run(worker: int, out: Path) -> bool:
    """Stop the worker; let it go on unless it has claimed a run that is not there yet."""
    os.kill(worker, signal.SIGSTOP)
    claims = [path.name.strip(".").removesuffix(".lock") for path in out.glob("runs/.*.lock")]
    within = any(not (out / "runs" / run_id).exists() for run_id in claims)
    if not within:
        os.kill(worker, signal.SIGCONT)
    return within


def test_kill_9_costs_at_most_the_runs_in_flight(
    peaceful: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed while it starts, then the parent alone, then it and its workers, then left alone."""
    out = tmp_path / "out"
    kept: dict[str, int] = {}
    for kill, there in ((os.killpg, 0), (os.kill, 1), (os.killpg, 3)):
        with started(out, "--jobs", "2") as process:
            time.sleep(0.3)
            wait_for(lambda there=there: len(finished(out)) >= there)  # type: ignore[misc]
            kill(process.pid, signal.SIGKILL)
            process.wait()
        inodes = {run: (out / "runs" / run).stat().st_ino for run in finished(out)}
        assert kept.items() <= inodes.items()  # none was made again
        kept = inodes
    assert 3 <= len(kept) < RUNS
    assert edgelm(out, jobs=2).returncode == 0
    assert all((out / "runs" / run).stat().st_ino == kept[run] for run in kept)
    assert contents(out) == peaceful


def test_a_killed_workers_run_is_failed_and_made_by_the_next(
    peaceful: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started(out, "--jobs", "1") as process:
        wait_for(lambda: len(finished(out)) >= 1)
        (worker,) = [
            child
            for child in children_of(process.pid)
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()
        ]
        wait_for(lambda: stopped_within_a_run(worker, out))
        os.kill(worker, signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert sorted(states(out)) == ["done"] * (RUNS - 1) + ["failed"]
    assert "its worker process died (SIGKILL, out of memory?)" in errors
    (failed,) = [
        run
        for run in json.loads((out / "campaign.json").read_text())["runs"]
        if run["state"] == "failed"
    ]
    assert "SIGKILL" in failed["error"]
    assert not (out / "runs" / failed["id"]).exists()  # failed is not zero
    assert edgelm(out).returncode == 0
    assert contents(out) == peaceful


def test_two_processes_share_one_campaign(peaceful: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started(out, "--jobs", "1") as first, started(out, "--jobs", "1") as second:
        results = [process.communicate(timeout=120) for process in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0], results
    made = [
        int(found[1])
        for text, _ in results
        if (found := re.search(rf"{RUNS} of {RUNS} runs are done, (\d+) of them now", text))
    ]
    assert sum(made) == RUNS, results  # none was made twice
    assert contents(out) == peaceful


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    peaceful: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with started(out, "--jobs", "2") as process:
        wait_for(lambda: len(finished(out)) >= 1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        f"edgelm run smoke --strategy RF,RL --seeds 3 --epochs 6 --no-report --out {out}" in errors
    )
    assert "Traceback" not in errors
    assert "Process" not in errors  # no worker has died of it
    assert states(out).count("done") == len(finished(out)) < RUNS
    assert edgelm(out).returncode == 0
    assert contents(out) == peaceful


def test_a_full_disk_stops_it_and_nothing_half_written_counts(
    peaceful: dict[str, bytes], tmp_path: Path
) -> None:
    """A limit on file size is a real write error: experiment.json fits, other files do not."""
    out = tmp_path / "out"
    limit = 40_000
    assert any(len(content) > limit for content in peaceful.values())

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = edgelm(out, setup=no_room)
    assert done.returncode == 1
    assert re.search(r"cannot be written.*disk is full.*run the same command again", done.stderr)
    assert "Traceback" not in done.stderr
    assert finished(out) == []
    assert not list((out / "runs").glob("*.tmp"))
    assert states(out) == ["pending"] * RUNS
    assert edgelm(out).returncode == 0
    assert contents(out) == peaceful


def test_half_a_run_folder_is_made_again(peaceful: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert edgelm(out).returncode == 0
    first, second, third, fourth, *_ = finished(out)
    for run, name in ((first, "requests.parquet"), (fourth, "decisions.jsonl")):
        cut = out / "runs" / run / name
        cut.write_bytes(cut.read_bytes()[:-100])
    (out / "runs" / second / "summary.json").unlink()
    (out / "runs" / third / "summary.json").write_text('{"objective": 0.1')
    half = out / "runs" / ".0123456789ab.tmp"
    half.mkdir()
    done = edgelm(out)
    assert f"{RUNS} of {RUNS} runs are done, 4 of them now" in done.stdout
    for run, name in ((first, "requests.parquet"), (fourth, "decisions.jsonl")):
        said = f"runs/{run} is made again: {name} does not match its digest in SHA256SUMS"
        assert done.stderr.count(said) == 1
    assert f"runs/{second} is made again: summary.json is missing" in done.stderr
    half.rmdir()
    assert contents(out) == peaceful


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_folder_of_another_model_is_reported_but_not_run_further(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("smoke", "--strategy", "RF", "--seeds", "1", "--no-report")
    assert edgelm(out, grid=grid).returncode == 0
    manifest = out / "campaign.json"
    manifest.write_text(re.sub(r'"model": \d+', '"model": 1', manifest.read_text()))
    before = contents(out)
    done = command("run", *grid, "--out", out)
    assert done.returncode == 2
    assert re.search(r"campaign\.json: model: was written by another version.*--out", done.stderr)
    assert contents(out) == before
    done = command("report", out)
    assert done.returncode == 0, done.stderr
    assert (out / "report" / "index.html").is_file()


def test_a_folder_of_an_older_format_is_reported_with_a_note(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("smoke", "--strategy", "RF", "--seeds", "1", "--no-report")
    assert edgelm(out, grid=grid).returncode == 0
    manifest = out / "campaign.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 1'))
    (sums,) = out.glob("runs/*/SHA256SUMS")
    sums.unlink()
    done = command("report", out)
    assert done.returncode == 0
    assert "1 run has no SHA256SUMS" in done.stderr
    done = command("run", *grid, "--out", out)
    assert done.returncode == 2
    assert (
        "format: was written by another version of edgelm; this one writes format 2" in done.stderr
    )


def test_a_report_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("smoke", "--strategy", "RF", "--seeds", "1", "--no-report")
    assert edgelm(out, grid=grid).returncode == 0
    (out / "report").write_text("x")
    done = command("report", out)
    assert done.returncode == 1
    assert "report: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_fails_is_reported_and_tried_again(tmp_path: Path) -> None:
    """The campaign's copy of a trace is spoilt between two seeds, then mended."""
    out = tmp_path / "out"
    grid = ("trace", "--strategy", "RF", "--epochs", "1", "--no-report", "--seeds")
    assert edgelm(out, grid=(*grid, "1")).returncode == 0
    (copy,) = (out / "traces").iterdir()
    good = copy.read_bytes()
    copy.write_bytes(good.replace(b"LM1", b"LM2"))
    done = edgelm(out, "--json", grid=(*grid, "2"))
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["runs"], document["done"]) == (2, 1)
    ((run_id, error),) = document["failed"].items()
    assert "has changed since the workload was loaded" in error
    assert states(out) == ["done", "failed"]
    assert not (out / "runs" / run_id).exists()
    assert "InputError" in (out / "failures" / f"{run_id}.txt").read_text()
    assert [s["objective"]["seeds"] for s in document["strategies"]] == [1]
    copy.write_bytes(good)
    assert edgelm(out, grid=(*grid, "2")).returncode == 0
    assert states(out) == ["done", "done"]
    assert list((out / "failures").iterdir()) == []


def test_another_grid_in_the_same_folder_keeps_the_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    grid = ("smoke", "--no-report", "--strategy", "RF", "--seeds")
    assert "2 of them now" in edgelm(out, grid=(*grid, "2")).stdout
    more = edgelm(out, grid=(*grid, "3")).stdout
    assert "3 of 3 runs are done, 1 of them now" in more
    assert "1 of 1 run is done, 0 of them now" in edgelm(out, grid=(*grid, "1")).stdout


def test_runs_of_edited_code_are_named_and_made_again_on_demand(
    peaceful: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert edgelm(out, jobs=2).returncode == 0
    run = out / "runs" / finished(out)[0]
    former = (run / "summary.json").read_text()
    text = re.sub(r'"code": "[0-9a-f]+"', '"code": "0123456789ab"', former)
    assert text != former
    (run / "summary.json").write_text(text)
    sums = (run / "SHA256SUMS").read_text()
    digests = [hashlib.sha256(each.encode()).hexdigest() for each in (former, text)]
    (run / "SHA256SUMS").write_text(sums.replace(*digests))

    kept = edgelm(out)
    assert "1 finished run (" in kept.stderr
    assert "made by other code than this, kept; --again" in kept.stderr
    assert (run / "summary.json").read_text() == text

    again = edgelm(out, "--again")
    assert again.returncode == 0, again.stderr
    assert "[6/6]" in again.stderr
    assert contents(out) == peaceful
    assert "other code" not in edgelm(out, "--again").stderr
