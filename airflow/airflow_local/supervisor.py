"""The process that starts the components, starts again what dies, and ends all of them."""

from __future__ import annotations

import contextlib
import fcntl
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from airflow_local import components, dags, pool, processes
from airflow_local.home import Settings, StartError, make_folders, write_settings

READY_S: Final = 240.0
_LOOK_S: Final = 0.5
_TRIES: Final = 3  # to take the lock
_PAUSE_S: Final = 5.0  # before a component that died is started again
_SCHEDULER: Final = "scheduler"


class AlreadyRunning(Exception):
    """Another supervisor has this AIRFLOW_HOME."""


class Ended(BaseException):
    """Somebody asked this process to end: like KeyboardInterrupt, not to be caught on the way."""


class Supervisor:
    """One life of Airflow on this machine."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._records = components.records(settings)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._again_s: dict[str, float] = {}
        scheduler = self._records / f"{_SCHEDULER}.json"
        self._pool = pool.Pool(lambda: pool.look_at(settings, scheduler))

    def run(self, ready: Callable[[Mapping[str, str], bool], None]) -> bool:
        """Start everything, then keep it running until TERM or INT; end it whatever happens.

        Calls ``ready`` when all is well, with the DAG files' import errors and whether the password
        is new. Returns whether it came so far. Raises StartError if it cannot; AlreadyRunning.
        """
        make_folders(self._settings)
        well = False
        with _only_one(self._settings), _ended_by_signals():
            new_password = write_settings(self._settings)
            if left := components.end_all(self._settings):
                self._say(f"Ended what an earlier start had left: {', '.join(left)}")
            try:
                errors = self._start()
                well = True
                ready(errors, new_password)
                while True:
                    self._end_what_is_stuck()
                    self._start_again()
                    time.sleep(_LOOK_S)
            finally:
                _ignore_signals()
                components.end_all(self._settings)
                for process in self._running.values():
                    process.wait()
        return well

    def _start(self) -> dict[str, str]:
        settings = self._settings
        if not settings.dags.is_dir():
            raise StartError(f"no DAG folder {settings.dags}")
        _check_port(settings.port)
        self._say(f"Starting Airflow in {settings.home} ...")
        components.migrate(settings)
        since = components.now()
        with dags.begin_inspection(settings) as inspection:
            try:
                for name in components.COMPONENTS:
                    self._running[name] = components.start(settings, name)
                components.wait_until_well(settings, self._running, since, READY_S)
                found = dags.end_inspection(settings, inspection)
            except BaseException:
                inspection.kill()
                raise
        dags.wait_until_listed(settings, set(found["dags"]))
        errors: dict[str, str] = found["errors"]
        return errors

    def _end_what_is_stuck(self) -> None:
        """End a scheduler whose pool takes no more tasks, so that it is started again."""
        if self._pool.stuck():
            self._say(
                "tasks are queued, and idle processes of the scheduler do not take them, as when "
                "one of those was killed; ending the scheduler"
            )
            processes.end(self._records, [_SCHEDULER])

    def _start_again(self) -> None:
        """Start a component that has died, a moment later and without what its former life left."""
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            if name not in self._again_s:
                self._again_s[name] = time.monotonic() + _PAUSE_S
                said = components.last_lines(components.log_of(self._settings, name))
                self._say(f"{name} ended with {process.returncode}; starting it again{said}")
                processes.end(self._records, [name])
            elif time.monotonic() >= self._again_s[name]:
                del self._again_s[name]
                self._running[name] = components.start(self._settings, name)


def holder(settings: Settings) -> processes.Record | None:
    """Return the supervisor that has this AIRFLOW_HOME, None if there is none."""
    try:
        lock = _lock(settings).open("r+")
    except FileNotFoundError:
        return None
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                text = lock.read()
                if text and (found := processes.from_text(text)).alive():
                    return found
                time.sleep(_LOOK_S)  # it has just taken the lock and not yet said who it is
            else:
                return None


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the lock of an AIRFLOW_HOME; it ends with this process, whatever ends that."""
    with _lock(settings).open("a+") as lock:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # for a moment by ``holder``, for long by another supervisor
                if not left:
                    raise AlreadyRunning(settings.url) from None
                time.sleep(_LOOK_S)
        lock.truncate(0)
        lock.write(processes.this("supervisor").as_text())
        lock.flush()
        yield


def _lock(settings: Settings) -> Path:
    return components.records(settings) / "lock"


def _check_port(port: int) -> None:
    """Raise StartError if something listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StartError(
                f"port {port} of 127.0.0.1: {error.strerror}; "
                "end what listens there, or choose another: AIRFLOW__API__PORT=8081 make airflow"
            ) from None


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn TERM and INT into Ended, and leave quietly with it."""

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        _ignore_signals()
        raise Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with contextlib.suppress(Ended):
        yield


def _ignore_signals() -> None:
    """A second TERM must not interrupt the end of the processes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
