"""Command that renders the manifests of a testbed on Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.app import app


@app.command()
def manifests(
    testbed: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Testbed, by shipped name or file.")
    ],
    values: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Values where clusters differ (docs/kubernetes.md); all have defaults.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for kubectl apply -k.  [default: standard output]"
        ),
    ] = None,
) -> None:
    """Render a testbed's Kubernetes manifests; needs no cluster.

    \b
    Examples:
      edgelm manifests --testbed paper --out manifests && kubectl apply -k manifests
      edgelm manifests --testbed paper --values cluster.yaml | kubectl apply -f -
    """
    from controller.bootstrap.manifests import render_manifests, unpinned, write_manifests
    from controller.inputs.catalog import load_testbed
    from controller.inputs.cluster import load_cluster
    from controller.testbed.kubernetes.manifests import applied

    cluster = load_cluster(values)
    files = render_manifests(load_testbed(testbed), cluster)
    for image in unpinned(cluster):
        typer.echo(f"edgelm: image {image} has no digest: nodes may run different ones", err=True)
    if not cluster.lm_images:
        typer.echo("edgelm: images.lms is empty: nodes will find no image to start", err=True)
    if out is None:
        typer.echo(applied(files), nl=False)
        return
    write_manifests(files, out)
    typer.echo(f"{len(files)} files. Apply them with:\n  kubectl apply -k {out}")
