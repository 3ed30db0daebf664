"""Commands on weights of LMs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.app import app
from controller.domain.errors import Permanent

models = typer.Typer(help="Weights of LMs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models, name="models")


@models.callback()
def _common() -> None: ...


@models.command()
def tiny(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where a folder per LM is made.")],
) -> None:
    """Make tiny models with random weights of the paper's four LMs, named LM1 to LM4, for tests.

    \b
    Examples:
      edgelm models tiny weights
      edgelm live smoke --local --weights weights --strategy RF --seeds 1
    """
    if importlib.util.find_spec("diffusers") is None:
        raise Permanent(
            "torch, transformers or diffusers is not installed: install the extra, "
            "pip install 'edgelm[lm]'"
        )
    from lm_server.tiny import build

    for k, (name, made) in enumerate(build(folder).items(), 1):
        made.rename(folder / f"LM{k}")
        typer.echo(f"{folder / f'LM{k}'}: {name}, random weights")
