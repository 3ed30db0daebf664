"""The inventory is all that roles know of where machines came from."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.bringup.inventory import (
    Provisioned,
    on_hosts,
    on_openstack,
    read_hosts,
    removed_since,
)
from controller.bringup.key import check_key, fingerprint
from controller.bringup.plan import make_plan
from controller.bringup.project import KEYPAIR, Thing
from controller.bringup.state import Folder, State
from controller.domain.errors import InputError
from controller.inputs.catalog import parse
from controller.inputs.cloud import CloudFile
from controller.inputs.hosts import HostsFile, load_hosts
from tests.unit.bringup.grounds import PROJECT, having, paper, server

PAPER = paper()
NAMES = [one.name for one in PAPER.machines]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ0cOtMPn6TVw9fJzYzP6m3cPlyAHdYhKkVbqYl5dSd x"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def hosts_file(**changes: Any) -> HostsFile:
    hosts = {name: {"ansible_host": f"10.1.0.{k}"} for k, name in enumerate(NAMES, 1)}
    return parse(HostsFile, "hosts.yaml", {"hosts": hosts, **changes})


def groups(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    children = document["all"]["children"]
    inner = children["cluster"]["children"]
    every = {**inner, "gpu": children["gpu"], "removed": children["removed"]}
    return {name: group["hosts"] for name, group in every.items()}


def test_provisioned_machines_are_reached_through_the_control_machine(folder: Folder) -> None:
    plan = make_plan(PAPER, PROJECT, CloudFile(), {})
    found = yaml.safe_load(on_openstack(plan, Provisioned("203.0.113.9", 1442), folder, {}))
    of = groups(found)
    assert list(of["control_plane"]) == ["vm1"]
    assert list(of["worker"]) == NAMES[1:]
    assert list(of["gpu"]) == NAMES[2:]
    vm1, vm7 = of["control_plane"]["vm1"], of["worker"]["vm7"]
    assert (vm1["ansible_host"], vm1["edgelm_address"]) == ("203.0.113.9", "10.77.0.11")
    assert "ProxyCommand" not in vm1["ansible_ssh_common_args"]
    assert (vm7["ansible_host"], vm7["edgelm_address"]) == ("10.77.0.17", "10.77.0.17")
    assert "-W %h:%p -q ubuntu@203.0.113.9" in vm7["ansible_ssh_common_args"]
    assert vm7["edgelm_gpus"] == {"model": "NVIDIA A5000", "count": 2, "vram_gb": 24, "slices": 2}
    assert vm7["edgelm_machine"] == "vm7"
    everywhere = found["all"]["vars"]
    assert everywhere["edgelm_network_mtu"] == 1442
    assert everywhere["edgelm_testbed_file"] == str(PAPER.path)


def test_given_hosts_keep_their_own_variables(folder: Folder) -> None:
    given = hosts_file(vars={"ansible_user": "root"})
    found = yaml.safe_load(on_hosts(PAPER, given, Path("h"), folder, {}, become=False))
    assert groups(found)["worker"]["vm2"]["ansible_host"] == "10.1.0.2"
    assert found["all"]["vars"]["ansible_user"] == "root"
    assert "ansible_become_password" not in found["all"]["vars"]


def test_a_password_for_sudo_stays_in_the_environment(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGELM_BECOME_PASSWORD", "hunter2")
    text = on_hosts(PAPER, hosts_file(), Path("h"), folder, {}, become=True)
    assert "hunter2" not in text
    assert "EDGELM_BECOME_PASSWORD" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hosts": {"vm1": {}, "vm9": {}}}, "hosts.vm9: is no machine of the testbed file"),
        ({"hosts": {"vm1": {}}}, "hosts: lacks vm2, vm3, vm4, vm5, vm6, vm7"),
    ],
)
def test_hosts_and_testbed_must_agree(folder: Folder, change: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        on_hosts(PAPER, hosts_file(**change), Path("h"), folder, {}, become=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: {a: {ansible_host: x}, b: {ansible_host: x}}", "x, port 22, is 2 machines"),
        ("hosts: {a: {cores: 8}}", "a.cores does not begin with ansible_"),
        ("hosts: {a: {ansible_become_password: hunter2}}", "is a password in plain text"),
        ("hosts: {a: {}, a: {}}", "duplicate key 'a'"),
        ("hosts: {}", "hosts"),
    ],
)
def test_hosts_files_are_checked(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_hosts(path)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value).replace(text, "")


def test_machines_that_left_the_file_are_known_from_the_last_inventory(folder: Folder) -> None:
    lost = {"vm9": {"ansible_host": "10.1.0.99"}}
    text = on_hosts(PAPER, hosts_file(), Path("h"), folder, lost, become=False)
    assert removed_since(PAPER, folder) == {}
    folder.write_inventory(text, State("paper", "hosts"))
    assert set(read_hosts(folder)) == {*NAMES, "vm9"}
    assert removed_since(PAPER, folder) == lost


def test_an_inventory_that_was_edited_is_refused(folder: Folder) -> None:
    state = folder.write_inventory("all: {}\n", State("paper", "hosts"))
    folder.check_inventory(state)
    folder.inventory.write_text("all: {vars: {}}\n")
    with pytest.raises(InputError, match="has been edited by hand"):
        folder.check_inventory(state)


def test_state_survives_and_a_damaged_one_is_refused(folder: Folder) -> None:
    assert folder.read() is None
    folder.write(State("paper", "openstack", "member", "p1", taken_s={"hosts": 61.5}))
    kept = folder.read()
    assert kept is not None
    assert (kept.project_id, kept.taken_s) == ("p1", {"hosts": 61.5})
    for text in ("{", "[]", '{"version": 0}', '{"version": 1, "odd": 2}'):
        (folder.path / "state.json").write_text(text)
        with pytest.raises(InputError, match=r"move it away"):
            folder.read()


def _hold(path: Path, taken: Any, release: Any) -> None:
    with Folder(path).held():
        taken.set()
        release.wait(30)


def test_one_process_at_a_time_works_on_a_folder(folder: Folder) -> None:
    spawn = multiprocessing.get_context("fork")
    taken, release = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(folder.path, taken, release))
    other.start()
    try:
        assert taken.wait(30)
        with pytest.raises(InputError, match=f"is in use by process {other.pid}"):  # noqa: SIM117
            with folder.held():
                pass
    finally:
        release.set()
        other.join(30)
    with folder.held():
        pass


def test_machines_made_with_another_key_are_not_touched(folder: Folder) -> None:
    made = [Thing(KEYPAIR, "k", "k", {"fingerprint": fingerprint(KEY)}), server("vm1", "c8-m16")]
    with pytest.raises(InputError, match="is missing, and machines exist"):
        check_key(folder.key, having(made))
    folder.key.parent.mkdir()
    folder.key.with_suffix(".pub").write_text(KEY)
    check_key(folder.key, having(made))
    folder.key.with_suffix(".pub").write_text(KEY.replace("dSd", "dSe"))
    with pytest.raises(InputError, match="is not the key of the machines"):
        check_key(folder.key, having(made))
    check_key(folder.key, having(made[:1]))  # no machine knows the other key
