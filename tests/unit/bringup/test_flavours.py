"""Flavours are matched to machines; where none fits, the administrator's command is named."""

from __future__ import annotations

import pytest

from controller.bringup.flavours import (
    Flavour,
    administrators_command,
    choose,
    devices_of,
    lacks,
    nearest,
)
from tests.unit.bringup.grounds import FLAVOURS, GB, machine


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "c16-m24-a5000"),
        ({"gpus": 2}, "c16-m24-a5000x2"),
        ({"gpus": 0, "gpu": ""}, "c16-m24"),
        ({"gpus": 0, "gpu": "", "cores": 17}, "c24-m32"),
        ({"gpus": 0, "gpu": "", "cores": 8, "ram_gb": 16}, "c8-m16"),
    ],
)
def test_the_smallest_that_holds_a_machine_is_chosen(changes: dict[str, object], name: str) -> None:
    chosen = choose(machine(**changes), FLAVOURS, {})
    assert chosen is not None
    assert chosen.name == name


@pytest.mark.parametrize(
    "changes",
    [{"gpus": 3}, {"cores": 25}, {"ram_gb": 24.1}, {"disk_gb": 121}, {"gpu": "NVIDIA T4"}],
)
def test_nothing_less_and_no_other_gpus_are_taken(changes: dict[str, object]) -> None:
    assert choose(machine(**changes), FLAVOURS, {}) is None


def test_a_machine_without_gpus_takes_none_from_others() -> None:
    only = [one for one in FLAVOURS if one.gpus]
    assert choose(machine(gpus=0, gpu=""), only, {}) is None


def test_an_alias_may_be_given() -> None:
    flavours = [Flavour("gpu", "g", 16, 24 * GB, 120, {"ampere-24": 1})]
    assert choose(machine(), flavours, {}) is None
    chosen = choose(machine(), flavours, {"NVIDIA A5000": "ampere-24"})
    assert chosen == flavours[0]


def test_devices_besides_gpus_are_counted() -> None:
    assert devices_of({"pci_passthrough:alias": "a5000:2, nic"}) == {"a5000": 2, "nic": 1}
    assert devices_of({"hw:cpu_policy": "dedicated"}) == {}


def test_what_lacks_is_named() -> None:
    small = Flavour("small", "s", 8, 8 * GB, 0)
    assert lacks(machine(), small, {}) == "8 cores, 8 GB RAM, 0 GB disk, no GPU"
    near = nearest(machine(gpus=3), FLAVOURS, {})
    assert near is not None
    assert near[1] == "2 a5000"


def test_the_administrators_command_is_whole() -> None:
    assert administrators_command(machine(gpus=2), {}) == (
        "openstack flavor create --vcpus 16 --ram 24576 --disk 120 "
        "--property pci_passthrough:alias=a5000:2 c16-m24-d120-a5000x2"
    )
    assert "--property" not in administrators_command(machine(gpus=0, gpu=""), {})
