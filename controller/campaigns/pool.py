"""Worker processes that make runs. Each owns the run it makes until it dies, and each ends by
itself when its parent is gone."""

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
from typing import Final, TypeVar

from controller.campaigns.claims import LOCKS, Book, Claims, locked
from controller.campaigns.watch import Advance
from controller.domain.errors import EdgelmError, Transient
from controller.results.completeness import code_of, is_complete
from controller.results.folder import STORAGE_ERRORS, publish, run_folder

T = TypeVar("T")

DONE: Final = "done"
BUSY: Final = "busy"  # another process is making this run
FAILED: Final = "failed"
STORAGE: Final = "storage"  # the disk is full: no use in going on

STORE_POLL_S: Final = 1.0  # between calls to a store that does not answer
# Small arrays: a second thread per process only costs memory and the other workers' time.
SLOW_S: Final = 5.0  # of compiling, after which a person is told

ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")


def _unheard(text: str) -> None:
    """Drop a note."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A person's side of a run: answers questions and gets its progress."""

    confirm: Callable[[str], bool]  # a person says yes to a text
    advanced: Callable[[str, Advance], None]  # a run, by id, is so far
    noted: Callable[[str], None] = _unheard  # a person should know this


@dataclass(frozen=True, slots=True)
class Engine:
    """The maker of runs: functions of a module, so that a new process can import them."""

    # experiment.json, the campaign's folder, a listener -> the run's files
    execute: Callable[[str, Path, Listener], Mapping[str, bytes]]
    warm_up: Callable[[], None]  # compile what is compiled at first use


@dataclass(frozen=True, slots=True)
class Task:
    """Message to a worker: make this run."""

    run_id: str
    experiment: str  # canonical JSON
    code: str = ""  # make a finished run again if code of another digest made it; "": keep it


@dataclass(frozen=True, slots=True)
class Asked:
    """Message of a worker: it waits for a person's yes or no, a bool."""

    text: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """Message of a worker: its run goes on."""

    run_id: str
    advance: Advance


@dataclass(frozen=True, slots=True)
class Noted:
    """Message of a worker: a sentence that the person should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Message of a worker: its attempt at a run is over. ``trace`` is for the programmer, ``error``
    for the user."""

    run_id: str
    state: str
    made: bool = False  # by this attempt; False too if it was finished already
    wall_s: float = 0.0
    error: str = ""
    trace: str = ""


class Worker:
    """One process and the task it works on."""

    def __init__(self, root: Path, engine: Engine, claims: Claims) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=serve, args=(theirs, root, claims), daemon=True, name="edgelm-worker"
        )
        with _interrupts_blocked():
            self.process.start()
        theirs.close()
        self.connection.send(engine)
        self.task: Task | None = None

    def begin(self, task: Task) -> None:
        """Give it a task; it has none."""
        self.task = task
        with contextlib.suppress(OSError):  # it has died: its sentinel says so
            self.connection.send(task)

    def receive(self, task: Task, listener: Listener) -> Ended | None:
        """Take its next message; return the end of its task, whichever way it ended, or None if
        the task goes on."""
        try:
            message: Ended | Advanced | Asked | Noted = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            error = f"its worker process died ({_cause(self.process.exitcode)})"
            message = Ended(task.run_id, FAILED, error=error)
        if isinstance(message, Asked):
            verdict = listener.confirm(message.text)
            with contextlib.suppress(OSError):  # it has died meanwhile: that is received next
                self.connection.send(verdict)
            return None
        if isinstance(message, Advanced):
            listener.advanced(message.run_id, message.advance)
            return None
        if isinstance(message, Noted):
            listener.noted(message.text)
            return None
        self.task = None
        return message

    @property
    def is_gone(self) -> bool:
        """True if it is dead and no message of it is left."""
        return self.task is None and self.process.exitcode is not None

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


