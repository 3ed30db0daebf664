"""What only the file of the embedded store promises: one writer, readers beside it, crashes."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from controller.domain.errors import InputError, Permanent
from controller.store.sqlite import open_store

WRITE_UNTIL_KILLED = """
import itertools, pathlib, sys
from controller.store.sqlite import open_store
store = open_store(pathlib.Path(sys.argv[1]))
done = len(store.find("batches"))
for batch in itertools.count(done):
    rows = {f"{batch:06}-{n}": {"batch": batch, "text": "x" * 500} for n in range(5)}
    store.put_many("rows", rows)
    store.put("batches", f"{batch:06}", {"batch": batch})
    print(batch, flush=True)
"""

WRITE_UNTIL_FULL = """
import itertools, pathlib, resource, sys
from controller.domain.errors import Permanent
from controller.store.sqlite import open_store
store = open_store(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    for n in itertools.count():
        store.put("rows", f"{n:06}", {"text": "x" * 1000})
        print(n, flush=True)
except Permanent as error:
    print(error)
"""


def test_documents_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(open_store(path)) as store:
        store.put("runs", "a", {"x": 1})
        store.index("runs", "x")
    with closing(open_store(path)) as store:
        assert store.get("runs", "a") == {"x": 1}
    assert {file.name for file in tmp_path.iterdir()} == {"store.sqlite", "store.sqlite.lock"}


def test_what_was_written_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    path, rng, acknowledged = tmp_path / "store.sqlite", np.random.default_rng(7), -1
    for _ in range(12):
        command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged = int(writer.stdout.readline())
            time.sleep(rng.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        with closing(open_store(path)) as store:
            batches = [found["batch"] for found in store.find("batches")]
            rows = [found["batch"] for found in store.find("rows")]
        assert batches == list(range(len(batches)))
        assert len(batches) > acknowledged
        assert rows in ([b for b in range(n) for _ in range(5)] for n in range(acknowledged, 9999))
        assert len(rows) // 5 - len(batches) in (0, 1)


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(Permanent, match=f"store.sqlite: process {writer.pid} is writing"):
            open_store(path)
        writer.kill()
    open_store(path).close()


def test_one_process_is_one_writer_too(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(open_store(path)), pytest.raises(Permanent, match="only one can"):
        open_store(path)


def test_readers_see_what_is_written_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(open_store(path)) as writer, closing(open_store(path, read_only=True)) as reader:
        assert reader.find("runs") == []
        writer.put("runs", "a", {"x": 1})
        assert reader.find("runs") == [{"x": 1}]
        with pytest.raises(Permanent, match="readonly"):
            reader.put("runs", "b", {})


def test_an_indexed_field_is_searched_not_scanned(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    statements: list[str] = []
    with closing(open_store(path)) as store:
        store.put("slots", "a", {"pod": {"state": "ready"}, "slot": 1})
        store.index("slots", "pod.state")
        store.index("slots", "slot")
        store._connection.set_trace_callback(statements.append)
        store.find("slots", {"pod.state": "ready"})
        store.find("slots", within={"slot": (0, 5)})
    with closing(sqlite3.connect(path)) as connection:
        plans = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()[0][-1]
            for statement in statements
            if "slots" in statement and "sqlite_master" not in statement
        ]
    assert plans == [
        "SEARCH slots USING INDEX slots:pod.state (<expr>=?)",
        "SEARCH slots USING INDEX slots:slot (<expr>>? AND <expr><?)",
    ]


def test_a_full_disk_stops_the_writer_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    command = [sys.executable, "-c", WRITE_UNTIL_FULL, str(path)]
    *written, complaint = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert str(path) in complaint
    assert "what was written before is safe" in complaint
    with closing(open_store(path)) as store:
        assert len(store.find("rows")) == len(written) > 10


@pytest.mark.parametrize("read_only", [True, False])
def test_other_files_are_refused_untouched(tmp_path: Path, read_only: bool) -> None:
    notes, database = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    notes.write_text("not a database, but long enough to be looked at as one\n" * 20)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = notes.read_bytes(), database.read_bytes()
    for path in (notes, database):
        with pytest.raises(InputError, match=f"{path.name}.*not a store of edgelm"):
            open_store(path, read_only=read_only)
    assert (notes.read_bytes(), database.read_bytes()) == before


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match=r"another version of edgelm \(got 99\)"):
        open_store(path)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.sqlite: no such store"):
        open_store(tmp_path / "absent.sqlite", read_only=True)
    with pytest.raises(InputError, match="its folder does not exist"):
        open_store(tmp_path / "absent" / "store.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite")
    store.close()
    with pytest.raises(Permanent, match="closed"):
        store.put("runs", "a", {})
