"""A plan of a bring-up: what would be made of what, whether it fits, and how long it takes.
Arithmetic on a testbed file and a project; nothing is asked and nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from controller.bringup import project as kinds
from controller.bringup.addresses import assign
from controller.bringup.flavours import (
    Flavour,
    administrators_command,
    choose,
    lacks,
    nearest,
)
from controller.bringup.machines import Bringup, Machine
from controller.bringup.marks import base_name, mark
from controller.bringup.project import Image, Project, Room, Thing, refuse_doubles
from controller.domain.errors import InputError
from controller.inputs.catalog import combine
from controller.inputs.cloud import CloudFile

SYSTEMS: Final = ("ubuntu 24.04", "debian 12")  # what the roles know
GROUPS: Final = 3  # security groups: all machines, the entry, the lock
RULES: Final = 12


@dataclass(frozen=True, slots=True)
class Placement:
    """A machine's server: its flavour, zone ("": the cloud's choice) and address, and whether it
    exists."""

    machine: Machine
    flavour: Flavour
    zone: str
    address: str
    exists: bool
    larger: str = ""  # where the flavour is more than the file says


@dataclass(frozen=True, slots=True)
class Need:
    """Need of a bring-up for a part of a quota."""

    what: str
    need: int
    room: Room

    @property
    def missing(self) -> int:
        free = self.room.free
        return 0 if free is None else max(0, self.need - free)

    def __str__(self) -> str:
        free = "unlimited" if self.room.free is None else f"{self.room.free}"
        missing = f", missing {self.missing}" if self.missing else ""
        return f"{self.what}: need {self.need}, free {free}{missing}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A bring-up on OpenStack."""

    bringup: Bringup
    project: Project
    values: CloudFile
    image: Image
    external: Thing
    placements: tuple[Placement, ...]
    needs: tuple[Need, ...]
    surplus: tuple[Thing, ...]  # servers of machines that the file no longer has
    minutes: Mapping[str, float]

    @property
    def new(self) -> tuple[Placement, ...]:
        return tuple(one for one in self.placements if not one.exists)

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "testbed": self.bringup.testbed,
            "cloud": self.project.cloud,
            "project": {"id": self.project.id, "name": self.project.name},
            "image": asdict(self.image),
            "external_network": self.external.name,
            "network": str(self.values.network),
            "servers": [
                {
                    "name": one.machine.name, "flavor": one.flavour.name, "zone": one.zone or None,
                    "address": one.address, "exists": one.exists,
                } for one in self.placements
            ],
            "remove": [one.name for one in self.surplus],
            "quota": [
                {"what": one.what, "need": one.need, "free": one.room.free, "missing": one.missing}
                for one in self.needs
            ],
            "minutes": dict(self.minutes),
        }  # fmt: skip


def make_plan(
    bringup: Bringup, project: Project, values: CloudFile, minutes: Mapping[str, float]
) -> Plan:
    """Return the plan of a testbed in a project.

    Raises:
        InputError: it cannot be done; names everything that stands against it.
    """
    refuse_doubles(project.own, mark(bringup.testbed))
    wrong: list[InputError] = []
    image = _caught(wrong, lambda: _image(project, values))
    external = _caught(wrong, lambda: _external(project, values))
    wrong += _odd_keys(bringup, values)
    ports = _addresses_of_ports(bringup, project)
    addresses = _caught(
        wrong, lambda: assign(bringup.machines, values.network, ports, str(bringup.path))
    )
    placements = []
    for machine in bringup.machines:
        found = _placement(machine, project, values, (addresses or {}).get(machine.name, ""))
        if isinstance(found, InputError):
            wrong.append(found)
        else:
            placements.append(found)
            if image and found.flavour.disk_gb < image.disk_gb:
                wrong.append(_too_small(machine, found.flavour, image))
    needs = _needs(bringup, project, placements)
    lacking = [one for one in needs if one.missing]
    wrong += [
        InputError("quota", str(one).partition(": ")[2], field=one.what) for one in lacking
    ]  # fmt: skip
    if lacking and len(wrong) == len(lacking):
        wrong[-1] = InputError(
            "quota", str(lacking[-1]).partition(": ")[2], field=lacking[-1].what,
            remedy="ask the cloud's administrator for more, or free some; nothing was changed",
        )  # fmt: skip
    if wrong or image is None or external is None:
        raise combine(f"testbed {bringup.testbed} on cloud {project.cloud}", wrong)
    known = {one.name for one in bringup.machines}
    surplus = tuple(one for name, one in project.ours(kinds.SERVER).items() if name not in known)
    return Plan(bringup, project, values, image, external, tuple(placements), needs, surplus,
                minutes)  # fmt: skip


