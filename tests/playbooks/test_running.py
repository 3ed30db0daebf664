"""Playbooks run by ansible-runner on this machine: what they say, what they leave, how they end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ansible_runner", reason="no Ansible: make ansible-setup")
from controller.bringup.playbooks import MARKER, MEMORY, Playbook, end_orphans, prefix, run

SECRET = "correct-horse-battery"  # noqa: S105
HEAD = "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n"
SLEEPS = HEAD + "    - name: Sleep\n      ansible.builtin.command: sleep 300\n"


class Seen:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []

    def task(self, name: str) -> None: ...

    def result(self, host: str, task: str, state: str) -> None:
        self.results.append((task, state))


def written(folder: Path, text: str) -> Playbook:
    path = folder / "play.yml"
    path.write_text(text)
    return Playbook(str(path), {"ansible_python_interpreter": sys.executable})


def until(true: Callable[[], object], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def marked(state: Path) -> list[int]:
    """Return processes that carry a bring-up's marker."""
    wanted, found = f"{MARKER}={state}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_changes_and_failures_are_told_with_a_remedy(tmp_path: Path) -> None:
    book = written(
        tmp_path,
        HEAD
        + f"    - name: Write\n      ansible.builtin.copy: {{dest: {tmp_path}/x, content: x}}\n"
        + "    - name: Look\n      ansible.builtin.command: 'true'\n      changed_when: false\n"
        + "    - name: Fill\n      ansible.builtin.fail: {msg: No space left on device}\n"
        + "    - name: Never\n      ansible.builtin.command: 'true'\n",
    )
    log, seen = io.StringIO(), Seen()
    outcome = run(book, tmp_path / "state", log, seen)
    assert not outcome.ok
    assert outcome.changed == {"localhost": 1}
    assert seen.results == [("Write", "changed"), ("Look", "ok"), ("Fill", "failed")]
    (failure,) = outcome.failures
    assert (failure.task, failure.host, failure.message) == (
        "Fill", "localhost", "No space left on device",
    )  # fmt: skip
    assert "free disk space" in failure.remedy
    assert "PLAY RECAP" in log.getvalue()
    again = run(written(tmp_path, HEAD + book_of_one(tmp_path)), tmp_path / "state", log, Seen())
    assert again.ok
    assert again.changed == {}


def book_of_one(folder: Path) -> str:
    return f"    - name: Write\n      ansible.builtin.copy: {{dest: {folder}/x, content: x}}\n"


def test_a_playbook_that_is_none_says_so(tmp_path: Path) -> None:
    log = io.StringIO()
    outcome = run(written(tmp_path, "- nonsense"), tmp_path / "state", log, Seen())
    assert not outcome.ok
    assert outcome.failures[0].message.startswith("ended (")
    assert "nonsense" in log.getvalue() or "entry" in log.getvalue()


def test_a_secret_is_in_no_file_and_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELM_SECRET", SECRET)
    state, look = tmp_path / "state", tmp_path / "look.sh"
    look.write_text(
        "sleep 1\n"  # for the runner to have begun
        "word=correct-horse\nword=$word-battery\n"
        f"grep -rl $word {MEMORY}/{prefix(state)}* {state} 2>/dev/null\n"
        "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f 2>/dev/null; done"
        " | grep $word | grep -v grep\n"
        "exit 0\n"
    )
    state.mkdir()
    book = written(
        tmp_path,
        HEAD
        + "    - name: Use\n      ansible.builtin.command: 'true'\n      no_log: true\n"
        + "      environment: {TOKEN: \"{{ lookup('ansible.builtin.env', 'EDGELM_SECRET') }}\"}\n"
        + f"    - name: Look\n      ansible.builtin.command: sh {look}\n      register: found\n"
        + "    - name: Nothing\n      ansible.builtin.assert: {that: found.stdout == ''}\n",
    )
    log = io.StringIO()
    outcome = run(book, state, log, Seen())
    assert outcome.ok, log.getvalue()
    assert SECRET not in log.getvalue()
    assert outcome.changed == {"localhost": 2}  # a task that prints nothing counts too
    assert not list(MEMORY.glob(f"{prefix(state)}*"))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from controller.bringup.playbooks import Playbook, run
class Silent:
    def task(self, name): print(name, flush=True)
    def result(self, host, task, state): ...
book = Playbook({book!r}, {{"ansible_python_interpreter": sys.executable}})
outcome = run(book, Path({state!r}), open({log!r}, "w"), Silent())
sys.exit(7 if outcome.cancelled else 1)
"""


def started(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run that sleeps, and wait until it does."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    code = PROGRAM.format(
        root=str(Path(__file__).parents[2]), book=written(folder, SLEEPS).name,
        state=str(state), log=str(folder / "log"),
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    until(lambda: any("sleep" in _command(pid) for pid in marked(state)))
    return process, state


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    process, state = started(tmp_path)
    process.send_signal(number)
    assert process.wait(60) == 7
    end_orphans(state)
    assert marked(state) == []


def test_what_a_killed_run_has_left_is_ended_by_the_next(tmp_path: Path) -> None:
    process, state = started(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert marked(state)
    other = tmp_path / "other"
    end_orphans(other)  # another folder's are not touched
    assert marked(state)
    end_orphans(state)
    assert marked(state) == []
