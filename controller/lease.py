"""Leases: who has something, for how long, and a number that tells its present owner from former
ones.

Every change of a lease is one more document in the store, numbered by version; the newest counts.
Stores decide who inserts a key first in one step, servers that only speak MongoDB's protocol among
them, so of several concurrent changes one is made. Times are compared on the clock of whoever asks:
clocks must agree to a small part of a lease's duration.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from controller.domain.errors import EdgelmError, InputError
from controller.ports import Store

COLLECTION: Final = "leases"
NOBODY: Final = ""  # holder of a released lease
FORGETTING: Final = "nobody, it is being removed"
FORGETTING_S: Final = 10.0
FORGET: Final = 1000  # leases looked at when old ones are removed


@dataclass(frozen=True, slots=True)
class Lease:
    """Ownership of ``key`` until ``until_unix_s``. ``fence`` grows with every acquisition, so that
    whatever carries an older one is recognised as stale."""

    key: str
    holder: str
    fence: int
    until_unix_s: float


class Held(EdgelmError):
    """Another holder has the lease: ``lease``."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        super().__init__(lease)

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.lease.until_unix_s, UTC)
        return f"held by {self.lease.holder} until {until:%H:%M:%S} UTC (fence {self.lease.fence})"


class Lost(EdgelmError):
    """A lease was released or taken by somebody else: ``lease`` is the one that no longer counts.
    Stop what it was for."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        super().__init__(lease)

    def __str__(self) -> str:
        return f"the lease on {self.lease.key} with fence {self.lease.fence} was lost"


class Leases:
    """The leases in a store. Safe to call from several threads and processes.

    All methods raise what the store raises. After ``Transient`` a change may have been made: call
    again with the same holder.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store, self._now = store, now
        self._indexed = False

    def acquire(self, key: str, holder: str, ttl_s: float) -> Lease:
        """Take the lease on ``key`` for ``ttl_s``, with a new fence, when it was released or has
        ended. Its holder keeps it, with the fence that it has.

        Raises:
            Held: somebody else has it.
            InputError: a key, holder or duration that cannot be.
        """
        _check(holder, ttl_s)
        while True:
            version, present = self._newest(key)
            if present and present.holder != holder and not _is_free(present, self._now()):
                raise Held(present)
            fence = present.fence if present else 0
            fence += present is None or present.holder != holder
            lease = Lease(key, holder, fence, self._now() + ttl_s)
            if self._append(version + 1, lease):
                return lease

    def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """Return the lease with ``ttl_s`` from now and the same fence. One that has ended is
        renewed too, as long as nobody else took it.

        Raises:
            Lost: it was released, or acquired again by anybody.
        """
        _check(lease.holder, ttl_s)
        while True:
            version, present = self._newest(lease.key)
            if present is None or not _is_same(present, lease):
                raise Lost(lease)
            renewed = replace(present, until_unix_s=self._now() + ttl_s)
            if self._append(version + 1, renewed):
                return renewed

    def release(self, lease: Lease) -> None:
        """Give the lease back, so that anybody may take it. With an old fence, do nothing."""
        while True:
            version, present = self._newest(lease.key)
            if present is None or not _is_same(present, lease):
                return
            until_unix_s = min(present.until_unix_s, self._now())
            free = replace(present, holder=NOBODY, until_unix_s=until_unix_s)
            if self._append(version + 1, free):
                return

    def forget(self, age_s: float, keys: Callable[[str], bool]) -> int:
        """Remove leases that were released, or have ended, longer than ``age_s`` ago; return how
        many. The next one on such a key begins with the first fence again, so that ``keys`` must
        only hold of those whose fences nobody compares after that time.

        A caller that takes such a lease meanwhile keeps it, unless it sleeps while it takes it.
        """
        before = self._now() - age_s
        ended = self._store.find(COLLECTION, within={"until_unix_s": (0.0, before)}, limit=FORGET)
        forgotten = 0
        for key in sorted({str(one["key"]) for one in ended if keys(str(one["key"]))}):
            version, present = self._newest(key)
            if present is None or present.until_unix_s >= before:
                continue
            # Taken first, so that whoever wants it meanwhile is refused.
            mine = Lease(key, FORGETTING, present.fence + 1, self._now() + FORGETTING_S)
            if not self._append(version + 1, mine):
                continue
            for old in (version - 1, version, version + 1):
                self._store.delete(COLLECTION, _name(key, old))
            forgotten += 1
        return forgotten

    def look(self, key: str) -> Lease | None:
        """Return the lease on ``key``, None if nobody has it: never taken, released, or ended."""
        _, present = self._newest(key)
        if present is None or _is_free(present, self._now()):
            return None
        return present

    def _newest(self, key: str) -> tuple[int, Lease | None]:
        """Return the newest version of a lease and its number, 0 if it was never taken."""
        if not self._indexed:
            self._store.index(COLLECTION, "key")
            self._store.index(COLLECTION, "until_unix_s")
            self._indexed = True
        found = self._store.find(COLLECTION, {"key": key}, sort=[("version", -1)], limit=1)
        return (found[0]["version"], _lease(found[0])) if found else (0, None)

    def _append(self, version: int, lease: Lease) -> bool:
        """Add a version; return False if somebody else has changed the lease meanwhile."""
        document = {**asdict(lease), "version": version}
        if not self._store.insert(COLLECTION, _name(lease.key, version), document):
            return False
        # Others remove old versions: a writer that slept may have inserted one of those again.
        newest, _ = self._newest(lease.key)
        old = version if newest > version else version - 2
        self._store.delete(COLLECTION, _name(lease.key, old))
        return newest == version


def _is_free(lease: Lease, now_unix_s: float) -> bool:
    return lease.holder == NOBODY or lease.until_unix_s <= now_unix_s


def _is_same(present: Lease, lease: Lease) -> bool:
    return (present.holder, present.fence) == (lease.holder, lease.fence)


def _lease(document: dict[str, Any]) -> Lease:
    fields = {name: value for name, value in document.items() if name != "version"}
    return Lease(**fields)


def _name(key: str, version: int) -> str:
    return f"{key}#{version}"


def _check(holder: str, ttl_s: float) -> None:
    if not holder:
        raise InputError("lease", "needs a holder", field="holder", value=holder)
    if not (math.isfinite(ttl_s) and ttl_s > 0):
        raise InputError(
            "lease", "no duration of a lease", field="ttl_s", value=ttl_s,
            remedy="give seconds above 0",
        )  # fmt: skip
