"""Commands around a campaign's runs: plan them, check what is there, compare two campaigns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from controller.cli.app import FAILED, app
from controller.cli.campaigns import opened
from controller.cli.options import (
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
    number_of,
    reasoners,
)
from controller.domain.errors import InputError
from controller.domain.words import counted

MOST_ROWS: Final = 64

if TYPE_CHECKING:
    from controller.campaigns.grid import Grid
    from controller.campaigns.plan import Plan
    from controller.results.regression import Compared


@app.command()
def plan(
    campaign: CampaignName,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results.  [default: results/CAMPAIGN, or -live]"),
    ] = None,
    target: Annotated[
        Literal["twin", "emulated", "live"] | None,
        typer.Option(help="Simulation, emulated engines or real ones.  [default: twin]"),
    ] = None,
    time_scale: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.1,
            max=1000,
            help="Seconds of the run per real second on a testbed.  [default: 1]",
        ),
    ] = None,
    rows: Annotated[
        int | None, number_of("Most rows to divide the runs into.  [default: 64]")
    ] = None,
    hours_at_most: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Refuse what takes one worker longer."),
    ] = None,
    usd_at_most: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Refuse what costs more.")
    ] = None,
    strategy: Strategies = None,
    seeds: Seeds = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="These seeds, instead of a number of them."),
    ] = None,
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
    prices: Prices = None,
    as_json: AsJson = False,
) -> None:
    """Write a campaign's folder without running it: estimate its time and cost, divide its runs.

    Minutes are of one worker; they come from finished runs of the same strategies in this folder
    and those beside it, or from a short run of each. Whatever is over a limit, or of unknown cost
    under one, is refused before anything is written.

    \b
    Examples:
      edgelm plan paper --seeds 3
      edgelm plan paper --out results/tonight --rows 8 --hours-at-most 2 --json
      edgelm plan smoke --target emulated --time-scale 20
      edgelm run results/tonight --only 0123456789ab
    """
    from controller.bootstrap.twin import probe
    from controller.campaigns.estimate import Estimates
    from controller.campaigns.plan import check_budget, make_plan
    from controller.campaigns.states import joined
    from controller.inputs.prices import load_prices

    who = reasoners(reasoner, model, temperature, reasoning_effort)
    axes = axes_of(strategy, seeds, epochs, testbed, profile, workload, load, who)
    if seed is not None:
        axes["seeds"] = _whole_numbers("--seed", seed)
    grid, root = opened(campaign, axes, mode, out)
    if target:
        grid, root = _aimed(grid, root, target, campaign, out)
    _check_time_scale(grid, time_scale)
    estimates = Estimates(root, probe(grid), load_prices(prices), time_scale or 1.0)
    made = make_plan(root, grid, rows or MOST_ROWS, estimates)
    check_budget(made, hours_at_most, usd_at_most)
    with joined(root, grid):
        pass  # campaign.json, experiments and traces are written
    if as_json:
        typer.echo(json.dumps(made.document(), indent=1, ensure_ascii=False))
    else:
        _print_plan(made)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A campaign's folder.")],
    as_json: AsJson = False,
) -> None:
    """Check that every run of a campaign is there and whole, by the runs' own files and digests.

    Exits with 0 if so, with 1 and a line for each run that is missing, damaged or failed if not.

    \b
    Examples:
      edgelm check results/paper
      edgelm check results/paper --json
    """
    from controller.report.standings import standings
    from controller.results.campaign import read_campaign

    campaign = read_campaign(folder)
    lacking = [run for run in campaign.runs if run.figures is None]
    figures = [run.figures for run in campaign.finished if run.figures]
    if as_json:
        reasoners = dict.fromkeys(one.reasoner.label for one in figures if one.reasoner)
        document = {
            "folder": str(folder),
            "campaign": campaign.name,
            "runs": len(campaign.runs),
            "done": len(campaign.finished),
            "lacking": [{"id": run.id, "problem": run.problem} for run in lacking],
            "strategies": [one.document() for one in standings(folder)],
            "reasoners": list(reasoners),
            "targets": sorted({one.target for one in figures}),
        }
        typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        for run in lacking:
            typer.echo(f"{run.id}: {run.strategy}, seed {run.seed}: {run.problem}")
        typer.echo(f"{len(campaign.finished)} of {len(campaign.runs)} runs are whole, in {folder}")
    if lacking:
        raise typer.Exit(FAILED)


@app.command()
def compare(
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A campaign's folder.")],
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The folder to compare it with.")],
    tolerance: Annotated[
        float, typer.Option(metavar="X", min=0, help="Change for the worse that is no regression.")
    ] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Compare two campaigns, strategy by strategy and seed by seed.

    A regression is an objective that is higher, or a success rate that is lower, by more than the
    tolerance, with a 95 % interval of the difference that excludes zero. The exit code is 0 with
    and without one.

    \b
    Examples:
      edgelm compare results/tonight results/yesterday
      edgelm compare results/new results/old --tolerance 0.005 --json
    """
    from controller.results.regression import compare_campaigns

    found = compare_campaigns(new, old, tolerance)
    worse = any(one.regression for one in found)
    if as_json:
        document = {
            "new": str(new),
            "old": str(old),
            "tolerance": tolerance,
            "regression": worse,
            "strategies": [one.document() for one in found],
        }
        typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    _print_comparison(found)
    typer.echo("regression" if worse else "no regression")


