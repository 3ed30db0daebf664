"""What every store promises. Another implementation joins by one line in ``STORES``."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from controller.domain.errors import InputError
from controller.ports import Store
from controller.store.mongo import MongoStore, open_mongo
from controller.store.spooled import open_spooled
from controller.store.sqlite import memory_store, open_store
from tests.mongo.servers import MongoDev, mongo_dev

STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "sqlite-file": lambda test: open_store(test.getfixturevalue("tmp_path") / "store.sqlite"),
    "sqlite-memory": lambda test: memory_store(),
    "spooled": lambda test: open_spooled(
        memory_store(), test.getfixturevalue("tmp_path") / "spool.sqlite"
    ),
    "mongo": lambda test: open_mongo(
        MONGODB or test.getfixturevalue("mongo").url, f"{RUN}-{next(NUMBERS)}", timeout_s=20
    ),
}
MONGODB = os.environ.get("EDGELM_TEST_MONGODB")  # a real one, in place of mongo-dev
RUN = f"edgelm-test-{uuid.uuid4().hex[:8]}"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with closing(request.param(request)) as opened:
        yield opened


PODS: dict[str, dict[str, Any]] = {
    "a": {"slot": 1, "pod": {"state": "ready", "cores": 2.5}, "late": False},
    "b": {"slot": 2, "pod": {"state": "off"}, "late": True},
    "c": {"slot": 3, "pod": {"state": "ready", "cores": 8}, "late": None},
    "d": {"slot": 10, "pod": None},
}


def test_a_document_comes_back_as_it_was_put(store: Store) -> None:
    document = {
        "text": "naïve 模型 😀 \" ' \\ \n",
        "whole": 2**53 + 1,
        "number": 0.1,
        "yes": True,
        "nothing": None,
        "list": [1, {"a": [], "b": [2.0]}, "x"],
        "nested": {"one": {"two": {}}},
    }
    store.put("runs", "key with 'quotes' and 模型", document)
    found = store.get("runs", "key with 'quotes' and 模型")
    assert found == document
    assert json.dumps(found, sort_keys=True) == json.dumps(document, sort_keys=True)


def test_lists_in_lists_come_back(store: Store) -> None:
    if isinstance(store, MongoStore) and MONGODB is None:
        pytest.skip("mongo-dev keeps no lists in lists: EDGELM_TEST_MONGODB=mongodb://HOST:27017")
    store.put("runs", "a", {"list": [1, [2.0, {"a": []}], "x"]})
    assert store.get("runs", "a") == {"list": [1, [2.0, {"a": []}], "x"]}


def test_what_is_not_there_is_none_or_empty(store: Store) -> None:
    assert store.get("runs", "a") is None
    assert store.find("runs") == []
    assert store.delete("runs", "a") is False
    store.put("runs", "b", {})
    assert store.get("runs", "a") is None


def test_put_replaces_the_whole_document(store: Store) -> None:
    store.put("runs", "a", {"x": 1, "y": 2})
    store.put("runs", "a", {"x": 3})
    assert store.find("runs") == [{"x": 3}]


def test_collections_do_not_mix(store: Store) -> None:
    store.put("runs", "a", {"x": 1})
    store.put("slots", "a", {"x": 2})
    assert store.delete("runs", "a") is True
    assert store.find("runs") == []
    assert store.find("slots") == [{"x": 2}]


def test_changing_what_was_put_or_found_changes_nothing(store: Store) -> None:
    document = {"x": [1]}
    store.put("runs", "a", document)
    document["x"].append(2)
    found = store.get("runs", "a")
    assert found is not None
    found["x"].append(3)
    assert store.get("runs", "a") == {"x": [1]}


def test_put_many_inserts_and_replaces(store: Store) -> None:
    store.put("pods", "b", {"old": True})
    store.put_many("pods", PODS)
    store.put_many("pods", {})
    assert store.find("pods") == list(PODS.values())


def test_a_bad_document_among_many_keeps_all_out(store: Store) -> None:
    with pytest.raises(InputError, match=r"pods/z\.x"):
        store.put_many("pods", {**PODS, "z": {"x": math.nan}})
    assert store.find("pods") == []


def test_insert_takes_a_key_once(store: Store) -> None:
    assert store.insert("leases", "gpu", {"owner": "a"}) is True
    assert store.insert("leases", "gpu", {"owner": "b"}) is False
    assert store.get("leases", "gpu") == {"owner": "a"}


def test_of_several_threads_that_insert_a_key_one_wins(store: Store) -> None:
    winners: list[tuple[int, int]] = []

    def race(who: int) -> None:
        wins = (
            step for step in range(20) if store.insert("leases", f"term-{step}", {"owner": who})
        )
        winners.extend((step, who) for step in wins)

    threads = [threading.Thread(target=race, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(step for step, _ in winners) == list(range(20))
    owners = [store.get("leases", f"term-{step}") for step, _ in sorted(winners)]
    assert owners == [{"owner": who} for _, who in sorted(winners)]


def test_swap_replaces_only_what_is_as_expected(store: Store) -> None:
    assert store.swap("leases", "gpu", {}, {"owner": "a"}) is False
    store.put("leases", "gpu", {"owner": {"name": "a"}, "term": 1})
    store.put("leases", "cpu", {"owner": {"name": "a"}, "term": 1})
    assert store.swap("leases", "gpu", {"owner.name": "b"}, {"owner": None}) is False
    assert store.swap("leases", "gpu", {"owner.name": "a", "term": 1}, {"term": 2}) is True
    assert store.get("leases", "gpu") == {"term": 2}
    assert store.get("leases", "cpu") == {"owner": {"name": "a"}, "term": 1}


def test_of_several_threads_that_swap_each_step_is_won_once(store: Store) -> None:
    store.put("counters", "n", {"value": 0})
    wins: list[int] = []

    def race() -> None:
        for step in range(50):
            won = store.swap("counters", "n", {"value": step}, {"value": step + 1})
            wins.extend([step] * won)

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(50))


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ({"slot": 10}, "d"),
        ({"slot": 1.0}, "a"),
        ({"pod.state": "ready"}, "ac"),
        ({"pod.state": "ready", "slot": 3}, "c"),
        ({"pod.cores": 8.0}, "c"),
        ({"late": True}, "b"),
        ({"late": False}, "a"),
        ({"late": 1}, ""),
        ({"slot": True}, ""),
        ({"slot": "1"}, ""),
        ({"late": None}, "cd"),
        ({"pod.cores": None}, "bd"),
        ({"never": None}, "abcd"),
        ({"never.was": 1}, ""),
        ({}, "abcd"),
    ],
    ids=str,
)
def test_find_compares_fields_by_value_and_type(
    store: Store, where: dict[str, Any], keys: str
) -> None:
    store.put_many("pods", PODS)
    assert store.find("pods", where) == [PODS[key] for key in keys]


@pytest.mark.parametrize(
    ("within", "keys"),
    [
        ({"slot": (1, 3)}, "ab"),
        ({"slot": (3, math.inf)}, "cd"),
        ({"slot": (-math.inf, 2)}, "a"),
        ({"slot": (2, 2)}, ""),
        ({"pod.cores": (0, 100)}, "ac"),
        ({"pod.state": (-math.inf, math.inf)}, ""),
        ({"late": (0, 2)}, ""),
        ({"slot": (2, 10), "pod.cores": (0, 100)}, "c"),
    ],
    ids=str,
)
def test_find_takes_half_open_intervals(
    store: Store, within: dict[str, tuple[float, float]], keys: str
) -> None:
    store.put_many("pods", PODS)
    assert store.find("pods", within=within) == [PODS[key] for key in keys]


def test_where_and_within_both_hold(store: Store) -> None:
    store.put_many("pods", PODS)
    found = store.find("pods", {"pod.state": "ready"}, within={"slot": (2, 99)})
    assert found == [PODS["c"]]


@pytest.mark.parametrize(
    ("sort", "keys"),
    [
        ([], "abcd"),
        ([("slot", -1)], "dcba"),
        ([("pod.state", 1)], "dbac"),
        ([("pod.state", -1), ("slot", -1)], "cabd"),
        ([("pod.cores", 1), ("slot", -1)], "dbac"),
    ],
    ids=str,
)
def test_find_sorts_missing_lowest_and_ties_by_key(
    store: Store, sort: list[tuple[str, int]], keys: str
) -> None:
    store.put_many("pods", dict(reversed(PODS.items())))
    assert store.find("pods", sort=sort) == [PODS[key] for key in keys]


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (3, 3), (99, 4), (None, 4)])
def test_find_limits_after_sorting(store: Store, limit: int | None, count: int) -> None:
    store.put_many("pods", PODS)
    slots = [found["slot"] for found in store.find("pods", sort=[("slot", -1)], limit=limit)]
    assert slots == [10, 3, 2, 1][:count]


def test_an_index_changes_no_result(store: Store) -> None:
    store.index("pods", "pod.state")
    store.put_many("pods", PODS)
    store.index("pods", "slot")
    store.index("pods", "slot")
    ready = store.find("pods", {"pod.state": "ready"}, sort=[("slot", -1)])
    assert ready == [PODS["c"], PODS["a"]]
    assert store.delete("pods", "c") is True
    assert store.find("pods", {"pod.state": "ready"}) == [PODS["a"]]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"x": math.nan}, r"runs/a\.x: .*nan"),
        ({"x": [1, math.inf]}, r"runs/a\.x\[1\]"),
        ({"x": {"y": 2**63}}, r"runs/a\.x\.y"),
        ({"x": b"bytes"}, r"runs/a\.x"),
        ({"x": {1, 2}}, r"runs/a\.x"),
        ({"a.b": 1}, r"'a\.b'"),
        ({"$set": 1}, r"\$set"),
        ({"_id": 1}, "_id"),
        ({"": 1}, "''"),
        ({1: 1}, "got 1"),
        ({"x": "\ud800"}, r"runs/a\.x"),
        ({"x": "nul\0"}, r"runs/a\.x"),
    ],
)
def test_what_a_store_could_not_keep_is_refused(
    store: Store, document: dict[Any, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        store.put("runs", "a", document)
    assert store.find("runs") == []


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put("Runs", "a", {}),
        lambda store: store.put('runs"; DROP TABLE runs', "a", {}),
        lambda store: store.find("sqlite_master"),
        lambda store: store.put("runs", "", {}),
        lambda store: store.get("runs", 7),
        lambda store: store.find("runs", {"a b": 1}),
        lambda store: store.find("runs", {"a') OR TRUE --": 1}),
        lambda store: store.find("runs", {"a..b": 1}),
        lambda store: store.find("runs", {"a": [1]}),
        lambda store: store.find("runs", {"a": math.nan}),
        lambda store: store.find("runs", within={"a": (2, 1)}),
        lambda store: store.find("runs", within={"a": (math.nan, 1)}),
        lambda store: store.find("runs", sort=[("a", 0)]),
        lambda store: store.find("runs", sort=[("a;", 1)]),
        lambda store: store.find("runs", limit=-1),
        lambda store: store.index("runs", "a b"),
        lambda store: store.swap("runs", "a", {"x": {}}, {}),
    ],
)
def test_a_name_or_value_that_cannot_be_is_refused(
    store: Store, call: Callable[[Store], object]
) -> None:
    with pytest.raises(InputError):
        call(store)


def test_closing_twice_is_fine(store: Store) -> None:
    store.close()
    store.close()


WORDS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.integers(-3, 3) | st.sampled_from([-0.5, 0.5, 2.0])
DOCUMENTS = st.dictionaries(WORDS, SCALARS | st.dictionaries(WORDS, SCALARS), max_size=3)
FIELDS = st.sampled_from(["a", "b", "a.a", "a.b", "b.c"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    puts=st.lists(st.tuples(st.sampled_from("pqrstuv"), DOCUMENTS), max_size=12),
    where=st.dictionaries(FIELDS, SCALARS, max_size=1),
    within=st.dictionaries(FIELDS, st.sampled_from([(-1, 2), (0, math.inf)]), max_size=1),
    sort=st.lists(st.tuples(FIELDS, st.sampled_from([1, -1])), max_size=2),
    limit=st.none() | st.integers(0, 5),
)
def test_find_agrees_with_a_plain_dictionary(
    store: Store,
    puts: list[tuple[str, dict[str, Any]]],
    where: dict[str, Any],
    within: dict[str, tuple[float, float]],
    sort: list[tuple[str, int]],
    limit: int | None,
) -> None:
    for key in "pqrstuv":
        store.delete("runs", key)
    for key, document in puts:
        store.put("runs", key, document)
    expected = expected_documents(dict(puts), where, within)
    for field, direction in reversed(sort):
        expected.sort(key=lambda d: rank(at(d, field)), reverse=direction < 0)
    assume(not any(isinstance(at(d, f), dict) for d in expected for f, _ in sort))
    assert store.find("runs", where, within=within, sort=sort, limit=limit) == expected[:limit]


def expected_documents(
    model: Mapping[str, dict[str, Any]],
    where: Mapping[str, Any],
    within: Mapping[str, tuple[float, float]],
) -> list[dict[str, Any]]:
    def matches(document: dict[str, Any]) -> bool:
        equal = all(at(document, field) == value for field, value in where.items())
        inside = all(
            isinstance(number := at(document, field), int | float) and low <= number < high
            for field, (low, high) in within.items()
        )
        return equal and inside

    return [document for _, document in sorted(model.items()) if matches(document)]


def at(document: Any, field: str) -> Any:
    for word in field.split("."):
        document = document.get(word) if isinstance(document, dict) else None
    return document


def rank(value: Any) -> tuple[bool, float]:
    return (value is not None, value if isinstance(value, int | float) else 0)
