"""A file that is replaced is there whole, whoever writes it at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controller.files import forget_oldest, replace_file


def test_the_newest_content_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "campaign.json"
    replace_file(path, b"1")
    replace_file(path, b"2")
    assert path.read_bytes() == b"2"
    assert list(path.parent.iterdir()) == [path]


def test_writers_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    contents = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            list(threads.map(lambda content: replace_file(path, content), contents))
            assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "taken", b"1")
    assert [one.name for one in tmp_path.iterdir()] == ["taken"]


def test_the_newest_files_and_those_that_are_spared_stay(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older", "oldest", ".old.1.2.tmp"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    forget_oldest(tmp_path, 2, lambda path: path.name == "oldest")
    assert {one.name for one in tmp_path.iterdir()} == {"new", "old", "oldest"}
    forget_oldest(tmp_path, 1)
    assert {one.name for one in tmp_path.iterdir()} == {"new"}
