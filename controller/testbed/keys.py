"""Keys of the testbed's services: a token for each pair, so that none can pass for another.

A service has the tokens that it shows, and digests of those that it is shown: who steals a node's
file may do what that node may do, and no more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError

OPERATOR: Final = "operator"  # may do everything
CONTROLLER: Final = "controller"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of the service ``name``.

    ``shown`` are its tokens by whom they are for, ``known`` the SHA-256 of others' by whose they
    are. Without any, whoever asks is taken for the operator.
    """

    name: str = OPERATOR
    shown: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: Mapping[str, str] = field(default_factory=dict)

    def token_for(self, other: str) -> str:
        """Return the token to show to another service, "" without one."""
        return self.shown.get(other, "")

    def caller(self, token: str) -> str | None:
        """Return whose a token is, None if it is nobody's. Takes the same time for all."""
        if not self.known:
            return OPERATOR
        digest, found = _digest(token), None
        for name, known in self.known.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


NO_KEYS: Final = Keys()


def make_keys(nodes: Iterable[str], seed: bytes) -> dict[str, Keys]:
    """Return the keys of operator, controller and nodes.

    From one seed they are always the same, so that a node that is added leaves the others' tokens
    as they are.

    Raises:
        InputError: a node's name is no name, or another's.
    """
    names = (OPERATOR, CONTROLLER, *nodes)
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise InputError("keys", "is no name of a node, or not the only one", value=name,
                             remedy="use letters, digits, dots and dashes, each once")  # fmt: skip

    def token(sender: str, receiver: str) -> str:
        return hmac.new(seed, f"{sender}>{receiver}".encode(), hashlib.sha256).hexdigest()

    return {
        one: Keys(
            one,
            {other: token(one, other) for other in names if other not in (one, OPERATOR)},
            {other: _digest(token(other, one)) for other in names if other != one},
        )
        for one in names
    }


def write_keys(path: Path, keys: Keys) -> None:
    """Write a service's keys into a file that its owner alone can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.tmp")
    partial.touch(mode=0o600)
    document = {"name": keys.name, "shown": dict(keys.shown), "known": dict(keys.known)}
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(path)


def read_keys(path: Path) -> Keys:
    """Return a service's keys.

    Raises:
        InputError: the file cannot be read, or is no file of keys.
    """
    try:
        found = json.loads(path.read_text())
        return Keys(str(found["name"]), dict(found["shown"]), dict(found["known"]))
    except OSError as error:
        raise InputError("--keys", f"cannot be read: {error.strerror}", value=str(path)) from error
    except (ValueError, KeyError, TypeError):
        # The error is not told: it may quote what is in the file.
        raise InputError(
            "--keys", "is no file of keys", value=str(path), remedy="make one: edgelm keys"
        ) from None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
