"""The command profile: measures an LM on the hardware at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from controller.cli.app import app
from controller.cli.options import cores as usable_cores
from controller.cli.options import number_of
from controller.domain.errors import InputError

BATCHES: Final = "1,2,4,8"
REPEATS: Final = 3


@app.command()
def profile(
    engine: Annotated[str, typer.Option(metavar="KIND", help="Engine of lm_server.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="Weights, or emulated times.")],
    lm: Annotated[str, typer.Option(metavar="NAME", help="LM of the base profile to replace.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Profile to write, .yaml.")],
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Points measured so far.  [default: OUT.points.json]"),
    ] = None,
    base: Annotated[str, typer.Option(help="Profile whose other numbers stay.")] = "a5000",
    cores: Annotated[
        str | None, typer.Option(metavar="N,...", help="Cores.  [default: 1, 2, 4, ... to all]")
    ] = None,
    batches: Annotated[
        str, typer.Option(metavar="N,...", help="Prompts in a batch, on the most cores.")
    ] = BATCHES,
    repeats: Annotated[
        int | None, number_of("Requests of each point that count.  [default: 3]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or gpu for the first GPU.")] = "cpu",
    hardware: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="As testbeds name it.  [default: this CPU]"),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Interpreter with lm_server and the engine's libraries."),
    ] = None,
) -> None:
    """Measure an LM through its server: time over cores, batches and sizes, start, stop, memory.

    Interrupted, it goes on where it was with the same command. The machine should have nothing else
    to do.

    \b
    Examples:
      edgelm profile --engine text-to-text --model weights/gpt2 --lm LM1 --out my/profile.yaml
    """
    from controller.bootstrap.profiling import Wanted, profile_lm

    if device not in ("cpu", "gpu"):
        raise InputError("--device", "is no device", value=device, remedy="give cpu or gpu")
    wanted = Wanted(
        engine=engine,
        model=model,
        lm=lm,
        base=base,
        out=out,
        points=points or out.with_suffix(".points.json"),
        cores=_counts("--cores", cores or _doubling(usable_cores()), most=usable_cores()),
        batches=_counts("--batches", batches, most=64),
        repeats=repeats or REPEATS,
        device=device,
        hardware=hardware,
        python=python or sys.executable,
        own_server=python is None,
    )
    profile_lm(wanted, lambda line: typer.echo(line, err=True))
    typer.echo(f"points: {wanted.points}{os.linesep}profile: {out}")


def _doubling(most: int) -> str:
    found = [1 << k for k in range(most.bit_length()) if 1 << k < most]
    return ",".join(map(str, [*found, most]))


def _counts(option: str, text: str, most: int) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= most for part in parts):
        raise InputError(
            option, f"must list whole numbers from 1 to {most}", value=text, remedy="write 1,2,4"
        )
    return sorted({int(part) for part in parts})
