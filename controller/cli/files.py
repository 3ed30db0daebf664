"""Commands on input files: list, validate, schema."""

from __future__ import annotations

import json
import shutil
import textwrap
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.app import BAD_INPUT, app
from controller.cli.options import AsJson
from controller.domain.errors import InputError


@app.command("list")
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="strategies, testbeds, profiles, workloads or campaigns."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List shipped strategies, testbeds, profiles, workloads and campaigns.

    \b
    Examples:
      edgelm list
      edgelm list workloads --json
    """
    from controller.campaigns.validation import catalog

    names = catalog()
    if kind is not None and kind not in names:
        raise InputError(
            "list", "no such kind", value=kind, remedy=f"choose one of {', '.join(names)}"
        )
    chosen = {kind: names[kind]} if kind else names
    if as_json:
        typer.echo(json.dumps(chosen, indent=1, ensure_ascii=False))
        return
    for title, entries in chosen.items():
        typer.echo(f"{title}\n{_aligned(entries)}\n")


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="YAML or JSON files, traces (.csv).")
    ],
) -> None:
    """Check input files: testbeds, profiles, workloads, traces, prices, campaigns, experiments,
    facts, cluster files, and the cloud and hosts files of a bring-up.

    A campaign is checked with every file that it names, each testbed with each profile given.

    \b
    Examples:
      edgelm validate inventory/paper.yaml my/campaign.yaml
      edgelm validate my/testbed.yaml my/profile.yaml
    """
    from controller.campaigns.validation import check_file, check_pair

    wrong = 0
    good: dict[str, list[Path]] = {}
    for path in files:
        try:
            kind, content = check_file(path)
        except InputError as error:
            wrong += 1
            typer.echo(f"edgelm: {error}", err=True)
        else:
            good.setdefault(kind, []).append(path)
            typer.echo(f"{path}: good {kind} ({content})")
    for testbed, profile in product(good.get("testbed", ()), good.get("profile", ())):
        try:
            check_pair(testbed, profile)
        except InputError as error:
            wrong += 1
            typer.echo(f"edgelm: {error}", err=True)
        else:
            typer.echo(f"{testbed}, {profile}: go together")
    if wrong:
        raise typer.Exit(BAD_INPUT)


@app.command()
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="testbed, profile, workload, campaign, prices, experiment, facts, cluster, cloud "
            "or hosts.",
        ),
    ],
) -> None:
    """Print the JSON Schema of a kind of file.

    \b
    Examples:
      edgelm schema campaign > campaign.schema.json
    """
    from controller.campaigns.validation import json_schema

    typer.echo(json.dumps(json_schema(kind), indent=1, ensure_ascii=False))


def _aligned(entries: dict[str, str]) -> str:
    """Return names and sentences in two columns, as wide as the terminal."""
    indent = 4 + max((len(name) for name in entries), default=0)
    room = max(40, shutil.get_terminal_size().columns - indent)
    return "\n".join(
        f"  {name:{indent - 4}}  " + f"\n{'':{indent}}".join(textwrap.wrap(sentence, room))
        for name, sentence in entries.items()
    )
