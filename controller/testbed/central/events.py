"""The controller's log of events, numbered from 1: the newest ones, in memory and in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from controller.domain.errors import EdgelmError
from controller.ports import Store

KEPT: Final = 10_000  # a run tells ten or so, and one for each policy that a person is asked about
FORGOTTEN: Final = "forgotten"  # what stands for the events that are kept no more
_COLLECTION: Final = "events"


class EventLog:
    """The log. Not safe to call from several threads at once.

    Args:
        kept: events, besides those of a run that is still going.
    """

    def __init__(self, store: Store, kept: int = KEPT) -> None:
        self._store, self._kept = store, kept
        self._events: list[dict[str, Any]] = []

    def open(self) -> None:
        """Read what a former process has told."""
        self._events = self._store.find(_COLLECTION, sort=[("number", 1)])

    @property
    def newest(self) -> int:
        """Number of the newest event, 0 before the first."""
        return int(self._events[-1]["number"]) if self._events else 0

    def add(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a new event, which is to be kept: see :meth:`keep`."""
        unix_s = round(time.time(), 3)
        event = {"number": self.newest + 1, "unix_s": unix_s, "event": kind, **fields}
        self._events.append(event)  # before the store, so that no other gets its number
        return event

    def keep(self, event: dict[str, Any], forgotten: Sequence[dict[str, Any]]) -> None:
        """Put an event into the store, and remove others from it."""
        self._store.put(_COLLECTION, _key(event), event)
        for one in forgotten:
            with contextlib.suppress(EdgelmError):  # its next opening reads, and forgets, it again
                self._store.delete(_COLLECTION, _key(one))

    def forget(self, going: str) -> list[dict[str, Any]]:
        """Return, and forget, the oldest events over the number that is kept, up to the first one
        of the run that is still going; ``going`` is its id, "" if there is none."""
        over = self._events[: max(0, len(self._events) - self._kept)]
        mine = [k for k, one in enumerate(over) if going and one.get("run") == going]
        count = mine[0] if mine else len(over)
        del self._events[:count]
        return over[:count]

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return the events after a number. Where some of them are kept no more, an event
        ``forgotten`` comes first, with the number of the last of those."""
        if not self._events or number >= self.newest:
            return []
        oldest = self._events[0]
        first = int(oldest["number"])
        if number >= first - 1:
            return self._events[number - first + 1 :]
        gap = {"number": first - 1, "unix_s": oldest["unix_s"], "event": FORGOTTEN}
        return [gap, *self._events]


def _key(event: dict[str, Any]) -> str:
    return f"{event['number']:09d}"
