"""Commands of the testbed: its services, and campaigns on it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller.cli.app import FAILED, app, ended_by_signals, told_to_resume
from controller.cli.campaigns import opened, show_results, write_page
from controller.cli.options import (
    AsJson,
    CampaignName,
    axes_of,
    instead,
    listed,
    number_of,
    reasoners,
)
from controller.domain.errors import InputError
from controller.testbed.keys import (
    CONTROLLER,
    NO_KEYS,
    OPERATOR,
    PLAYER,
    Keys,
    kept_seed,
    make_keys,
    read_keys,
    write_keys,
)

if TYPE_CHECKING:
    from controller.bootstrap.cluster import Address
    from controller.bootstrap.kubernetes import Kubernetes
    from controller.campaigns.experiment import Target
    from controller.domain.testbed import Testbed

TARGETS: Final[tuple[Target, ...]] = ("live", "emulated")
URL: Final = "http://127.0.0.1:8700"
KeysFile = Annotated[
    Path | None,
    typer.Option("--keys", metavar="FILE", help="Keys, as `edgelm keys` makes them."),
]

UsersFile = Annotated[
    Path | None,
    typer.Option(
        "--users",
        metavar="FILE",
        help="Users of the front door, as `edgelm keys --users` makes it.",
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate and its chain, PEM, for HTTPS.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")]
NAMESPACE: Final = "edgelm-lms"
OnKubernetes = Annotated[
    bool, typer.Option("--kubernetes", help="Run the LMs as pods of a Kubernetes cluster.")
]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="Namespace of the LMs' pods.")]
KubeConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="How to reach the cluster.  [default: as a pod of it]"),
]


@app.command()
def live(
    campaign: CampaignName,
    local: Annotated[
        bool, typer.Option("--local", help="Start all services on this machine, emulated engines.")
    ] = False,
    controller: Annotated[
        str | None, typer.Option(metavar="URL", help="Controller of the testbed to use.")
    ] = None,
    keys: KeysFile = None,
    engines: Annotated[
        str,
        typer.Option(metavar="KIND", help="Engines of that testbed: live or emulated."),
    ] = "live",
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
            help="Seconds of the run per real second.  [default: 20 with emulated engines, else 1]",
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            metavar="S", min=0, help="Seconds that a testbed has to become well before the start."
        ),
    ] = 300.0,
    smoke: Annotated[
        bool | None,
        typer.Option(
            "--smoke/--no-smoke",
            help="Let every LM answer a prompt first; takes minutes.  [default: with --controller]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: results/CAMPAIGN-live]")
    ] = None,
    services: Annotated[
        Path | None, typer.Option(help="Folder of the services' data and logs; kept afterwards.")
    ] = None,
    front_port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=65535, help="With --local: front doors, node k's on port N + k."
        ),
    ] = None,
    users: UsersFile = None,
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

    With --local, a controller, a player, a node service per node and the servers of LMs run on this
    machine. Without --weights engines are emulated: they take the times of the profile and compute
    nothing, so this shows that services and twin agree, not how fast a GPU is. With --controller, a
    testbed is used that somebody has brought up, and nobody else uses it meanwhile; before the
    first run it is examined as by edgelm doctor until everything is well, and every LM answers a
    prompt. Give the same command again to resume.

    \b
    Examples:
      edgelm live paper --local --strategy RL --seeds 1 --epochs 1
      edgelm live paper --controller http://vm1:8700 --keys keys/operator.json
      edgelm live smoke --local --time-scale 50 --out results/live
      edgelm live smoke --local --weights weights --strategy RF --seeds 1
      edgelm live smoke --local --time-scale 1 --front-port 8801
    """
    from controller.bootstrap.cluster import live_engine
    from controller.bootstrap.holding import held
    from controller.bootstrap.serve import Front, local_testbed
    from controller.bootstrap.smoke import send_smoke_prompts
    from controller.campaigns.progress import choose_progress
    from controller.campaigns.runner import run_grid

    if local == (controller is not None):
        raise InputError(
            "edgelm live", "needs a testbed", field="--local, --controller",
            remedy="give one of them",
        )  # fmt: skip
    target = _target(engines, weights, local=local)
    who = reasoners(reasoner, None, None, None)
    axes = axes_of(strategy, seeds, epochs, None, None, workload, load, who)
    grid, root = opened(campaign, axes, None, out, target)
    testbeds = {cell.experiment.testbed.name: cell.experiment.testbed for cell in grid.cells}
    if len(testbeds) != 1:
        raise InputError(
            campaign, "needs several testbeds, and services make one", field="testbeds",
            value=", ".join(testbeds), remedy="give a campaign with one testbed",
        )  # fmt: skip
    (testbed,) = testbeds.values()
    try:
        speed = time_scale or (20.0 if target == "emulated" else 1.0)
        names = testbed.to_domain().node_names
        with ended_by_signals(), contextlib.ExitStack() as stack:
            if controller is None:
                front = Front(front_port, users) if front_port is not None else None
                there = stack.enter_context(local_testbed(names, services, speed, weights, front))
                _tell_doors(names, front_port)
            else:
                there = _testbed_at(controller, keys, speed)
                _await_health(there, testbed.to_domain(), patience)
            typer.echo(f"services: {there.url}", err=True)
            mine = stack.enter_context(held(there, f"edgelm live {grid.campaign.name}"))
            if smoke or (smoke is None and controller is not None):
                typer.echo("smoke prompts: waiting for an answer of every LM", err=True)
                send_smoke_prompts(grid.cells[0].experiment, mine)
            tally = run_grid(grid, root, live_engine(mine), 1, choose_progress())
    except KeyboardInterrupt as error:
        raise typer.Exit(told_to_resume(error, "Finished runs are kept.")) from None
    page = write_page(root) if report and tally.done else None
    show_results(root, tally, page, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A campaign's folder.")],
    controller: Annotated[str, typer.Option(metavar="URL", help="The controller.")] = URL,
    keys: KeysFile = None,
    only: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Collect only these runs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the runs that a testbed has finished into their campaign's folder.

    For runs that somebody else has begun and watched, as Airflow does. Nobody needs to have the
    testbed for it.

    \b
    Examples:
      edgelm collect results/night --controller http://vm1:8700 --keys keys/operator.json
    """
    from controller.bootstrap.cluster import live_engine
    from controller.campaigns.kept import picked, read_grid
    from controller.campaigns.progress import choose_progress
    from controller.campaigns.runner import run_grid

    grid = read_grid(folder)
    wanted = [cell.run_id for cell in picked(grid, listed(only), str(folder)).cells]
    engine = live_engine(_testbed_at(controller, keys, 1.0))
    tally = run_grid(grid, folder, engine, 1, choose_progress(), only=wanted)
    show_results(folder, tally, None, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


def _await_health(there: Address, testbed: Testbed, patience_s: float) -> None:
    from controller.bootstrap.condition import examine_services
    from controller.bootstrap.gate import pass_gate

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    pass_gate(lambda: examine_services(there.url, there.keys(), testbed), patience_s, tell)


def _tell_doors(nodes: tuple[str, ...], front_port: int | None) -> None:
    if front_port is not None:
        for k, node in enumerate(nodes):
            typer.echo(f"front door of {node}: http://127.0.0.1:{front_port + k}/v1", err=True)


def _testbed_at(controller: str, keys: Path | None, speed: float) -> Address:
    from controller.bootstrap.cluster import Address

    own = keys_of(keys, OPERATOR)
    return Address(controller.rstrip("/"), str(keys) if own.tokens else "", speed)


def _target(engines: str, weights: Path | None, *, local: bool) -> Target:
    """Return what the runs of a command are on."""
    if local:
        return "live" if weights else "emulated"
    if weights is not None:
        raise InputError(
            "edgelm live", "is for --local", field="--weights", value=str(weights),
            remedy="a testbed's nodes have their own",
        )  # fmt: skip
    for target in TARGETS:
        if engines == target:
            return target
    raise InputError(
        "edgelm live", "is no kind of engines", field="--engines", value=engines,
        remedy=f"choose {' or '.join(TARGETS)}",
    )  # fmt: skip


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
    kubernetes: OnKubernetes = False,
    namespace: Namespace = NAMESPACE,
    kubeconfig: KubeConfig = None,
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
    cluster = _cluster(kubernetes, namespace, kubeconfig)
    serve_controller(site, mongodb, exporters=exporters, kubernetes=cluster)


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
    kubernetes: OnKubernetes = False,
    namespace: Namespace = NAMESPACE,
    kubeconfig: KubeConfig = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Images of LM servers by digest: build/images.txt."),
    ] = None,
    runtime_class: Annotated[
        str, typer.Option(metavar="NAME", help="RuntimeClass of pods on GPUs, such as nvidia.")
    ] = "",
    resize: Annotated[
        bool, typer.Option("--resize", help="Change the cores of running pods in place.")
    ] = False,
    front_port: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=65535, help="Port of its front door.  [default: no front door]"
        ),
    ] = None,
    front_host: Annotated[
        str, typer.Option(help="Address of the front door; others than loopback need --users.")
    ] = "127.0.0.1",
    users: UsersFile = None,
    keys: KeysFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Serve a node: its queues, its LM servers and its deployer; with --front-port its users, too.

    \b
    Examples:
      edgelm node vm2 --controller http://vm1:8700 --keys /etc/edgelm/keys.json
      edgelm node vm2 --kubernetes --kubeconfig admin.conf --images build/images.txt
      edgelm node vm2 --front-port 8801 --front-host 0.0.0.0 --users users.json
    """
    from controller.bootstrap.serve import Front, Site, serve_node
    from controller.testbed.serving import read_tls

    if front_port is None and users is not None:
        raise InputError(
            "edgelm node", "is for a front door", field="--users", value=str(users),
            remedy="give --front-port, too",
        )  # fmt: skip
    front = Front(front_port, users, front_host) if front_port is not None else None

    site = Site(host, port, data, keys_of(keys, name), read_tls(tls_cert, tls_key))
    pods = {"images": images, "runtime_class": runtime_class, "resizes": resize}
    cluster = _cluster(kubernetes, namespace, kubeconfig, **pods)
    serve_node(name, site, url, controller, weights, otlp, cluster, front)


def _cluster(
    wanted: bool, namespace: str, kubeconfig: Path | None, **pods: Any
) -> Kubernetes | None:
    """Return the cluster that the options name, None without --kubernetes.

    Raises:
        InputError: options of a cluster without one.
    """
    from controller.bootstrap.kubernetes import Kubernetes

    if wanted:
        return Kubernetes(namespace, kubeconfig, **pods)
    given = {"--kubeconfig": kubeconfig, "--images": pods.get("images")}
    given |= {"--runtime-class": pods.get("runtime_class"), "--resize": pods.get("resizes")}
    for field, value in given.items():
        if value:
            raise InputError(
                "command line", "is for pods on a cluster", field=field, value=value,
                remedy="add --kubernetes, or leave it out",
            )  # fmt: skip
    return None


@app.command()
def player(
    controller: Annotated[str, typer.Option(metavar="URL", help="The controller.")] = URL,
    data: Annotated[Path, typer.Option(help="Folder of its state.")] = Path("player-data"),
    keys: KeysFile = None,
) -> None:
    """Play the workloads of the controller's runs: hand each request to its node when it is born.

    \b
    Examples:
      edgelm player --controller http://vm1:8700 --keys /etc/edgelm/keys.json
    """
    from controller.bootstrap.serve import play

    play(controller, data, keys_of(keys, PLAYER))


@app.command()
def keys(
    nodes: Annotated[
        list[str] | None, typer.Argument(metavar="NODE...", help="Names of all nodes.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("keys"),
    users: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Users of the front doors, added to users.json."),
    ] = None,
) -> None:
    """Make the keys of a testbed: files for controller, player, each node and the operator.

    Every pair of services has a token of its own. With a node more, the others' tokens stay.
    Keys of users are shown once and kept nowhere; users.json has their digests.

    \b
    Examples:
      edgelm keys vm2 vm3 vm4 --to keys
      edgelm keys --users alice,bob --to keys
    """
    if users is not None:
        _make_users(to / "users.json", listed(users) or ())
    if not nodes:
        if users is None:
            raise InputError("edgelm keys", "makes no keys", field="NODE, --users",
                             remedy="give all nodes, or users")  # fmt: skip
        return
    seed = to / "seed"
    for name, made in make_keys(nodes, kept_seed(seed)).items():
        write_keys(to / f"{name}.json", made)
        typer.echo(f"{to / name}.json")
    typer.echo(f"Copy each to its machine; keep {seed}, of which all are made, here.", err=True)


def _make_users(path: Path, names: Sequence[str]) -> None:
    from controller.testbed.front.users import add_users

    for name, key in add_users(path, names).items():
        typer.echo(f"{name}  {key}")
    typer.echo(f"{path}: has the digests; these keys are not shown again.", err=True)


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
