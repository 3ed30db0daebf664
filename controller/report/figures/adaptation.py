"""The objective epoch by epoch, with what changed when."""

from __future__ import annotations

import numpy as np

from controller.report import style
from controller.report.adaptation import Change, Recovery
from controller.report.captions import averaged
from controller.report.plates import Pen, Plate, Table, new_figure
from controller.report.study import Study
from controller.results.run import Setting
from controller.results.statistics import Interval, mean_interval


def draw_adaptation(
    study: Study, setting: Setting, changes: tuple[Change, ...], found: list[Recovery]
) -> Plate | None:
    """A line per strategy with its band over seeds and a mark at every change; None without."""
    if not changes:
        return None
    from matplotlib.ticker import MaxNLocator

    series = {s: _by_epoch(study, setting, s) for s in study.present(setting)}
    pen = Pen(study.strategies)
    figure = new_figure(style.FULL_IN, 3.2)
    axes = figure.add_subplot()
    for strategy, line in series.items():
        middle = np.arange(len(line)) + 0.5  # an epoch's figure is that of its whole length
        low, high = (np.array([getattr(p, side) for p in line]) for side in ("low", "high"))
        colour = pen.look(strategy).colour
        pen.mark(strategy, axes.fill_between(middle, low, high, color=colour, alpha=0.14, lw=0))
        pen.line(axes, strategy, middle, [p.mean for p in line], markers=8)
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
    return Plate(
        name="after-changes",
        title=_finding(study.ranking(setting), found),
        caption=averaged(study, "; bands are 95 % t-intervals, cut at the top")
        + ". A request counts in the epoch of its birth. "
        "Dashed lines: the mix of the load changes, a node goes down or comes back.",
        alt="Changes: "
        + "; ".join(f"epoch {c.epoch + 1}: {c.words}" for c in changes)
        + ". Mean objective: "
        + "; ".join(f"{s} {np.mean([p.mean for p in line]):.3f}" for s, line in series.items())
        + ".",
        figure=figure,
        data=Table(
            ("strategy", "epoch", "seeds", "objective", "low", "high"),
            tuple(
                (s, k, p.n, p.mean, p.low, p.high)
                for s, line in series.items()
                for k, p in enumerate(line, 1)
            ),
        ),
    )


def _by_epoch(study: Study, setting: Setting, strategy: str) -> list[Interval]:
    runs = [r.figures.per_epoch for r in study.finished(strategy, setting).values() if r.figures]
    return [
        mean_interval([run[epoch].objective for run in runs if epoch < len(run)])
        for epoch in range(max(len(run) for run in runs))
    ]


def _finding(ranking: tuple[str, ...], found: list[Recovery]) -> str:
    """How often the strategy with the lowest objective is back to stay, over changes, seeds."""
    mine = [one for one in found if one.strategy in ranking[:1]]
    if not mine:
        return "After a change"
    back, cases = sum(len(one.epochs) - one.left for one in mine), sum(one.runs for one in mine)
    return (
        f"{ranking[0]} has the lowest objective here and comes back to stay in {back} of {cases} "
        "cases"
    )
