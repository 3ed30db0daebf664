"""Section "After a change": the objective around changes, and how soon it is back."""

from __future__ import annotations

import numpy as np

from controller.report import style
from controller.report.analysis.data import Data
from controller.report.analysis.recovery import (
    LEVEL_EPOCHS,
    MARGIN,
    Change,
    Recovery,
    find_changes,
    recoveries,
)
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, new_figure
from controller.report.structure import Section
from controller.report.table import EMPTY, STRATEGY, Cell, Column, Row, Table, make_frame
from controller.report.text import percent
from controller.results.run import Setting


def adaptation(data: Data) -> Table | None:
    """Tabulate epochs until the objective is back: a row per strategy, a column per change."""
    return tabulate_recoveries(recoveries(data, *find_changes(data)))


def tabulate_recoveries(found: list[Recovery]) -> Table | None:
    """Tabulate recoveries; None without any."""
    if not found:
        return None
    cells = {(one.change, one.strategy): _cell(one) for one in found}

    def column(change: Change) -> Column:
        def cell(row: Row, key: str) -> Cell:
            return cells[change, row[key]]

        return Column("strategy", f"{change.words} (epoch {change.epoch + 1})", cell)

    frame = make_frame(
        ("strategy", "change", "epoch", "runs", "back", "left_again", "epochs_mean", "low", "high"),
        (
            (one.strategy, one.change.words, one.change.epoch + 1, one.runs, len(one.epochs),
             one.left, one.interval.mean, one.interval.low, one.interval.high)
            for one in found
        ),
    )  # fmt: skip
    return Table(
        name="adaptation",
        caption=f"Epochs until the objective is back within {percent(MARGIN)} of its level before "
        f"a change: the mean of the up to {LEVEL_EPOCHS} epochs before, of the same strategy and "
        "seed. 0: the epoch of the change was no worse. Left again: "
        "the mean from then until the next change is above. Mean over the seeds that were back "
        "before the next change, ± half the width of the 95 % interval.",
        frame=frame,
        shown=frame.select("strategy").unique(maintain_order=True),
        columns=(STRATEGY, *map(column, dict.fromkeys(one.change for one in found))),
    )


def _cell(one: Recovery) -> Cell:
    if not one.runs:
        return EMPTY
    if not one.epochs:
        return Cell("not within the phase", 1e9)
    interval = one.interval
    margin = interval.high - interval.mean if interval.n > 1 else 0.0
    missed = one.runs - len(one.epochs)
    small = [
        f"± {margin:.1f}" if margin else "",
        f"{missed} of {one.runs} not within the phase" if missed else "",
        f"{one.left} of {one.runs} left again" if one.left else "",
    ]
    return Cell(f"{interval.mean:.1f}", interval.mean, "; ".join(filter(None, small)))


def after_changes(data: Data) -> Figure | None:
    """Draw a line per strategy with its band over seeds and a mark at every change; None without
    a change."""
    return draw_changes(data, *find_changes(data))


def draw_changes(data: Data, setting: Setting, changes: tuple[Change, ...]) -> Figure | None:
    """Draw the objective on a setting around its changes."""
    if not changes:
        return None
    from matplotlib.ticker import MaxNLocator

    series = {s: data.by_epoch(s, setting) for s in data.present(setting)}
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 3.2)
    axes = figure.add_subplot()
    for strategy, line in series.items():
        middle = np.arange(len(line)) + 0.5  # an epoch's figure is that of its whole length
        pen.band(axes, strategy, middle, line)
    last = max(len(line) for line in series.values())
    axes.set_xlim(0, last)
    axes.set_ylim(bottom=0)
    for row, change in enumerate(changes):
        axes.axvline(change.at, color=style.MUTED, lw=0.8, ls=(0, (3, 2)))
        right = change.at > 0.85 * last
        axes.annotate(
            change.words, (change.at, 1), (-2 if right else 2, -2 - 8 * (row % 2)),
            xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
            ha="right" if right else "left", fontsize=6.5, color=style.MUTED,
        )  # fmt: skip
    top = max(p.mean for line in series.values() for p in line)
    axes.set_ylim(top=1.25 * top)
    axes.set_xlabel("epochs since the start")
    axes.set_ylabel("objective (lower is better)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    pen.legend(figure, series, lines=True)
    return Figure(
        name="after-changes",
        title=_finding(data.ranking(setting), recoveries(data, setting, changes)),
        caption=averaged(data, "; bands are 95 % t-intervals, cut at the top")
        + ". A request counts in the epoch of its birth. "
        "Dashed lines: the mix of the load changes, a node goes down or comes back.",
        alt="Changes: "
        + "; ".join(f"epoch {c.epoch + 1}: {c.words}" for c in changes)
        + ". Mean objective: "
        + "; ".join(f"{s} {np.mean([p.mean for p in line]):.3f}" for s, line in series.items())
        + ".",
        drawing=figure,
        frame=make_frame(
            ("strategy", "epoch", "seeds", "objective", "low", "high"),
            tuple(
                (s, k, p.n, p.mean, p.low, p.high)
                for s, line in series.items()
                for k, p in enumerate(line, 1)
            ),
        ),
    )


def _finding(ranking: tuple[str, ...], found: list[Recovery]) -> str:
    """Say how often the strategy with the lowest objective is back to stay, over changes, seeds."""
    mine = [one for one in found if one.strategy in ranking[:1]]
    if not mine:
        return "After a change"
    back, cases = sum(len(one.epochs) - one.left for one in mine), sum(one.runs for one in mine)
    return (
        f"{ranking[0]} has the lowest objective here and comes back to stay in {back} of {cases} "
        "cases"
    )


def _level(_: Data) -> dict[str, float]:
    return {"margin": MARGIN, "level_epochs": LEVEL_EPOCHS}


SECTION = Section(
    "adaptation",
    "After a change",
    tables=(adaptation,),
    figures=(after_changes,),
    words="adaptation.html.j2",
    view=_level,
)