def _print_comparison(found: Sequence[Compared]) -> None:
    varying = {
        axis for axis in found[0].setting
        if len({str(one.setting.get(axis)) for one in found}) > 1
    }  # fmt: skip
    for one in found:
        where = "".join(f", {axis} {one.setting[axis]}" for axis in sorted(varying))
        seeds = counted(len(one.seeds), "seed")
        typer.echo(f"{one.strategy}{where}, {seeds}")
        for name, change in one.changes.items():
            by = change.difference
            limits = f" ({by.low:+.4f} to {by.high:+.4f})" if isfinite(by.low) else ""
            mark = "  REGRESSION" if change.regression else ""
            line = f"{name}: {change.old:.4f} -> {change.new:.4f}, {by.mean:+.4f}{limits}{mark}"
            typer.echo(f"  {line}")


def _aimed(
    grid: Grid, root: Path, target: Literal["twin", "emulated", "live"], campaign: str,
    out: Path | None,
) -> tuple[Grid, Path]:  # fmt: skip
    """Return the grid on a target, and its folder: runs on a testbed have one of their own."""
    from controller.campaigns.grid import retargeted

    if root == Path(campaign):
        raise InputError(
            campaign, "is a campaign's folder, whose target is decided", field="--target",
            value=target, remedy="leave --target out, or give the campaign by name or file",
        )  # fmt: skip
    if target != "twin" and out is None:
        root = root.with_name(f"{root.name}-live")
    return retargeted(grid, target), root


def _check_time_scale(grid: Grid, time_scale: float | None) -> None:
    if time_scale and any(cell.experiment.target == "twin" for cell in grid.cells):
        raise InputError(
            "edgelm plan", "the twin has no time scale", field="--time-scale", value=time_scale,
            remedy="leave it out, or give --target emulated or live",
        )  # fmt: skip


def _print_plan(made: Plan) -> None:
    from controller.campaigns.progress import rounded

    runs = "1 run" if made.runs == 1 else f"{made.runs} runs"
    typer.echo(f"{made.campaign} on {made.target}: {runs}, {made.pending} to make")
    for row in made.rows:
        count = counted(len(row.runs), "run")
        typer.echo(f"  {row.label}: {count}")
    took = "unknown" if made.minutes is None else f"about {rounded(made.minutes * 60)}"
    cost = "unknown" if made.usd is None else f"{made.usd:.2f} USD"
    typer.echo(f"time of one worker: {took}; cost: {cost}")
    typer.echo(f"planned in {made.folder}")


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            option, "is no list of whole numbers", value=text, remedy="write it like 7 or 7,8"
        ) from error