def _caught(wrong: list[InputError], find: Any) -> Any:
    try:
        return find()
    except InputError as error:
        wrong.append(error)
        return None


def _image(project: Project, values: CloudFile) -> Image:
    wanted = values.image
    found = [one for one in project.images if wanted in (one.name, one.id)]
    if not found:
        fitting = sorted({one.name for one in project.images if one.system in SYSTEMS})
        names = fitting or sorted({one.name for one in project.images})[:10]
        raise InputError(
            "cloud file", "is no image of this cloud", field="image", value=wanted,
            remedy=f"choose from {', '.join(names) or 'none: ask for an image of Ubuntu 24.04'}",
        )  # fmt: skip
    if len(found) > 1:
        ids = ", ".join(one.id for one in found)
        raise InputError("cloud file", f"is the name of {len(found)} images", field="image",
                         value=wanted, remedy=f"give an id: {ids}")  # fmt: skip
    (image,) = found
    if image.system and image.system not in SYSTEMS:
        raise InputError(
            "cloud file", f"is an image of {image.system}, which the roles do not know",
            field="image", value=wanted, remedy=f"give one of {' or '.join(SYSTEMS)}",
        )  # fmt: skip
    return image


def _external(project: Project, values: CloudFile) -> Thing:
    wanted = values.external_network
    found = [one for one in project.external if wanted in (None, one.name, one.id)]
    names = ", ".join(one.name for one in project.external) or "none here"
    if len(found) != 1:
        problem = "is needed" if wanted is None else "is no external network of this cloud"
        raise InputError("cloud file", problem, field="external_network", value=wanted,
                         remedy=f"external networks: {names}")  # fmt: skip
    for cidr in project.external_ranges.get(found[0].id, ()):
        for name in ("network", "pods", "services"):
            if getattr(values, name).overlaps(IPv4Network(cidr)):
                raise InputError(
                    "cloud file", f"overlaps {cidr} of the external network {found[0].name}",
                    field=name, value=str(getattr(values, name)),
                    remedy="give a private range that nothing else uses",
                )  # fmt: skip
    return found[0]


def _odd_keys(bringup: Bringup, values: CloudFile) -> Iterator[InputError]:
    sites = {one.site for one in bringup.machines}
    for field, given, known in (
        ("flavors", values.flavors, {one.name for one in bringup.machines}),
        ("zones", values.zones, sites),
        ("gpu_aliases", values.gpu_aliases, {one.gpu for one in bringup.machines} - {""}),
    ):
        for name in given.keys() - known:
            yield InputError("cloud file", "is not in the testbed file", field=f"{field}.{name}",
                             remedy=f"known are {', '.join(sorted(known)) or 'none'}")  # fmt: skip


def _addresses_of_ports(bringup: Bringup, project: Project) -> dict[str, str]:
    start = f"{base_name(bringup.testbed)}-"
    return {
        name.removeprefix(start): one.detail["address"]
        for name, one in project.ours(kinds.PORT).items()
        if one.detail.get("address")
    }


