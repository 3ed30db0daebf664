"""Commands on campaigns and their runs: run, report, replay."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.app import FAILED, INTERRUPTED, app
from controller.cli.options import AsJson, cores, instead, listed, number_of, numbers, reasoners
from controller.domain.errors import InputError, Permanent

if TYPE_CHECKING:
    from controller.bootstrap.agents import Access
    from controller.campaigns.grid import Grid
    from controller.campaigns.runner import Tally

# Axis of a campaign -> the option that replaces it.
OPTIONS: Final = {
    "strategies": "--strategy",
    "seeds": "--seeds",
    "epochs": "--epochs",
    "testbeds": "--testbed",
    "profiles": "--profile",
    "workloads": "--workload",
    "loads": "--load",
    "reasoners": "--reasoner",
}


@app.command()
def run(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Shipped name (edgelm list) or file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: results/CAMPAIGN]")
    ] = None,
    jobs: Annotated[int | None, number_of("Runs at once.  [default: one per core]")] = None,
    strategy: Annotated[str | None, instead("Strategies ('all': every one)")] = None,
    seeds: Annotated[int | None, number_of("Number of seeds; N runs seeds 0 to N-1.")] = None,
    epochs: Annotated[int | None, number_of("Epochs of a run.")] = None,
    testbed: Annotated[str | None, instead("Testbeds, names or files,")] = None,
    profile: Annotated[str | None, instead("Profiles, names or files,")] = None,
    workload: Annotated[str | None, instead("Workloads, names or files,")] = None,
    load: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Load factors: 0.5 is half of the workload's own load."),
    ] = None,
    reasoner: Annotated[
        str | None,
        typer.Option(
            metavar="WHO,...",
            help="Reasoners behind the agents: reference (an optimiser), openai, a server's URL, "
            "or faulty:KIND=RATE.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The reasoner's model, or planner=A,scheduler=B,deployer=C."
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Sampling temperature.")] = None,
    reasoning_effort: Annotated[
        str | None,
        typer.Option(metavar="EFFORT", help="Reasoning effort: minimal, low, medium or high."),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Mode of the agents: off and advise apply the incumbent's decisions, approve asks "
            "you about each policy, apply applies the agents'."
        ),
    ] = None,
    requests_per_minute: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=0.1, help="Requests a minute to a remote reasoner, all runs together."
        ),
    ] = None,
    tokens_per_minute: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=0.1, help="Tokens a minute to a remote reasoner, all runs together."
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prices of models, added to the shipped list."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Replace finished runs whose strategy's code has changed since."
        ),
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run a campaign, or resume it.

    Finished runs are kept: after a crash, Ctrl-C or a full disk, repeat the same command. After
    an edit of a strategy, give --again.

    \b
    Examples:
      edgelm run paper
      edgelm run paper --strategy RF,SOLVER --seeds 3 --epochs 5 --out results/quick
      edgelm run load-sweep --load 0.5,1,1.5 --jobs 4
      edgelm run my/campaign.yaml --json
      edgelm run paper --strategy MA --seeds 1 --epochs 2 --reasoner openai
      edgelm run paper --strategy MA --reasoner http://localhost:8000/v1 --model qwen3
    """
    from controller.bootstrap.agents import Access, check_reasoners
    from controller.campaigns.approvals import needs_person
    from controller.campaigns.grid import resolve
    from controller.campaigns.progress import has_person

    axes = {
        "strategies": listed(strategy),
        "seeds": seeds,
        "epochs": epochs,
        "testbeds": listed(testbed),
        "profiles": listed(profile),
        "workloads": listed(workload),
        "loads": numbers("--load", load),
        "reasoners": reasoners(reasoner, model, temperature, reasoning_effort),
    }
    grid = resolve(campaign, axes, mode, OPTIONS)
    if needs_person(grid) and not has_person():
        raise InputError(
            campaign, "needs a person at a terminal", field="mode", value="approve",
            remedy="run it in a terminal, or give api.simulate an approver",
        )  # fmt: skip
    root = out or Path("results") / grid.campaign.name
    at_once = min(jobs or cores(), len(grid.cells))
    access = Access(
        requests_per_minute and requests_per_minute / at_once,
        tokens_per_minute and tokens_per_minute / at_once,
        str(prices) if prices else None,
    )
    for who, notes in check_reasoners(grid, access).items():
        for note in notes:
            typer.echo(f"{who}: {note}", err=True)
    tally = _run_grid(grid, root, at_once, access, again=again)
    page = None
    if report and tally.done:
        typer.echo("writing the report", err=True)
        page = write_page(root)
    show_results(root, tally, page, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


def _run_grid(grid: Grid, root: Path, jobs: int, access: Access, *, again: bool) -> Tally:
    from controller.bootstrap.twin import twin_engine
    from controller.campaigns.progress import choose_progress
    from controller.campaigns.runner import run_grid

    try:
        return run_grid(grid, root, twin_engine(access), jobs, choose_progress(), again=again)
    except KeyboardInterrupt:
        command = shlex.join(["edgelm", *sys.argv[1:]])
        kept = "Finished runs are kept, and the recorded agents' calls of the others. Resume with:"
        typer.echo(f"\nInterrupted. {kept}\n  {command}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def write_page(root: Path) -> Path:
    """Write a campaign's report.

    Raises:
        Permanent: it cannot be written.
    """
    from controller.report import write_report

    try:
        return write_report(root)
    except OSError as error:
        raise Permanent(
            f"{root}/report: cannot be written: {error.strerror or error}; the runs are kept: free "
            f"disk space or restore the permission, then run `edgelm report {root}`"
        ) from error


def show_results(root: Path, tally: Tally, page: Path | None, *, as_json: bool) -> None:
    """Print what a campaign has come to."""
    from controller.report.standings import print_table, standings

    found = standings(root)
    if as_json:
        for warning in _never_started(root):
            typer.echo(warning, err=True)
        document = {
            "folder": str(root),
            "report": str(page) if page else None,
            "runs": tally.total,
            "done": tally.done,
            "failed": dict(tally.errors),
            "strategies": [standing.document() for standing in found],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    if found:
        print_table(found)
    for warning in _never_started(root):
        typer.echo(warning, err=True)
    for run_id, error in tally.errors.items():
        typer.echo(f"failed {run_id}: {error} (more in {root}/failures/{run_id}.txt)", err=True)
    are = "run is" if tally.total == 1 else "runs are"
    typer.echo(f"{tally.done} of {tally.total} {are} done, {tally.made} of them now, in {root}")
    if page:
        typer.echo(f"report: {page}")


def _never_started(root: Path) -> list[str]:
    """Return a warning for each finished run whose agents never had a pod started: the
    decisions were valid, and no request was served."""
    from controller.results.campaign import read_campaign

    return [
        f"{run.strategy}, seed {run.seed}: no pod ever started, though "
        f"{run.figures.reasoner.label} decided; read runs/{run.id}/transcript.jsonl "
        "before using this run"
        for run in read_campaign(root).runs
        if run.figures and run.figures.reasoner and run.figures.pod_starts == 0
    ]


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A campaign's folder.")],
    as_json: AsJson = False,
) -> None:
    """Write a campaign's report: an HTML page, figures and tables.

    The campaign may be unfinished, or from an older version of edgelm.

    \b
    Examples:
      edgelm report results/paper
    """
    from controller.results.campaign import read_campaign

    for note in read_campaign(folder).notes:
        typer.echo(f"{folder}: {note}", err=True)
    page = write_page(folder)
    typer.echo(json.dumps({"report": str(page)}) if as_json else f"report: {page}")


@app.command()
def replay(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run with agents, CAMPAIGN/runs/ID.")
    ],
    as_json: AsJson = False,
) -> None:
    """Repeat a run from its transcript, without any model, and compare its files byte for byte.

    \b
    Examples:
      edgelm replay results/paper/runs/0123456789ab
    """
    from controller.bootstrap.twin import replay as again
    from controller.results.campaign import read_run
    from controller.results.comparison import compare

    found = compare(read_run(run), again(run))
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for name, same in found.items():
            typer.echo(f"{name}: {'same' if same else 'DIFFERENT'}")
    if not all(found.values()):
        raise typer.Exit(FAILED)
