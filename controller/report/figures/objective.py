"""The objective and its ratio to the bound, a row per strategy."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from controller.report import style
from controller.report.captions import averaged, conjugated, lowest_objective, tied
from controller.report.plates import Pen, Plate, Table, new_figure
from controller.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BOUND_WORDS = (
    " The grey tick is the bound that no strategy can beat at this strategy's success rate."
)


def draw_objective(study: Study) -> Plate | None:
    """Mean, interval and every seed; a tick marks the mean bound at the same success rate."""
    ranking = study.order()
    if not ranking:
        return None
    pen = Pen(study.strategies)
    figure = new_figure(style.HALF_IN, 0.28 * len(ranking) + 0.75)
    axes = figure.add_subplot()
    _draw_rows(axes, study, pen, "objective", ranking)
    bounded = [s for s in ranking if not isnan(study.bound(s))]
    for row, strategy in enumerate(ranking):
        bound = study.bound(strategy)
        if not isnan(bound):
            (tick,) = axes.plot([bound, bound], [row - 0.32, row + 0.32], color=style.MUTED, lw=1.4)
            pen.mark(strategy, tick)
    axes.set_xlabel("objective (lower is better)")
    axes.set_xlim(left=0)
    best, last = next(iter(study.ranking()), ranking[0]), ranking[-1]
    title = lowest_objective(study)
    if len(ranking) == 1:
        title = f"Objective of {best}"
    return Plate(
        name="objective",
        title=title,
        caption=(
            averaged(study, " with the 95 % t-interval; faint dots are single seeds")
            + "."
            + (BOUND_WORDS if bounded else "")
        ),
        alt=f"Objective by strategy, from {_words(study, best)} to {_words(study, last)}.",
        figure=figure,
        data=_table(study, ranking),
        wide=False,
    )


def draw_bound_ratio(study: Study) -> Plate | None:
    """How far every strategy is from the bound."""
    ranking = [s for s in study.order() if study.interval("bound_ratio", s).n]
    if not ranking:
        return None
    ranking.sort(key=lambda s: study.interval("bound_ratio", s).mean)
    pen = Pen(study.strategies)
    figure = new_figure(style.HALF_IN, 0.28 * len(ranking) + 0.75)
    axes = figure.add_subplot()
    axes.axvline(1, color=style.MUTED, lw=1)
    _draw_rows(axes, study, pen, "bound_ratio", tuple(ranking))
    axes.set_xlim(left=min(0.8, axes.get_xlim()[0]))
    axes.set_xlabel("objective / bound (1 cannot be beaten)")
    ratios = {s: study.interval("bound_ratio", s) for s in ranking}
    rivals = {s: r.mean for s, r in ratios.items() if s in study.contestants()}
    rivals = rivals or {s: r.mean for s, r in ratios.items()}
    best = tied(rivals, "{:.2f}".format)
    words = ", ".join(f"{s} {ratio.mean:.2f}" for s, ratio in ratios.items())
    return Plate(
        name="bound-ratio",
        title=f"{conjugated(best, 'is', 'are')} {min(rivals.values()):.2f} times the bound",
        caption=(
            "The bound is a relaxation with perfect foresight at the strategy's own success "
            "rate; how much of the gap could be closed is not known."
        ),
        alt=f"Ratio of objective to bound by strategy: {words}.",
        figure=figure,
        data=Table(
            ("strategy", "seeds", "bound_ratio", "low", "high"),
            tuple((s, r.n, r.mean, r.low, r.high) for s, r in ratios.items()),
        ),
        wide=False,
    )


def _draw_rows(axes: Axes, study: Study, pen: Pen, measure: str, ranking: tuple[str, ...]) -> None:
    for row, strategy in enumerate(ranking):
        seeds = study.values(measure, strategy)
        (dots,) = axes.plot(
            seeds, np.full(len(seeds), row), "o", color=pen.look(strategy).colour, ms=2.6,
            alpha=0.35, mew=0,
        )  # fmt: skip
        pen.mark(strategy, dots)
        mean = study.interval(measure, strategy)
        limits = None if isnan(mean.low) else (mean.low, mean.high)
        pen.point(axes, strategy, mean.mean, row, xerr=limits)
    axes.set_yticks(range(len(ranking)), ranking)
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.set_ylim(len(ranking) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _words(study: Study, strategy: str) -> str:
    mean = study.interval("objective", strategy)
    interval = "" if isnan(mean.low) else f" (95 % interval {mean.low:.3f} to {mean.high:.3f})"
    return f"{strategy} {mean.mean:.3f}{interval}"


def _table(study: Study, ranking: tuple[str, ...]) -> Table:
    rows = []
    for strategy in ranking:
        seeds = study.finished(strategy)
        values = study.values("objective", strategy)
        rows += [
            (strategy, seed, float(value), run.figures.bound if run.figures else None)
            for (seed, run), value in zip(seeds.items(), values, strict=True)
        ]
    return Table(("strategy", "seed", "objective", "bound"), tuple(rows))
