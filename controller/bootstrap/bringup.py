"""A testbed brought up and taken down: a plan, phases, and the folder that remembers them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from controller.bootstrap.ansible import identity, play
from controller.bootstrap.teardown import removal_variables
from controller.bringup import phases as names
from controller.bringup.cloud import Cloud, connect
from controller.bringup.estimates import minutes
from controller.bringup.inventory import Provisioned, on_hosts, on_openstack, removed_since
from controller.bringup.key import check_key
from controller.bringup.lock import locked
from controller.bringup.machines import Bringup, load_bringup
from controller.bringup.order import Order
from controller.bringup.phases import Display, Phase, Result, run_phases
from controller.bringup.plan import Plan, make_plan
from controller.bringup.playbooks import Outcome, Playbook, Watcher, check_installed
from controller.bringup.state import HOSTS, OPENSTACK, Folder, State, default_folder
from controller.domain.errors import InputError
from controller.inputs.cloud import CloudFile, load_cloud
from controller.inputs.hosts import HostsFile, load_hosts


@dataclass(frozen=True, slots=True)
class Ground:
    """Ground of a bring-up: a plan in a cloud, or given hosts."""

    order: Order
    bringup: Bringup
    folder: Folder
    state: State
    cloud: Cloud | None = None
    plan: Plan | None = None
    hosts: HostsFile | None = None
    removed: Mapping[str, Any] = field(default_factory=dict)
    minutes: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the plan for programs."""
        if self.plan is not None:
            return self.plan.document()
        return {
            "testbed": self.bringup.testbed,
            "hosts": [one.name for one in self.bringup.machines],
            "remove": list(self.removed),
            "minutes": dict(self.minutes),
        }


def survey(order: Order) -> Ground:
    """Return what a bring-up would find and do. Changes nothing, here and there.

    Raises:
        InputError: something that is given is wrong, or the bring-up would not fit.
        Permanent: the cloud does not answer.
    """
    bringup = load_bringup(order.testbed)
    folder = Folder((order.state or default_folder(bringup.testbed)).expanduser().absolute())
    if (order.cloud is None) == (order.hosts is None):
        raise InputError("edgelm up", "takes --cloud NAME or --hosts FILE",
                         remedy="give one of them")  # fmt: skip
    kind = HOSTS if order.cloud is None else OPENSTACK
    kept = folder.read()
    if kept is not None:
        _check_same(kept, bringup, kind, folder)
        folder.check_inventory(kept)
    state = kept or State(bringup.testbed, kind)
    _check_order(order)
    removed = removed_since(bringup, folder)
    expected = minutes(len(bringup.machines), state.taken_s)
    if kind == HOSTS:
        assert order.hosts is not None  # noqa: S101 - its kind
        given = load_hosts(order.hosts)
        on_hosts(bringup, given, order.hosts, folder, removed, become=False)
        expected.pop(names.PROVISION)
        return Ground(order, bringup, folder, state, hosts=given, removed=removed, minutes=expected)
    check_installed()
    values = load_cloud(order.values)
    cloud = connect(order.cloud or "")
    if state.project_id and state.project_id != cloud.project_id:
        raise InputError(
            "--cloud", f"is project {cloud.project_id}; this testbed was brought up in project "
            f"{state.project_id} (cloud {state.cloud})", value=order.cloud,
            remedy=f"give that cloud, or another folder with --state instead of {folder.path}",
        )  # fmt: skip
    project = cloud.read(bringup.testbed)
    check_key(folder.key, project)
    plan = make_plan(bringup, project, values, expected)
    state = replace(state, cloud=order.cloud or "", project_id=cloud.project_id)
    return Ground(order, bringup, folder, state, cloud, plan, removed=removed, minutes=expected)


def bring_up(ground: Ground, display: Display) -> list[Result]:
    """Run the phases; return what came of each. The folder, and in a cloud the testbed's lock, are
    held meanwhile.

    Raises:
        InputError: there is no such phase, or somebody else is at work.
    """
    check_installed()
    order = ground.order
    with ExitStack() as held:
        held.enter_context(ground.folder.held())
        if ground.cloud is not None:
            testbed = ground.bringup.testbed
            held.enter_context(locked(ground.cloud, testbed, take_over=order.break_lock))
        work = _Work(ground)
        work.prepare()
        return run_phases(work.phases(), display, work.remember, order.first, order.last)


