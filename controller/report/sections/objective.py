"""Section "Results": the summary table, the objective and its ratio to the bound."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from controller.report import style
from controller.report.analysis.data import MEASURES, Data, Measure
from controller.report.captions import averaged, lowest_objective
from controller.report.figure import Figure, Pen, limits, name_rows, new_figure
from controller.report.structure import Section
from controller.report.table import (
    Cell,
    Column,
    Row,
    Table,
    count,
    frame_of,
    make_frame,
    mean,
    with_limits,
)
from controller.report.text import subject, tied
from controller.results.run import Setting

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes


def summary(data: Data) -> Table | None:
    """Tabulate every measure's mean and interval over seeds, best objective first; the file has
    every setting."""
    if not data.order():
        return None
    rows = [
        {
            **{axis: setting.value(axis) for axis, _ in data.nominal.axes},
            "strategy": strategy,
            "seeds": data.interval("objective", strategy, setting).n,
            **_measures(data, strategy, setting),
        }
        for setting in data.settings
        for strategy in data.order(setting)
    ]
    frame = frame_of(rows)
    first = sum(len(data.order(s)) for s in data.settings[: data.settings.index(data.nominal)])

    def named(row: Row, key: str) -> Cell:
        strategy = row[key]
        return Cell(strategy, strategy, "diagnostic" if data.is_diagnostic(strategy) else "")

    return Table(
        name="summary",
        caption="Strategies on the nominal setting. "
        + averaged(data, ", ± half the width of the 95 % t-interval")
        + ". Bold is best in its column.",
        frame=frame,
        shown=frame.slice(first, len(data.order())),
        columns=(
            Column("strategy", "Strategy", named, numeric=False),
            Column("seeds", "Seeds", count),
            *(Column(m.key, m.title, mean(m.digits, best=_best(data, m)), m.hint)
              for m in MEASURES),
        ),
        sortable=True,
        drop_empty=True,
    )  # fmt: skip


def _measures(data: Data, strategy: str, setting: Setting) -> dict[str, float]:
    found: dict[str, float] = {}
    for measure in MEASURES:
        found |= with_limits(measure.key, data.interval(measure.key, strategy, setting))
    return found


def _best(data: Data, measure: Measure) -> str:
    """Return the contestants' best mean as it is shown; all that read the same are best."""
    means = [data.interval(measure.key, s).mean for s in data.contestants()]
    known = [value for value in means if not isnan(value)]
    if not measure.better or len(known) < 2:
        return ""
    best = max(known) if measure.better == "high" else min(known)
    return f"{best:.{measure.digits}f}"


BOUND_WORDS = (
    " The grey tick is the bound that no strategy can beat at this strategy's success rate."
)


def objective(data: Data) -> Figure | None:
    """Draw mean, interval and every seed; a tick marks the mean bound at the same success rate."""
    ranking = data.order()
    if not ranking:
        return None
    pen = Pen(data.strategies)
    figure = new_figure(style.HALF_IN, 0.28 * len(ranking) + 0.75)
    axes = figure.add_subplot()
    _draw_rows(axes, data, pen, "objective", ranking)
    bounded = [s for s in ranking if not isnan(data.bound(s))]
    for row, strategy in enumerate(ranking):
        bound = data.bound(strategy)
        if not isnan(bound):
            (tick,) = axes.plot([bound, bound], [row - 0.32, row + 0.32], color=style.MUTED, lw=1.4)
            pen.mark(strategy, tick)
    axes.set_xlabel("objective (lower is better)")
    axes.set_xlim(left=0)
    best, last = next(iter(data.ranking()), ranking[0]), ranking[-1]
    title = lowest_objective(data)
    if len(ranking) == 1:
        title = f"Objective of {best}"
    return Figure(
        name="objective",
        title=title,
        caption=(
            averaged(data, " with the 95 % t-interval; faint dots are single seeds")
            + "."
            + (BOUND_WORDS if bounded else "")
        ),
        alt=f"Objective by strategy, from {_words(data, best)} to {_words(data, last)}.",
        drawing=figure,
        frame=_frame(data, ranking),
        wide=False,
    )


def bound_ratio(data: Data) -> Figure | None:
    """Draw every strategy's ratio to its bound."""
    ranking = [s for s in data.order() if data.interval("bound_ratio", s).n]
    if not ranking:
        return None
    ranking.sort(key=lambda s: data.interval("bound_ratio", s).mean)
    pen = Pen(data.strategies)
    figure = new_figure(style.HALF_IN, 0.28 * len(ranking) + 0.75)
    axes = figure.add_subplot()
    axes.axvline(1, color=style.MUTED, lw=1)
    _draw_rows(axes, data, pen, "bound_ratio", tuple(ranking))
    axes.set_xlim(left=min(0.8, axes.get_xlim()[0]))
    axes.set_xlabel("objective / bound (1 cannot be beaten)")
    ratios = {s: data.interval("bound_ratio", s) for s in ranking}
    rivals = {s: r.mean for s, r in ratios.items() if s in data.contestants()}
    rivals = rivals or {s: r.mean for s, r in ratios.items()}
    best = tied(rivals, "{:.2f}".format)
    words = ", ".join(f"{s} {ratio.mean:.2f}" for s, ratio in ratios.items())
    return Figure(
        name="bound-ratio",
        title=f"{subject(best, 'is', 'are')} {min(rivals.values()):.2f} times the bound",
        caption=(
            "The bound is a relaxation with perfect foresight at the strategy's own success "
            "rate; how much of the gap could be closed is not known."
        ),
        alt=f"Ratio of objective to bound by strategy: {words}.",
        drawing=figure,
        frame=make_frame(
            ("strategy", "seeds", "bound_ratio", "low", "high"),
            tuple((s, r.n, r.mean, r.low, r.high) for s, r in ratios.items()),
        ),
        wide=False,
    )


def _draw_rows(axes: Axes, data: Data, pen: Pen, measure: str, ranking: tuple[str, ...]) -> None:
    for row, strategy in enumerate(ranking):
        seeds = data.values(measure, strategy)
        (dots,) = axes.plot(
            seeds, np.full(len(seeds), row), "o", color=pen.look(strategy).colour, ms=2.6,
            alpha=0.35, mew=0,
        )  # fmt: skip
        pen.mark(strategy, dots)
        mean = data.interval(measure, strategy)
        pen.point(axes, strategy, mean.mean, row, xerr=limits(mean))
    name_rows(axes, ranking)
    axes.spines["left"].set_visible(False)


def _words(data: Data, strategy: str) -> str:
    mean = data.interval("objective", strategy)
    interval = "" if isnan(mean.low) else f" (95 % interval {mean.low:.3f} to {mean.high:.3f})"
    return f"{strategy} {mean.mean:.3f}{interval}"


def _frame(data: Data, ranking: tuple[str, ...]) -> pl.DataFrame:
    rows = []
    for strategy in ranking:
        seeds = data.finished(strategy)
        values = data.values("objective", strategy)
        rows += [
            (strategy, seed, float(value), run.figures.bound if run.figures else None)
            for (seed, run), value in zip(seeds.items(), values, strict=True)
        ]
    return make_frame(("strategy", "seed", "objective", "bound"), tuple(rows))


SECTION = Section("results", "Results", tables=(summary,), figures=(objective, bound_ratio))
