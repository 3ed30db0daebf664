"""MongoDB's store where it differs from SQLite's: a server that is away, slow or refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from controller.domain.errors import InputError, Permanent, Transient
from controller.store.mongo import MongoStore, open_mongo
from tests.mongo.servers import MongoDev, mongo_dev
from tests.unit.telemetry.exporters import free_port

TIMEOUT_S = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path) as started:
        yield started


@pytest.fixture
def store(server: MongoDev) -> Iterator[MongoStore]:
    with closing(open_mongo(server.url, timeout_s=TIMEOUT_S)) as opened:
        yield opened


CALLS: dict[str, Callable[[MongoStore], object]] = {
    "put": lambda store: store.put("runs", "b", {}),
    "put_many": lambda store: store.put_many("runs", {"b": {}}),
    "insert": lambda store: store.insert("runs", "b", {}),
    "swap": lambda store: store.swap("runs", "a", {}, {}),
    "get": lambda store: store.get("runs", "a"),
    "find": lambda store: store.find("runs"),
    "delete": lambda store: store.delete("runs", "a"),
    "index": lambda store: store.index("runs", "x"),
}


def test_every_call_to_a_server_that_hangs_ends_in_time_and_is_transient(
    server: MongoDev, store: MongoStore
) -> None:
    store.put("runs", "a", {"x": 1})
    server.pause()
    try:
        for name, call in CALLS.items():
            begun_s = time.monotonic()
            with pytest.raises(Transient, match=f"{server.port}/edgelm/runs"):
                call(store)
            assert time.monotonic() - begun_s < TIMEOUT_S + 1, name
    finally:
        server.resume()
    assert store.get("runs", "a") is not None


def test_a_server_that_was_killed_is_transient_and_has_what_was_put(
    server: MongoDev, store: MongoStore
) -> None:
    store.put_many("runs", {f"{number:03}": {"x": number} for number in range(300)})
    server.kill()
    for name, call in CALLS.items():
        begun_s = time.monotonic()
        with pytest.raises(Transient):
            call(store)
        assert time.monotonic() - begun_s < TIMEOUT_S + 1, name
    server.start()
    assert [one["x"] for one in store.find("runs")] == list(range(300))


def test_many_new_ones_are_put_fast_and_in_order(store: MongoStore) -> None:
    begun_s = time.monotonic()
    store.put_many("runs", {f"{number:05}": {"slot": number} for number in range(5000)})
    assert time.monotonic() - begun_s < 5  # one by one it takes 15
    assert len(store.find("runs", within={"slot": (100, 200)})) == 100


def test_of_those_with_a_taken_key_and_new_ones_each_is_put(store: MongoStore) -> None:
    store.put_many("runs", {"b": {"x": 0}, "d": {"x": 0}})
    store.put_many("runs", {key: {"x": key} for key in "abcde"})
    assert [one["x"] for one in store.find("runs")] == list("abcde")


def test_two_clients_that_insert_a_key_do_not_both_win(server: MongoDev) -> None:
    wins: list[int] = []

    def race() -> None:
        with closing(open_mongo(server.url)) as mine:
            wins.extend(step for step in range(30) if mine.insert("leases", f"{step}", {}))

    threads = [threading.Thread(target=race) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(30))


def test_a_document_too_large_for_mongodb_is_bad_input(store: MongoStore) -> None:
    with pytest.raises(InputError, match="cannot keep"):
        store.put("runs", "a", {"x": "a" * 17_000_000})
    assert store.get("runs", "a") is None


def test_what_the_server_refuses_is_permanent(server: MongoDev) -> None:
    with (
        closing(open_mongo(server.url.replace("//", "//me:secret@"))) as store,
        pytest.raises(Permanent) as refused,
    ):
        store.get("runs", "a")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "vm1:27017",
        "http://vm1",
        "mongodb://",
        "mongodb://me:secret@:99999/",
        "mongodb://a:b:secret@c",
    ],
)
def test_what_is_no_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(InputError, match="not a URL of MongoDB") as refused:
        open_mongo(url)
    assert "secret" not in str(refused.value)


def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(InputError, match=r"not a database's name.*a\.b"):
        open_mongo("mongodb://127.0.0.1", "a.b")


def test_one_that_was_never_there_is_transient_and_opening_it_is_not() -> None:
    with (
        closing(open_mongo(f"mongodb://127.0.0.1:{free_port()}", timeout_s=0.3)) as store,
        pytest.raises(Transient, match="a write may have been made"),
    ):
        store.put("runs", "a", {})