def _placement(
    machine: Machine, project: Project, values: CloudFile, address: str
) -> Placement | InputError:
    source = f"machine {machine.name}"
    server = project.ours(kinds.SERVER).get(machine.name)
    by_name = {one.name: one for one in project.flavours}
    wanted = values.flavors.get(machine.name)
    flavour: Flavour | None
    if server is not None:
        flavour = by_name.get(server.detail["flavour"])
        lacking = lacks(machine, flavour, values.gpu_aliases) if flavour else ""
        if lacking:
            return InputError(
                source, f"exists with flavour {server.detail['flavour']}, which has {lacking}",
                remedy="servers are not resized: remove the machine from the file, run `edgelm up`,"
                " put it back, and run it again",
            )  # fmt: skip
        flavour = flavour or Flavour(server.detail["flavour"], "", 0, 0, 0)
        return Placement(machine, flavour, server.detail["zone"], address, exists=True)
    if wanted is not None:
        flavour = next((one for one in project.flavours if wanted in (one.name, one.id)), None)
        lacking = lacks(machine, flavour, values.gpu_aliases) if flavour else ""
        if flavour is None or lacking:
            problem = f"has {lacking}" if lacking else "is no flavour of this cloud"
            return InputError(
                "cloud file", problem, field=f"flavors.{machine.name}", value=wanted,
                remedy="leave it out, and the smallest that fits is taken",
            )  # fmt: skip
    else:
        flavour = choose(machine, project.flavours, values.gpu_aliases)
    if flavour is None:
        return _no_flavour(machine, project, values)
    zone = _zone(machine, project, values)
    return zone if isinstance(zone, InputError) else Placement(
        machine, flavour, zone, address, exists=False, larger=_larger(machine, flavour)
    )  # fmt: skip


def _no_flavour(machine: Machine, project: Project, values: CloudFile) -> InputError:
    size = f"{machine.cores:g} cores, {machine.ram_gb:g} GB RAM, {machine.disk_gb:g} GB disk"
    gpus = f", {machine.gpus} x {machine.gpu}" if machine.gpus else ""
    near = nearest(machine, project.flavours, values.gpu_aliases)
    nearly = f"; nearest is {near[0].name} with {near[1]}" if near else ""
    return InputError(
        f"machine {machine.name}", f"no flavour has {size}{gpus}{nearly}",
        remedy="ask the cloud's administrator for one: "
        + administrators_command(machine, values.gpu_aliases),
    )  # fmt: skip


def _zone(machine: Machine, project: Project, values: CloudFile) -> str | InputError:
    zone = values.zones.get(machine.site)
    if zone is None:
        return machine.site if machine.site in project.zones else (
            project.zones[0] if len(project.zones) == 1 else ""
        )  # fmt: skip
    if zone not in project.zones:
        return InputError("cloud file", "is no availability zone of this cloud",
                          field=f"zones.{machine.site}", value=zone,
                          remedy=f"choose from {', '.join(project.zones)}")  # fmt: skip
    return zone


def _larger(machine: Machine, flavour: Flavour) -> str:
    more = [
        f"{has:g} {unit}" for has, needs, unit in (
            (flavour.cores, machine.cores, "cores"),
            (flavour.ram_mb / 1024, machine.ram_gb, "GB RAM"),
        ) if has > needs
    ]  # fmt: skip
    return f"{' and '.join(more)}, more than the file says" if more else ""


def _too_small(machine: Machine, flavour: Flavour, image: Image) -> InputError:
    return InputError(
        f"machine {machine.name}", f"flavour {flavour.name} has {flavour.disk_gb} GB disk, and "
        f"image {image.name} takes {image.disk_gb}", remedy="give another flavour or image",
    )  # fmt: skip


def _needs(bringup: Bringup, project: Project, placements: list[Placement]) -> tuple[Need, ...]:
    """Return what is needed of each quota that the project shows."""
    new = [one for one in placements if not one.exists]
    have = Counter(one.kind for one in project.own)
    ports = len(bringup.machines) - len(
        {one.machine.name for one in placements}
        & {name.removeprefix(f"{base_name(bringup.testbed)}-") for name in project.ours(kinds.PORT)}
    )
    wanted = {
        "cores": sum(one.flavour.cores for one in new),
        "RAM in MB": sum(one.flavour.ram_mb for one in new),
        "servers": len(new),
        "server groups": 1 - have[kinds.SERVER_GROUP],
        "keypairs": 1 - have[kinds.KEYPAIR],
        "networks": 1 - have[kinds.NETWORK],
        "subnets": 1 - have[kinds.SUBNET],
        "routers": 1 - have[kinds.ROUTER],
        "ports": ports + (0 if have[kinds.ROUTER] else 2),  # the router's and DHCP's
        "floating addresses": 1 - have[kinds.FLOATING],
        "security groups": GROUPS - have[kinds.SECURITY_GROUP],
        "rules of security groups": 0 if have[kinds.SECURITY_GROUP] else RULES,
    }
    return tuple(
        Need(what, max(0, need), project.rooms[what])
        for what, need in wanted.items()
        if what in project.rooms
    )
