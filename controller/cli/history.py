"""The command history: reads what Prometheus has of a campaign's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.app import app
from controller.cli.options import AsJson

if TYPE_CHECKING:
    import polars as pl

GB: Final = 1e9


@app.command()
def history(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Campaign with runs on a testbed.")
    ],
    prometheus: Annotated[
        str,
        typer.Option(
            envvar="EDGELM_PROMETHEUS", metavar="URL",
            help="Prometheus that scrapes the nodes' exporters.",
        ),
    ],
    window: Annotated[
        int,
        typer.Option(
            metavar="SECONDS", min=1,
            help="Real seconds that a figure is the mean of: four scrapes or more.",
        ),
    ] = 60,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Read the use of machines during a campaign's runs from Prometheus.

    Cores, memory, network and GPUs of each node go to FOLDER/machines.parquet, and `edgelm report`
    shows them. Do it before Prometheus forgets (15 days by default); other runs' figures stay.

    \b
    Examples:
      edgelm history results/paper --prometheus http://vm1:9090
    """
    from controller.bootstrap.machines import keep_history
    from controller.results.folder import MACHINES

    table, problems = keep_history(folder, prometheus, window)
    if as_json:
        written = str(folder / MACHINES)
        typer.echo(json.dumps({"written": written, "problems": problems, "rows": table.to_dicts()}))
        return
    for line in _lines(table):
        typer.echo(line)
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(f"written: {folder / MACHINES}; `edgelm report {folder}` shows it")


def _lines(table: pl.DataFrame) -> list[str]:
    """Return a line per node: means over all windows of all runs."""
    lines = [f"{'node':10} {'windows':>7} {'busy cores':>10} {'memory GB':>9} {'GPUs busy':>9}"]
    for (node,), rows in table.group_by(["node"], maintain_order=True):
        memory_bytes = rows["memory_used_bytes"].mean()
        figures = (
            _text(rows["busy_cores"].mean(), "10.2f"),
            _text(None if memory_bytes is None else memory_bytes / GB, "9.2f"),  # type: ignore[operator]
            _text(rows["gpu_busy"].mean(), "9.1%"),
        )
        lines.append(f"{node!s:10} {len(rows):7} {' '.join(figures)}")
    return lines


def _text(value: object, form: str) -> str:
    return f"{'-':>{form.partition('.')[0]}}" if value is None else format(value, form)
