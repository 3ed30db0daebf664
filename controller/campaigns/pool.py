"""Worker processes that make runs. Each holds the lock of the run it makes, so a killed worker or
parent frees it; each ends by itself when its parent is gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from controller.campaigns.watch import Advance
from controller.domain.errors import EdgelmError
from controller.results import folder

DONE: Final = "done"
BUSY: Final = "busy"  # another process is making this run
FAILED: Final = "failed"
STORAGE: Final = "storage"  # the disk is full: no use in going on

POLL_S: Final = 0.1
# Small arrays: a second thread per process only costs memory and the other workers' time.
ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


class Desk(Protocol):
    """Whoever has ordered runs, while they are made."""

    def confirm(self, text: str) -> bool:
        """A person says yes to ``text``."""

    def advanced(self, run_id: str, advance: Advance) -> None:
        """A run is so far."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What makes runs; functions of a module, so that a new process can import them."""

    # experiment.json, campaign, who has ordered it -> files
    execute: Callable[[str, Path, Desk], Mapping[str, bytes]]
    warm_up: Callable[[], None]  # compile what is compiled at first use


@dataclass(frozen=True, slots=True)
class Task:
    """A run to be made."""

    run_id: str
    experiment: str  # canonical JSON


@dataclass(frozen=True, slots=True)
class Question:
    """A worker waits for a person's word."""

    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """A run goes on."""

    run_id: str
    advance: Advance


@dataclass(frozen=True, slots=True)
class Reply:
    """How an attempt at a run ended. ``trace`` is for the programmer, ``error`` for the user."""

    run_id: str
    state: str
    made: bool = False  # by this attempt; False too if it was there already
    wall_s: float = 0.0
    error: str = ""
    trace: str = ""


class Worker:
    """One process and what it is at."""

    def __init__(self, root: Path, engine: Engine) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=serve, args=(theirs, root), daemon=True, name="edgelm-worker"
        )
        with _interrupts_blocked():
            self.process.start()
        theirs.close()
        self.connection.send(engine)
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it has died: its sentinel says so
            self.connection.send(task)

    def hear(self, task: Task, desk: Desk) -> Reply | None:
        """How its task ended, whichever way it did; None if it goes on."""
        try:
            said: Reply | Report | Question = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            error = f"its worker process died ({_cause(self.process.exitcode)})"
            said = Reply(task.run_id, FAILED, error=error)
        if isinstance(said, Question):
            verdict = desk.confirm(said.text)
            with contextlib.suppress(OSError):  # it has died meanwhile: that is heard next
                self.connection.send(verdict)
            return None
        if isinstance(said, Report):
            desk.advanced(said.run_id, said.advance)
            return None
        self.task = None
        return said

    @property
    def is_gone(self) -> bool:
        """Dead, and nothing of it is still to be heard."""
        return self.task is None and self.process.exitcode is not None

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


class Pool:
    """As many workers as there are tasks at once, replaced when they die."""

    def __init__(self, root: Path, engine: Engine, size: int, desk: Desk) -> None:
        self._root, self._engine, self._size, self._desk = root, engine, size, desk
        self._workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()

    @property
    def free(self) -> bool:
        """A task would begin at once."""
        return sum(worker.task is not None for worker in self._workers) < self._size

    @property
    def idle(self) -> bool:
        return all(worker.task is None for worker in self._workers)

    def begin(self, task: Task) -> None:
        """Give ``task`` to a worker without one."""
        for worker in self._workers:
            if worker.task is None:
                break
        else:
            worker = Worker(self._root, self._engine)
            self._workers.append(worker)
        worker.begin(task)

    def replies(self, timeout_s: float) -> list[Reply]:
        """Tasks that have ended; waits for the first of them, up to ``timeout_s``."""
        busy = [(worker, worker.task) for worker in self._workers if worker.task is not None]
        ready = wait([worker.connection for worker, _ in busy], timeout_s)
        heard = [w.hear(task, self._desk) for w, task in busy if w.connection in ready]
        for worker in [each for each in self._workers if each.is_gone]:
            self._workers.remove(worker)
            worker.end()
        return [reply for reply in heard if reply is not None]


def serve(connection: Connection, root: Path) -> None:
    """Life of a worker: make runs until the parent hangs up."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    with contextlib.suppress(EOFError, ConnectionError, BrokenPipeError):
        engine: Engine = connection.recv()  # imports what it names, after the settings above
        desk, warm = _DeskElsewhere(connection), False
        while True:
            task: Task = connection.recv()
            connection.send(_attempt(root, engine, task, desk, warm=warm))
            warm = True


class _DeskElsewhere:
    """The desk as a worker knows it: at the other end of a pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def confirm(self, text: str) -> bool:
        self._connection.send(Question(text))
        return bool(self._connection.recv())

    def advanced(self, run_id: str, advance: Advance) -> None:
        self._connection.send(Report(run_id, advance))


def _end_with_parent() -> None:
    """A run may be in its middle; it should not go on asking a model that costs money."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _attempt(root: Path, engine: Engine, task: Task, desk: Desk, *, warm: bool) -> Reply:
    """Make a run unless someone else does or has."""
    run_id, started_s = task.run_id, time.perf_counter()
    try:
        if not warm:
            with folder.locked(root / ".warm.lock"):  # compiled by one, loaded by the others
                engine.warm_up()
        started_s = time.perf_counter()  # of the run alone: it says how long others will take
        with folder.claim(root, run_id) as mine:
            if not mine:
                time.sleep(POLL_S)
                return Reply(run_id, BUSY)
            made = not folder.is_complete(folder.run_folder(root, run_id))
            if made:
                folder.publish(root, run_id, engine.execute(task.experiment, root, desk))
        return Reply(run_id, DONE, made, time.perf_counter() - started_s)
    except OSError as error:
        state = STORAGE if error.errno in folder.STORAGE_ERRORS else FAILED
        return Reply(run_id, state, error=f"{error}", trace=traceback.format_exc())
    except EdgelmError as error:
        return Reply(run_id, FAILED, error=f"{error}", trace=traceback.format_exc())
    except Exception as error:  # a fault of one run must not end the campaign
        message = f"{type(error).__name__}: {error}"
        return Reply(run_id, FAILED, error=message, trace=traceback.format_exc())


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exit_code}"


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C is the parent's to handle. Children begin with its mask; a handler or SIG_IGN would
    not do, since Polars installs one of its own."""
    resource_tracker.ensure_running()  # would unblock the signal if it began within
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
