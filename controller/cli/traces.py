"""Commands on traces of real systems: trace import, trace merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.app import app

trace_app = typer.Typer(
    help="Turn traces of real systems into request files.", no_args_is_help=True
)
app.add_typer(trace_app, name="trace")


@trace_app.command("import")
def import_trace(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="azure or servegen.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The trace: a file, or ServeGen's folder.")
    ],
    out: Annotated[Path, typer.Option(help="Request file to write.")],
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Option of the importer, repeatable."),
    ] = None,
) -> None:
    """Turn a trace into a request file, whose head records how it was mapped and clipped.

    \b
    Examples:
      edgelm trace import azure AzureLLMInferenceTrace_conv.csv --out conv.csv
      edgelm trace import servegen mm-image --out images.csv --set lm=LM3 --set end_s=3600
    """
    from controller.workloads.importers import import_requests

    count, seconds = import_requests(kind, source, out, options or [])
    typer.echo(f"{out}: {count} requests over {seconds:g} s")


@trace_app.command("merge")
def merge_traces(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Request files.")],
    out: Annotated[Path, typer.Option(help="Request file to write.")],
) -> None:
    """Merge request files that run side by side, cut to the shortest.

    \b
    Examples:
      edgelm trace merge conv.csv images.csv --out both.csv
    """
    from controller.workloads.trace import merge, read_trace, write_trace

    merged = merge([read_trace(path) for path in files])
    write_trace(merged, out)
    typer.echo(f"{out}: {len(merged)} requests over {merged.duration_s:g} s")
