"""Commands of the testbed: its services, and campaigns on it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from controller.cli.app import FAILED, INTERRUPTED, app
from controller.cli.campaigns import OPTIONS, show_results, write_page
from controller.cli.options import AsJson, instead, listed, number_of, numbers, reasoners
from controller.domain.errors import InputError
from controller.testbed.keys import (
    CONTROLLER,
    NO_KEYS,
    Keys,
    kept_seed,
    make_keys,
    read_keys,
    write_keys,
)

URL: Final = "http://127.0.0.1:8700"
KeysFile = Annotated[
    Path | None,
    typer.Option("--keys", metavar="FILE", help="Keys, as `edgelm keys` makes them."),
]

TlsCert = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate and its chain, PEM, for HTTPS.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")]


@app.command()
def live(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Shipped name (edgelm list) or file.")
    ],
    local: Annotated[
        bool, typer.Option("--local", help="Start all services on this machine, emulated engines.")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real engines: a folder of weights per LM, by its name."),
    ] = None,
    time_scale: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.1,
            max=1000,
            help="Seconds of the run per real second.  [default: 20; 1 with --weights]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: results/CAMPAIGN-live]")
    ] = None,
    services: Annotated[
        Path | None, typer.Option(help="Folder of the services' data and logs; kept afterwards.")
    ] = None,
    strategy: Annotated[str | None, instead("Strategies ('all': every one)")] = None,
    seeds: Annotated[int | None, number_of("Number of seeds; N runs seeds 0 to N-1.")] = None,
    epochs: Annotated[int | None, number_of("Epochs of a run.")] = None,
    workload: Annotated[str | None, instead("Workloads, names or files,")] = None,
    load: Annotated[
        str | None, typer.Option(metavar="X,...", help="Load factors: 0.5 is half of the load.")
    ] = None,
    reasoner: Annotated[
        str | None, typer.Option(metavar="WHO,...", help="Reasoners, as for edgelm run.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run a campaign on services that pass real requests to each other, in real time.

    With --local, a controller, a node service per node and the servers of LMs run on this machine.
    Without --weights engines are emulated: they take the times of the profile and compute nothing,
    so this shows that services and twin agree, not how fast a GPU is. Give the same command again
    to resume.

    \b
    Examples:
      edgelm live paper --local --strategy RL --seeds 1 --epochs 1
      edgelm live smoke --local --time-scale 50 --out results/live
      edgelm live smoke --local --weights weights --strategy RF --seeds 1
    """
    from controller.bootstrap.cluster import live_engine
    from controller.bootstrap.serve import local_testbed
    from controller.campaigns.experiment import Target
    from controller.campaigns.grid import resolve, retargeted
    from controller.campaigns.progress import choose_progress
    from controller.campaigns.runner import run_grid

    if not local:
        raise InputError(
            "edgelm live", "knows no testbed yet but this machine", field="--local",
            remedy="give --local",
        )  # fmt: skip
    axes = {
        "strategies": listed(strategy),
        "seeds": seeds,
        "epochs": epochs,
        "workloads": listed(workload),
        "loads": numbers("--load", load),
        "reasoners": reasoners(reasoner, None, None, None),
    }
    target: Target = "live" if weights else "emulated"
    grid = retargeted(resolve(campaign, axes, None, OPTIONS), target)
    testbeds = {cell.experiment.testbed.name: cell.experiment.testbed for cell in grid.cells}
    if len(testbeds) != 1:
        raise InputError(
            campaign, "needs several testbeds, and services make one", field="testbeds",
            value=", ".join(testbeds), remedy="give a campaign with one testbed",
        )  # fmt: skip
    (testbed,) = testbeds.values()
    root = out or Path("results") / f"{grid.campaign.name}-live"
    try:
        speed = time_scale or (1.0 if weights else 20.0)
        names = testbed.to_domain().node_names
        with local_testbed(names, services, speed, weights) as here:
            typer.echo(f"services: {here.url}", err=True)
            tally = run_grid(grid, root, live_engine(here), 1, choose_progress())
    except KeyboardInterrupt:
        command = shlex.join(["edgelm", *sys.argv[1:]])
        typer.echo(f"\nInterrupted; finished runs are kept. Resume with:\n  {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    page = write_page(root) if report and tally.done else None
    show_results(root, tally, page, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


@app.command()
def controller(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8700,
    data: Annotated[Path, typer.Option(help="Folder of its state.")] = Path("controller-data"),
    exporters: Annotated[
        bool, typer.Option("--exporters", help="Read node and DCGM exporters of the nodes.")
    ] = False,
    mongodb: Annotated[
        str,
        typer.Option(
            envvar="EDGELM_MONGODB",
            show_envvar=True,
            metavar="URL",
            help="MongoDB that keeps the state; put a URL with a password into the variable. "
            "Without it: SQLite in --data.",
        ),
    ] = "",
    keys: KeysFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Serve a testbed's controller: planner, scheduler and the HTTP API (docs/testbed.md).

    \b
    Examples:
      edgelm controller --data /var/lib/edgelm --keys /etc/edgelm/keys.json
      EDGELM_MONGODB=mongodb://vm1:27017 edgelm controller --exporters
    """
    from controller.bootstrap.serve import Site, serve_controller
    from controller.testbed.serving import read_tls

    site = Site(host, port, data, keys_of(keys, CONTROLLER), read_tls(tls_cert, tls_key))
    serve_controller(site, mongodb, exporters=exporters)


@app.command()
def node(
    name: Annotated[str, typer.Argument(metavar="NODE", help="Its name in the testbed file.")],
    controller: Annotated[str, typer.Option(metavar="URL", help="The controller.")] = URL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8701,
    url: Annotated[str, typer.Option(help="Where others reach it.  [default: host:port]")] = "",
    data: Annotated[Path, typer.Option(help="Folder of its state.")] = Path("node-data"),
    weights: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real engines: a folder of weights per LM, by its name."),
    ] = None,
    otlp: Annotated[
        str,
        typer.Option(metavar="URL", help="OpenTelemetry collector for traces of requests."),
    ] = "",
    keys: KeysFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Serve a node: its queues, its LM servers and its deployer.

    \b
    Examples:
      edgelm node vm2 --controller http://vm1:8700 --keys /etc/edgelm/keys.json
    """
    from controller.bootstrap.serve import Site, serve_node
    from controller.testbed.serving import read_tls

    site = Site(host, port, data, keys_of(keys, name), read_tls(tls_cert, tls_key))
    serve_node(name, site, url, controller, weights, otlp)


@app.command()
def keys(
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...", help="Names of all nodes.")],
    to: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("keys"),
) -> None:
    """Make the keys of a testbed: a file for the controller, each node and the operator.

    Every pair of services has a token of its own. With a node more, the others' tokens stay.

    \b
    Examples:
      edgelm keys vm2 vm3 vm4 --to keys
    """
    seed = to / "seed"
    for name, made in make_keys(nodes, kept_seed(seed)).items():
        write_keys(to / f"{name}.json", made)
        typer.echo(f"{to / name}.json")
    typer.echo(f"Copy each to its machine; keep {seed}, of which all are made, here.", err=True)


def keys_of(path: Path | None, name: str) -> Keys:
    """Return the keys in a file, none without one.

    Raises:
        InputError: it cannot be read, is no file of keys, or is another's.
    """
    if path is None:
        return NO_KEYS
    found = read_keys(path)
    if found.name != name:
        raise InputError("--keys", f"holds the keys of {found.name}", value=str(path),
                         remedy=f"give the file of {name}")  # fmt: skip
    return found
