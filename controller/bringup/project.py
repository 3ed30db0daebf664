"""An OpenStack project as a plan reads it: what it offers, what it has used, what is ours in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.bringup.flavours import Flavour
from controller.domain.errors import InputError

SERVER: Final = "server"
PORT: Final = "port"
NETWORK: Final = "network"
SUBNET: Final = "subnet"
ROUTER: Final = "router"
SECURITY_GROUP: Final = "security group"
FLOATING: Final = "floating address"
SERVER_GROUP: Final = "server group"
KEYPAIR: Final = "keypair"


@dataclass(frozen=True, slots=True)
class Thing:
    """Something in a project. ``name`` of a floating address is the address."""

    kind: str
    id: str
    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.id})"


@dataclass(frozen=True, slots=True)
class Image:
    """An image that servers can be made of."""

    name: str
    id: str
    system: str  # distribution and version, "" if the image does not say
    disk_gb: int = 0  # least disk
    ram_mb: int = 0  # least memory


@dataclass(frozen=True, slots=True)
class Room:
    """A quota: ``limit`` is None where there is none."""

    limit: int | None
    used: int

    @property
    def free(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Project:
    """A project as a cloud shows it to its members. ``own``: what carries the testbed's mark."""

    cloud: str
    region: str
    id: str
    name: str
    flavours: tuple[Flavour, ...]
    images: tuple[Image, ...]
    external: tuple[Thing, ...]  # networks with floating addresses
    external_ranges: Mapping[str, tuple[str, ...]]  # id of such a network -> its CIDRs, if shown
    zones: tuple[str, ...]
    rooms: Mapping[str, Room]
    own: tuple[Thing, ...]
    others: tuple[Thing, ...]  # servers, networks, routers, floating addresses of somebody else

    def ours(self, kind: str) -> dict[str, Thing]:
        """Return name -> thing of a kind."""
        return {one.name: one for one in self.own if one.kind == kind}


def refuse_doubles(things: Iterable[Thing], mark: str) -> None:
    """Raise InputError if two of a testbed's things have one kind and name."""
    things = list(things)
    counts = Counter((one.kind, "" if one.kind == FLOATING else one.name) for one in things)
    for (kind, name), count in counts.items():
        if count > 1:
            ids = ", ".join(one.id for one in things if one.kind == kind and name in ("", one.name))
            raise InputError(
                "OpenStack", f"has {count} of the mark {mark}: {ids}; edgelm cannot tell which "
                "one is the testbed's", field=f"{kind} {name}".strip(),
                remedy=f"delete or unmark those that are not: {_command(kind)}",
            )  # fmt: skip


def _command(kind: str) -> str:
    words = {FLOATING: "floating ip", SECURITY_GROUP: "security group"}
    return f"openstack {words.get(kind, kind)} delete ID"
