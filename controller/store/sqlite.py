"""The embedded store: one SQLite file in WAL mode, a table per collection, documents as JSON.

A commit is on disk when a write returns (``synchronous=FULL``), so it survives a killed process and
a power cut. The writer has an advisory lock on ``FILE.lock``, which the kernel releases however the
process ends; the lock file itself stays. Readers never wait for the writer. WAL needs shared
memory, so the file must be on a local disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import InputError, Permanent
from controller.store.documents import (
    check_collection,
    check_field,
    check_key,
    encode,
)
from controller.store.queries import conditions, extract, limiting, ordering

APPLICATION_ID: Final = 0x65646C6D  # "edlm", in the file's header
SCHEMA_VERSION: Final = 1
_BUSY_S: Final = 30.0  # how long to wait for a checkpoint or a recovery by another process


def open_store(path: Path, *, read_only: bool = False) -> SqliteStore:
    """Return the store in the file ``path``, which a writer creates if it is missing.

    Raises:
        InputError: no such file to read, no folder to write to, or the file is not a store.
        Permanent: another process is writing to it.
    """
    if read_only and not path.is_file():
        raise InputError(str(path), "no such store", remedy="run what writes it first")
    if not path.parent.is_dir():
        raise InputError(str(path), "its folder does not exist", remedy="create the folder")
    lock = None if read_only else lock_writer(path)
    try:
        return SqliteStore(connect(path, read_only=read_only), str(path), lock)
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise


def memory_store() -> SqliteStore:
    """Return an empty store in memory, gone when closed."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    return SqliteStore(connection, "store in memory", None)


