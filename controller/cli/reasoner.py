"""The command reasoner: the reference reasoner as a server of its own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from controller.cli.app import app


@app.command("reasoner")
def serve_reasoner(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8765,
    faults: Annotated[
        str, typer.Option(metavar="KIND=RATE,...", help="Spoil replies, for tests.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the faults.")] = 0,
    first_token_s: Annotated[float, typer.Option(help="Declared time to the first token.")] = 0.4,
    token_s: Annotated[float, typer.Option(help="Declared time per token.")] = 0.01,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve the reference reasoner over OpenAI's chat completions protocol.

    An optimiser answers; it is not a language model.

    \b
    Examples:
      edgelm reasoner
      edgelm run paper --strategy MA --reasoner http://127.0.0.1:8765/v1 --model edgelm-reference
    """
    if not with_parent:
        typer.echo("starting; its first answers wait until the optimiser is loaded", err=True)
    from controller.reference_model.completions import Latency
    from controller.reference_model.faults import parse_faults
    from controller.reference_model.server import serve

    def announce(url: str) -> None:
        typer.echo(url if with_parent else f"Serving {url} (Ctrl-C ends it)")
        sys.stdout.flush()

    latency = Latency(first_token_s, token_s)
    serve(host, port, latency, parse_faults(faults, seed), announce, with_parent=with_parent)
