"""Commands that bring a testbed up and take it down: up, down."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller.cli.app import FAILED, INTERRUPTED, app
from controller.cli.options import AsJson
from controller.domain.errors import InputError

if TYPE_CHECKING:
    from controller.bootstrap.bringup import Ground
    from controller.bootstrap.teardown import Removal
    from controller.bringup.order import Order
    from controller.bringup.phases import Result
    from controller.bringup.project import Thing

OWN_VENV: Final = ".venv-ansible"  # of a checkout

Testbed = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="Testbed, by shipped name or file.")
]
CloudName = Annotated[
    str | None,
    typer.Option("--cloud", metavar="NAME", help="Cloud it is in.  [default: as brought up]"),
]
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Folder of this bring-up: state, inventory, keys, logs.  "
        "[default: ~/.local/state/edgelm/testbeds/NAME]",
    ),
]
Extra = Annotated[
    list[Path] | None,
    typer.Option("-e", metavar="FILE", help="Variables for the roles, plain or in a vault."),
]
VaultPassword = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Password of vaults, or a program that prints it."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]
BreakLock = Annotated[
    bool, typer.Option("--break-lock", help="Take the testbed from an operator who is gone.")
]


@app.command()
def up(
    testbed: Testbed = "paper",
    cloud: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Cloud of clouds.yaml to make machines in.  [default: OS_CLOUD]"
        ),
    ] = None,
    hosts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Machines that exist: how to reach each.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be made, and make nothing.")
    ] = False,
    yes: Yes = False,
    first: Annotated[
        str | None, typer.Option("--from", metavar="PHASE", help="Phase to begin with.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="PHASE", help="Phase to end with.")
    ] = None,
    tags: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Only these roles of site.yml.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show what would change on machines that exist.")
    ] = False,
    values: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Image, networks, flavours, zones (docs/testbed.md)."),
    ] = None,
    extra: Extra = None,
    vault_password_file: VaultPassword = None,
    state: StateFolder = None,
    break_lock: BreakLock = False,
    as_json: AsJson = False,
) -> None:
    """Bring a testbed up: machines in an OpenStack project, or given ones, with all that they run.

    Shows a plan and asks. Phases: drain, provision, reach, validate, hosts, kubernetes, services,
    edgelm, airflow, check. The same command goes on after whatever ended it, and changes nothing
    where all is done; with a changed testbed file it brings the testbed to that.

    \b
    Examples:
      edgelm up --testbed paper --cloud NAME --plan
      edgelm up --testbed paper --cloud NAME
      edgelm up --testbed lab.yaml --hosts hosts.yaml --until kubernetes
      edgelm up --testbed paper --cloud NAME --from services --yes
    """
    _in_own_venv()
    from controller.bootstrap.bringup import bring_up, survey

    if hosts is None:
        cloud = cloud or os.environ.get("OS_CLOUD")
    order = _order(testbed, cloud, hosts, state, values, extra, vault_password_file, break_lock)
    ground = survey(_with(order, tags, first, until, check))
    if plan:
        typer.echo(json.dumps(ground.document(), indent=1)) if as_json else _print_plan(ground)
        return
    if not as_json:
        _print_plan(ground)
    _ask("Bring it up?", yes)
    _finish(bring_up(ground, _display()), as_json, "edgelm up")


@app.command()
def down(
    testbed: Testbed = "paper",
    cloud: CloudName = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="List what would be removed, and remove nothing.")
    ] = False,
    yes: Yes = False,
    keep_data: Annotated[
        bool,
        typer.Option(
            "--keep-data",
            help="Keep what was stored: the control machine in a cloud, data folders on hosts.",
        ),
    ] = False,
    extra: Extra = None,
    vault_password_file: VaultPassword = None,
    state: StateFolder = None,
    break_lock: BreakLock = False,
    as_json: AsJson = False,
) -> None:
    """Take a testbed down: remove what `edgelm up` has made, and only that.

    Lists it and asks. What does not carry the testbed's mark stays, whatever its name.

    \b
    Examples:
      edgelm down --testbed paper --plan
      edgelm down --testbed paper --cloud NAME
      edgelm down --testbed lab.yaml --keep-data
    """
    _in_own_venv()
    from controller.bootstrap.teardown import survey_removal, take_down

    order = _order(testbed, cloud, None, state, None, extra, vault_password_file, break_lock)
    removal = survey_removal(order, keep_data=keep_data)
    if plan and as_json:
        found = [{"kind": one.kind, "id": one.id, "name": one.name} for one in removal.things]
        typer.echo(json.dumps({"remove": found, "keep": len(removal.others)}, indent=1))
        return
    if not as_json:
        _print_removal(removal, keep_data)
    if plan:
        return
    _ask("Remove it?", yes)
    _finish(take_down(removal, _display(), keep_data=keep_data), as_json, "edgelm down")


def _in_own_venv() -> None:
    """Go on in the checkout's venv of Ansible, where this one has none."""
    from importlib.util import find_spec

    command = Path(sys.prefix).with_name(OWN_VENV) / "bin" / "edgelm"
    if not find_spec("ansible_runner") and command.exists() and Path(sys.prefix).name == ".venv":
        os.execv(command, [str(command), *sys.argv[1:]])  # noqa: S606 - our own command


