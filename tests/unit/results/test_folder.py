import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from controller.results import folder
from controller.results.completeness import is_complete, problem_of
from controller.results.digests import SUMS

PARQUET = b"PAR1....PAR1"
FILES = {
    "experiment.json": b"{}",
    "requests.parquet": PARQUET,
    "slots.parquet": PARQUET,
    "decisions.jsonl": b'{"slot":0}\n',
    "summary.json": b"{}",
}
RUN = folder.run_id_of(FILES["experiment.json"])


def experiment_of(name: str) -> tuple[str, dict[str, bytes]]:
    """A run with this name, and its files."""
    experiment = json.dumps({"name": name}).encode()
    return folder.run_id_of(experiment), {**FILES, "experiment.json": experiment}


def published(root: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.publish(root, RUN, files)
    return folder.run_folder(root, RUN)


def test_a_published_run_is_complete_and_leaves_nothing_else(tmp_path: Path) -> None:
    run = published(tmp_path)
    assert is_complete(run)
    assert {path.name for path in run.iterdir()} == {*FILES, SUMS}
    assert {name: (run / name).read_bytes() for name in FILES} == FILES
    assert [path.name for path in folder.runs_folder(tmp_path).iterdir()] == [RUN]


def test_digests_can_be_checked_without_our_code(tmp_path: Path) -> None:
    run = published(tmp_path)
    check = ["sha256sum", "--strict", "-c", SUMS]
    done = subprocess.run(check, cwd=run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}: OK" for name in sorted(FILES)]
    (run / "slots.parquet").write_bytes(b"PAR1.x..PAR1")
    assert subprocess.run(check, cwd=run, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", FILES)
def test_a_run_without_a_file_is_not_complete(tmp_path: Path, name: str) -> None:
    run = published(tmp_path, {k: v for k, v in FILES.items() if k != name})
    assert problem_of(run) == f"{name} is missing"


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_noticed(tmp_path: Path, name: str, checked: bool) -> None:
    run = published(tmp_path)
    (run / name).write_bytes(FILES[name][:-1])
    if not checked:
        (run / SUMS).unlink()
    assert problem_of(run, sums_needed=checked).startswith(name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str, bit: int) -> None:
    run = published(tmp_path)
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1 << bit
    (run / name).write_bytes(content)
    assert problem_of(run).startswith(f"{name} does not match its digest in SHA256SUMS")


def test_a_file_that_the_digests_do_not_name_is_noticed(tmp_path: Path) -> None:
    run = published(tmp_path)
    lines = (run / SUMS).read_text().splitlines(keepends=True)
    (run / SUMS).write_text("".join(line for line in lines if "slots" not in line))
    assert problem_of(run).startswith("slots.parquet is not in SHA256SUMS")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (b"", "experiment.json is not in SHA256SUMS"),
        (b"\xff\xfe", "SHA256SUMS cannot be read"),
        (b"0123  slots.parquet\n", "SHA256SUMS is damaged: line 1 is no digest and name"),
    ],
)
def test_damaged_digests_are_noticed(tmp_path: Path, damage: bytes, problem: str) -> None:
    run = published(tmp_path)
    (run / SUMS).write_bytes(damage)
    assert problem_of(run).startswith(problem)


def test_lost_digests_are_noticed_unless_the_format_has_none(tmp_path: Path) -> None:
    run = published(tmp_path)
    (run / SUMS).unlink()
    assert problem_of(run) == "SHA256SUMS is missing, so that nothing can be checked"
    assert problem_of(run, sums_needed=False) == ""


@pytest.mark.parametrize("checked", [True, False])
def test_another_runs_folder_under_this_id_is_noticed(tmp_path: Path, checked: bool) -> None:
    other, files = experiment_of("other")
    run = published(tmp_path, files)
    if not checked:
        (run / SUMS).unlink()
    problem = f"experiment.json is that of run {other}, not of this folder's"
    assert problem_of(run, sums_needed=checked) == problem


@pytest.mark.parametrize("content", [b"[]", b"null", b"1", b"{", b"[" * 100_000])
@pytest.mark.parametrize("name", ["experiment.json", "summary.json"])
def test_json_of_another_kind_is_noticed(tmp_path: Path, name: str, content: bytes) -> None:
    """The run's own digests agree: whoever wrote it wrote nonsense."""
    files = {**FILES, name: content}
    run_id = folder.run_id_of(files["experiment.json"])
    folder.publish(tmp_path, run_id, files)
    problem = problem_of(folder.run_folder(tmp_path, run_id))
    assert problem.startswith((f"{name} must hold a JSON object", f"{name} is not JSON"))


def test_a_run_with_agents_needs_its_transcript(tmp_path: Path) -> None:
    experiment = b'{"reasoner":{}}'
    assert is_complete(published(tmp_path))
    experiment = b'{"reasoner":{"kind":"reference"}}'
    run_id = folder.run_id_of(experiment)
    folder.publish(tmp_path, run_id, {**FILES, "experiment.json": experiment})
    assert problem_of(folder.run_folder(tmp_path, run_id)) == "transcript.jsonl is missing"


def test_publishing_again_replaces_what_was_left(tmp_path: Path) -> None:
    half = folder.runs_folder(tmp_path) / f".{RUN}.tmp"
    half.mkdir(parents=True)
    (half / "stale").write_text("x")
    folder.publish(tmp_path, RUN, {"summary.json": b"old"})
    folder.publish(tmp_path, RUN, FILES)
    assert {p.name for p in folder.run_folder(tmp_path, RUN).iterdir()} == {*FILES, SUMS}
    assert not half.exists()


def test_a_file_in_the_place_of_a_run_is_replaced(tmp_path: Path) -> None:
    folder.runs_folder(tmp_path).mkdir()
    folder.run_folder(tmp_path, RUN).write_text("x")
    assert not is_complete(folder.run_folder(tmp_path, RUN))
    assert is_complete(published(tmp_path))


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        folder.publish(tmp_path, RUN, {**FILES, "x" * 300: b""})
    assert list(folder.runs_folder(tmp_path).iterdir()) == []


def test_an_id_is_how_the_digest_begins() -> None:
    assert hashlib.sha256(b"{}").hexdigest().startswith(RUN)
    assert len(RUN) == 12


@pytest.mark.parametrize(("more", "others"), [({"transcript.jsonl": b""}, 0), ({}, 0o055)])
def test_prompts_and_replies_are_for_whoever_made_the_run(
    tmp_path: Path, more: dict[str, bytes], others: int
) -> None:
    former = os.umask(0o022)
    try:
        folder.publish(tmp_path, RUN, {**FILES, **more})
    finally:
        os.umask(former)
    assert folder.run_folder(tmp_path, RUN).stat().st_mode & 0o055 == others
