import multiprocessing
import os
import signal
from pathlib import Path

from controller.campaigns.claims import claim, forget_claim
from controller.results import folder
from tests.unit.results.test_folder import FILES, RUN


def test_a_claim_excludes_others_and_ends(tmp_path: Path) -> None:
    with claim(tmp_path, RUN) as mine:
        assert mine
        with claim(tmp_path, RUN) as theirs:
            assert not theirs
        with claim(tmp_path, "other") as other:
            assert other
    with claim(tmp_path, RUN) as again:
        assert again
        folder.publish(tmp_path, RUN, FILES)
    assert not (folder.runs_folder(tmp_path) / f".{RUN}.lock").exists()


def _claim_and_hang(root: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with claim(root, RUN):
        ready.set()
        signal.pause()


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_claim_and_hang, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with claim(tmp_path, RUN) as mine:
        assert not mine
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with claim(tmp_path, RUN) as mine:
        assert mine


def test_what_a_kill_left_beside_a_finished_run_is_removed(tmp_path: Path) -> None:
    folder.publish(tmp_path, RUN, FILES)
    lock = folder.runs_folder(tmp_path) / f".{RUN}.lock"
    for left in (lock, folder.unfinished_transcript(tmp_path, RUN)):
        left.touch()
    forget_claim(tmp_path, RUN)
    assert [path.name for path in folder.runs_folder(tmp_path).iterdir()] == [RUN]
