"""A plan says what would be made, and everything that stands against it, before anything is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from controller.bringup import project as kinds
from controller.bringup.plan import Plan, make_plan
from controller.bringup.project import Image, Project, Room, Thing
from controller.domain.errors import InputError
from controller.inputs.cloud import CloudFile
from tests.unit.bringup.grounds import FLAVOURS, PROJECT, having, machine, paper, port, server

PAPER = paper()


def planned(project: Project = PROJECT, values: CloudFile | None = None) -> Plan:
    return make_plan(PAPER, project, values or CloudFile(), {"provision": 2.5})


def refusal(project: Project = PROJECT, values: CloudFile | None = None) -> str:
    with pytest.raises(InputError) as caught:
        planned(project, values)
    return str(caught.value)


def needs(plan: Plan) -> dict[str, int]:
    return {one.what: one.need for one in plan.needs}


def test_table_ii_needs_112_cores_and_168_gb() -> None:
    plan = planned()
    assert [one.flavour.name for one in plan.placements] == [
        "c8-m16", "c24-m32", *["c16-m24-a5000"] * 4, "c16-m24-a5000x2",
    ]  # fmt: skip
    assert needs(plan) == {"cores": 112, "RAM in MB": 168 * 1024, "servers": 7}
    assert [one.address for one in plan.placements] == [f"10.77.0.{k}" for k in range(11, 18)]


def test_a_quota_that_is_too_small_is_said_with_its_sum() -> None:
    said = refusal(replace(PROJECT, rooms={**PROJECT.rooms, "cores": Room(60, 0)}))
    assert "cores: need 112, free 60, missing 52" in said
    assert "nothing was changed" in said


def test_what_others_use_counts_and_no_limit_is_no_limit() -> None:
    used = replace(PROJECT, rooms={"cores": Room(120, 16)})
    assert "cores: need 112, free 104, missing 8" in refusal(used)
    assert planned(replace(PROJECT, rooms={"cores": Room(None, 400)})).needs[0].missing == 0


def test_only_what_is_missing_is_needed() -> None:
    there = [server("vm1", "c8-m16"), server("vm3"), port("vm1", "10.77.0.11")]
    plan = planned(having(there, rooms={**PROJECT.rooms, "ports": Room(100, 1)}))
    assert needs(plan)["cores"] == 112 - 8 - 16
    assert needs(plan)["ports"] == 6 + 2
    assert [one.machine.name for one in plan.new] == ["vm2", "vm4", "vm5", "vm6", "vm7"]


def test_a_machine_that_the_file_has_no_longer_is_surplus() -> None:
    plan = planned(having([server("vm9")]))
    assert [one.name for one in plan.surplus] == ["vm9"]


def test_two_of_one_name_and_mark_are_refused() -> None:
    twice = having([server("vm3", own_id="a"), server("vm3", own_id="b")])
    said = refusal(twice)
    assert "server vm3: has 2 of the mark edgelm:paper: a, b" in said
    two = [Thing(kinds.FLOATING, "f1", "203.0.113.5"), Thing(kinds.FLOATING, "f2", "203.0.113.6")]
    assert "floating address: has 2" in refusal(having(two))


def test_no_flavour_with_gpus_names_the_administrators_command() -> None:
    said = refusal(replace(PROJECT, flavours=FLAVOURS[:3]))
    assert "machine vm7: no flavour has 16 cores, 24 GB RAM, 120 GB disk, 2 x NVIDIA A5000" in said
    assert "--property pci_passthrough:alias=a5000:2" in said
    assert said.count("no flavour has") == 5  # of every machine with GPUs, at once


def test_a_server_that_became_too_small_is_not_resized_in_silence() -> None:
    said = refusal(having([server("vm2", "c8-m16")]))
    assert "vm2: exists with flavour c8-m16, which has 8 cores, 16 GB RAM" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": "fedora"}, "image: is no image of this cloud"),
        ({"image": "old"}, "is an image of debian 10"),
        ({"external_network": "ext"}, "external_network: is no external network"),
        ({"network": IPv4Network("203.0.113.0/25")}, "overlaps 203.0.113.0/24 of the external"),
        ({"flavors": {"vm2": "c8-m16"}}, "flavors.vm2: has 8 cores, 16 GB RAM"),
        ({"flavors": {"vm2": "huge"}}, "flavors.vm2: is no flavour of this cloud"),
        ({"flavors": {"vm22": "c8-m16"}}, "flavors.vm22: is not in the testbed file"),
        ({"zones": {"bristol": "az1"}}, "zones.bristol: is no availability zone"),
        ({"zones": {"bath": "nova"}}, "zones.bath: is not in the testbed file"),
        ({"gpu_aliases": {"T4": "t4"}}, "gpu_aliases.T4: is not in the testbed file"),
    ],
)
def test_values_that_the_cloud_has_not_are_refused(values: dict[str, Any], message: str) -> None:
    assert message in refusal(values=CloudFile.model_validate(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, images=(*one.images, one.images[0])), "is the name of 2 images"),
        (lambda one: replace(one, external=()), "external_network: is needed"),
        (
            lambda one: replace(one, images=(Image("ubuntu-24.04", "i", "ubuntu 24.04", 200),)),
            "flavour c8-m16 has 120 GB disk, and image ubuntu-24.04 takes 200",
        ),
    ],
)
def test_a_cloud_without_what_is_needed_is_refused(
    change: Callable[[Project], Project], message: str
) -> None:
    assert message in refusal(change(PROJECT))


def test_a_site_has_its_zone() -> None:
    zones = replace(PROJECT, zones=("bristol", "mshed", "nova"))
    values = CloudFile.model_validate({"zones": {"mshed": "nova"}})
    plan = planned(zones, values)
    assert [one.zone for one in plan.placements] == ["bristol"] * 3 + [""] * 2 + ["nova"] * 2


def test_a_flavour_that_is_more_than_the_file_says_is_shown() -> None:
    roomy = [replace(one, cores=one.cores + 8) for one in FLAVOURS]
    plan = planned(replace(PROJECT, flavours=tuple(roomy), rooms={}))
    assert plan.placements[0].larger == "16 cores, more than the file says"


def test_ranges_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match=r"network 10.244.7.0/24 overlaps pods 10.244.0.0/16"):
        CloudFile.model_validate({"network": "10.244.7.0/24"})


def test_a_machine_is_described_by_all_that_the_file_says() -> None:
    vm7 = PAPER.machine("vm7")
    assert vm7 is not None
    assert (vm7.cores, vm7.ram_gb, vm7.gpus, vm7.gpu) == (16, 24, 2, "NVIDIA A5000")
    assert vm7.variables["edgelm_site"] == "mshed"
    assert PAPER.control.name == "vm1"
    assert machine(variables={"ansible_host": "10.0.0.1"}).fixed_address == "10.0.0.1"
