"""A testbed taken down: what carries its mark in a cloud, or what roles put on given hosts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from controller.bootstrap.ansible import identity, play
from controller.bringup import project as kinds
from controller.bringup.cloud import Cloud, connect
from controller.bringup.lock import locked
from controller.bringup.machines import Bringup, load_bringup
from controller.bringup.marks import base_name
from controller.bringup.order import Order
from controller.bringup.phases import Display, Phase, Result, run_phases
from controller.bringup.playbooks import Playbook, check_installed
from controller.bringup.project import Thing
from controller.bringup.state import OPENSTACK, Folder, default_folder
from controller.domain.errors import InputError


@dataclass(frozen=True, slots=True)
class Removal:
    """Things that `edgelm down` would remove. ``strangers``: ports of others in its network."""

    order: Order
    bringup: Bringup
    folder: Folder
    cloud: Cloud | None
    things: tuple[Thing, ...]
    others: tuple[Thing, ...]
    strangers: tuple[Thing, ...]


def survey_removal(order: Order, *, keep_data: bool) -> Removal:
    """Return what would be removed. Changes nothing.

    Raises:
        InputError: something that is given is wrong, or somebody else's machines are in the way.
    """
    bringup = load_bringup(order.testbed)
    folder = Folder((order.state or default_folder(bringup.testbed)).expanduser().absolute())
    kept = folder.read()
    name = order.cloud or (kept.cloud if kept and kept.kind == OPENSTACK else "")
    if not name:
        if kept is None:
            raise InputError("edgelm down", f"finds no bring-up in {folder.path}", field="--state",
                             remedy="name the folder, or the --cloud it was made in")  # fmt: skip
        return Removal(order, bringup, folder, None, (), (), ())
    check_installed()
    cloud = connect(name)
    if kept and kept.project_id and kept.project_id != cloud.project_id:
        raise InputError("--cloud", f"is project {cloud.project_id}, and this testbed is in "
                         f"{kept.project_id}", value=name, remedy=f"give {kept.cloud}")  # fmt: skip
    project = cloud.read(bringup.testbed)
    things = project.own
    if keep_data:
        names_ = {bringup.control.name, f"{base_name(bringup.testbed)}-{bringup.control.name}"}
        things = tuple(
            one for one in things
            if one.kind in (kinds.SERVER, kinds.PORT) and one.name not in names_
        )  # fmt: skip
    strangers = () if keep_data else tuple(cloud.strangers(bringup.testbed))
    return Removal(order, bringup, folder, cloud, things, project.others, strangers)


def take_down(removal: Removal, display: Display, *, keep_data: bool) -> list[Result]:
    """Remove what a bring-up has made: things in a cloud, or what the roles put on given hosts.

    Raises:
        InputError: others' ports are in the testbed's network, or somebody else is at work.
    """
    if removal.strangers:
        raise InputError(
            f"testbed {removal.bringup.testbed}", "has ports in its network that edgelm did not "
            f"make: {', '.join(map(str, removal.strangers))}",
            remedy="move those machines to another network, then again; nothing was removed",
        )  # fmt: skip
    check_installed()
    with ExitStack() as held:
        held.enter_context(removal.folder.held())
        if removal.cloud is not None:
            order, testbed = removal.order, removal.bringup.testbed
            held.enter_context(locked(removal.cloud, testbed, take_over=order.break_lock))
        phase = _removing(removal, keep_data)
        results = run_phases([phase], display, lambda _: None)
        if results[0].ok and removal.cloud is not None and not keep_data:
            _forget(removal.folder)
        return results


def _removing(removal: Removal, keep_data: bool) -> Phase:
    folder = removal.folder
    if removal.cloud is None:
        book = Playbook("reset.yml", {"reset_keep_data": keep_data}, folder.inventory,
                        files=removal.order.files)  # fmt: skip
        title = "Hosts back as they were"
    else:
        gone = _machines(removal) if keep_data else None
        variables = removal_variables(removal.bringup, removal.cloud.name, removal.things, gone)
        book, title = Playbook("deprovision.yml", variables), "Machines, network, addresses"
    nothing = removal.cloud is not None and not removal.things
    return Phase(
        "down", title, lambda: "there is nothing of this testbed" if nothing else "",
        lambda watcher: play(folder, "down", book, removal.order, watcher),
    )  # fmt: skip


def _forget(folder: Folder) -> None:
    """Remove what spoke of machines that are gone; the logs stay."""
    for path in (
        folder.inventory, folder.machines, folder.known_hosts, folder.key,
        folder.key.with_suffix(".pub"), folder.path / "state.json",
    ):  # fmt: skip
        path.unlink(missing_ok=True)


def _machines(removal: Removal) -> list[str]:
    """Return the machines that a server or a port is left of."""
    start = f"{base_name(removal.bringup.testbed)}-"
    return sorted({one.name.removeprefix(start) for one in removal.things})


def removal_variables(
    bringup: Bringup, cloud: str, things: tuple[Thing, ...], gone: list[str] | None
) -> dict[str, Any]:
    """Return the variables of deprovision.yml. ``gone``: these machines alone; None: everything."""

    def ids(kind: str) -> list[str]:
        return [one.id for one in things if one.kind == kind]

    return {
        **identity(bringup, cloud),
        "edgelm_everything": gone is None,
        "edgelm_gone": gone or [],
        "edgelm_routers": ids(kinds.ROUTER),
        "edgelm_server_groups": ids(kinds.SERVER_GROUP),
        "edgelm_keypairs": ids(kinds.KEYPAIR),
    }
