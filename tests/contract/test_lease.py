"""What leases promise over every store that decides between several writers."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controller.domain.errors import Transient
from controller.lease import Held, Leases, Lost
from controller.ports import Store
from controller.store.mongo import open_mongo
from controller.store.sqlite import memory_store, open_store
from tests.contract.racers import ROUNDS, new_name, race, step_up
from tests.mongo.servers import MongoDev, mongo_dev

MONGODB = os.environ.get("EDGELM_TEST_MONGODB")  # a real one, in place of mongo-dev
STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "sqlite-file": lambda test: open_store(test.getfixturevalue("tmp_path") / "store.sqlite"),
    "sqlite-memory": lambda test: memory_store(),
    "mongo": lambda test: open_mongo(test.getfixturevalue("url"), new_name(), timeout_s=20),
}
RACERS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path_factory.mktemp("mongo")) as started:
        yield started


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return MONGODB or str(request.getfixturevalue("server").url)


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with closing(request.param(request)) as opened:
        yield opened


def test_a_lease_goes_from_hand_to_hand(store: Store) -> None:
    now = [1000.0]
    leases, others = Leases(store, lambda: now[0]), Leases(store, lambda: now[0])
    first = leases.acquire("testbed", "ann", 60)
    with pytest.raises(Held):
        others.acquire("testbed", "ben", 60)
    assert leases.renew(first, 30).until_unix_s == 1030.0
    assert others.look("testbed") == leases.look("testbed")
    again = leases.acquire("testbed", "ann", 60)
    assert again.fence == first.fence == 1
    now[0] += 60
    assert others.look("testbed") is None
    assert leases.renew(again, 60).fence == 1
    leases.release(again)
    assert others.acquire("testbed", "ben", 60).fence == 2
    leases.release(first)
    assert others.look("testbed") is not None
    with pytest.raises(Lost):
        leases.renew(again, 60)


def in_processes(work: Callable[..., list[Any]], url: str) -> list[list[Any]]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(RACERS) as pool:
        start, database = manager.Barrier(RACERS), new_name()
        jobs = [pool.apply_async(work, (url, database, start, who)) for who in range(RACERS)]
        return [job.get(timeout=120) for job in jobs]


def test_of_several_processes_one_wins_each_round(url: str) -> None:
    won = [one for each in in_processes(race, url) for one in each]
    assert sorted(won) == [(step, 1) for step in range(ROUNDS)]


def test_of_several_processes_each_fence_goes_to_one(url: str) -> None:
    fences = [fence for each in in_processes(step_up, url) for fence in each]
    assert sorted(fences) == list(range(1, RACERS * ROUNDS + 1))


def test_after_a_fault_of_the_store_the_same_holder_acquires_again(tmp_path: Path) -> None:
    with mongo_dev(tmp_path) as server, closing(open_mongo(server.url, timeout_s=1)) as store:
        leases = Leases(store)
        lease = leases.acquire("testbed", "ann", 600)
        server.pause()
        with pytest.raises(Transient):
            leases.renew(lease, 600)
        with pytest.raises(Transient):
            leases.acquire("testbed", "ann", 600)
        server.resume()
        # What was under way may arrive now, before or after this one.
        newest = leases.acquire("testbed", "ann", 600)
        assert newest.fence == lease.fence
        with pytest.raises(Held):
            leases.acquire("testbed", "ben", 600)
