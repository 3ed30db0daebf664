"""Puts while the store is away: a server of MongoDB's protocol that is killed and paused, a writer
that is killed, and a store that fails at random."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.errors import InputError, Permanent, Transient
from controller.ports import Store
from controller.store.mongo import open_mongo
from controller.store.spooled import SpooledStore, open_spooled
from controller.store.sqlite import memory_store, open_store
from tests.mongo.servers import MongoDev, mongo_dev, until
from tests.unit.telemetry.exporters import free_port

NOBODY = "mongodb://127.0.0.1:{port}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path) as started:
        yield started


def spooled(server: MongoDev, folder: Path, **options: Any) -> SpooledStore:
    store = open_mongo(server.url, timeout_s=0.5)
    return open_spooled(store, folder / "spool.sqlite", pause_s=0.05, **options)


def away(folder: Path, **options: Any) -> SpooledStore:
    """Return a store in front of one that is never there."""
    store = open_mongo(NOBODY.format(port=free_port()), timeout_s=0.2)
    return open_spooled(store, folder / "spool.sqlite", pause_s=0.05, **options)


def test_a_server_killed_for_a_while_amid_writes_loses_and_doubles_nothing(
    server: MongoDev, tmp_path: Path
) -> None:
    chance = random.Random(7)  # noqa: S311
    written: dict[str, int] = {}
    stop = threading.Event()

    with closing(spooled(server, tmp_path)) as store:

        def write() -> None:
            for number in range(100_000):
                if stop.is_set():
                    return
                store.put("records", f"{number:06}", {"n": number})
                store.put("newest", "one", {"n": number})
                written["n"] = number
                time.sleep(0.002)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(4):
            time.sleep(chance.uniform(0.1, 0.4))
            server.kill()
            time.sleep(chance.uniform(0.1, 0.8))
            server.start()
        server.kill()
        until(lambda: store.waiting > 20)
        assert store.get("newest", "one") is not None
        stop.set()
        writer.join()
        server.start()
        assert store.flush(60)
        assert (store.waiting, store.waiting_bytes, store.fault) == (0, 0, None)
    with closing(open_mongo(server.url, timeout_s=20)) as plain:
        found = [one["n"] for one in plain.find("records")]
        assert found == list(range(written["n"] + 1))
        assert plain.get("newest", "one") == {"n": written["n"]}


WRITER = """
import sys
from pathlib import Path
from controller.store.mongo import open_mongo
from controller.store.spooled import open_spooled
store = open_spooled(open_mongo(sys.argv[1], timeout_s=0.3), Path(sys.argv[2]), pause_s=0.01)
for number in range(10_000):
    store.put("records", f"{sys.argv[3]}-{number:06}", {"n": number})
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_has_lost_nothing_that_it_had_put(
    server: MongoDev, tmp_path: Path
) -> None:
    chance = random.Random(3)  # noqa: S311
    put: dict[str, int] = {}
    server.kill()
    for life in range(6):
        if life % 2:
            server.start()
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, server.url, str(tmp_path / "spool.sqlite"), str(life)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(chance.randint(5, 60)):
            put[str(life)] = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        put[str(life)] = max(put[str(life)], *map(int, rest)) if rest else put[str(life)]
        if life % 2:
            server.kill()
    server.start()
    with closing(spooled(server, tmp_path)) as store:
        assert store.flush(60)
    with closing(open_mongo(server.url, timeout_s=20)) as plain:
        for life, last in put.items():
            for number in range(last + 1):
                assert plain.get("records", f"{life}-{number:06}") == {"n": number}, life
        surplus = len(plain.find("records")) - sum(last + 1 for last in put.values())
    assert 0 <= surplus <= len(put)  # of each life at most the one whose return was not seen


def test_a_server_that_hangs_costs_its_timeout_once(server: MongoDev, tmp_path: Path) -> None:
    with closing(spooled(server, tmp_path)) as store:
        store.put("runs", "a", {})
        server.pause()
        try:
            begun_s = time.monotonic()
            for number in range(50):
                store.put("runs", f"{number:02}", {})
            assert time.monotonic() - begun_s < 2.0
            assert store.waiting == 50
        finally:
            server.resume()
        assert store.flush(30)
        assert len(store.find("runs")) == 51


