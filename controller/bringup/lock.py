"""Who is at work on a testbed in a cloud: one operator at a time, wherever each of them sits.

The lock is a security group that says who made it, since any member may make one and every
operator of the project sees it. Two that come at once both see the other's, and both give way.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from controller.bringup.cloud import Cloud, explained
from controller.bringup.marks import lock_name, mark
from controller.domain.errors import InputError

WORD: Final = " lock: "


@contextmanager
def locked(cloud: Cloud, testbed: str, *, take_over: bool = False) -> Iterator[None]:
    """Hold a testbed's lock in a cloud. A lock of this user on this machine is a killed run's, for
    the folder's own lock is held: it is taken over.

    Args:
        take_over: take the lock of another, who is known to be gone.

    Raises:
        InputError: another holds it; says who, since when, and what to do.
    """
    network = cloud.connection.network
    name, holder = lock_name(testbed), f"{getpass.getuser()}@{socket.gethostname()}"
    with explained(cloud.name):
        for one in _locks(cloud, testbed):
            if take_over or _holder(one) == holder:
                network.delete_security_group(one.id)
        _refuse(cloud, testbed, name)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = f"{mark(testbed)}{WORD}{holder}, process {os.getpid()}, since {since}"
        own = network.create_security_group(name=name, description=text)
    try:
        with explained(cloud.name):
            _refuse(cloud, testbed, name, besides=own.id)
        yield
    finally:
        with suppress(Exception):  # the next run of this machine takes it over
            network.delete_security_group(own.id)


def _refuse(cloud: Cloud, testbed: str, name: str, besides: str = "") -> None:
    others = [one for one in _locks(cloud, testbed) if one.id != besides]
    if others:
        who = others[0].description.partition(WORD)[2]
        raise InputError(
            f"testbed {testbed}", f"is being worked on by {who}",
            remedy=f"wait until it is done; if that run is dead: --break-lock (it removes the "
            f"security group {name})",
        )  # fmt: skip


def _locks(cloud: Cloud, testbed: str) -> list[Any]:
    found = cloud.connection.network.security_groups(name=lock_name(testbed))
    start = mark(testbed) + WORD
    return [
        one for one in found
        if one.project_id == cloud.project_id and (one.description or "").startswith(start)
    ]  # fmt: skip


def _holder(lock: Any) -> str:
    return str(lock.description.partition(WORD)[2].partition(",")[0])
