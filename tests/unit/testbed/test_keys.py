"""Keys: whose a token is, and what their files hold."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from controller.domain.errors import InputError
from controller.testbed.keys import (
    NO_KEYS,
    OPERATOR,
    PLAYER,
    kept_seed,
    make_keys,
    read_keys,
    write_keys,
)

KEYS = make_keys(["vm2", "vm3"], b"seed")


def test_every_pair_knows_each_other_and_nobody_else() -> None:
    for sender in KEYS.values():
        for receiver in KEYS.values():
            token = sender.token_for(receiver.name)
            if receiver.name in (sender.name, OPERATOR, PLAYER):
                assert token == ""
                continue
            assert receiver.caller(token) == sender.name
            assert all(
                other.caller(token) is None for other in KEYS.values() if other is not receiver
            )
            assert receiver.caller(token[:-1]) is None
    assert NO_KEYS.caller("") == OPERATOR


def test_a_node_more_leaves_the_other_tokens() -> None:
    more = make_keys(["vm2", "vm3", "vm4"], b"seed")
    assert more["vm2"].token_for("vm3") == KEYS["vm2"].token_for("vm3")
    assert make_keys(["vm2"], b"other")["vm2"].token_for("controller") not in str(KEYS)


def test_a_file_holds_no_token_of_others_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "vm2.json"
    write_keys(path, KEYS["vm2"])
    assert read_keys(path) == KEYS["vm2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert KEYS["vm3"].token_for("vm2") not in text
    assert KEYS["vm2"].token_for("vm3") in text
    assert KEYS["vm2"].token_for("vm3") not in repr(KEYS["vm2"])


SOME = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        "", "{}", "[]", json.dumps({"name": "x", "tokens": 3, "digests": {"a": SOME}}),
        json.dumps({"name": "x", "tokens": {"a": SOME}, "digests": {}}),
        json.dumps({"name": "x", "tokens": {"a": "short"}, "digests": {"a": SOME}}),
        json.dumps({"name": "x", "tokens": {"a": SOME}, "digests": {"a": None}}),
    ],
)  # fmt: skip
def test_a_file_of_something_else_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(InputError, match="is no file of keys"):
        read_keys(path)


@pytest.mark.parametrize("nodes", [["vm2", "vm2"], ["operator"], ["a/b"], [""], ["-x"]])
def test_names_that_cannot_be_are_refused(nodes: list[str]) -> None:
    with pytest.raises(InputError, match="is not a name, or given twice, or reserved"):
        make_keys(nodes, b"seed")


def test_a_seed_is_made_once_and_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "seed"
    seed = kept_seed(path)
    assert (len(seed), kept_seed(path)) == (32, seed)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("")
    with pytest.raises(InputError, match=r"64 hexadecimal digits.*remove it"):
        kept_seed(path)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / ".vm2.json.tmp").symlink_to(other)
    write_keys(tmp_path / "vm2.json", KEYS["vm2"])
    assert other.read_text() == "untouched"
