"""The inventory of one bring-up: groups by what runs on a machine, and all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from controller.bringup.machines import Bringup, Machine
from controller.bringup.plan import Plan
from controller.bringup.state import Folder
from controller.domain.errors import InputError
from controller.inputs.hosts import HostsFile

HEAD: Final = (
    "# Written by `edgelm up`, anew by each: edit the testbed file, the hosts file or -e FILE.\n"
)
BECOME: Final = "{{ lookup('ansible.builtin.env', 'EDGELM_BECOME_PASSWORD') }}"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Findings of provisioning: the control machine's floating address and the network's MTU."""

    floating: str
    mtu: int


def on_openstack(plan: Plan, found: Provisioned, folder: Folder, removed: Mapping[str, Any]) -> str:
    """Return the inventory of machines that were provisioned: all but the control machine are
    reached through it. ``removed``: hosts that the testbed file has no longer."""
    values = plan.values
    options = (
        f"-o UserKnownHostsFile={folder.known_hosts} -o StrictHostKeyChecking=accept-new "
        f"-o IdentitiesOnly=yes"
    )
    hop = f"ssh -i {folder.key} {options} -W %h:%p -q {values.user}@{found.floating}"
    hosts: dict[str, dict[str, Any]] = {}
    for one in plan.placements:
        jump = "" if one.machine.control else f' -o ProxyCommand="{hop}"'
        hosts[one.machine.name] = {
            "ansible_host": found.floating if one.machine.control else one.address,
            "ansible_ssh_common_args": f"{options}{jump}",
            "edgelm_address": one.address,
        }
    variables = {
        "ansible_user": values.user,
        "ansible_ssh_private_key_file": str(folder.key),
        "edgelm_pod_cidr": str(values.pods),
        "edgelm_service_cidr": str(values.services),
        "edgelm_cni": values.cni,
        "edgelm_network_mtu": found.mtu,
    }
    return _text(plan.bringup, hosts, variables, folder, removed)


def on_hosts(
    bringup: Bringup, given: HostsFile, path: Path, folder: Folder, removed: Mapping[str, Any],
    become: bool,
) -> str:  # fmt: skip
    """Return the inventory of given machines. ``become``: sudo's password is in the environment.

    Raises:
        InputError: a machine has no host, or a host is no machine of the testbed file.
    """
    known = [one.name for one in bringup.machines]
    for name in given.hosts.keys() - set(known):
        raise InputError(str(path), "is no machine of the testbed file", field=f"hosts.{name}",
                         remedy=f"it has {', '.join(known)}")  # fmt: skip
    lacking = [name for name in known if name not in given.hosts]
    if lacking:
        raise InputError(str(path), f"lacks {', '.join(lacking)} of {bringup.path}", field="hosts",
                         remedy="add them, or take them out of the testbed file")  # fmt: skip
    hosts = {name: {"ansible_host": name, **given.hosts[name]} for name in known}
    variables = {**given.vars, **({"ansible_become_password": BECOME} if become else {})}
    return _text(bringup, hosts, variables, folder, removed)


def read_hosts(folder: Folder) -> dict[str, Any]:
    """Return the hosts of the last inventory with their own variables, {} if there is none."""
    try:
        document = yaml.safe_load(folder.inventory.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    children = document["all"]["children"]
    groups = children["cluster"]["children"]
    found: dict[str, Any] = {}
    for group in (groups["control_plane"], groups["worker"], children["removed"]):
        found.update(group["hosts"] or {})
    return found


def removed_since(bringup: Bringup, folder: Folder) -> dict[str, Any]:
    """Return the hosts of the last inventory that the testbed file has no longer."""
    return {
        name: variables for name, variables in read_hosts(folder).items()
        if bringup.machine(name) is None
    }  # fmt: skip


def _text(
    bringup: Bringup, hosts: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any],
    folder: Folder, removed: Mapping[str, Any],
) -> str:  # fmt: skip
    def of(machine: Machine) -> dict[str, Any]:
        known = {"edgelm_machine": machine.name, **machine.variables}
        return {**known, **hosts[machine.name]}

    machines = bringup.machines
    document = {
        "all": {
            "vars": {
                "edgelm_testbed": bringup.testbed,
                "edgelm_testbed_file": str(bringup.path),
                "edgelm_state_dir": str(folder.path),
                **variables,
            },
            "children": {
                "cluster": {
                    "children": {
                        "control_plane": {"hosts": {o.name: of(o) for o in machines if o.control}},
                        "worker": {"hosts": {o.name: of(o) for o in machines if not o.control}},
                    }
                },
                "gpu": {"hosts": {one.name: {} for one in machines if one.gpus}},
                "removed": {"hosts": dict(removed)},
            },
        }
    }
    return HEAD + yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)


class _Plain(yaml.SafeDumper):
    """Dumper without anchors: each host stands for itself."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True
