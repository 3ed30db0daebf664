"""The testbed's store: MongoDB by pymongo's synchronous client, a collection per collection, the
key as ``_id``.

A write has returned when a majority of the servers have it in their journals. Every call ends
within the store's timeout; what was interrupted raises ``Transient``, and may have been written.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import bson
from bson.errors import BSONError
from pymongo import MongoClient, ReplaceOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteError,
)
from pymongo.uri_parser import parse_uri

from controller.domain.errors import InputError, Permanent, Transient
from controller.store.documents import (
    check_collection,
    check_field,
    check_key,
    check_scalar,
    encode,
)
from controller.store.queries import check_direction, check_interval, check_limit

_DATABASE: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# MongoDB's numbers of errors: a duplicate key, and documents that it cannot keep.
_TAKEN: Final = 11000
_UNFIT: Final = frozenset({2, 15, 10334, 17280})

_MOST_BYTES: Final = 16 * 2**20

_Document = dict[str, Any]


def open_mongo(url: str, database: str = "edgelm", *, timeout_s: float = 5.0) -> MongoStore:
    """Return the store in a database of MongoDB. It connects with the first call.

    Args:
        url: as ``mongodb://vm1:27017``; a password in it appears in no message.
        timeout_s: limit of each call, retries included.

    Raises:
        InputError: not a URL of MongoDB, or not a database's name.
    """
    if _DATABASE.fullmatch(database) is None:
        raise InputError(
            "store", "not a database's name", value=database, remedy="use letters, digits, _ and -"
        )
    try:
        servers = parse_uri(url)["nodelist"]
        client: MongoClient[_Document] = MongoClient(
            url,
            connect=False,
            appname="edgelm",
            timeoutMS=int(timeout_s * 1000),
            serverSelectionTimeoutMS=int(timeout_s * 1000),
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise InputError(
            "store",
            f"not a URL of MongoDB ({type(error).__name__})",
            remedy="use mongodb://HOST:27017",
        ) from None
    source = ", ".join(f"{host}:{port}" for host, port in servers)
    return MongoStore(client, database, f"mongodb://{source}/{database}")


class MongoStore:
    """MongoDB implementation of :class:`controller.ports.Store`; opened by :func:`open_mongo`."""

    def __init__(self, client: MongoClient[_Document], database: str, source: str) -> None:
        self._client = client
        self._database = client.get_database(
            database, write_concern=WriteConcern(w="majority", j=True)
        )
        self._source = source
        self._swapping = threading.Lock()

    @property
    def fault(self) -> None:
        return None

    def put(self, collection: str, key: str, document: Mapping[str, Any]) -> None:
        row = _row(collection, key, document)
        with self._reporting(collection):
            self._collection(collection).replace_one({"_id": key}, row, upsert=True)

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        check_collection(collection)
        rows = [_row(collection, key, document) for key, document in documents.items()]
        if not rows:
            return
        with self._reporting(collection):
            target = self._collection(collection)
            try:
                target.insert_many(rows)  # many times as fast as upserts, and most keys are new
            except BulkWriteError as error:
                taken = _taken(error)
                if taken is None:
                    raise
                target.bulk_write([_replace(row) for row in rows[taken:]])

    def insert(self, collection: str, key: str, document: Mapping[str, Any]) -> bool:
        row = _row(collection, key, document)
        with self._reporting(collection):
            try:
                self._collection(collection).insert_one(row)
            except DuplicateKeyError:
                return False
        return True

    def swap(
        self,
        collection: str,
        key: str,
        expected: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bool:
        row = _row(collection, key, document)
        query = _query(expected, {})
        # MongoDB compares and sets in one step. Servers that only speak its protocol may not: the
        # lock makes that step one within the writer's process.
        with self._swapping, self._reporting(collection):
            done = self._collection(collection).replace_one({"$and": [{"_id": key}, *query]}, row)
        return done.matched_count == 1

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        check_key(collection, key)
        with self._reporting(collection):
            return self._collection(collection).find_one({"_id": key}, {"_id": 0})

    def find(
        self,
        collection: str,
        where: Mapping[str, Any] | None = None,
        *,
        within: Mapping[str, tuple[float, float]] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        query = _query(where or {}, within or {})
        order = [(check_field(field), check_direction(field, way)) for field, way in sort]
        target = self._collection(check_collection(collection))
        if check_limit(limit) == 0:
            return []  # to MongoDB, 0 is no limit
        with self._reporting(collection):
            found = target.find({"$and": query} if query else {}, {"_id": 0})
            return list(found.sort([*order, ("_id", 1)]).limit(limit or 0))

    def delete(self, collection: str, key: str) -> bool:
        check_key(check_collection(collection), key)
        with self._reporting(collection):
            return self._collection(collection).delete_one({"_id": key}).deleted_count == 1

    def index(self, collection: str, field: str) -> None:
        check_field(field)
        with self._reporting(collection):
            self._collection(collection).create_index(field)

    def close(self) -> None:
        self._client.close()

    def _collection(self, name: str) -> Collection[_Document]:
        return self._database[check_collection(name)]

    @contextmanager
    def _reporting(self, collection: str) -> Iterator[None]:
        """Raise the port's errors for pymongo's."""
        where = f"{self._source}/{collection}"
        try:
            yield
        except (BSONError, DocumentTooLarge, OverflowError) as error:
            raise InputError(where, f"MongoDB cannot keep this document: {error}") from error
        except PyMongoError as error:
            if _codes(error) & _UNFIT:
                raise InputError(
                    where, f"MongoDB cannot keep this document: {_first_line(error)}"
                ) from error
            if _is_passing(error):
                raise Transient(
                    f"{where}: {_first_line(error)}; a write may have been made"
                ) from error
            raise Permanent(f"{where}: {_first_line(error)}") from error


def _row(collection: str, key: str, document: Mapping[str, Any]) -> _Document:
    """Return the document as MongoDB has it.

    Raises:
        InputError: as the port says, or larger than MongoDB's 16 MiB.
    """
    text = encode(check_collection(collection), check_key(collection, key), document)
    row = {"_id": key, **document}
    # Not every server refuses it, and one that takes it for a while fails the reader.
    if len(text) > _MOST_BYTES // 16 and len(bson.encode(row)) > _MOST_BYTES:
        raise InputError(
            "store",
            "MongoDB cannot keep this document: over 16 MiB",
            field=f"{collection}/{key}",
            remedy="split it",
        )
    return row


def _replace(row: _Document) -> ReplaceOne[_Document]:
    return ReplaceOne({"_id": row["_id"]}, row, upsert=True)


def _query(
    where: Mapping[str, Any], within: Mapping[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """Return conditions that all hold; MongoDB compares values of one type only, as the port
    wants."""
    return [{check_field(field): check_scalar(field, value)} for field, value in where.items()] + [
        {check_field(field): {"$gte": low, "$lt": high}}
        for field, (low, high) in (
            (field, check_interval(field, *ends)) for field, ends in within.items()
        )
    ]


def _taken(error: BulkWriteError) -> int | None:
    """Return the position of the document at which a bulk of inserts stopped, since its key was
    taken; None if it stopped for another reason."""
    details = error.details or {}
    stopped = [one["index"] for one in details.get("writeErrors", []) if one["code"] == _TAKEN]
    return min(stopped, default=None)


def _codes(error: PyMongoError) -> set[int | None]:
    """Return the numbers of what went wrong with a document, empty if it was something else."""
    if isinstance(error, BulkWriteError):
        return {one.get("code") for one in (error.details or {}).get("writeErrors", [])}
    return {error.code} if isinstance(error, WriteError) else set()


def _is_passing(error: PyMongoError) -> bool:
    """Return True for a fault that another try may not meet: the server did not answer in time, or
    is about to be replaced."""
    if isinstance(error, ConnectionFailure | AutoReconnect) or error.timeout:
        return True
    if isinstance(error, BulkWriteError):
        return bool((error.details or {}).get("writeConcernErrors"))
    return isinstance(error, OperationFailure) and error.has_error_label("RetryableWriteError")


def _first_line(error: PyMongoError) -> str:
    """Return what went wrong, without the client's settings and view of the servers."""
    said = str(error).split("\n")[0].split(" (configured timeouts")[0].split(", Timeout:")[0]
    return f"{type(error).__name__}: {said[:300]}"