class _Work:
    """A bring-up under way."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.state = ground, ground.state

    def prepare(self) -> None:
        """Write state and inventory, with the machines that are to be drained."""
        self.ground.folder.write(self.state)
        if self.ground.plan is None or self.ground.folder.machines.exists():
            self._write_inventory(self.ground.removed)

    def phases(self) -> list[Phase]:
        found = [
            _phase(names.DRAIN, self._nothing_to_drain, self._drain),
            _phase(names.PROVISION, self._no_cloud, self._provision),
            _phase(names.REACH, lambda: "", self._reach),
        ]
        if self.ground.order.tags:
            chosen = self.ground.order.tags
            roles = partial(self._site, chosen)
            return [*found, Phase(names.ROLES, ", ".join(chosen), lambda: "", roles)]
        return found + [_phase(tag, lambda: "", partial(self._site, (tag,))) for tag in names.SITE]

    def remember(self, result: Result) -> None:
        if result.ok and not result.skipped and not self.ground.order.check:
            self._keep(taken_s={**self.state.taken_s, result.name: result.seconds})

    def _keep(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.ground.folder.write(self.state)

    def _nothing_to_drain(self) -> str:
        return "" if self.ground.removed else "no machine was removed"

    def _no_cloud(self) -> str:
        if self.ground.plan is None:
            return "the machines are given"
        return "--check changes nothing" if self.ground.order.check else ""

    def _drain(self, watcher: Watcher) -> Outcome:
        order = self.ground.order
        book = Playbook("remove.yml", inventory=self.ground.folder.inventory, files=order.files,
                        check=order.check)  # fmt: skip
        outcome = self._run(names.DRAIN, book, watcher)
        if outcome.ok and not order.check:
            self._write_inventory({})
        return outcome

    def _provision(self, watcher: Watcher) -> Outcome:
        plan = self.ground.plan
        assert plan is not None  # noqa: S101 - _no_cloud
        if plan.surplus:
            gone = [one.name for one in plan.surplus]
            variables = removal_variables(plan.bringup, plan.project.cloud, (), gone)
            outcome = self._run("deprovision", Playbook("deprovision.yml", variables), watcher)
            if not outcome.ok:
                return outcome
        made = {one.machine.name for one in plan.new}
        self._keep(answered=[one for one in self.state.answered if one not in made])
        variables = _provisioning(plan, self.ground.folder)
        outcome = self._run(names.PROVISION, Playbook("provision.yml", variables), watcher)
        if outcome.ok:
            self._write_inventory({})
        return outcome

    def _write_inventory(self, removed: Mapping[str, Any]) -> None:
        ground, order = self.ground, self.ground.order
        if ground.plan is not None:
            found = json.loads(ground.folder.machines.read_bytes())
            made = Provisioned(found["floating"], found["mtu"])
            text = on_openstack(ground.plan, made, ground.folder, removed)
        else:
            assert ground.hosts is not None  # noqa: S101 - no plan
            assert order.hosts is not None  # noqa: S101
            become = bool(os.environ.get("EDGELM_BECOME_PASSWORD"))
            text = on_hosts(
                ground.bringup, ground.hosts, order.hosts, ground.folder, removed, become
            )
        self.state = ground.folder.write_inventory(text, self.state)

    def _reach(self, watcher: Watcher) -> Outcome:
        known = [one.name for one in self.ground.bringup.machines]
        given = self.ground.plan is None
        new = [] if given else [name for name in known if name not in self.state.answered]
        variables = {"edgelm_new": new, "edgelm_wait_s": self.ground.order.wait_s}
        book = Playbook("reach.yml", variables, self.ground.folder.inventory)
        outcome = self._run(names.REACH, book, watcher)
        if outcome.ok:
            self._keep(answered=[name for name in known if name not in outcome.unreachable])
        return outcome

    def _site(self, tags: tuple[str, ...], watcher: Watcher) -> Outcome:
        order = self.ground.order
        command = Path(sys.executable).with_name("edgelm")
        book = Playbook(
            "site.yml", {"edgelm_command": str(command)} if command.exists() else {},
            self.ground.folder.inventory, tags, order.files, order.check,
        )  # fmt: skip
        return self._run("-".join(tags), book, watcher)

    def _run(self, name: str, book: Playbook, watcher: Watcher) -> Outcome:
        return play(self.ground.folder, name, book, self.ground.order, watcher)


def _phase(
    name: str, should_skip: Callable[[], str], execute: Callable[[Watcher], Outcome]
) -> Phase:
    return Phase(name, names.TITLES[name], should_skip, execute)


def _check_same(kept: State, bringup: Bringup, kind: str, folder: Folder) -> None:
    for what, has, wants in (("testbed", kept.testbed, bringup.testbed), ("kind", kept.kind, kind)):
        if has != wants:
            raise InputError(
                str(folder.path), f"is the folder of a bring-up of {what} {has}, not {wants}",
                field="--state", remedy="give another folder, or `edgelm down` first",
            )  # fmt: skip


def _check_order(order: Order) -> None:
    known = names.names_of(order.tags)
    begin, _ = names.limits(known, order.first, order.last)
    wanted = (("-e", order.files), ("--vault-password-file", (order.vault_password_file,)))
    for option, files in wanted:
        for file in files:
            if file is not None and not file.is_file():
                raise InputError(option, "is no file", value=str(file), remedy="check the path")
    if order.check and order.first and begin <= known.index(names.PROVISION):
        raise InputError("edgelm up", "works on machines that exist", field="--check",
                         remedy="--plan shows what would be made")  # fmt: skip


def _provisioning(plan: Plan, folder: Folder) -> dict[str, Any]:
    """Return the variables of provision.yml."""
    values: CloudFile = plan.values
    pairs: list[IPv4Network] = [values.pods] if values.cni == "routes" else []
    return {
        **identity(plan.bringup, plan.project.cloud),
        "edgelm_ssh_key": str(folder.key),
        "edgelm_state_dir": str(folder.path),
        "edgelm_mtu": values.mtu,
        "edgelm_cidr": str(values.network),
        "edgelm_dns": [str(one) for one in values.dns],
        "edgelm_access": [str(one) for one in values.access],
        "edgelm_address_pairs": [str(one) for one in pairs],
        "edgelm_external_network_id": plan.external.id,
        "edgelm_image_id": plan.image.id,
        "edgelm_machines": [
            {
                "name": one.machine.name, "control": one.machine.control,
                "gpus": one.machine.gpus, "address": one.address, "zone": one.zone,
                "flavor_id": one.flavour.id,
            } for one in plan.placements
        ],
    }  # fmt: skip
