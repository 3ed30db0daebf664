"""Commands on campaigns and their runs: run, report, replay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.app import FAILED, app, ended_by_signals, told_to_resume
from controller.cli.options import (
    OPTIONS,
    AsJson,
    CampaignName,
    Effort,
    Epochs,
    Loads,
    Mode,
    Model,
    Prices,
    Profiles,
    Reasoners,
    Seeds,
    Strategies,
    Temperature,
    Testbeds,
    Workloads,
    axes_of,
    cores,
    listed,
    number_of,
    reasoners,
)
from controller.domain.errors import InputError, Permanent

if TYPE_CHECKING:
    from controller.bootstrap.agents import Access
    from controller.campaigns.claims import Claims
    from controller.campaigns.experiment import Target
    from controller.campaigns.grid import Grid
    from controller.campaigns.runner import Tally


@app.command()
def run(
    campaign: CampaignName,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results.  [default: results/CAMPAIGN]")
    ] = None,
    jobs: Annotated[int | None, number_of("Runs at once.  [default: one per core]")] = None,
    strategy: Strategies = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    testbed: Testbeds = None,
    profile: Profiles = None,
    workload: Workloads = None,
    load: Loads = None,
    reasoner: Reasoners = None,
    model: Model = None,
    temperature: Temperature = None,
    reasoning_effort: Effort = None,
    mode: Mode = None,
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
    prices: Prices = None,
    only: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Make only these runs of the grid.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Replace finished runs whose strategy's code has changed since."
        ),
    ] = False,
    claims: Annotated[
        str,
        typer.Option(
            envvar="EDGELM_CLAIMS",
            show_envvar=True,
            metavar="URL",
            help="MongoDB that decides who makes a run, among machines that share the folder; put "
            "a URL with a password into the variable. Without it: locks of files.",
        ),
    ] = "",
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report", help="Write the report at the end.  [default: unless --only]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a campaign, or resume it.

    Finished runs are kept: after a crash, Ctrl-C or a full disk, repeat the same command. After
    an edit of a strategy, give --again. A folder goes on with the grid that it was begun with.

    \b
    Examples:
      edgelm run paper
      edgelm run paper --strategy RF,SOLVER --seeds 3 --epochs 5 --out results/quick
      edgelm run load-sweep --load 0.5,1,1.5 --jobs 4
      edgelm run results/paper --only 0123456789ab,ba9876543210
      edgelm run my/campaign.yaml --json
      edgelm run paper --strategy MA --seeds 1 --epochs 2 --reasoner openai
      edgelm run paper --strategy MA --reasoner http://localhost:8000/v1 --model qwen3
    """
    from controller.bootstrap.agents import Access, check_reasoners
    from controller.bootstrap.claims import claims_of
    from controller.campaigns.approvals import needs_person
    from controller.campaigns.kept import picked
    from controller.campaigns.progress import has_person

    who = reasoners(reasoner, model, temperature, reasoning_effort)
    axes = axes_of(strategy, seeds, epochs, testbed, profile, workload, load, who)
    grid, root = opened(campaign, axes, mode, out, "twin")
    chosen = picked(grid, listed(only), campaign)
    if needs_person(chosen) and not has_person():
        raise InputError(
            campaign, "needs a person at a terminal", field="mode", value="approve",
            remedy="run it in a terminal, or give api.simulate an approver",
        )  # fmt: skip
    at_once = min(jobs or cores(), len(chosen.cells))
    work = _Work(at_once, claims_of(claims), again, listed(only))
    access = Access(
        requests_per_minute and requests_per_minute / at_once,
        tokens_per_minute and tokens_per_minute / at_once,
        str(prices) if prices else None,
    )
    for name, notes in check_reasoners(chosen, access, partial(typer.echo, err=True)):
        for note in notes:
            typer.echo(f"{name}: {note}", err=True)
    tally = _run_grid(grid, root, access, work)
    page = None
    if (report if report is not None else only is None) and tally.done:
        typer.echo("writing the report", err=True)
        page = write_page(root)
    show_results(root, tally, page, as_json=as_json)
    if not tally.complete:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class _Work:
    """The command's choices on how a grid is run."""

    jobs: int
    claims: Claims
    again: bool
    only: tuple[str, ...] | None


def opened(
    campaign: str,
    axes: dict[str, Any],
    mode: str | None,
    out: Path | None,
    target: Target | None = None,
) -> tuple[Grid, Path]:
    """Return the grid of a campaign by name, file or folder, and the folder of its results.

    ``target``: what its runs are to be on; None leaves that open.

    Raises:
        InputError: a folder has its grid already, and something is to change it, or its runs are
            on another target.
    """
    from controller.campaigns.grid import resolve, retargeted
    from controller.campaigns.kept import read_grid
    from controller.inputs.catalog import names

    if not Path(campaign).is_dir() or campaign in names("campaigns"):
        grid = resolve(campaign, axes, mode, OPTIONS)
        name = grid.campaign.name
        if target is None or target == "twin":
            return grid, out or Path("results") / name
        return retargeted(grid, target), out or Path("results") / f"{name}-live"
    changes = {OPTIONS[axis]: value for axis, value in axes.items()}
    for option, value in {**changes, "--mode": mode, "--out": out}.items():
        if value is not None:
            raise InputError(
                campaign, "is a campaign's folder, whose grid is resolved already", field=option,
                value=str(value),
                remedy=f"leave {option} out, or give the campaign by name or file",
            )  # fmt: skip
    grid = read_grid(Path(campaign))
    planned = {cell.experiment.target for cell in grid.cells}
    if target is not None and planned != {target}:
        raise InputError(
            campaign, f"is planned for another target than {target}", field="target",
            value=", ".join(sorted(planned)),
            remedy="`edgelm run` is for the twin, `edgelm live` for emulated or live engines; or "
            "plan it anew, into another folder",
        )  # fmt: skip
    return grid, Path(campaign)


def _run_grid(grid: Grid, root: Path, access: Access, work: _Work) -> Tally:
    from controller.bootstrap.twin import twin_engine
    from controller.campaigns.progress import choose_progress
    from controller.campaigns.runner import run_grid

    engine, progress = twin_engine(access), choose_progress()
    try:
        with ended_by_signals():
            return run_grid(
                grid, root, engine, work.jobs, progress,
                again=work.again, claims=work.claims, only=work.only,
            )  # fmt: skip
    except KeyboardInterrupt as error:
        raise typer.Exit(told_to_resume(error, _kept(grid))) from None


def _kept(grid: Grid) -> str:
    """Return what an interrupt leaves, in words."""
    reasoners = {cell.experiment.reasoner for cell in grid.cells} - {None}
    if not reasoners:
        return "Finished runs are kept."
    paid = any(one is not None and not one.embedded for one in reasoners)
    again = "; those in flight are asked, and paid, again" if paid else ""
    return f"Finished runs are kept, and the answered agents' calls of the others{again}."


def write_page(root: Path) -> Path:
    """Write a campaign's report.

    Raises:
        Permanent: it cannot be written.
    """
    from controller.report import write_report

    try:
        return write_report(root)
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        cure = "remove the file that is in the way" if in_the_way else (
            "free disk space or restore the permission"
        )  # fmt: skip
        raise Permanent(
            f"{root}/report: cannot be written: {error.strerror or error}; the runs are kept: "
            f"{cure}, then run `edgelm report {root}`"
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
            "made": tally.made,
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
