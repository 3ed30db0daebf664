"""One of the playbooks, run by ansible-runner: its tasks told as they happen, its failures kept.

Nothing of a run stays on disk but its log: the runner's folder is in memory where the machine has
such a folder, no file of variables or environment is written, and the one that has the environment
is removed as soon as the runner has made it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from controller.bringup.remedies import remedy_for
from controller.domain.errors import InputError, Permanent
from controller.inputs.shipped import shipped

MARKER: Final = "EDGELM_BRINGUP"  # in the environment of all that a bring-up starts
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
INSTALL: Final = (
    "pip install 'edgelm[bringup]'; in a checkout: make ansible-setup, and the command again"
)
GRACE_S: Final = 10.0

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed on a host, and what to do."""

    task: str
    host: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n    -> {self.remedy}" if self.remedy else ""
        return f"{self.task}\n    {self.host}: {self.message}{remedy}"


@dataclass(slots=True)
class Outcome:
    """Outcome of a playbook. ``changed``: host -> tasks that changed something."""

    ok: bool = False
    changed: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    cancelled: bool = False
    log: str = ""

    @property
    def changes(self) -> int:
        return sum(self.changed.values())


class Watcher(Protocol):
    """Listener to the progress of a playbook."""

    def task(self, name: str) -> None: ...

    def result(self, host: str, task: str, state: str) -> None:
        """``state``: ok, changed, skipped, failed, ignored or unreachable."""


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook with what it is given. ``files``: the user's files of variables, ``arguments``
    further ones of ansible-playbook; neither may hold a secret's value."""

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    inventory: Path | None = None
    tags: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    check: bool = False
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def folder() -> Path:
    """Return the folder of the shipped playbooks."""
    return shipped("playbooks")


def run(playbook: Playbook, state: Path, log: TextIO, watcher: Watcher) -> Outcome:
    """Run a playbook to its end; INT and TERM end it.

    Args:
        state: folder of the bring-up; no other process works on it.
        log: takes all that Ansible prints.

    Raises:
        InputError: Ansible is not installed.
    """
    check_installed()
    import ansible_runner

    end_orphans(state)
    outcome = Outcome()
    stop = threading.Event()
    with _own_folder(state) as data, _signals(stop):
        result = ansible_runner.run(
            private_data_dir=str(data),
            project_dir=str(folder()),
            playbook=playbook.name,
            inventory=str(playbook.inventory or "localhost,"),
            extravars=dict(playbook.variables),
            cmdline=_quoted(_arguments(playbook)),
            envvars=_environment(playbook, state, data),
            settings={"pexpect_timeout": 1},
            quiet=True,
            suppress_env_files=True,
            suppress_output_file=True,
            event_handler=lambda event: _heard(event, outcome, log, watcher),
            status_handler=lambda status, runner_config: _hide(status, runner_config),
            cancel_callback=stop.is_set,
        )
    outcome.cancelled = result.status == "canceled"
    outcome.ok = result.rc == 0 and not outcome.cancelled
    if not outcome.ok and not outcome.failures and not outcome.cancelled:
        last = "the log has its last words"
        outcome.failures.append(Failure(playbook.name, "localhost", f"ended ({result.rc})", last))
    return outcome


def check_installed() -> None:
    """Raise InputError unless what a bring-up takes is installed in this Python."""
    from importlib.util import find_spec

    lacking = [name for name in ("ansible", "ansible_runner", "openstack") if not find_spec(name)]
    if lacking:
        raise InputError("edgelm up", f"needs {', '.join(lacking)}", remedy=INSTALL)


def end_orphans(state: Path) -> None:
    """End what a killed bring-up of this folder has left running, so that two never work at once.

    Raises:
        Permanent: a process does not end.
    """
    found = _orphans(state)
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        until = time.monotonic() + wait_s
        while found and time.monotonic() < until:
            time.sleep(0.1)
            found = _orphans(state)
    if found:
        raise Permanent(f"process {found[0]} of a former bring-up does not end; end it, then again")


def _orphans(state: Path) -> list[int]:
    """Return processes that carry a bring-up's marker: but for us, they are a killed one's."""
    marker = f"{MARKER}={state}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if marker in path.read_bytes().split(b"\0") and int(path.parent.name) != os.getpid():
                status = (path.parent / "stat").read_text().rpartition(")")[2].split()
                found += [] if status[0] == "Z" else [int(path.parent.name)]
    return found


