"""Commands that look at a testbed: status, doctor."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from controller.cli.app import FAILED, app
from controller.cli.options import AsJson
from controller.cli.testbed import URL, KeysFile, keys_of
from controller.testbed.keys import OPERATOR

REFRESH_S: Final = 1.0
MARKS: Final = {"ready": "", "off": "-"}  # states that need no word beside the queue

Url = Annotated[str, typer.Option("--controller", metavar="URL", help="The controller.")]


@app.command()
def status(
    controller: Url = URL,
    keys: KeysFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second.")] = False,
    versions: Annotated[
        bool, typer.Option("--versions", help="Show the versions of everything that runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show who has a testbed, its run, its nodes with their pods and queues, and the plan in force.

    \b
    Examples:
      edgelm status --controller http://vm1:8700 --keys keys/operator.json
      edgelm status --watch
      edgelm status --versions --json
    """
    from rich.console import Console
    from rich.live import Live

    from controller.bootstrap.condition import read_all, versions_of

    url, own = controller.rstrip("/"), keys_of(keys, OPERATOR)
    if versions:
        found = versions_of(read_all(url, own))
        lines = [f"{what}: {version}" for what, version in found.items()]
        typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))
        return
    if as_json:
        typer.echo(json.dumps(read_all(url, own)))
        return
    console = Console()
    if not watch:
        console.print(_screen(read_all(url, own)))
        return
    try:
        with Live(_screen(read_all(url, own)), console=console, auto_refresh=False) as screen:
            while True:
                time.sleep(REFRESH_S)
                screen.update(_screen(read_all(url, own)), refresh=True)
    except KeyboardInterrupt:
        return


@app.command()
def approve(
    slot: Annotated[int, typer.Argument(metavar="SLOT", help="Slot that edgelm status shows.")],
    reject: Annotated[bool, typer.Option("--reject", help="Keep the policy in force.")] = False,
    controller: Url = URL,
    keys: KeysFile = None,
) -> None:
    """Approve the policy that waits for a person's word (mode approve).

    \b
    Examples:
      edgelm approve 30
      edgelm approve 30 --reject --controller http://vm1:8700 --keys keys/operator.json
    """
    from controller.bootstrap.condition import give_verdict

    give_verdict(controller.rstrip("/"), keys_of(keys, OPERATOR), slot, approved=not reject)
    typer.echo("rejected" if reject else "approved")


@app.command()
def doctor(
    controller: Url = URL,
    keys: KeysFile = None,
    testbed: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Testbed, name or file, that a cluster should offer."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine a testbed: services, versions, clocks, disks, a cluster's nodes. Each line: ok, or
    what to do.

    \b
    Examples:
      edgelm doctor --controller http://vm1:8700 --keys keys/operator.json
      edgelm doctor --controller http://vm1:8700 --testbed paper
    """
    from controller.bootstrap.condition import examine
    from controller.inputs.catalog import load_testbed

    wanted = load_testbed(testbed).to_domain() if testbed else None
    findings = list(examine(controller.rstrip("/"), keys_of(keys, OPERATOR), wanted))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings]))
    else:
        for one in findings:
            remedy = f"  -> {one.remedy}" if one.remedy else ""
            typer.echo(f"{'ok   ' if one.ok else 'WRONG'}  {one.what}: {one.found}{remedy}")
    if not all(one.ok for one in findings):
        raise typer.Exit(FAILED)


def _screen(found: dict[str, Any]) -> Any:
    """Return one screen: a line about the run, a row per node, a column per LM."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from controller.lease import Held, Lease

    run = found["run"]
    lms = list(run["plan"] or {}) if run else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("node")
    for lm in lms:
        table.add_column(lm)
    table.add_column("open", justify="right")
    table.add_column("orders", justify="right")
    table.add_column("sends to")
    conditions = found["conditions"]
    for name, node in found["nodes"].items():
        work = node["run"]
        closed = conditions[name]["reason"] if name in conditions else ""
        if node["fault"] or work is None:
            words = node["fault"] or closed or "idle"
            table.add_row(name, *[""] * len(lms), "", "", words)
            continue
        pods = [_pod(work["lms"][lm]) for lm in lms]
        to = ", ".join(f"{lm}: {run['plan'][lm].get(name) or 'refused'}" for lm in lms)
        to = f"{closed}; {to}" if closed else to
        table.add_row(name, *pods, str(work["open"]), f"slot {work['orders']['slot']}", to)
    lease, fault = found["lease"], found["store_fault"]
    free = f"holder unknown while the store is away ({fault})" if fault else "free"
    holder = f"testbed: {Held(Lease(**lease)) if lease else free}"
    return Group(Text(holder), Text(_headline(run)), table, *_question(found["approval"]))


def _question(question: dict[str, Any] | None) -> list[Any]:
    """Return the policy that waits for a person's word, and how to give it."""
    from rich.text import Text

    if question is None:
        return []
    command = f"edgelm approve {question['slot']} [--reject]"
    head = f"Policy of slot {question['slot']} waits for approval ({command}): {question['reason']}"
    return [Text(f"\n{head}", style="bold"), *map(Text, question["changes"])]


def _headline(run: dict[str, Any] | None) -> str:
    if run is None:
        return "no run yet"
    failures = ", ".join(f"{count} {name}" for name, count in run["failures"].items())
    slot = "" if run["slot"] is None else f", slot {run['slot']} of {run['slots']}"
    waiting = f" for {', '.join(run['waiting_for'])}" if run["waiting_for"] else ""
    return (
        f"run {run['id']}: {run['phase']}{waiting}{slot}, {run['succeeded']} requests done"
        f"{', failed: ' + failures if failures else ''}; policy of slot {run['policy_slot']}, plan "
        f"of slot {run['plan_slot']}"
    )


def _pod(pod: dict[str, Any]) -> str:
    """Return device, state and queue of a pod: "gpu 3" is a ready one with three requests."""
    if pod["state"] in ("off", "pending"):
        return f"{pod['state']}{' ' + str(pod['queue']) if pod['queue'] else ''}"
    device = f"{pod['vgpus']} vGPU" if pod["vgpus"] else f"{pod['cores']:g} cores"
    word = MARKS.get(pod["state"], pod["state"])
    return f"{device}{' ' + word if word else ''}, {pod['queue']}"