def _order(
    testbed: str, cloud: str | None, hosts: Path | None, state: Path | None, values: Path | None,
    extra: list[Path] | None, vault: Path | None, break_lock: bool,
) -> Order:  # fmt: skip
    from controller.bringup.order import Order

    files = tuple(file.absolute() for file in extra or ())
    return Order(
        testbed=testbed, cloud=cloud, hosts=hosts, state=state, values=values, files=files,
        vault_password_file=vault, break_lock=break_lock,
    )  # fmt: skip


def _with(
    order: Order, tags: str | None, first: str | None, last: str | None, check: bool
) -> Order:
    from dataclasses import replace

    from controller.cli.options import listed

    return replace(order, tags=listed(tags) or (), first=first, last=last, check=check)


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("edgelm", "cannot ask: there is no terminal", field="--yes",
                         remedy="give --yes to go on without a question")  # fmt: skip
    typer.confirm(question, abort=True, err=True)


def _display() -> Any:
    from controller.cli.phases import LiveDisplay, PlainDisplay

    return LiveDisplay() if sys.stderr.isatty() else PlainDisplay()


def _finish(results: Sequence[Result], as_json: bool, command: str) -> None:
    """Print what came of it, and exit with 1 if a phase has failed."""
    failed = next((one for one in results if not one.ok), None)
    if as_json:
        document = {"ok": failed is None, "phases": [asdict(one) for one in results]}
        typer.echo(json.dumps(document, indent=1))
    if failed is None:
        return
    if failed.cancelled:
        typer.echo(f"stopped in {failed.name}; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED)
    for one in failed.failures:
        typer.echo(f"FAILED  {one}", err=True)
    more = f" --from {failed.name}" if command == "edgelm up" else ""
    typer.echo(f"{failed.name} failed. The whole log: {failed.log}", err=True)
    typer.echo(f"Once it is mended, the same command goes on; faster with{more}"
               if more else "Once it is mended, the same command goes on", err=True)  # fmt: skip
    raise typer.Exit(FAILED)


def _print_plan(ground: Ground) -> None:
    from rich.console import Console
    from rich.table import Table

    console, plan = Console(), ground.plan
    total = sum(ground.minutes.values())
    if plan is None:
        console.print(f"testbed {ground.bringup.testbed} on {len(ground.bringup.machines)} hosts")
    else:
        place = plan.project
        console.print(
            f"testbed {ground.bringup.testbed} on cloud {place.cloud}, project {place.name} "
            f"({place.id}), region {place.region}", soft_wrap=True,
        )  # fmt: skip
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("machine", "flavour", "zone", "address", ""):
            table.add_column(title, no_wrap=True)
        for one in plan.placements:
            what = "is there" if one.exists else "create"
            zone = one.zone or "the cloud's choice"
            table.add_row(one.machine.name, one.flavour.name, zone, one.address,
                          f"{what}; {one.larger}" if one.larger else what)  # fmt: skip
        for thing in plan.surplus:
            table.add_row(thing.name, thing.detail["flavour"], thing.detail["zone"], "",
                          "drain and DELETE: the testbed file has it no longer")  # fmt: skip
        console.print(table)
        values = plan.values
        mtu = f", MTU {values.mtu}" if values.mtu else ""
        access = ", ".join(map(str, values.access))
        console.print(
            f"image {plan.image.name}; network {values.network}{mtu}, pods {values.pods} "
            f"({values.cni}), services {values.services}\n"
            f"router to {plan.external.name}, one floating address for "
            f"{ground.bringup.control.name}: SSH from {access}; the others are reached through it",
            soft_wrap=True,
        )  # fmt: skip
        needs = [str(one) for one in plan.needs if one.need]
        if needs:
            console.print("quota  " + "\n       ".join(needs), soft_wrap=True)
        console.print(_untouched(plan.project.others), soft_wrap=True)
    if ground.removed and plan is None:
        console.print(f"drain and leave: {', '.join(ground.removed)}", soft_wrap=True)
    parts = ", ".join(f"{name} {value:g}" for name, value in ground.minutes.items())
    source = "last time's" if ground.state.taken_s else "estimated"
    console.print(f"about {total:.0f} min ({source}): {parts}", soft_wrap=True)
    console.print(f"state, inventory, keys and logs in {ground.folder.path}", soft_wrap=True)


def _print_removal(removal: Removal, keep_data: bool) -> None:
    if removal.cloud is None:
        kept = "; data folders stay" if keep_data else "; DATA TOO"
        typer.echo(f"what edgelm put on the hosts of {removal.folder.inventory}{kept}")
        return
    for one in removal.things:
        typer.echo(f"delete  {one}")
    if not removal.things:
        typer.echo(f"nothing of testbed {removal.bringup.testbed} in cloud {removal.cloud.name}")
    elif keep_data:
        typer.echo(f"keep    {removal.bringup.control.name} with the global store, results and "
                   "registry, its network and address")  # fmt: skip
    else:
        typer.echo("Servers' disks go with them: stores, results, images.")
    typer.echo(_untouched(removal.others))


def _untouched(others: Sequence[Thing]) -> str:
    from collections import Counter

    counts = Counter(one.kind for one in others)
    plural = {"security group": "security groups", "floating address": "floating addresses"}
    parts = [
        f"{count} {plural.get(kind, kind + 's') if count > 1 else kind}"
        for kind, count in counts.items()
    ]
    return f"not touched, since edgelm did not make it: {', '.join(parts) or 'nothing else here'}"