class Pool:
    """Up to ``size`` workers, started when needed and replaced when they die."""

    def __init__(
        self,
        root: Path,
        engine: Engine,
        size: int,
        listener: Listener,
        claims: Claims = LOCKS,
    ) -> None:
        self._root, self._engine, self._size, self._listener = root, engine, size, listener
        self._claims = claims
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
        """True if another task would begin at once."""
        return sum(worker.task is not None for worker in self._workers) < self._size

    @property
    def idle(self) -> bool:
        """True if no worker has a task."""
        return all(worker.task is None for worker in self._workers)

    def begin(self, task: Task) -> None:
        """Give ``task`` to a worker without one."""
        for worker in self._workers:
            if worker.task is None:
                break
        else:
            worker = Worker(self._root, self._engine, self._claims)
            self._workers.append(worker)
        worker.begin(task)

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return the tasks that have ended; wait for a message up to ``timeout_s``."""
        busy = [(worker, worker.task) for worker in self._workers if worker.task is not None]
        ready = wait([worker.connection for worker, _ in busy], timeout_s)
        messages = [w.receive(task, self._listener) for w, task in busy if w.connection in ready]
        for worker in [each for each in self._workers if each.is_gone]:
            self._workers.remove(worker)
            worker.end()
        return [message for message in messages if message is not None]


def serve(connection: Connection, root: Path, claims: Claims) -> None:
    """Make runs until the parent hangs up: the life of a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    with contextlib.suppress(EOFError, ConnectionError, BrokenPipeError):
        engine: Engine = connection.recv()  # imports what it names, after the settings above
        listener, warm = _parent(connection), False
        with claims.opened() as book:
            while True:
                task: Task = connection.recv()
                connection.send(_attempt(root, engine, task, listener, book, warm=warm))
                warm = True


def _parent(connection: Connection) -> Listener:
    """Return the listener at the other end of a worker's pipe."""

    def confirm(text: str) -> bool:
        connection.send(Asked(text))
        return bool(connection.recv())

    def advanced(run_id: str, advance: Advance) -> None:
        connection.send(Advanced(run_id, advance))

    def noted(text: str) -> None:
        connection.send(Noted(text))

    return Listener(confirm, advanced, noted)


def _end_with_parent() -> None:
    """Exit with the parent, even in the middle of a run: it may be asking a model that costs
    money."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _told_if_slow(listener: Listener) -> Iterator[None]:
    """Note that the twin is being compiled, if that takes long."""
    words = "compiling the twin, once for this machine and version: half a minute or more"
    timer = threading.Timer(SLOW_S, listener.noted, (words,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # the connection is one thread's at a time


def _attempt(
    root: Path, engine: Engine, task: Task, listener: Listener, book: Book, *, warm: bool
) -> Ended:
    """Make a run, unless it is finished or another process is making it."""
    run_id, started_s = task.run_id, time.perf_counter()
    try:
        if not warm:
            # Compiled by one, loaded by the others.
            with locked(root / ".warm.lock"), _told_if_slow(listener):
                engine.warm_up()
        started_s = time.perf_counter()  # of the run alone: it says how long others will take
        with contextlib.ExitStack() as stack:
            claim = _patiently(lambda: stack.enter_context(book.claim(root, run_id)), listener)
            if claim is None:
                return Ended(run_id, BUSY)
            made = not _counts(run_folder(root, run_id), task.code)
            if made:
                files = engine.execute(task.experiment, root, listener)
                if not _patiently(claim.is_kept, listener):
                    return Ended(run_id, BUSY)  # who took it meanwhile makes it
                publish(root, run_id, files)
        return Ended(run_id, DONE, made, time.perf_counter() - started_s)
    except OSError as error:
        state = STORAGE if error.errno in STORAGE_ERRORS else FAILED
        return Ended(run_id, state, error=f"{error}", trace=traceback.format_exc())
    except EdgelmError as error:
        return Ended(run_id, FAILED, error=f"{error}", trace=traceback.format_exc())
    except Exception as error:  # a fault of one run must not end the campaign
        message = f"{type(error).__name__}: {error}"
        return Ended(run_id, FAILED, error=message, trace=traceback.format_exc())


def _patiently(ask: Callable[[], T], listener: Listener) -> T:
    """Return what the claims' store answers; while it does not, wait, and say so once."""
    waits = False
    while True:
        try:
            return ask()
        except Transient as error:
            if not waits:
                listener.noted(f"waiting for the store of claims: {error}")
            waits = True
            time.sleep(STORE_POLL_S)


def _counts(folder: Path, code: str) -> bool:
    """Return True if a run is finished, by code of this digest where one is given."""
    return is_complete(folder) and (not code or code == code_of(folder))


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exit_code}"


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start children that ignore Ctrl-C: it is the parent's. They inherit its signal mask; a
    handler or SIG_IGN would not do, since Polars installs one of its own."""
    resource_tracker.ensure_running()  # would unblock the signal if it began within
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
