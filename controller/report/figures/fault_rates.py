"""The objective against how often the reasoner's replies were spoilt on purpose."""

from __future__ import annotations

import re
from math import isnan
from typing import TYPE_CHECKING, Final

from controller.report import style
from controller.report.captions import averaged
from controller.report.formats import percent, significant
from controller.report.plates import Pen, Plate, Table, new_figure
from controller.report.study import Study
from controller.results.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPEC: Final = re.compile(r"faulty:(\S+)")
SCALE: Final = 3.0  # times the curves' top, beyond which a level would flatten them
Rates = dict[float, str]  # rate -> strategy


def draw_fault_rates(study: Study) -> Plate | None:
    """A curve per strategy whose runs differ by the rate of faults; None below two rates."""
    curves = {name: rates for name, rates in _curves(study).items() if len(rates) > 1}
    if not curves:
        return None
    pen = Pen(study.strategies)
    figure = new_figure(style.FULL_IN, 2.9)
    axes = figure.add_subplot()
    for rates in curves.values():
        first = rates[min(rates)]
        points = {rate: study.interval("objective", s) for rate, s in sorted(rates.items())}
        for rate, point in points.items():
            if not isnan(point.low):
                axes.plot([rate, rate], [point.low, point.high], color=pen.look(first).colour, lw=1)
        pen.line(axes, first, list(points), [p.mean for p in points.values()], markers=len(points))
    axes.set_xlim(left=-0.02)
    axes.set_ylim(bottom=0)
    _draw_level(axes, study)
    axes.xaxis.set_major_formatter(lambda rate, _: percent(rate))
    axes.set_xlabel("share of replies that are spoilt")
    axes.set_ylabel("objective (lower is better)")
    pen.legend(figure, [rates[min(rates)] for rates in curves.values()], lines=True)
    return Plate(
        name="fault-rates",
        title=_finding(study, curves),
        caption=averaged(study, ", bars are 95 % t-intervals")
        + ". Faults are malformed, infeasible, "
        "refused, empty, cut, slow or lost replies in the given mix. Some are survived without "
        "the fallback: prose around a valid reply, a slow one that is still in time, what a "
        "repair mends.",
        alt="Objective by rate of faults: "
        + "; ".join(
            f"{name} at {rate:.0%}: {study.interval('objective', s).mean:.3f}"
            for name, rates in curves.items()
            for rate, s in sorted(rates.items())
        )
        + ".",
        figure=figure,
        data=_table(study, curves),
    )


def _draw_level(axes: Axes, study: Study) -> None:
    """What the fallbacks do alone: a line, or a word where it is far above the curves."""
    top = axes.get_ylim()[1]
    for strategy, (_, kinds, rate) in _faulty(study).items():
        level = study.interval("objective", strategy).mean
        if rate < 1:
            continue
        words, off = f"every reply spoilt ({kinds}): {significant(level)}", level > SCALE * top
        if not off:
            axes.axhline(level, color=style.MUTED, lw=0.8, ls=(0, (3, 2)))
        axes.annotate(
            f"{words}, off the scale" if off else words, (0.01, top if off else level), (0, -3),
            xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="top",
            fontsize=6.5, color=style.MUTED,
        )  # fmt: skip


def _faulty(study: Study) -> dict[str, tuple[str, str, float]]:
    """Strategy -> its name without the reasoner, kinds of faults, their rate together."""
    found = {}
    for strategy in study.agents():
        reasoning = study.reasoning(strategy)
        spec = _SPEC.match(reasoning.label) if reasoning else None
        if spec:
            found[strategy] = (strategy.split(" (")[0], *_parsed(spec[1]))
    return found


def _curves(study: Study) -> dict[str, Rates]:
    """By strategy and mix of faults. A variant without faults is every mix's zero."""
    faulty, curves = _faulty(study), dict[str, Rates]()
    sound = {s.split(" (")[0]: s for s in study.agents() if s not in faulty}
    for strategy, (name, kinds, rate) in faulty.items():
        curve = curves.setdefault(f"{name}, {kinds}", {})
        curve[rate] = strategy
        if name in sound and rate < 1:
            curve.setdefault(0.0, sound[name])
    return curves


def _parsed(spec: str) -> tuple[str, float]:
    """Kinds of faults, and their rate together."""
    parts = [part.partition("=") for part in spec.split(",")]
    try:
        rates = [float(rate) if sign else 0.1 for _, sign, rate in parts]
    except ValueError:
        return spec, 0.0
    return "+".join(kind for kind, _, _ in parts), sum(rates)


def _finding(study: Study, curves: dict[str, Rates]) -> str:
    rates = max(curves.values(), key=len)
    shown = [rate for rate in rates if rate < 1] or list(rates)
    low, high = (study.interval("objective", rates[r]).mean for r in (min(shown), max(shown)))
    return (
        f"With {percent(max(shown))} of replies spoilt the objective is {significant(high / low)} "
        f"times that with {percent(min(shown))}"
    )


def _table(study: Study, curves: dict[str, Rates]) -> Table:
    rows = []
    for name, rates in curves.items():
        for rate, strategy in sorted(rates.items()):
            point: Interval = study.interval("objective", strategy)
            rows.append((name, rate, strategy, point.n, point.mean, point.low, point.high))
    names = ("faults", "rate", "strategy", "seeds", "objective", "low", "high")
    return Table(names, tuple(rows))
