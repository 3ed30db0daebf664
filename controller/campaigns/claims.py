"""Claims on runs, so that none is made twice: locks of files among processes of one machine, or
leases in a store among machines that see one folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from controller.domain.errors import EdgelmError
from controller.lease import Held, Lease, Leases, Lost
from controller.ports import Store
from controller.results.folder import run_folder, runs_folder, unfinished_transcript

LEASE_S: Final = 30.0  # after which the runs of a process that died are free
FORGET_S: Final = 7 * 86_400.0  # after which a claim that has ended is removed


class Claim(Protocol):
    """A run that this process owns."""

    def is_kept(self) -> bool:
        """Return False if somebody else has taken the run meanwhile: then leave it to them. Ask
        right before the run is published.

        Raises:
            Transient: the store does not answer; ask again.
        """


class Book(Protocol):
    """Claims of one process."""

    def claim(self, root: Path, run_id: str) -> AbstractContextManager[Claim | None]:
        """Own a run within the context; None if somebody else owns it.

        Raises:
            Transient: a store does not answer; nothing is owned, try again.
        """


class Claims(Protocol):
    """Place of all claims on a campaign's runs. Can be sent to another process. ``poll_s``: time
    after which a run that is somebody else's is asked for again."""

    @property
    def poll_s(self) -> float: ...

    def opened(self) -> AbstractContextManager[Book]:
        """Open the claims of this process."""


@dataclass(frozen=True, slots=True)
class FileClaims:
    """Claims by locks of files in the campaign's folder, for processes of one machine. The kernel
    takes a lock back when its process dies, however it dies."""

    poll_s: float = 0.1

    @contextlib.contextmanager
    def opened(self) -> Iterator[Book]:
        yield _Locks()


LOCKS: Final = FileClaims()


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """Claims by leases in a store, for machines that share the campaign's folder and the store.

    ``open_store`` is a function of a module, or a partial of one, so that a new process can import
    it. Two campaigns whose folders have the same name wait for each other's same runs.
    """

    open_store: Callable[[], Store]
    ttl_s: float = LEASE_S
    poll_s: float = 1.0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Book]:
        with contextlib.closing(self.open_store()) as store:
            leases = Leases(store)
            with contextlib.suppress(EdgelmError):  # the next one to open them removes them
                leases.forget(FORGET_S, _is_claim)
            yield _LeaseBook(leases, self.ttl_s)


def forget_claim(claims: Claims, root: Path, run_id: str) -> None:
    """Remove what a process that was killed right after its run was finished has left of it."""
    left = [path for path in (_lock_path(root, run_id), unfinished_transcript(root, run_id))
            if path.exists()]  # fmt: skip
    if left:
        # A store that does not answer now has time: the next campaign removes it.
        with contextlib.suppress(EdgelmError), claims.opened() as book, book.claim(root, run_id):
            pass


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on ``path``; yields False if another process has it and ``wait`` is
    not set."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owned = False
    else:
        owned = True
    try:
        yield owned
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Locks:
    @contextlib.contextmanager
    def claim(self, root: Path, run_id: str) -> Iterator[Claim | None]:
        runs_folder(root).mkdir(parents=True, exist_ok=True)
        with locked(_lock_path(root, run_id), wait=False) as owned:
            yield _Locked() if owned else None
            if owned:
                # A process that opened the lock, or makes a new one, will find the run finished.
                _remove_leftovers(root, run_id)


@dataclass(frozen=True, slots=True)
class _Locked:
    def is_kept(self) -> bool:
        return True


class _LeaseBook:
    def __init__(self, leases: Leases, ttl_s: float) -> None:
        self._leases, self._ttl_s = leases, ttl_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"

    @contextlib.contextmanager
    def claim(self, root: Path, run_id: str) -> Iterator[Claim | None]:
        runs_folder(root).mkdir(parents=True, exist_ok=True)
        key = _key(root, run_id)
        try:
            lease = self._leases.acquire(key, self._holder, self._ttl_s)
        except Held:
            yield None
            return
        with _Renewed(self._leases, lease, self._ttl_s) as claim:
            yield claim
            # The run is finished by now: what a silent store keeps from being removed does no harm.
            with contextlib.suppress(EdgelmError):
                if claim.is_kept():
                    _remove_leftovers(root, run_id)


class _Renewed:
    """A lease that a thread renews, until the context ends and gives it back."""

    def __init__(self, leases: Leases, lease: Lease, ttl_s: float) -> None:
        self._leases, self._lease, self._ttl_s = leases, lease, ttl_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="edgelm-claim")

    def __enter__(self) -> _Renewed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        # A lease that cannot be given back now ends by itself.
        with contextlib.suppress(EdgelmError):
            self._leases.release(self._lease)

    def is_kept(self) -> bool:
        try:
            self._leases.renew(self._lease, self._ttl_s)
        except Lost:
            return False
        return True

    def _renew(self) -> None:
        while not self._over.wait(self._ttl_s / 3):
            # A lease that has ended can be renewed as long as nobody took it, so that a store that
            # was away costs nothing; whether it is lost is asked when it matters.
            with contextlib.suppress(EdgelmError):
                self._leases.renew(self._lease, self._ttl_s)


def _key(root: Path, run_id: str) -> str:
    """Return the key of a run's lease."""
    return f"{root.resolve().name}/{run_id}"


def _is_claim(key: str) -> bool:
    """Return True for the key of a run's lease, False for others in the store: a testbed's fence
    must grow for ever."""
    return "/" in key


def _remove_leftovers(root: Path, run_id: str) -> None:
    """Remove, beside a finished run, what its making needed. The caller owns the run."""
    if run_folder(root, run_id).exists():
        _lock_path(root, run_id).unlink(missing_ok=True)
        unfinished_transcript(root, run_id).unlink(missing_ok=True)


def _lock_path(root: Path, run_id: str) -> Path:
    return runs_folder(root) / f".{run_id}.lock"
