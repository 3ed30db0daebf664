"""Processes that outlive whoever started them, found again and ended with all that they started.

Each leads a session of its own, in which whatever it forks stays. What leaves the session, as a
program that a task starts in a session of its own, is known by a mark in its environment. A record
in a folder has the process's id and start time, so that an id that the system has given to
somebody else is not taken for ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MARK: Final = "EDGELM_AIRFLOW_MARK"
TERM_S: Final = 10.0  # from TERM to KILL
_LOOK_S: Final = 0.1
_KILL_S: Final = 5.0  # a killed process may still hang in the kernel for a moment


@dataclass(frozen=True)
class Record:
    """A process that was started, as its file keeps it."""

    name: str
    pid: int
    started: int  # ticks since boot
    boot: str
    mark: str

    def alive(self) -> bool:
        """Return whether the process itself runs, whatever has become of those that it started."""
        stat = _stat(self.pid)
        return self._same_boot() and stat is not None and stat.started == self.started

    def members(self) -> list[int]:
        """Return the ids of the process and of all that came from it and still run."""
        if not self._same_boot():
            return []
        leader = _stat(self.pid)
        foreign = leader is not None and leader.started != self.started
        found = []
        for pid in _pids():
            stat = _stat(pid)
            in_session = stat is not None and stat.session == self.pid and not foreign
            if stat is not None and (in_session or _has_mark(pid, self.mark)):
                found.append(pid)
        return found

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    def _same_boot(self) -> bool:
        return self.boot == _boot()


@dataclass(frozen=True)
class _Stat:
    session: int
    started: int


def start(
    name: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    records: Path,
    log: Path,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, output to ``log``, and note it in ``records``.

    What an earlier process of the name has left stays noted beside it.
    """
    earlier = records / f"{name}.json"
    if earlier.exists():
        record = from_text(earlier.read_text())
        if record.members():
            earlier.replace(records / f"{name}-{record.pid}.json")
    mark = secrets.token_hex(8)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env={**environment, MARK: mark}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    new = records / f".{name}.new"
    new.write_text(_record(name, process.pid, mark).as_text())
    new.replace(records / f"{name}.json")
    return process


def read(records: Path) -> dict[str, Record]:
    """Return the processes that are noted in a folder, running or not.

    They are by name; those of earlier processes of a name are by name and process id.
    """
    return {path.stem: from_text(path.read_text()) for path in records.glob("*.json")}


def from_text(text: str) -> Record:
    return Record(**json.loads(text))


def this(name: str) -> Record:
    """Return the record of this process itself."""
    return _record(name, os.getpid(), mark="")


def end(records: Path, names: Iterable[str] | None = None) -> list[str]:
    """End processes that are noted in a folder with all that came from them, and forget them.

    TERM goes to the group that a process leads: a scheduler that gets it alone waits for its tasks,
    however long they take. KILL goes to all that is left after ``TERM_S``. Returns the names of
    those of which something ran.
    """
    wanted = None if names is None else set(names)
    noted = read(records).items()
    by_key = {key: one for key, one in noted if wanted is None or one.name in wanted}
    chosen = list(by_key.values())
    running = sorted({record.name for record in chosen if record.members()})
    if not _terminate(chosen, TERM_S):
        _signal_all(chosen, signal.SIGKILL)
        end_s = time.monotonic() + _KILL_S
        while any(record.members() for record in chosen) and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
    for key in by_key:
        (records / f"{key}.json").unlink(missing_ok=True)
    return running


def end_alone(record: Record, limit_s: float = 4 * TERM_S) -> None:
    """End a process that ends its own children: TERM, and KILL after ``limit_s``."""
    end_s = time.monotonic() + limit_s
    number = signal.SIGTERM
    while record.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        while record.alive() and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
        number, end_s = signal.SIGKILL, time.monotonic() + _KILL_S


def memory_mb(record: Record) -> float:
    """Return the memory of a process and all that came from it (PSS: shared pages by share)."""
    total_kb = 0
    for pid in record.members():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kb += int(line.split()[1])
    return total_kb / 1000


def _signal_all(records: Sequence[Record], number: signal.Signals) -> None:
    for record in records:
        for pid in record.members():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _terminate(records: Sequence[Record], limit_s: float) -> bool:
    """Ask processes to end and return whether nothing of them runs after ``limit_s`` at most.

    A leader hands TERM on as it sees fit; what has outlived it is asked for itself.
    """
    for record in records:
        if record.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(record.pid, signal.SIGTERM)
    asked: set[Record] = set()
    end_s = time.monotonic() + limit_s
    while any(record.members() for record in records):
        orphaned = [record for record in records if not record.alive() and record not in asked]
        _signal_all(orphaned, signal.SIGTERM)
        asked.update(orphaned)
        if time.monotonic() > end_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names alone, often


def _record(name: str, pid: int, mark: str) -> Record:
    stat = _stat(pid)
    return Record(name, pid, stat.started if stat else 0, _boot(), mark)


def _stat(pid: int) -> _Stat | None:
    """Return what /proc says of a process, None where there is none or it has ended already."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else _Stat(session=int(fields[3]), started=int(fields[19]))


def _has_mark(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # ended, or another user's


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
