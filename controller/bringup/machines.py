"""Machines of a testbed file, as a bring-up needs them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.domain.errors import InputError
from controller.inputs.catalog import load_testbed, locate, read_yaml
from controller.inputs.testbed import Host, TestbedFile, Worker

HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a testbed file. ``variables``: all that the file says of it, Ansible's too."""

    name: str
    control: bool
    site: str
    cores: float
    ram_gb: float
    disk_gb: float
    gpus: int
    gpu: str
    variables: Mapping[str, Any]

    @property
    def fixed_address(self) -> str:
        """Address that the testbed file fixes, "" if none."""
        return str(self.variables.get("ansible_host", ""))


@dataclass(frozen=True, slots=True)
class Bringup:
    """A testbed file and its machines: the control machine first, workers in natural order."""

    testbed: str
    path: Path
    machines: tuple[Machine, ...]

    @property
    def control(self) -> Machine:
        return self.machines[0]

    def machine(self, name: str) -> Machine | None:
        """Return a machine by its name, None if the file has no such machine."""
        return next((one for one in self.machines if one.name == name), None)


def load_bringup(name_or_path: str) -> Bringup:
    """Return the testbed of a shipped name or file, with its machines.

    Raises:
        InputError: it is no testbed file, or a machine's name is no host name.
    """
    path = locate("testbeds", name_or_path).resolve()
    testbed = load_testbed(path)
    raw = read_yaml(path)
    assert isinstance(raw, dict)  # noqa: S101 - load_testbed has checked it
    children = raw["all"]["children"]
    order = [node.name for node in testbed.to_domain().nodes]
    (control,) = testbed.all.children.control.hosts
    found = [_machine(testbed, control, children["control"]["hosts"][control])]
    found += [_machine(testbed, name, children["workers"]["hosts"][name]) for name in order]
    for one in found:
        if not HOSTNAME.fullmatch(one.name):
            raise InputError(
                str(path), "is no host name", field=one.name,
                remedy="use lower-case letters, digits and '-', 63 at most",
            )  # fmt: skip
    return Bringup(testbed.name, path, tuple(found))


def _machine(testbed: TestbedFile, name: str, variables: Mapping[str, Any]) -> Machine:
    children = testbed.all.children
    control = name in children.control.hosts
    host: Host = children.control.hosts[name] if control else children.workers.hosts[name]
    gpus = host.gpus if isinstance(host, Worker) else None
    return Machine(
        name=name, control=control, site=host.site, cores=host.cores, ram_gb=host.ram_gb,
        disk_gb=host.disk_gb, gpus=gpus.count if gpus else 0, gpu=gpus.model if gpus else "",
        variables=variables,
    )  # fmt: skip
