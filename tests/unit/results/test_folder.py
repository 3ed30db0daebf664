import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from controller.results import folder

PARQUET = b"PAR1....PAR1"
FILES = {
    "experiment.json": b"{}",
    "requests.parquet": PARQUET,
    "slots.parquet": PARQUET,
    "decisions.jsonl": b'{"slot":0}\n',
    "summary.json": b"{}",
}


def test_a_published_run_is_complete_and_leaves_nothing_else(tmp_path: Path) -> None:
    folder.publish(tmp_path, "abc", FILES)
    run = folder.run_folder(tmp_path, "abc")
    assert folder.is_complete(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == FILES
    assert [path.name for path in folder.runs_folder(tmp_path).iterdir()] == ["abc"]


@pytest.mark.parametrize("name", FILES)
def test_a_run_without_a_file_is_not_complete(tmp_path: Path, name: str) -> None:
    folder.publish(tmp_path, "abc", {k: v for k, v in FILES.items() if k != name})
    assert not folder.is_complete(folder.run_folder(tmp_path, "abc"))


@pytest.mark.parametrize("name", list(FILES))
def test_a_truncated_file_is_noticed(tmp_path: Path, name: str) -> None:
    folder.publish(tmp_path, "abc", {**FILES, name: FILES[name][:-1]})
    assert not folder.is_complete(folder.run_folder(tmp_path, "abc"))


def test_publishing_again_replaces_what_was_left(tmp_path: Path) -> None:
    half = folder.runs_folder(tmp_path) / ".abc.tmp"
    half.mkdir(parents=True)
    (half / "stale").write_text("x")
    folder.publish(tmp_path, "abc", {"summary.json": b"old"})
    folder.publish(tmp_path, "abc", FILES)
    assert {p.name for p in folder.run_folder(tmp_path, "abc").iterdir()} == set(FILES)
    assert not half.exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        folder.publish(tmp_path, "abc", {**FILES, "x" * 300: b""})
    assert list(folder.runs_folder(tmp_path).iterdir()) == []


def test_a_replaced_file_is_never_half_there(tmp_path: Path) -> None:
    path = tmp_path / "campaign.json"
    folder.write_atomically(path, b'{"a": 1}')
    folder.write_atomically(path, b'{"a": 2}')
    assert json.loads(path.read_bytes()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_claim_excludes_others_and_ends(tmp_path: Path) -> None:
    with folder.claim(tmp_path, "abc") as mine:
        assert mine
        with folder.claim(tmp_path, "abc") as theirs:
            assert not theirs
        with folder.claim(tmp_path, "other") as other:
            assert other
    with folder.claim(tmp_path, "abc") as again:
        assert again
        folder.publish(tmp_path, "abc", FILES)
    assert not (folder.runs_folder(tmp_path) / ".abc.lock").exists()


def _claim_and_hang(root: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with folder.claim(root, "abc"):
        ready.set()
        signal.pause()


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_claim_and_hang, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with folder.claim(tmp_path, "abc") as mine:
        assert not mine
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with folder.claim(tmp_path, "abc") as mine:
        assert mine
