"""Users of the front door: a file of their keys' digests, and how much each may have under way."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from controller.domain.errors import InputError
from controller.files import read_regular
from controller.testbed.front.errors import Refused
from controller.testbed.keys import write_secret

PREFIX: Final = "sk-edgelm-"
ANYONE: Final = "anyone"  # the user of a front door without a file
MAX_BYTES: Final = 64_000_000  # of a file of users
BUSY_RETRY_S: Final = 1.0

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Calls = Annotated[int, Field(ge=1, le=10_000)]

log = logging.getLogger("edgelm.front")


class User(BaseModel):
    """A user: the SHA-256 of the key, and how many calls at once, if not as the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Digest
    at_once: Calls | None = None


class UsersFile(BaseModel):
    """Content of a users file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_once: Calls = 64  # calls of all users together
    at_once_each: Calls = 8
    users: dict[Name, User] = {}


def read_users(path: Path) -> UsersFile:
    """Return the content of a users file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return UsersFile.model_validate_json(read_regular(path, MAX_BYTES))
    except InputError as error:
        raise InputError("--users", str(error)) from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise InputError(
            "--users", f"is no file of users: {place}: {first['msg']}", value=str(path),
            remedy="make one: edgelm keys --users NAME,...",
        ) from None  # fmt: skip


def add_users(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Give a key to each name that is not in a file yet; return the new keys, which are kept
    nowhere.

    Raises:
        InputError: the file is none, or a name is none.
    """
    before = read_users(path) if path.exists() else UsersFile()
    made = {name: PREFIX + secrets.token_urlsafe(32) for name in names if name not in before.users}
    users = {name: {"sha256": digest_of(key)} for name, key in made.items()}
    document = before.model_dump(exclude_none=True)
    document["users"] |= users
    try:
        UsersFile.model_validate(document)
    except ValidationError:
        raise InputError(
            "keys", "is no name of a user", field="--users", value=",".join(names),
            remedy="use letters, digits, dots, dashes, underscores and @, 63 at most",
        ) from None  # fmt: skip
    write_secret(path, json.dumps(document, indent=1) + "\n")
    return made


def digest_of(key: str) -> str:
    """Return the digest of a key. It has 256 random bits, so no slow digest is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


class Users:
    """Callers who may call, and the calls that each has under way.

    Args:
        path: of the users file, which is read again when it changes; None lets anyone in.

    Raises:
        InputError: it is no users file.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._changed_ns = path, 0
        self._file = UsersFile()
        self._calls: Counter[str] = Counter()
        if path is not None:
            self._file = read_users(path)
            self._changed_ns = path.stat().st_mtime_ns

    @property
    def calls(self) -> int:
        """Number of calls under way."""
        return self._calls.total()

    def user_of(self, authorization: str) -> str:
        """Return whose key a header shows. Compares all, so that time tells nothing.

        Raises:
            Refused: nobody's.
        """
        if self._path is None:
            return ANYONE
        self._read_again(self._path)
        scheme, _, key = authorization.strip().partition(" ")
        digest, found = digest_of(key.strip()), None
        for name, user in self._file.users.items():
            if hmac.compare_digest(digest, user.sha256):
                found = name
        if found is None or scheme.lower() != "bearer":
            message = "the key is missing, wrong or revoked: send Authorization: Bearer KEY"
            raise Refused(401, "invalid_api_key", message)
        return found

    @contextlib.contextmanager
    def under_way(self, name: str) -> Iterator[None]:
        """Count a call while it lasts.

        Raises:
            Refused: the user, or all together, have too many.
        """
        user = self._file.users.get(name)
        each = (user.at_once if user else None) or self._file.at_once_each
        each = self._file.at_once if self._path is None else each
        if self._calls[name] >= each:
            raise _busy(f"{each} calls of this key are under way")
        if self.calls >= self._file.at_once:
            raise _busy(f"{self._file.at_once} calls are under way here")
        self._calls[name] += 1
        try:
            yield
        finally:
            self._calls[name] -= 1

    def _read_again(self, path: Path) -> None:
        """Take up a file that has changed; one that cannot be read changes nothing."""
        try:
            changed_ns = path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._changed_ns = changed_ns
                self._file = read_users(path)
                log.info("%d users", len(self._file.users))
        except (InputError, OSError) as error:
            log.warning("the users stay as they were: %s", error)


def _busy(what: str) -> Refused:
    message = f"{what}, which is the limit: try again when one has ended"
    return Refused(429, "rate_limit_exceeded", message, retry_after_s=BUSY_RETRY_S)
