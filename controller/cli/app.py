"""The application that commands register with, and its exit codes."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
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


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, as orderly an end as Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def main() -> None:
    """Run the command; print an error as one line and exit with the code of its kind."""
    try:
        app()
    except InputError as error:
        typer.echo(f"edgelm: {_relative(str(error))}", err=True)
        sys.exit(BAD_INPUT)
    except EdgelmError as error:
        typer.echo(f"edgelm: {_relative(str(error))}", err=True)
        sys.exit(FAILED)
    except OSError as error:
        # A disk that is full, gone or protected, met where no command expects it.
        where = f"{error.filename}: " if error.filename else ""
        text = printable(f"{where}{error.strerror or error}")
        typer.echo(f"edgelm: {text}; check disk, path and permissions, then repeat", err=True)
        sys.exit(FAILED)


def _relative(text: str) -> str:
    """Return a message with files below the working directory named from there."""
    try:
        here = f"{Path.cwd()}/"
    except OSError:  # it was removed
        return text
    return text.replace(here, "") if here != "//" else text


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`Terminated` within the context. What ignores SIGHUP, as
    nohup does, goes on ignoring it."""

    def end(number: int, _frame: object) -> None:
        raise Terminated(number)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in former.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def told_to_resume(error: KeyboardInterrupt, words: str) -> int:
    """Print how to go on after an interrupt; return the exit code."""
    command = shlex.join(["edgelm", *sys.argv[1:]])
    what = "Terminated" if isinstance(error, Terminated) else "Interrupted"
    typer.echo(f"\n{what}. {words} Resume with:\n  {command}", err=True)
    return 128 + error.number if isinstance(error, Terminated) else INTERRUPTED


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
