"""Playbooks run in a bring-up's folder: with a log, and secrets only where they are already."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

from controller.bringup import playbooks
from controller.bringup.machines import Bringup
from controller.bringup.marks import base_name, mark
from controller.bringup.order import Order
from controller.bringup.playbooks import Outcome, Playbook, Watcher
from controller.bringup.state import Folder
from controller.domain.errors import InputError
from controller.files import forget_oldest

LOGS: Final = 100  # that are kept
VAULT: Final = "ANSIBLE_VAULT_PASSWORD_FILE"


def play(folder: Folder, name: str, book: Playbook, order: Order, watcher: Watcher) -> Outcome:
    """Run a playbook; all that it prints goes into a log of the folder.

    Raises:
        InputError: Ansible or the playbook is not installed, or there are no machines yet.
    """
    if book.inventory is not None and not book.inventory.exists():
        raise InputError(str(book.inventory), "is missing: there are no machines yet",
                         remedy="give the command without --from")  # fmt: skip
    if not (playbooks.folder() / book.name).exists():
        raise InputError("playbooks", "is missing", field=book.name, remedy="install edgelm again")
    with _log(folder, name) as (path, log):
        outcome = playbooks.run(_with_secrets(book, order), folder.path, log, watcher)
        outcome.log = str(path)
        return outcome


def identity(bringup: Bringup, cloud: str) -> dict[str, Any]:
    """Return the variables by which playbooks find a testbed in a cloud."""
    return {
        "edgelm_cloud": cloud,
        "edgelm_mark": mark(bringup.testbed),
        "edgelm_name": base_name(bringup.testbed),
    }


def _with_secrets(book: Playbook, order: Order) -> Playbook:
    """Return a playbook with where the secrets are: files, by their paths, and the environment."""
    environment = {}
    if order.vault_password_file is not None:
        environment[VAULT] = str(order.vault_password_file.absolute())
    clouds = _clouds_file()
    if clouds:
        environment["OS_CLIENT_CONFIG_FILE"] = clouds
    return replace(book, environment=environment)


def _clouds_file() -> str:
    """Return the absolute path of clouds.yaml: Ansible runs in another folder."""
    try:
        from openstack.config import OpenStackConfig
    except ImportError:
        return ""
    found = OpenStackConfig().config_filename
    return str(Path(found).absolute()) if found else ""


@contextmanager
def _log(folder: Folder, name: str) -> Iterator[tuple[Path, TextIO]]:
    """Open a log that only we can read; old ones are removed."""
    folder.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}.log"
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as log:
        yield path, log
    forget_oldest(folder.logs, LOGS)
