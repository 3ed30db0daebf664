"""Users of the front door: their file, their keys, and how much each may have under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.domain.errors import InputError
from controller.testbed.front.errors import Refused
from controller.testbed.front.users import ANYONE, Users, add_users, read_users


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "users.json"


def bearer(key: str) -> str:
    return f"Bearer {key}"


def write(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    later = path.stat().st_mtime + 5
    os.utime(path, (later, later))


def test_keys_are_shown_once_and_kept_nowhere(path: Path) -> None:
    first = add_users(path, ["alice", "bob"])
    assert all(key.startswith("sk-edgelm-") and len(key) > 50 for key in first.values())
    assert path.stat().st_mode & 0o777 == 0o600
    assert not [key for key in first.values() if key in path.read_text()]
    assert list(add_users(path, ["bob", "carol"])) == ["carol"], "who is there keeps the key"
    users = Users(path)
    assert users.user_of(bearer(first["alice"])) == "alice"
    assert users.user_of(f"bearer  {first['bob']}") == "bob"


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", "Basic {}", "{}", "Bearer {}x"])
def test_a_foreign_key_is_refused(path: Path, shown: str) -> None:
    (key,) = add_users(path, ["alice"]).values()
    with pytest.raises(Refused) as raised:
        Users(path).user_of(shown.format(key))
    assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")
    assert raised.value.response().headers["WWW-Authenticate"] == "Bearer"


def test_the_file_is_read_again_when_it_changes(path: Path) -> None:
    keys = add_users(path, ["alice", "bob"])
    users = Users(path)
    kept = json.loads(path.read_text())["users"]
    write(path, users={"bob": kept["bob"]})
    with pytest.raises(Refused):
        users.user_of(bearer(keys["alice"]))
    path.write_text("{")  # half written: who is known stays
    assert users.user_of(bearer(keys["bob"])) == "bob"
    path.unlink()
    assert users.user_of(bearer(keys["bob"])) == "bob"


def test_calls_under_way_are_limited_each_and_in_all(path: Path) -> None:
    add_users(path, ["alice", "bob"])
    write(path, at_once=3, at_once_each=2)
    users = Users(path)
    with users.under_way("alice"), users.under_way("alice"):
        with pytest.raises(Refused) as raised, users.under_way("alice"):
            pass
        assert (raised.value.status, raised.value.code) == (429, "rate_limit_exceeded")
        assert raised.value.response().headers["Retry-After"] == "1"
        with users.under_way("bob"), pytest.raises(Refused), users.under_way("bob"):
            pass
        assert users.calls == 2
    assert users.calls == 0
    with users.under_way("alice"):
        pass


def test_without_a_file_anyone_may_call() -> None:
    users = Users(None)
    assert users.user_of("") == ANYONE
    with users.under_way(ANYONE):
        assert users.calls == 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"users": {"a": {"sha256": "1"}}}', '{"key": 1}', '{"at_once": 0}']
)
def test_a_file_that_is_none_is_refused(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match="--users"):
        read_users(path)


def test_names_of_users_are_checked(path: Path) -> None:
    with pytest.raises(InputError, match="is no name of a user"):
        add_users(path, ["a b"])
    assert not path.exists()


def test_the_command_shows_new_keys_alone(path: Path) -> None:
    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "controller.cli", "keys", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    made = keys("--users", "alice,bob", "--to", str(path.parent))
    names = [line.split()[0] for line in made.stdout.splitlines()]
    assert (made.returncode, names) == (0, ["alice", "bob"])
    assert not (path.parent / "seed").exists(), "services' keys were not asked for"
    assert Users(path).user_of(bearer(made.stdout.split()[1])) == "alice"
    nothing = keys("--to", str(path.parent))
    assert (nothing.returncode, "give all nodes, or users" in nothing.stderr) == (2, True)
