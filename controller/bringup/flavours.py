"""Flavours matched to machines. A project's member cannot create flavours: where none fits, the
administrator's command is part of the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.bringup.machines import Machine

ALIAS: Final = "pci_passthrough:alias"
MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Flavour:
    """A flavour of a cloud. ``gpus``: alias -> number, from ``pci_passthrough:alias``."""

    name: str
    id: str
    cores: int
    ram_mb: int
    disk_gb: int
    gpus: Mapping[str, int] = field(default_factory=dict)


def devices_of(extra_specs: Mapping[str, str]) -> dict[str, int]:
    """Return alias -> number of a flavour's extra specs: ``a5000:2`` or ``a5000:1,nic:1``."""
    found: dict[str, int] = {}
    for part in extra_specs.get(ALIAS, "").split(","):
        alias, _, number = part.strip().partition(":")
        if alias:
            found[alias] = found.get(alias, 0) + (int(number) if number.isdigit() else 1)
    return found


def choose(
    machine: Machine, flavours: Sequence[Flavour], aliases: Mapping[str, str]
) -> Flavour | None:
    """Return the smallest flavour that holds a machine and has exactly its GPUs, None if no one
    does. An exact one comes first.

    Args:
        aliases: GPU's model -> alias, where the alias is no word of the model.
    """
    fitting = [one for one in flavours if not lacks(machine, one, aliases)]
    return min(
        fitting, key=lambda one: (one.cores, one.ram_mb, one.disk_gb, one.name), default=None
    )


def lacks(machine: Machine, flavour: Flavour, aliases: Mapping[str, str]) -> str:
    """Return what a flavour lacks for a machine, "" if nothing."""
    alias = alias_of(machine.gpu, aliases, flavour.gpus)
    wrong = [
        f"{has:g} {unit}" for has, needs, unit in (
            (flavour.cores, machine.cores, "cores"),
            (flavour.ram_mb / MB, machine.ram_gb, "GB RAM"),
            (flavour.disk_gb, machine.disk_gb, "GB disk"),
        ) if has < needs
    ]  # fmt: skip
    wanted = {alias: machine.gpus} if machine.gpus else {}
    if dict(flavour.gpus) != wanted:
        has = ", ".join(f"{count} {name}" for name, count in flavour.gpus.items())
        wrong.append(has or "no GPU")
    return ", ".join(wrong)


def alias_of(gpu: str, aliases: Mapping[str, str], known: Mapping[str, int]) -> str:
    """Return the alias of a GPU's model: the given one, else one of ``known`` that is a word of the
    model (a5000 of NVIDIA A5000), else the model's last word."""
    if gpu in aliases:
        return aliases[gpu]
    words = gpu.lower().replace("-", " ").split()
    return next((one for one in known if one.lower() in words), words[-1] if words else "")


def nearest(
    machine: Machine, flavours: Sequence[Flavour], aliases: Mapping[str, str]
) -> tuple[Flavour, str] | None:
    """Return the flavour that lacks least, with what it lacks; of several, one with more GPUs."""
    pairs = [(one, lacks(machine, one, aliases)) for one in flavours]

    def distance(pair: tuple[Flavour, str]) -> tuple[int, int, int, str]:
        one, lacking = pair
        gpus = sum(one.gpus.values()) if machine.gpus else 0
        return lacking.count(","), -gpus, -one.cores, one.name

    return min(pairs, key=distance, default=None)


def administrators_command(machine: Machine, aliases: Mapping[str, str]) -> str:
    """Return the command with which an administrator makes a machine's flavour."""
    cores, ram_gb = math.ceil(machine.cores), math.ceil(machine.ram_gb)
    disk_gb = math.ceil(machine.disk_gb)
    name = f"c{cores}-m{ram_gb}-d{disk_gb}"
    device = ""
    if machine.gpus:
        alias = alias_of(machine.gpu, aliases, {})
        name += f"-{alias}" + (f"x{machine.gpus}" if machine.gpus > 1 else "")
        device = f" --property {ALIAS}={alias}:{machine.gpus}"
    size = f"--vcpus {cores} --ram {ram_gb * MB} --disk {disk_gb}"
    return f"openstack flavor create {size}{device} {name}"
