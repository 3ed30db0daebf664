"""The objective against how often the reasoner's replies were spoilt on purpose."""

from __future__ import annotations

import re
from math import isnan
from typing import Final

from controller.experiments.report import style
from controller.experiments.report.formats import percent, significant
from controller.experiments.report.plates import Pen, Plate, Table, new_figure
from controller.experiments.report.study import Study
from controller.experiments.statistics import Interval

_SPEC: Final = re.compile(r"faulty:(\S+)")
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
        if 1.0 in points:
            axes.axhline(points[1.0].mean, color=style.MUTED, lw=0.8, ls=(0, (3, 2)))
            axes.annotate(
                "every reply spoilt: what the fallbacks do", (0, points[1.0].mean), (4, -3),
                textcoords="offset points", va="top", fontsize=6.5, color=style.MUTED,
            )  # fmt: skip
    axes.set_xlim(left=-0.02)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda rate, _: percent(rate))
    axes.set_xlabel("share of replies that are spoilt")
    axes.set_ylabel("objective (lower is better)")
    pen.legend(figure, [rates[min(rates)] for rates in curves.values()], lines=True)
    return Plate(
        name="fault-rates",
        title=_finding(study, curves),
        caption="Mean over seeds, bars are 95 % t-intervals. Faults are malformed, infeasible, "
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


def _curves(study: Study) -> dict[str, Rates]:
    """By strategy without its fault rate. One without faults is every mix's zero."""
    faulty: dict[str, Rates] = {}
    for strategy in study.agents():
        reasoning = study.reasoning(strategy)
        found = _SPEC.match(reasoning.label) if reasoning else None
        if found:
            kinds, rate = _parsed(found[1])
            name = strategy.split(" (")[0]
            faulty.setdefault(f"{name}, {kinds}", {})[rate] = strategy
            if name in study.agents() and name != strategy:
                faulty[f"{name}, {kinds}"].setdefault(0.0, name)
    return faulty


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
