"""Bring-up on a real OpenStack, as one of a project's members: nothing is made twice, nothing of
others is touched, and what does not fit is refused before anything is made.

The tests are one story, in their order; each leaves the project as the next one finds it.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("openstack", reason="no openstacksdk: make ansible-setup")
from controller.bringup.playbooks import MEMORY, prefix
from tests.playbooks import openstack as real

KILLS = int(os.environ.get("EDGELM_UP_KILLS", "3"))
WHOLE = Counter(
    {
        "servers": 7, "ports": 7, "routers": 1, "floating": 1, "networks": 1, "groups": 2,
        "server groups": 1, "keypairs": 1,
    }
)  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not real.runs(), reason=f"no OpenStack here: {real.START}"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:openstack"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:openstack"),
]


@pytest.fixture(autouse=True)
def _stay_on_this_machine() -> None:
    """Take the place of the fixture that hinders connections: the cloud is on loopback."""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Any]:
    real.administer("quota")
    member = real.connection()
    yield member
    real.administer("quota")
    member.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


def up(folder: Path, *more: str, **options: Any) -> real.Said:
    return real.edgelm(*up_arguments(folder, *more), **options)


def up_arguments(folder: Path, *more: str) -> list[str]:
    testbed = [] if "--testbed" in more else ["--testbed", "paper"]
    cloud = [] if "--cloud" in more else ["--cloud", "member"]
    return ["up", *testbed, *cloud, "--state", str(folder), "--json", *more]


def down(folder: Path, *more: str) -> real.Said:
    return real.edgelm("down", "--testbed", "paper", "--state", str(folder), "--json", *more)


@pytest.fixture(scope="module", autouse=True)
def _empty_project(cloud: Any, folder: Path) -> Iterator[None]:
    """Begin and end with a project that has nothing."""
    said = down(folder, "--cloud", "member", "--yes")
    assert said.code == 0, said.err
    assert real.counts(cloud) == Counter()
    yield
    down(folder, "--cloud", "member", "--yes")


def test_a_plan_changes_nothing(folder: Path) -> None:
    before = real.calls()
    said = up(folder, "--plan")
    assert said.code == 0, said.err
    assert [one["flavor"] for one in said.document["servers"]] == [
        "c8-m16", "c24-m32", *["c16-m24-a5000"] * 4, "c16-m24-a5000x2",
    ]  # fmt: skip
    assert real.calls() == before
    assert not (folder / "state.json").exists()


def test_a_quota_that_is_too_small_is_refused_before_anything_is_made(folder: Path) -> None:
    real.administer("quota", "cores=60")
    before = real.calls()
    said = up(folder, "--yes")
    real.administer("quota")
    assert said.code == 2
    assert "cores: need 112, free 60, missing 52" in said.err
    assert real.calls() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cloud", "membr"], "--cloud: has no such cloud (got 'membr'); it has member, test"),
        (["--testbed", "campus"], "machine lab1: no flavour has 16 cores, 32 GB RAM"),
        (["--until", "provison"], "--until: is no phase (got 'provison')"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    before = real.calls()
    said = up(tmp_path, *arguments, "--yes")
    assert said.code == 2
    assert message in said.err
    assert real.calls() == before


def test_credentials_that_have_expired_are_said(tmp_path: Path) -> None:
    document = yaml.safe_load((real.CLOUDS / "clouds.yaml").read_text())
    document["clouds"]["member"]["auth"]["password"] = "stale"  # noqa: S105
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(yaml.dump(document))
    said = real.edgelm(*up_arguments(tmp_path, "--plan"), OS_CLIENT_CONFIG_FILE=str(clouds))
    assert said.code == 2
    assert "cloud member: refuses the credentials: they are wrong or have expired" in said.err
    assert "stale" not in said.err


def test_seven_machines_are_made(folder: Path, cloud: Any) -> None:
    said = up(folder, "--yes", "--until", "provision")
    assert said.code == 0, said.err
    assert real.counts(cloud) == WHOLE
    servers = {one.name: one for one in cloud.compute.servers()}
    assert set(servers) == {f"vm{k}" for k in range(1, 8)}
    assert {one.status for one in servers.values()} == {"ACTIVE"}
    ports = list(cloud.network.ports(description="edgelm:paper"))
    addresses = sorted(one.fixed_ips[0]["ip_address"] for one in ports)
    assert addresses == [f"10.77.0.{k}" for k in range(11, 18)]
    inventory = yaml.safe_load((folder / "inventory" / "hosts.yml").read_text())
    hosts = inventory["all"]["children"]["cluster"]["children"]
    (floating,) = cloud.network.ips()
    assert hosts["control_plane"]["hosts"]["vm1"]["ansible_host"] == floating.floating_ip_address
    assert inventory["all"]["vars"]["edgelm_network_mtu"] == 1442


def test_the_second_run_changes_nothing(folder: Path) -> None:
    before = real.calls()
    said = up(folder, "--yes", "--until", "provision")
    assert said.code == 0, said.err
    assert said.changes == {"drain": 0, "provision": 0}
    assert {path for method, path, _ in real.calls()[len(before) :]} <= {
        path for _, path, _ in real.calls()[len(before) :] if "security-groups" in path
    }  # the lock, and nothing else


def test_members_of_the_network_are_let_in_and_ssh_to_the_control_machine(cloud: Any) -> None:
    groups = {one.name: one for one in cloud.network.security_groups(description="edgelm:paper")}
    ours = groups["edgelm-paper"]
    inward = [one for one in ours.security_group_rules if one["direction"] == "ingress"]
    assert [one["remote_group_id"] for one in inward] == [ours.id]
    entry = groups["edgelm-paper-entry"].security_group_rules
    assert [one["port_range_min"] for one in entry if one["direction"] == "ingress"] == [22]
    (control,) = cloud.network.ports(name="edgelm-paper-vm1")
    assert set(control.security_group_ids) == {one.id for one in groups.values()}


def test_pods_addresses_pass_where_the_network_has_routes(folder: Path, cloud: Any) -> None:
    values = folder / "routes.yaml"
    values.write_text("cni: routes\n")
    said = up(folder, "--yes", "--until", "provision", "--values", str(values))
    assert said.changes["provision"] == 1  # the ports
    for one in cloud.network.ports(description="edgelm:paper"):
        assert [pair["ip_address"] for pair in one.allowed_address_pairs] == ["10.244.0.0/16"]
    again = up(folder, "--yes", "--until", "provision", "--values", str(values))
    assert again.changes["provision"] == 0
    assert up(folder, "--yes", "--until", "provision").changes["provision"] == 1


def test_an_inventory_that_was_edited_is_refused(folder: Path) -> None:
    path = folder / "inventory" / "hosts.yml"
    text = path.read_text()
    path.write_text(text.replace("ubuntu", "root"))
    said = up(folder, "--plan")
    path.write_text(text)
    assert said.code == 2
    assert "has been edited by hand" in said.err


def test_another_operator_is_told_who_is_at_work(folder: Path, cloud: Any) -> None:
    text = "edgelm:paper lock: bob@desk, process 7, since 2026-12-01 09:00:00 UTC"
    lock = cloud.network.create_security_group(name="edgelm-paper-lock", description=text)
    try:
        said = up(folder, "--yes", "--until", "provision")
        assert said.code == 2
        assert "is being worked on by bob@desk, process 7, since 2026-12-01 09:00:00" in said.err
        assert cloud.network.get_security_group(lock.id).id == lock.id
        taken = up(folder, "--yes", "--until", "drain", "--break-lock")
        assert taken.code == 0, taken.err
    finally:
        cloud.network.delete_security_group(lock.id)
    assert real.counts(cloud) == WHOLE


def test_a_worker_more_is_made_and_one_less_is_removed(
    folder: Path, cloud: Any, tmp_path: Path
) -> None:
    document = yaml.safe_load((real.ROOT / "inventory" / "paper.yaml").read_text())
    workers = document["all"]["children"]["workers"]["hosts"]
    workers["vm8"] = {k: v for k, v in workers["vm3"].items() if k != "edgelm_gpus"}
    more = tmp_path / "more.yaml"
    more.write_text(yaml.safe_dump(document))
    real.administer("quota", "cores=128", f"ram={192 * 1024}")
    try:
        said = up(folder, "--yes", "--until", "provision", "--testbed", str(more))
        assert said.code == 0, said.err
        assert said.changes["provision"] == 2  # its port and its server
        assert real.counts(cloud)["servers"] == 8
        less = up(folder, "--yes", "--from", "provision", "--until", "provision")
        assert less.code == 0, less.err
    finally:
        real.administer("quota")
    assert real.counts(cloud) == WHOLE


def test_killed_at_any_moment_it_goes_on(folder: Path, cloud: Any) -> None:
    """Kill it again and again while it makes a testbed from nothing; what comes of it is whole."""
    dice, killed, made = random.Random(13), 0, 0
    arguments = up_arguments(folder, "--yes", "--until", "provision")
    assert down(folder, "--yes").code == 0
    began = time.monotonic()
    while killed < KILLS:
        if real.killed_after(dice.uniform(2, 75), *arguments) is None:
            killed += 1
            continue
        made += 1
        assert real.counts(cloud) == WHOLE
        assert down(folder, "--yes").code == 0
    said = real.edgelm(*arguments)
    assert said.code == 0, said.err
    assert real.counts(cloud) == WHOLE
    minutes, whole = (time.monotonic() - began) / 60, dict(WHOLE)
    print(f"\n{killed} kills, {made + 1} times made: always {whole}; {minutes:.0f} min")
    assert real.edgelm(*arguments).changes["provision"] == 0


def test_nothing_of_a_run_but_its_log_stays(folder: Path) -> None:
    assert not list(MEMORY.glob(f"{prefix(folder)}*"))
    secret = re.compile(r"password: secret|\bX-Auth-Token\b|gAAAA")
    for path in folder.rglob("*"):
        if path.is_file():
            assert not secret.search(path.read_text(errors="replace")), path
    assert all(path.stat().st_mode & 0o77 == 0 for path in (folder / "log").iterdir())


def test_down_removes_ours_and_leaves_what_others_made(folder: Path, cloud: Any) -> None:
    network, image = cloud.network, cloud.image.find_image("ubuntu-24.04")
    flavor = cloud.compute.find_flavor("c8-m16")
    real.administer("quota", "cores=128", f"ram={192 * 1024}")
    net = network.create_network(name="edgelm-paper")
    subnet = network.create_subnet(
        name="edgelm-paper", network_id=net.id, ip_version=4, cidr="10.99.0.0/24"
    )
    port = network.create_port(name="edgelm-paper-vm1", network_id=net.id)
    router = network.create_router(name="edgelm-paper")
    group = network.create_security_group(name="edgelm-paper")
    spread = cloud.compute.create_server_group(name="edgelm-paper", policy="soft-anti-affinity")
    server = cloud.compute.create_server(
        name="vm1", image_id=image.id, flavor_id=flavor.id, networks=[{"port": port.id}]
    )
    cloud.compute.wait_for_server(server, wait=180)
    try:
        again = up(folder, "--yes", "--until", "provision")
        assert again.code == 0, again.err
        assert again.changes["provision"] == 0
        listed = down(folder, "--plan").document
        assert len(listed["remove"]) == 7 + 1 + 1 + 7 + 1 + 1 + 2 + 1 + 1
        said = down(folder, "--yes")
        assert said.code == 0, said.err
        assert real.counts(cloud) == Counter(
            {"servers": 1, "ports": 1, "routers": 1, "networks": 1, "groups": 1, "server groups": 1}
        )
        assert cloud.compute.get_server(server.id).status == "ACTIVE"
        assert not (folder / "state.json").exists()
        nothing = down(folder, "--cloud", "member", "--yes")
        assert nothing.document["phases"][0]["skipped"] == "there is nothing of this testbed"
    finally:
        cloud.compute.delete_server(server)
        cloud.compute.wait_for_delete(server, wait=180)
        network.delete_port(port)
        network.delete_router(router)
        network.delete_subnet(subnet)
        network.delete_network(net)
        network.delete_security_group(group)
        cloud.compute.delete_server_group(spread)
        real.administer("quota")


def test_a_strangers_port_in_our_network_stops_down(folder: Path, cloud: Any) -> None:
    assert up(folder, "--yes", "--until", "provision").code == 0
    (ours,) = cloud.network.networks(description="edgelm:paper")
    port = cloud.network.create_port(name="guest", network_id=ours.id)
    said = down(folder, "--yes")
    assert said.code == 2
    assert "has ports in its network that edgelm did not make: port guest" in said.err
    assert real.counts(cloud) == WHOLE + Counter({"ports": 1})
    cloud.network.delete_port(port)


def test_the_control_machine_stays_with_its_data(folder: Path, cloud: Any) -> None:
    said = down(folder, "--yes", "--keep-data")
    assert said.code == 0, said.err
    assert [one.name for one in cloud.compute.servers()] == ["vm1"]
    assert real.counts(cloud)["floating"] == 1
    assert up(folder, "--yes", "--from", "provision", "--until", "provision").code == 0
    assert real.counts(cloud) == WHOLE


def test_a_server_that_found_no_host_is_made_again(folder: Path, cloud: Any) -> None:
    """Another's server has two of the six GPUs: two of ours find none, until it is gone."""
    assert down(folder, "--yes").code == 0
    real.administer("quota", "cores=128", f"ram={192 * 1024}")
    flavor = cloud.compute.find_flavor("c16-m24-a5000x2")
    image = cloud.image.find_image("ubuntu-24.04")
    hog = cloud.compute.create_server(
        name="hog", image_id=image.id, flavor_id=flavor.id, networks="none"
    )
    try:
        cloud.compute.wait_for_server(hog, wait=180)
        said = up(folder, "--yes", "--until", "provision")
        assert said.code == 1
        assert "No valid host was found" in said.err
        assert "ask the cloud's administrator" in said.err
        broken = [one.name for one in cloud.compute.servers() if one.status == "ERROR"]
        assert broken == ["vm6", "vm5"]  # vm7, with two GPUs, came first
    finally:
        cloud.compute.delete_server(hog)
        cloud.compute.wait_for_delete(hog, wait=180)
    said = up(folder, "--yes", "--until", "provision")
    real.administer("quota")
    assert said.code == 0, said.err
    assert real.counts(cloud) == WHOLE
    assert {one.status for one in cloud.compute.servers()} == {"ACTIVE"}


def test_a_member_was_never_refused() -> None:
    assert [call for call in real.calls(every=True) if call[2] in (401, 403)] == []
