"""A queue of writes on the local disk: appended in order, removed from its head, bounded in bytes.
What append has returned for survives a killed process and a power cut."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.store.sqlite import connect, lock_writer, reporting

APPLICATION_ID: Final = 0x65646C73  # "edls", in the file's header


@dataclass(frozen=True, slots=True)
class Write:
    """One write: a document as JSON under a key, or with no body the index of field ``key``."""

    collection: str
    key: str
    body: str | None

    @property
    def bytes(self) -> int:
        return sum(len(part.encode()) for part in (self.collection, self.key, self.body or ""))


def open_spool(path: Path, most_bytes: int) -> Spool:
    """Return the queue in the file ``path``, which is created if it is missing.

    Raises:
        InputError: no folder to write to, or the file is something else.
        Permanent: another process has it open.
    """
    if not path.parent.is_dir():
        raise InputError(str(path), "its folder does not exist", remedy="create the folder")
    lock = lock_writer(path)
    try:
        return Spool(connect(path, application_id=APPLICATION_ID), str(path), lock, most_bytes)
    except BaseException:
        os.close(lock)
        raise


class Spool:
    """The queue; opened by :func:`open_spool`. Safe to use from several threads."""

    def __init__(
        self, connection: sqlite3.Connection, source: str, lock: int, most_bytes: int
    ) -> None:
        self._connection, self._source = connection, source
        self._lock: int | None = lock
        self._most_bytes = most_bytes
        self._mutex = threading.RLock()
        self._count = self._bytes = 0
        with self._transaction():
            for table in ("waiting", "rejected"):
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table} (sequence INTEGER PRIMARY KEY"
                    " AUTOINCREMENT, collection TEXT NOT NULL, key TEXT NOT NULL, body TEXT)"
                )
            connection.execute(
                "CREATE INDEX IF NOT EXISTS place ON waiting (collection, key, sequence)"
            )
            self._count, self._bytes = connection.execute(
                "SELECT count(*), coalesce(sum(length(CAST(collection || key ||"
                " coalesce(body, '') AS BLOB))), 0) FROM waiting"
            ).fetchone()

    @property
    def source(self) -> str:
        return self._source

    @property
    def count(self) -> int:
        """Number of writes that wait."""
        return self._count

    @property
    def bytes(self) -> int:
        """Bytes of the names and documents that wait."""
        return self._bytes

    @property
    def most_bytes(self) -> int:
        return self._most_bytes

    def append(self, writes: Sequence[Write]) -> bool:
        """Append all, or none if they exceed the bound. Return True if they were appended."""
        size = sum(one.bytes for one in writes)
        with self._mutex:
            if self._bytes + size > self._most_bytes:
                return False
            with self._transaction(len(writes), size) as connection:
                connection.executemany(
                    "INSERT INTO waiting (collection, key, body) VALUES (?, ?, ?)",
                    [(one.collection, one.key, one.body) for one in writes],
                )
        return True

    def head(self, most: int, most_bytes: int) -> list[tuple[int, Write]]:
        """Return up to ``most`` writes from the head, with their sequence numbers; no more than
        ``most_bytes`` unless the first alone is larger."""
        found: list[tuple[int, Write]] = []
        size = 0
        with self._mutex, reporting(self._source):
            query = "SELECT sequence, collection, key, body FROM waiting ORDER BY sequence LIMIT ?"
            for sequence, *parts in self._connection.execute(query, (most,)):
                write = Write(*parts)
                size += write.bytes
                if found and size > most_bytes:
                    break
                found.append((sequence, write))
        return found

    def remove(self, done: Sequence[tuple[int, Write]]) -> None:
        """Remove writes of the head."""
        size = sum(write.bytes for _, write in done)
        with self._transaction(-len(done), -size) as connection:
            connection.executemany(
                "DELETE FROM waiting WHERE sequence = ?", [(sequence,) for sequence, _ in done]
            )

    def reject(self, sequence: int, write: Write) -> None:
        """Move a write out of the queue's way, to where it is kept for a person to look at."""
        with self._transaction(-1, -write.bytes) as connection:
            connection.execute(
                "INSERT INTO rejected (collection, key, body) SELECT collection, key, body"
                " FROM waiting WHERE sequence = ?",
                (sequence,),
            )
            connection.execute("DELETE FROM waiting WHERE sequence = ?", (sequence,))

    def rejected(self) -> list[Write]:
        """Return the writes that the store refused, oldest first."""
        with self._mutex, reporting(self._source):
            query = "SELECT collection, key, body FROM rejected ORDER BY sequence"
            return [Write(*parts) for parts in self._connection.execute(query)]

    def newest(self, collection: str, key: str) -> Write | None:
        """Return the newest document that waits under a key."""
        with self._mutex, reporting(self._source):
            row = self._connection.execute(
                "SELECT collection, key, body FROM waiting WHERE collection = ? AND key = ?"
                " AND body IS NOT NULL ORDER BY sequence DESC LIMIT 1",
                (collection, key),
            ).fetchone()
        return None if row is None else Write(*row)

    def waits(self, collection: str) -> bool:
        """Return True if a document of the collection waits."""
        with self._mutex, reporting(self._source):
            query = "SELECT 1 FROM waiting WHERE collection = ? AND body IS NOT NULL LIMIT 1"
            return self._connection.execute(query, (collection,)).fetchone() is not None

    def close(self) -> None:
        """Close the file; what waits stays in it. Idempotent."""
        with self._mutex:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @contextmanager
    def _transaction(self, count: int = 0, size: int = 0) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that changes the number and bytes of what waits."""
        with self._mutex:
            with reporting(self._source), self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
            self._count += count
            self._bytes += size