def prefix(state: Path) -> str:
    """Return the beginning of the name of the runner's folder."""
    return f"edgelm-{os.getuid()}-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}-"


@contextmanager
def _own_folder(state: Path) -> Iterator[Path]:
    """Make a folder of our own, in memory if possible; what a killed run has left goes."""
    root = MEMORY if os.access(MEMORY, os.W_OK) else state
    for old in root.glob(f"{prefix(state)}*"):
        shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=prefix(state), dir=root))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let INT and TERM set an event, where we may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _arguments(playbook: Playbook) -> list[str]:
    tags = ["--tags", ",".join(playbook.tags)] if playbook.tags else []
    files = [part for file in playbook.files for part in ("-e", f"@{file}")]
    return [*tags, *files, *(["--check", "--diff"] if playbook.check else []), *playbook.arguments]


def _quoted(arguments: Sequence[str]) -> str:
    return shlex.join(arguments)


def _environment(playbook: Playbook, state: Path, data: Path) -> dict[str, str]:
    config = folder() / "ansible.cfg"
    return {
        MARKER: str(state),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_LOCAL_TEMP": str(data / "tmp"),
        **({"ANSIBLE_CONFIG": str(config)} if config.exists() else {}),
        **playbook.environment,
    }


def _hide(status: Mapping[str, Any], config: Any) -> None:
    """Remove the file in which the runner has kept our environment."""
    if status["status"] == "running":
        with suppress(FileNotFoundError):
            (Path(config.artifact_dir) / "command").unlink()


STATES: Final = {
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


def _heard(event: dict[str, Any], outcome: Outcome, log: TextIO, watcher: Watcher) -> bool:
    """Take an event: into the log, the outcome and the display. False: the runner keeps no file."""
    text = _COLOURS.sub("", str(event.get("stdout") or "")).replace("\r\n", "\n")
    if text.strip():
        log.write(text + "\n")
        log.flush()
    kind, data = event.get("event", ""), event.get("event_data") or {}
    if kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
        watcher.task(_task(data))
    elif kind in (*STATES, "runner_on_ok"):
        result = data.get("res") or {}
        host = str(data.get("host"))
        changed = result.get("changed") or ("censored" in result and text.startswith("changed"))
        state = STATES.get(kind) or ("changed" if changed else "ok")
        if state == "failed" and data.get("ignore_errors"):
            state = "ignored"
        watcher.result(host, _task(data), state)
        _keep(outcome, state, host, data, result)
    elif kind == "playbook_on_stats":
        outcome.changed = {host: n for host, n in (data.get("changed") or {}).items() if n}
    return False


def _keep(
    outcome: Outcome, state: str, host: str, data: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    if state == "changed":
        outcome.changed[host] = outcome.changed.get(host, 0) + 1
    if state == "unreachable":
        outcome.unreachable.append(host)
    if state in ("failed", "unreachable"):
        message = message_of(result)
        outcome.failures.append(Failure(_task(data), host, message, remedy_for(message, state)))


def message_of(result: Mapping[str, Any]) -> str:
    """Return what a failed task has said, on few lines; of a loop, its items' words."""
    items = [one for one in result.get("results") or [] if one.get("failed")]
    if items:
        return "; ".join(dict.fromkeys(message_of(one) for one in items))
    if "censored" in result:
        return "not shown: it may hold a secret (no_log)"
    said = [str(result.get(key) or "").strip() for key in ("msg", "stderr")]
    parts = [part for part in dict.fromkeys(said) if part]
    if result.get("msg") == "non-zero return code" and len(parts) > 1:
        parts = parts[1:]
    return _shortened(" | ".join(parts)) or "failed without a word; see the log"


def _shortened(text: str, most: int = 600) -> str:
    lines = " ".join(text.split())
    return lines if len(lines) <= most else f"{lines[: most - 1]}…"


def _task(data: Mapping[str, Any]) -> str:
    role, name = data.get("role"), str(data.get("task") or data.get("name") or "")
    return f"{role}: {name}" if role and not name.startswith(f"{role} :") else name
