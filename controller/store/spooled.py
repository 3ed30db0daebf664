"""A store that may be away: its puts wait in a local spool and are delivered in order when it is
back.

A put that has returned is in the store or in the spool. A delivery that was interrupted is made
again, and since a put replaces what is under its key, each is in the store once. While puts of a
collection wait, what would have to know them is ``Transient``: finds, inserts, swaps and deletes.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from controller.domain.errors import EdgelmError, InputError, Permanent, Transient
from controller.ports import Store
from controller.store.documents import check_collection, check_field, check_key, encode
from controller.store.spool import Spool, Write, open_spool

MOST_BYTES: Final = 256 * 2**20
_BATCH: Final = 500  # writes of a delivery
_BATCH_BYTES: Final = 4 * 2**20
_LONGEST_PAUSE_S: Final = 10.0

log = logging.getLogger(__name__)


def open_spooled(
    store: Store, path: Path, *, most_bytes: int = MOST_BYTES, pause_s: float = 0.5
) -> SpooledStore:
    """Return ``store`` with its spool in the file ``path``. What waits there is delivered first.

    Args:
        store: is closed with it.
        most_bytes: limit of the names and documents that wait, beyond which puts are refused.
        pause_s: first pause between two tries to deliver; it doubles up to 10 s.

    Raises:
        InputError: no folder to write to, or the file is something else.
        Permanent: another process has the spool open.
    """
    return SpooledStore(store, open_spool(path, most_bytes), pause_s)


class SpooledStore:
    """:class:`controller.ports.Store` in front of another; opened by :func:`open_spooled`."""

    def __init__(self, store: Store, spool: Spool, pause_s: float) -> None:
        self._store, self._spool, self._pause_s = store, spool, pause_s
        self._order = threading.Lock()  # of puts among themselves, and with the spool's last
        self._spooling = spool.count > 0
        self._fault: str | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._courier = threading.Thread(target=self._deliver, name="spool", daemon=True)
        self._courier.start()

    @property
    def waiting(self) -> int:
        """Number of writes in the spool."""
        return self._spool.count

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the spool."""
        return self._spool.bytes

    @property
    def fault(self) -> str | None:
        return self._fault

    @property
    def rejected(self) -> list[tuple[str, str]]:
        """Collections and keys of documents that the store could not keep when they were delivered.
        They stay in the spool's file."""
        return [(one.collection, one.key) for one in self._spool.rejected()]

    def put(self, collection: str, key: str, document: Mapping[str, Any]) -> None:
        self.put_many(collection, {key: document})

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """As in the port.

        Raises:
            Permanent: the store is away and the spool is full; nothing was put.
        """
        check_collection(collection)
        writes = [
            Write(collection, key, encode(collection, check_key(collection, key), document))
            for key, document in documents.items()
        ]
        self._write(writes, lambda: self._store.put_many(collection, documents))

    def index(self, collection: str, field: str) -> None:
        writes = [Write(check_collection(collection), check_field(field), None)]
        self._write(writes, lambda: self._store.index(collection, field))

    def insert(self, collection: str, key: str, document: Mapping[str, Any]) -> bool:
        self._check_delivered(check_collection(collection))
        return self._store.insert(collection, key, document)

    def swap(
        self,
        collection: str,
        key: str,
        expected: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bool:
        self._check_delivered(check_collection(collection))
        return self._store.swap(collection, key, expected, document)

    def get(self, collection: str, key: str) -> dict[str, Any] | None:
        """As in the port; a document that waits is found in the spool."""
        check_key(check_collection(collection), key)
        write = self._spool.newest(collection, key) if self._spooling else None
        if write is None or write.body is None:
            return self._store.get(collection, key)
        document: dict[str, Any] = json.loads(write.body)
        return document

    def find(
        self,
        collection: str,
        where: Mapping[str, Any] | None = None,
        *,
        within: Mapping[str, tuple[float, float]] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        self._check_delivered(check_collection(collection))
        return self._store.find(collection, where, within=within, sort=sort, limit=limit)

    def delete(self, collection: str, key: str) -> bool:
        self._check_delivered(check_collection(collection))
        return self._store.delete(collection, key)

    def flush(self, limit_s: float) -> bool:
        """Wait until nothing waits in the spool. Return False if that took over ``limit_s``."""
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._spooling, limit_s)

    def close(self) -> None:
        """Close the store and the spool; what waits is delivered after the next opening."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._courier.join()
        self._store.close()
        self._spool.close()

    def _write(self, writes: list[Write], at_once: Callable[[], None]) -> None:
        """Write to the store, or behind what waits."""
        with self._order:
            if not self._spooling:
                try:
                    at_once()
                except Transient as error:
                    log.warning("%s; writes wait in %s", error, self._spool.source)
                    self._fault = str(error)
                else:
                    return
            self._append(writes)

    def _append(self, writes: list[Write]) -> None:
        if not self._spool.append(writes):
            problem = (
                f"{self._spool.source}: the spool is full ({self._spool.bytes} of"
                f" {self._spool.most_bytes} bytes), and the store does not answer ({self._fault});"
                " bring the store back or raise the limit"
            )
            log.error("refused %d writes: %s", len(writes), problem)
            raise Permanent(problem)
        with self._changed:
            self._spooling = self._spool.count > 0
            self._changed.notify_all()

    def _check_delivered(self, collection: str) -> None:
        if self._spooling and self._spool.waits(collection):
            raise Transient(
                f"{self._spool.source}: documents of {collection} wait to be delivered"
                f" ({self._fault or 'now'}); try again"
            )

    def _deliver(self) -> None:
        """Deliver what waits, until closed."""
        pause_s = self._pause_s
        while self._wait_for_work():
            try:
                self._deliver_some()
            except EdgelmError as error:
                if str(error) != self._fault:
                    log.log(_level(error), "%d writes wait: %s", self._spool.count, error)
                self._fault = str(error)
            except Exception as error:
                log.exception("%d writes wait", self._spool.count)  # and the thread goes on
                self._fault = repr(error)
            else:
                self._fault, pause_s = None, self._pause_s
                continue
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._spooling)
            return not self._closed

    def _deliver_some(self) -> None:
        """Deliver writes from the head that are of one collection and under different keys."""
        batch: list[tuple[int, Write]] = []
        keys: set[str] = set()
        for sequence, write in self._spool.head(_BATCH, _BATCH_BYTES):
            other = bool(batch) and batch[0][1].collection != write.collection
            if other or write.key in keys or (batch and write.body is None):
                break
            batch.append((sequence, write))
            keys.add(write.key)
            if write.body is None:
                break
        self._hand_over(batch)
        with self._order, self._changed:
            self._spooling = self._spool.count > 0
            self._changed.notify_all()

    def _hand_over(self, batch: list[tuple[int, Write]]) -> None:
        """Give a batch to the store and remove it; set aside what the store cannot keep."""
        try:
            self._give([write for _, write in batch])
        except InputError as error:
            if len(batch) > 1:
                for one in batch:
                    self._hand_over([one])
                return
            [(sequence, write)] = batch
            log.error("set aside %s/%s: %s", write.collection, write.key, error)
            self._spool.reject(sequence, write)
        else:
            self._spool.remove(batch)

    def _give(self, writes: list[Write]) -> None:
        first = writes[0]
        if first.body is None:
            self._store.index(first.collection, first.key)
            return
        documents = {one.key: json.loads(one.body or "{}") for one in writes}
        self._store.put_many(first.collection, documents)


def _level(error: EdgelmError) -> int:
    return logging.WARNING if isinstance(error, Transient) else logging.ERROR
