"""Keys of the testbed's services: a token for each pair, so that none can pass for another.

A service has the tokens that it sends, and digests of those that it receives: a stolen file lets a
thief do what its service may do, and no more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.files import read_regular

OPERATOR: Final = "operator"  # may do everything
CONTROLLER: Final = "controller"
PLAYER: Final = "player"
MAX_BYTES: Final = 4_000_000  # of a file of keys, those of 10,000 nodes
RESERVED: Final = (OPERATOR, CONTROLLER, PLAYER)
HEX: Final = re.compile(r"[0-9a-f]{64}")  # of a token, a digest, a seed
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of the service ``name``.

    ``tokens``: token by receiver, sent with each request. ``digests``: SHA-256 of the token by
    sender, compared with those received. Without keys every caller counts as the operator.
    """

    name: str = OPERATOR
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    digests: Mapping[str, str] = field(default_factory=dict)

    def token_for(self, other: str) -> str:
        """Return the token to send to another service, "" without one."""
        return self.tokens.get(other, "")

    def caller(self, token: str) -> str | None:
        """Return the name of a token's sender, None if no sender has it. Compares all, so that time
        tells nothing."""
        if not self.digests:
            return OPERATOR
        digest, found = _digest(token), None
        for name, one in self.digests.items():
            if hmac.compare_digest(digest, one):
                found = name
        return found


NO_KEYS: Final = Keys()


def make_keys(nodes: Iterable[str], seed: bytes) -> dict[str, Keys]:
    """Return the keys of operator, controller, player and nodes.

    From one seed they are always the same, so that a node that is added leaves the others' tokens
    as they are.

    Raises:
        InputError: a node's name is no name, or another's.
    """
    names = (*RESERVED, *nodes)
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            raise InputError(
                "keys", "is not a name, or given twice, or reserved", field="NODE", value=name,
                remedy="use letters, digits, dots, dashes, underscores, 63 at most; "
                f"{', '.join(RESERVED)} are taken",
            )  # fmt: skip

    def token(sender: str, receiver: str) -> str:
        return hmac.new(seed, f"{sender}>{receiver}".encode(), hashlib.sha256).hexdigest()

    return {
        one: Keys(
            one,
            {other: token(one, other) for other in names if other not in (one, OPERATOR, PLAYER)},
            {other: _digest(token(other, one)) for other in names if other != one},
        )
        for one in names
    }


def write_keys(path: Path, keys: Keys) -> None:
    """Write a service's keys into a file that its owner alone can read."""
    document = {"name": keys.name, "tokens": dict(keys.tokens), "digests": dict(keys.digests)}
    write_secret(path, json.dumps(document, indent=1) + "\n")


def read_keys(path: Path) -> Keys:
    """Return a service's keys.

    Raises:
        InputError: the file cannot be read, or is no file of keys.
    """
    try:
        found = json.loads(read_regular(path, MAX_BYTES))
        keys = Keys(str(found["name"]), dict(found["tokens"]), dict(found["digests"]))
        for secret in (*keys.tokens.values(), *keys.digests.values()):
            if not HEX.fullmatch(secret):
                raise ValueError(keys.name)
        if not (keys.tokens and keys.digests):
            raise ValueError(keys.name)
        return keys
    except InputError as error:
        raise InputError("--keys", str(error)) from error
    except (ValueError, KeyError, TypeError, RecursionError):
        # Hide the cause: it may quote the file.
        raise InputError(
            "--keys", "is no file of keys", value=str(path), remedy="make one: edgelm keys"
        ) from None


def kept_seed(path: Path) -> bytes:
    """Return the seed in a file; make one first where there is none.

    Raises:
        InputError: the file cannot be read, or is no seed.
    """
    if not path.exists():
        write_secret(path, secrets.token_hex(32) + "\n")
    try:
        text = read_regular(path, MAX_BYTES).decode().strip()
    except (InputError, ValueError) as error:
        raise InputError("keys", "cannot be read", field="seed", value=str(path)) from error
    if not HEX.fullmatch(text):
        raise InputError(
            "keys", "is not 64 hexadecimal digits", field="seed", value=str(path),
            remedy="remove it, make all keys again and copy them",
        )  # fmt: skip
    return bytes.fromhex(text)


def write_secret(path: Path, text: str) -> None:
    """Put a file in place that nobody else can read, at no moment of its making either."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.tmp")
    partial.unlink(missing_ok=True)
    opened = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
