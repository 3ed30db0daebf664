"""Machines and projects that tests of a bring-up plan with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from controller.bringup import project as kinds
from controller.bringup.flavours import Flavour
from controller.bringup.machines import Bringup, Machine, load_bringup
from controller.bringup.project import Image, Project, Room, Thing

GB = 1024
FLAVOURS = (
    Flavour("c8-m16", "f8", 8, 16 * GB, 120),
    Flavour("c24-m32", "f24", 24, 32 * GB, 120),
    Flavour("c16-m24", "f16", 16, 24 * GB, 120),
    Flavour("c16-m24-a5000", "f16g", 16, 24 * GB, 120, {"a5000": 1}),
    Flavour("c16-m24-a5000x2", "f16gg", 16, 24 * GB, 120, {"a5000": 2}),
)
PROJECT = Project(
    cloud="member", region="RegionOne", id="p1", name="edgelm", flavours=FLAVOURS,
    images=(Image("ubuntu-24.04", "i1", "ubuntu 24.04"), Image("old", "i2", "debian 10")),
    external=(Thing(kinds.NETWORK, "x1", "public"),),
    external_ranges={"x1": ("203.0.113.0/24",)}, zones=("nova",),
    rooms={"cores": Room(112, 0), "RAM in MB": Room(168 * GB, 0), "servers": Room(10, 0)},
    own=(), others=(),
)  # fmt: skip


def paper() -> Bringup:
    return load_bringup("paper")


def machine(**changes: Any) -> Machine:
    base = Machine(
        name="vm3", control=False, site="bristol", cores=16, ram_gb=24, disk_gb=120, gpus=1,
        gpu="NVIDIA A5000", variables={},
    )  # fmt: skip
    return replace(base, **changes)


def server(name: str, flavour: str = "c16-m24-a5000", own_id: str = "") -> Thing:
    detail = {"flavour": flavour, "zone": "nova", "status": "ACTIVE", "placed": True, "fault": ""}
    return Thing(kinds.SERVER, own_id or f"id-{name}", name, detail)


def port(name: str, address: str) -> Thing:
    return Thing(kinds.PORT, f"port-{name}", f"edgelm-paper-{name}", {"address": address})


def having(own: Sequence[Thing], **changes: Any) -> Project:
    return replace(PROJECT, own=tuple(own), **changes)
