"""Stores that are closed when their test is over."""

from __future__ import annotations

from controller.store.sqlite import SqliteStore, memory_store

_open: list[SqliteStore] = []


def fresh_store() -> SqliteStore:
    """An empty one in memory."""
    _open.append(memory_store())
    return _open[-1]


def close_stores() -> None:
    """All that were handed out."""
    while _open:
        _open.pop().close()
