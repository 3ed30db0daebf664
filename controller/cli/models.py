"""Commands on the weights of LMs: models tiny, models pull, models check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.app import BAD_INPUT, app
from controller.domain.errors import InputError, Permanent

models_app = typer.Typer(help="Make, fetch and check the weights of LMs.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@models_app.command("tiny")
def build_tiny(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Gets a folder for each LM.")],
    lms: Annotated[
        list[str] | None, typer.Argument(metavar="[LM]...", help="[default: all]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Make tiny models with random weights, for tests: real files, meaningless answers.

    \b
    Examples:
      edgelm models tiny weights
      edgelm models tiny weights gpt2 blip
    """
    from controller.testbed.weights.catalog import SOURCES, source_of
    from controller.testbed.weights.folder import describe, read_manifest, seal

    chosen = {lm: source_of(lm) for lm in lms or SOURCES}
    for lm in chosen:
        sealed = read_manifest(folder / lm)
        if sealed and sealed.revision:
            raise InputError(
                str(folder / lm), "holds fetched weights", remedy="give another folder"
            )
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at import
    try:
        from controller.testbed.weights.tiny import build
    except ImportError as error:
        raise _without_extra("models tiny", error) from error

    for lm, source in chosen.items():
        build(lm, folder / lm, seed)
        origin = f"random, seed {seed}"
        made = describe(folder / lm, lm, origin=origin, revision="", licence="none needed")
        seal(folder / lm, made)
        typer.echo(f"{folder / lm}: {made.size_mb:.1f} MB, for --engine {source.engine}")


@models_app.command("pull")
def pull_weights(
    lms: Annotated[
        list[str], typer.Argument(metavar="LM...", help="gpt2, gpt2-large, blip, sd15.")
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder for each LM.")],
    revision: Annotated[
        str | None,
        typer.Option(metavar="COMMIT", help="Another commit than the pinned one, of one LM."),
    ] = None,
) -> None:
    """Fetch weights from the hub at pinned commits, show their licences, record checksums.

    A command that was interrupted goes on where it was. HF_ENDPOINT names a mirror.

    \b
    Examples:
      edgelm models pull gpt2 --to weights
      edgelm models pull gpt2 gpt2-large blip sd15 --to weights
    """
    from controller.testbed.weights.catalog import source_of

    chosen = {lm: source_of(lm) for lm in lms}
    if revision and len(chosen) > 1:
        raise InputError("models pull", "a commit belongs to one LM", field="--revision",
                         value=revision, remedy="pull the LMs one by one")  # fmt: skip
    try:
        from controller.testbed.weights.hub import listing, pull
    except ImportError as error:
        raise _without_extra("models pull", error) from error

    for lm, source in chosen.items():
        commit = revision or source.revision
        typer.echo(f"{lm}: {source.repository} at {commit}")
        typer.echo(f"  licence: {source.licence} ({source.licence_url})")
        listed = listing(source, commit)
        size_gb = sum(size for size, _ in listed.values()) / 1e9
        typer.echo(f"  {size_gb:.2f} GB into {to / lm}")
        manifest = pull(lm, source, commit, listed, to / lm)
        typer.echo(f"  {len(manifest.files)} files, whole; serve with --engine {source.engine}")


@models_app.command("check")
def check_weights(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of weights, or folders of such folders."),
    ],
) -> None:
    """Check folders of weights: files, checksums, origin and licence.

    \b
    Examples:
      edgelm models check weights
      edgelm models check weights/gpt2
    """
    from controller.testbed.weights.folder import check, folders_in

    wrong = 0
    for path in folders:
        try:
            found = folders_in(path)
        except InputError as error:
            wrong += 1
            typer.echo(f"edgelm: {error}", err=True)
            continue
        if not found:
            typer.echo(f"{path}: only GGUF files, which have no checksums here")
        for folder in found:
            try:
                manifest = check(folder)
            except InputError as error:
                wrong += 1
                typer.echo(f"edgelm: {error}", err=True)
                continue
            if manifest is None:
                typer.echo(f"{folder}: complete; no manifest, so no checksums were compared")
            else:
                told = f"{manifest.origin}, {manifest.size_mb:.1f} MB, licence {manifest.licence}"
                typer.echo(f"{folder}: good {manifest.lm} ({told})")
    if wrong:
        raise typer.Exit(BAD_INPUT)


def _without_extra(command: str, error: ImportError) -> Permanent:
    return Permanent(
        f"{command} needs {error.name}, which is not installed: pip install 'edgelm[lm]' (5 GB), "
        f"or in a checkout: make lm-setup, then .venv-lm/bin/edgelm {command}"
    )
