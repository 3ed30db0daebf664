"""Section "Over load": objective with its bound, latency and success against load."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from controller.report import style
from controller.report.analysis.data import Data
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, new_figure
from controller.report.structure import Section
from controller.report.table import make_frame
from controller.results.run import Setting

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

PANELS = (
    ("objective", "(a) Objective", "objective"),
    ("t_mean_s", "(b) Mean latency", "mean latency of successes (s)"),
    ("success_rate", "(c) Success rate", "success rate"),
)


def load_sweep(data: Data) -> Figure | None:
    """Draw three panels over load; None unless the campaign has two loads or more."""
    loads = data.loads()
    if len(loads) < 2:
        return None
    strategies = [s for s in data.strategies if any(data.finished(s, at) for at in loads)]
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 2.75)
    panels = figure.subplots(1, len(PANELS))
    for axes, (measure, title, label) in zip(panels, PANELS, strict=True):
        for strategy in strategies:
            _draw_line(axes, data, pen, measure, strategy, loads)
        axes.set_title(title)
        axes.set_xlabel("load (1 is nominal)")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    panels[2].set_ylim(0, 1.05)
    _draw_bound(panels[0], data, pen, strategies, loads)
    pen.legend(figure, strategies, lines=True)
    best = {at: (data.ranking(at) or data.order(at))[0] for at in loads}
    return Figure(
        name="load-sweep",
        title=_finding(best),
        caption=(
            averaged(data, ", bars are 95 % t-intervals") + "; points of one load are set apart a "
            "little. Thin dotted lines in (a) are the bounds at each strategy's own success rate."
        ),
        alt="Lowest objective by load: "
        + "; ".join(f"{at.value('load')}: {name}" for at, name in best.items())
        + ".",
        drawing=figure,
        frame=_frame(data, strategies, loads),
    )


def _draw_line(
    axes: Axes, data: Data, pen: Pen, measure: str, strategy: str, loads: tuple[Setting, ...]
) -> None:
    points = [(float(at.value("load")), data.interval(measure, strategy, at)) for at in loads]
    points = [(x, p) for x, p in points if p.n]
    aside = _aside(data, strategy, loads)
    for x, point in points:
        if not isnan(point.low):
            (line,) = axes.plot(
                [x + aside, x + aside],
                [point.low, point.high],
                color=pen.look(strategy).colour,
                lw=0.8,
                alpha=0.6,
            )
            pen.mark(strategy, line)
    places = [x + aside for x, _ in points]
    pen.line(axes, strategy, places, [p.mean for _, p in points], markers=len(loads))


def _aside(data: Data, strategy: str, loads: tuple[Setting, ...]) -> float:
    """Move a little to the left or right, so that intervals at one load do not hide each other."""
    span = float(loads[-1].value("load")) - float(loads[0].value("load"))
    place = data.strategies.index(strategy) - (len(data.strategies) - 1) / 2
    return 0.006 * span * place


def _draw_bound(
    axes: Axes, data: Data, pen: Pen, strategies: list[str], loads: tuple[Setting, ...]
) -> None:
    for strategy in strategies:
        points = [(float(at.value("load")), data.bound(strategy, at)) for at in loads]
        points = [(x, y) for x, y in points if not isnan(y)]
        (line,) = (
            axes.plot(
                *zip(*points, strict=True),
                color=pen.look(strategy).colour,
                lw=0.7,
                ls=(0, (1, 1.5)),
            )
            if points
            else axes.plot([], [])
        )
        pen.mark(strategy, line)


def _finding(best: dict[Setting, str]) -> str:
    winners = list(dict.fromkeys(best.values()))
    low, *_, high = (float(at.value("load")) for at in best)
    if len(winners) == 1:
        return f"{winners[0]} has the lowest objective at every load from {low:g} to {high:g}"
    return f"Which strategy is best depends on the load: {', '.join(winners)}"


def _frame(data: Data, strategies: list[str], loads: tuple[Setting, ...]) -> pl.DataFrame:
    rows = []
    for at in loads:
        for strategy in strategies:
            cells = [data.interval(measure, strategy, at) for measure, _, _ in PANELS]
            if cells[0].n:
                limits = [v for cell in cells for v in (cell.mean, cell.low, cell.high)]
                rows.append(
                    (at.value("load"), strategy, cells[0].n, *limits, data.bound(strategy, at))
                )
    names = [f"{m}{side}" for m, _, _ in PANELS for side in ("", "_low", "_high")]
    return make_frame(("load", "strategy", "seeds", *names, "bound"), tuple(rows))


SECTION = Section("load", "Over load", figures=(load_sweep,))