class SqliteStore:
    """SQLite implementation of :class:`controller.ports.Store`; opened by :func:`open_store`."""

    def __init__(self, connection: sqlite3.Connection, source: str, lock: int | None) -> None:
        self._connection = connection
        self._source = source
        self._lock = lock
        self._tables: set[str] = set()
        self._mutex = threading.Lock()

    @property
    def fault(self) -> None:
        return None

    def put(self, collection: str, key: str, document: Mapping[str, Any]) -> None:
        self.put_many(collection, {key: document})

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        table = check_collection(collection)
        rows = [
            (check_key(table, key), encode(table, key, document))
            for key, document in documents.items()
        ]
        with self._writing(table) as connection:
            connection.executemany(
                f'INSERT INTO "{table}" VALUES (?, ?)'  # noqa: S608 (the name is checked)
                " ON CONFLICT (key) DO UPDATE SET body = excluded.body",
                rows,
            )

    def insert(self, collection: str, key: str, document: Mapping[str, Any]) -> bool:
        table = check_collection(collection)
        row = (check_key(table, key), encode(table, key, document))
        with self._writing(table) as connection:
            statement = f'INSERT INTO "{table}" VALUES (?, ?) ON CONFLICT DO NOTHING'  # noqa: S608
            return connection.execute(statement, row).rowcount == 1

    def swap(
        self,
        collection: str,
        key: str,
        expected: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bool:
        table = check_collection(collection)
        condition, values = conditions(expected, {})
        body = encode(table, check_key(table, key), document)
        with self._writing(table) as connection:
            statement = f'UPDATE "{table}" SET body = ? WHERE {condition} AND key = ?'  # noqa: S608
            return connection.execute(statement, (body, *values, key)).rowcount == 1

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        rows = self._select(collection, "key = ?", [check_key(collection, key)])
        return rows[0] if rows else None

    def find(
        self,
        collection: str,
        where: Mapping[str, Any] | None = None,
        *,
        within: Mapping[str, tuple[float, float]] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        condition, values = conditions(where or {}, within or {})
        return self._select(collection, condition + ordering(sort) + limiting(limit), values)

    def delete(self, collection: str, key: str) -> bool:
        table = check_collection(collection)
        check_key(table, key)
        with self._writing(table) as connection:
            statement = f'DELETE FROM "{table}" WHERE key = ?'  # noqa: S608
            return connection.execute(statement, (key,)).rowcount == 1

    def index(self, collection: str, field: str) -> None:
        table = check_collection(collection)
        with self._writing(table) as connection:
            connection.execute(
                f'CREATE INDEX IF NOT EXISTS "{table}:{check_field(field)}"'
                f' ON "{table}" ({extract(field)})'
            )

    def close(self) -> None:
        with self._mutex:
            self._connection.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _select(
        self, collection: str, condition: str, values: Sequence[object]
    ) -> list[dict[str, Any]]:
        table = check_collection(collection)
        statement = f'SELECT body FROM "{table}" WHERE {condition}'  # noqa: S608
        with self._mutex, reporting(self._source):
            if not self._exists(table):
                return []
            return [json.loads(body) for (body,) in self._connection.execute(statement, values)]

    @contextmanager
    def _writing(self, table: str) -> Iterator[sqlite3.Connection]:
        """Begin a transaction on the collection's table, which is created if it is missing."""
        with self._mutex, reporting(self._source), self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._exists(table):
                connection.execute(
                    f'CREATE TABLE "{table}" (key TEXT PRIMARY KEY, body TEXT NOT NULL)'
                )
            yield connection

    def _exists(self, table: str) -> bool:
        """Return True if the file has the table; a reader may come before the writer's first
        put."""
        if table not in self._tables:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
            if self._connection.execute(query, (table,)).fetchone() is None:
                return False
            if not self._connection.in_transaction:  # our new table may still be rolled back
                self._tables.add(table)
        return True


@contextmanager
def reporting(source: str) -> Iterator[None]:
    """Raise ``Permanent`` for SQLite's errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise Permanent(f"{source}: {error}; what was written before is safe") from error


def lock_writer(path: Path) -> int:
    """Lock the file for its only writer. Return the lock's descriptor; closing it unlocks.

    Raises:
        Permanent: another process is writing to it.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        writer = os.pread(lock, 32, 0).decode().strip() or "unknown"
        os.close(lock)
        raise Permanent(
            f"{path}: process {writer} is writing to this store, and only one can;"
            " wait for it or end it, or open the store to read only"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def connect(
    path: Path, *, read_only: bool = False, application_id: int = APPLICATION_ID
) -> sqlite3.Connection:
    """Return a connection to a file in WAL mode, which a writer creates if it is missing.

    Raises:
        InputError: the file is another program's, or of another kind or version.
        Permanent: it cannot be opened, or its disk cannot share memory.
    """
    uri = path.absolute().as_uri() + ("?mode=ro" if read_only else "?mode=rwc")
    with reporting(str(path)):
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
    try:
        with reporting(str(path)):
            _check_format(connection, path, read_only, application_id)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(
    connection: sqlite3.Connection, path: Path, read_only: bool, application_id: int
) -> None:
    """Refuse a file that is not a store of this version; turn an empty file into a store."""
    try:
        found = pragma(connection, "application_id"), pragma(connection, "user_version")
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise InputError(str(path), f"not a store of edgelm: {error}") from error
    if found == (0, 0) and empty and not read_only:
        if pragma(connection, "journal_mode = WAL") != "wal":
            raise Permanent(f"{path}: its file system cannot share memory; use a local disk")
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {application_id};"
            f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    elif found[0] != application_id:
        raise InputError(str(path), "not a store of edgelm", remedy="name another file")
    elif found[1] != SCHEMA_VERSION:
        raise InputError(
            str(path),
            "a store of another version of edgelm",
            field="user_version",
            value=found[1],
            remedy=f"this one reads version {SCHEMA_VERSION}; name another file",
        )
    pragma(connection, "synchronous = FULL")


def pragma(connection: sqlite3.Connection, text: str) -> Any:
    row = connection.execute(f"PRAGMA {text}").fetchone()
    return row[0] if row else None