def test_what_the_store_cannot_keep_is_set_aside_and_the_rest_goes_on(
    server: MongoDev, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(spooled(server, tmp_path)) as store:
        server.kill()
        store.put("runs", "a", {"x": 1})
        store.put("runs", "b", {"x": "b" * 17_000_000})
        store.put("runs", "c", {"x": 3})
        server.start()
        assert store.flush(60)
        assert store.rejected == [("runs", "b")]
        assert store.find("runs") == [{"x": 1}, {"x": 3}]
    assert "set aside runs/b" in caplog.text


def test_beyond_its_bound_the_spool_refuses_and_says_so(
    server: MongoDev, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(spooled(server, tmp_path, most_bytes=2000)) as store:
        server.kill()
        store.put("runs", "000", {"x": "x" * 80})
        size = store.waiting_bytes
        while store.waiting_bytes + size <= 2000:
            store.put("runs", f"{store.waiting:03}", {"x": "x" * 80})
        taken = store.waiting
        with pytest.raises(Permanent, match=r"spool is full \(\d+ of 2000 bytes\)") as refused:
            store.put("runs", "999", {"x": "x" * 80})
        assert "does not answer (mongodb://127.0.0.1" in str(refused.value)
        assert "refused 1 writes" in caplog.text
        assert any(one.levelno == logging.ERROR for one in caplog.records)
        assert 15 < taken < 25
        with pytest.raises(Permanent):  # all or none
            store.put_many("runs", {f"m{number}": {} for number in range(1000)})
        assert store.waiting == taken
        server.start()
        assert store.flush(30)
        assert len(store.find("runs")) == taken
        store.put("runs", "after", {})


def test_while_documents_wait_what_must_know_them_is_transient(tmp_path: Path) -> None:
    with closing(away(tmp_path)) as store:
        store.put("runs", "a", {"x": 1})
        store.put("runs", "a", {"x": 2})
        store.index("runs", "x")
        assert store.get("runs", "a") == {"x": 2}
        calls: list[Callable[[], object]] = [
            lambda: store.find("runs"),
            lambda: store.insert("runs", "b", {}),
            lambda: store.swap("runs", "a", {}, {}),
            lambda: store.delete("runs", "a"),
        ]
        for call in calls:
            with pytest.raises(Transient, match="documents of runs wait"):
                call()
        with pytest.raises(Transient, match="may have been made"):
            store.insert("leases", "b", {})
        assert store.waiting == 3
        assert not store.flush(0.2)


def test_what_a_store_could_never_keep_is_refused_at_once(tmp_path: Path) -> None:
    with closing(away(tmp_path)) as store:
        for document in ({"x": float("nan")}, {"a.b": 1}):
            with pytest.raises(InputError):
                store.put("runs", "a", document)
        assert store.waiting == 0


def test_a_spool_has_one_owner_and_is_no_store(tmp_path: Path) -> None:
    with closing(away(tmp_path)), pytest.raises(Permanent, match="only one can"):
        open_spooled(memory_store(), tmp_path / "spool.sqlite")
    with pytest.raises(InputError, match="not a store"):
        open_store(tmp_path / "spool.sqlite")
    with pytest.raises(InputError, match="folder does not exist"):
        open_spooled(memory_store(), tmp_path / "no" / "spool.sqlite")


class Flaky:
    """A store that fails as its script says: before a write, after it, or not at all."""

    def __init__(self, script: list[str]) -> None:
        self.inner, self._script = memory_store(), script

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        what = self._script.pop() if self._script else "works"
        if what == "before":
            raise Transient("gone before")
        if what == "within":  # as the port allows, the first of them
            documents = dict(list(documents.items())[: len(documents) // 2])
        self.inner.put_many(collection, documents)
        if what != "works":
            raise Transient("gone after")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def close(self) -> None:
        """Leave the documents to the test."""


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(st.sampled_from(["before", "within", "after", "works"]), max_size=30),
    puts=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 99), min_size=1), max_size=15
    ),
    reopen=st.integers(0, 15),
)
def test_in_the_end_the_store_has_the_newest_of_each_key(
    tmp_path_factory: pytest.TempPathFactory,
    script: list[str],
    puts: list[dict[str, int]],
    reopen: int,
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.sqlite"
    flaky: Any = Flaky(script)
    expected: dict[str, int] = {}

    def opened() -> SpooledStore:
        store: Store = flaky
        return open_spooled(store, path, pause_s=0.0001)

    store = opened()
    for number, documents in enumerate(puts):
        if number == reopen:
            store.close()
            store = opened()
        store.put_many("runs", {key: {"x": x} for key, x in documents.items()})
        expected |= documents
    assert store.flush(20)
    found = {key: flaky.inner.get("runs", key)["x"] for key in expected}
    store.close()
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
