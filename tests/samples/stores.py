"""Stores for tests of several processes."""

from pathlib import Path

from controller.ports import Store
from controller.store.sqlite import SqliteStore, connect


def shared_sqlite(path: Path) -> Store:
    """A store in a file that several processes write, in place of a server's."""
    return SqliteStore(connect(path, read_only=False), str(path), None)
