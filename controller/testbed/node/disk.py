"""Disk of a node for one run: its log, payloads and results, in one SQLite file.

One transaction a batch of events: what is acknowledged together is synced together.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from controller.domain.errors import Permanent

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, line TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS payloads (id INTEGER PRIMARY KEY, content BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, content BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, content TEXT NOT NULL)",
)


class NodeDisk:
    """Durable state of a node in a run. Safe to call from several threads.

    Reads have a connection of their own: they never wait for a write that is being synced, and find
    what was written lately in memory, so that an event loop may make them itself.

    Raises:
        Permanent: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            path.chmod(0o600)  # payloads and results are contents
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            for table in _TABLES:
                self._db.execute(table)
            self._reader = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._reader.execute("PRAGMA query_only=ON")
        except (sqlite3.Error, OSError) as error:
            raise Permanent(f"{path}: cannot be opened: {error}") from error

    def commit(
        self,
        lines: Iterable[str] = (),
        payloads: Mapping[int, bytes] | None = None,
        results: Mapping[int, bytes] | None = None,
        payloads_dropped: Iterable[int] = (),
        results_dropped: Iterable[int] = (),
        kept: Mapping[str, str] | None = None,
        *,
        compacted: bool = False,
    ) -> None:
        """Write all of it durably, or nothing.

        ``compacted``: ``kept`` has what the events so far led to, so they go before ``lines`` are
        appended.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                if compacted:
                    self._db.execute("DELETE FROM events")
                self._db.executemany("INSERT INTO events (line) VALUES (?)", ((x,) for x in lines))
                for table, contents in (("payloads", payloads), ("results", results)):
                    self._db.executemany(
                        f"INSERT OR REPLACE INTO {table} VALUES (?, ?)",  # noqa: S608 - own names
                        (contents or {}).items(),
                    )
                for table, gone in (("payloads", payloads_dropped), ("results", results_dropped)):
                    self._db.executemany(
                        f"DELETE FROM {table} WHERE id = ?",  # noqa: S608 - own names
                        ((one,) for one in gone),
                    )
                self._db.executemany(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?)", (kept or {}).items()
                )
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise Permanent(f"{self._path}: cannot be written: {error}") from error

    def lines(self) -> list[str]:
        """Return the log, oldest line first."""
        return [line for (line,) in self._rows("SELECT line FROM events ORDER BY number")]

    def payload(self, request_id: int) -> bytes | None:
        return self._one("SELECT content FROM payloads WHERE id = ?", request_id)

    def result(self, request_id: int) -> bytes | None:
        return self._one("SELECT content FROM results WHERE id = ?", request_id)

    def results_of(self, ids: range) -> list[int]:
        """Return those of these requests that have a result."""
        query = "SELECT id FROM results WHERE id BETWEEN ? AND ?"
        return [key for (key,) in self._rows(query, ids[0], ids[-1])]

    def kept(self, name: str) -> str | None:
        rows = self._rows("SELECT content FROM kept WHERE name = ?", name)
        return rows[0][0] if rows else None

    def close(self) -> None:
        with self._lock:
            self._reader.close()
            self._db.close()

    def _one(self, query: str, key: int) -> bytes | None:
        rows = self._rows(query, key)
        return rows[0][0] if rows else None

    def _rows(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise Permanent(f"{self._path}: cannot be read: {error}") from error
