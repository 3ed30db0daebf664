"""The command bench."""

from __future__ import annotations

import json

import typer

from controller.cli.app import app
from controller.cli.options import AsJson


@app.command()
def bench(as_json: AsJson = False) -> None:
    """Measure the twin, the solver and the agents on this machine.

    Takes about a minute; the machine should have nothing else to do.

    \b
    Examples:
      edgelm bench
      edgelm bench --json > bench.json
    """
    from controller import strategies
    from controller.bench.suite import report as text_of
    from controller.bench.suite import run_bench
    from controller.reference_model.answers import answer

    figures = run_bench(strategies.build, answer, lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(figures, indent=1) if as_json else text_of(figures))
