"""The folder of one bring-up: state, inventory, keys, logs. One process at a time works on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.files import replace_file

VERSION: Final = 1
OPENSTACK: Final = "openstack"
HOSTS: Final = "hosts"
INVENTORY: Final = Path("inventory") / "hosts.yml"


@dataclass(frozen=True, slots=True)
class State:
    """Memory of a bring-up. ``taken_s``: phase -> seconds of its last success; ``answered``:
    machines that have answered since they were made."""

    testbed: str
    kind: str  # OPENSTACK or HOSTS
    cloud: str = ""
    project_id: str = ""
    inventory_sha256: str = ""
    taken_s: dict[str, float] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    version: int = VERSION


class Folder:
    """A bring-up's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def inventory(self) -> Path:
        return self.path / INVENTORY

    @property
    def key(self) -> Path:
        """Private key for the machines; the public one is beside it."""
        return self.path / "keys" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.path / "keys" / "known_hosts"

    @property
    def machines(self) -> Path:
        """Machines that provisioning has found: machine -> addresses."""
        return self.path / "machines.json"

    @property
    def logs(self) -> Path:
        return self.path / "log"

    def read(self) -> State | None:
        """Return the state, None before the first bring-up.

        Raises:
            InputError: the file is damaged, or another version's.
        """
        path = self.path / "state.json"
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(str(path), f"cannot be read: {error}", remedy=_ANEW) from error
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise InputError(str(path), "is of another version of edgelm", remedy=_ANEW)
        try:
            return State(**document)
        except TypeError as error:
            raise InputError(str(path), f"is damaged: {error}", remedy=_ANEW) from error

    def write(self, state: State) -> None:
        replace_file(
            self.path / "state.json", (json.dumps(asdict(state), indent=1) + "\n").encode()
        )

    def write_inventory(self, text: str, state: State) -> State:
        """Replace the inventory, remember its digest and return the new state."""
        replace_file(self.inventory, text.encode())
        state = replace(state, inventory_sha256=_sha256(text.encode()))
        self.write(state)
        return state

    def check_inventory(self, state: State) -> None:
        """Raise InputError if somebody has edited the inventory."""
        try:
            content = self.inventory.read_bytes()
        except FileNotFoundError:
            return
        if state.inventory_sha256 and _sha256(content) != state.inventory_sha256:
            raise InputError(
                str(self.inventory), "has been edited by hand, and every bring-up writes it anew",
                remedy="put changes into the testbed file, the hosts file or -e FILE, then delete "
                "this file",
            )  # fmt: skip

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; it is made if there is none.

        Raises:
            InputError: another process has it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self.path / "lock").open("a+")
        except OSError as error:
            raise InputError(
                "--state", f"cannot be written: {error.strerror}", value=str(self.path),
                remedy="give a folder of your own",
            ) from error  # fmt: skip
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise InputError(
                    str(self.path), f"is in use by {file.read().strip() or 'another process'}",
                    remedy="wait until it has ended",
                ) from None  # fmt: skip
            file.truncate(0)
            file.write(f"process {os.getpid()}\n")
            file.flush()
            yield


_ANEW: Final = "move it away; `edgelm up` finds the machines again by their marks"


def default_folder(testbed: str) -> Path:
    """Return a testbed's folder: below XDG_STATE_HOME, by default ~/.local/state."""
    root = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(root).expanduser() / "edgelm" / "testbeds" / testbed


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
