"""The command infer: searches for the worlds in which reported facts hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.app import INTERRUPTED, app
from controller.cli.options import number_of

if TYPE_CHECKING:
    from controller.bootstrap.inference import Progress


@app.command()
def infer(
    facts: Annotated[str, typer.Argument(metavar="FACTS", help="Shipped name or file of facts.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the search.")] = Path(
        "results/inferred"
    ),
    samples: Annotated[int, number_of("Worlds to simulate.")] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the search.")] = 0,
    jobs: Annotated[int, number_of("Processes.")] = 2,
) -> None:
    """Search for the worlds in which reported facts hold (docs/infer.md).

    Worlds differ in factors on a profile's numbers, in rules of the twin and in parameters of
    strategies. The page shows which facts hold together and which contradict each other. After
    Ctrl-C or a crash the same command goes on.

    \b
    Examples:
      edgelm infer paper
      edgelm infer my/facts.yaml --out results/mine --samples 500
    """
    from controller.bootstrap.inference import infer as search

    typer.echo("compiling the twin, or loading it from the cache", err=True)
    try:
        file, found = search(facts, out, samples, seed, jobs, _show)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None
    total = len(file.facts)
    for k, one in enumerate(found.accepted, 1):
        missing = f", without {', '.join(one.missing)}" if one.missing else ""
        typer.echo(f"set {k}: {len(one.facts)} of {total} facts in {one.worlds} worlds{missing}")
    for pair in found.contradictions:
        typer.echo(f"never together: {pair.one} and {pair.other} ({pair.least:.2f} tolerances)")
    typer.echo(f"all {total} facts: {found.all_least:.2f} tolerances at the least")
    typer.echo(f"page: {out / 'index.html'}")


def _show(now: Progress) -> None:
    left = "" if now.left_s is None else f", about {now.left_s / 60:.0f} min to go"
    typer.echo(
        f"{now.done}/{now.samples} worlds, {now.most} of {now.facts} facts together{left}", err=True
    )
