"""The application that commands register with, and its exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from controller import __version__
from controller.domain.errors import EdgelmError, InputError
from controller.domain.words import printable

FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    help="Compare strategies that serve large models on an edge cluster.",
    epilog="Begin with: edgelm run paper",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command; print an error as one line and exit with the code of its kind."""
    try:
        app()
    except InputError as error:
        typer.echo(f"edgelm: {error}", err=True)
        sys.exit(BAD_INPUT)
    except EdgelmError as error:
        typer.echo(f"edgelm: {error}", err=True)
        sys.exit(FAILED)
    except OSError as error:
        # A disk that is full, gone or protected, met where no command expects it.
        where = f"{error.filename}: " if error.filename else ""
        text = printable(f"{where}{error.strerror or error}")
        typer.echo(f"edgelm: {text}; check disk, path and permissions, then repeat", err=True)
        sys.exit(FAILED)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgelm {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None: ...
