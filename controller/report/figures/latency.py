"""Latency distributions per LM, and why requests fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from controller.report import style
from controller.report.captions import conjugated, tied
from controller.report.formats import percent
from controller.report.outcomes import GRID_S, Outcomes
from controller.report.plates import Pen, Plate, Table, draw_key, new_figure
from controller.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_A_ROW = 4
REASONS = {
    "refused": "refused at the door",
    "deadline": "deadline passed",
    "not_deployed": "LM not deployed in time",
    "lost_node": "node lost",
    "unfinished": "unfinished at the end",
}


def draw_distributions(study: Study, outcomes: Outcomes) -> Plate | None:
    """A panel per LM: share of all requests answered within a time."""
    strategies = [s for s in study.present() if outcomes.of(s)]
    lms = study.lms()
    if not strategies:
        return None
    pen = Pen(study.strategies)
    columns = min(PANELS_A_ROW, len(lms))
    rows = -(-len(lms) // columns)
    figure = new_figure(style.FULL_IN, 1.75 * rows + 0.55)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    shown = study.constants.tau_s * 1.001 >= GRID_S
    for axes, lm in zip(panels, lms, strict=False):
        for strategy in strategies:
            curve = outcomes.answered(strategy, lm)
            pen.line(axes, strategy, GRID_S[shown], curve[shown], width=1.2, markers=5)
        axes.set_title(lm)
        _set_time_axis(axes, study.constants.tau_s)
    for axes in panels[len(lms) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share answered")
    figure.supxlabel("end-to-end latency (s)", fontsize=7.5, color=style.MUTED)
    pen.legend(figure, strategies, lines=True)
    return Plate(
        name="latency-cdf",
        title="How soon requests are answered",
        caption=(
            "Share of all requests of an LM that are answered within a time, all seeds together. "
            "A curve ends at the success ratio: what is missing to 1 was never answered in time."
        ),
        alt=_alt(study, outcomes, strategies),
        figure=figure,
        data=_table(outcomes, strategies, lms),
    )


def draw_failures(study: Study, outcomes: Outcomes) -> Plate | None:
    """Stacked bars: requests that failed, by reason."""
    shares = {s: outcomes.failure_shares(s) for s in study.present() if outcomes.of(s)}
    if not shares:
        return None
    found = {reason for of_strategy in shares.values() for reason in of_strategy}
    reasons = [r for r in REASONS if r in found] + sorted(found - set(REASONS))
    figure = new_figure(style.FULL_IN, 0.24 * len(shares) + 0.85)
    axes = figure.add_subplot()
    _stack(axes, Pen(study.strategies), shares, reasons)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(0, max(0.05, 1.12 * max(sum(of.values()) for of in shares.values())))
    axes.xaxis.set_major_formatter(lambda share, _: percent(share))
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of all requests")
    draw_key(figure, {REASONS.get(reason, reason): _colour(reason) for reason in reasons})
    rivals = [s for s in shares if s in study.contestants()] or list(shares)
    failed = {s: sum(shares[s].values()) for s in rivals}
    least = conjugated(tied(failed, percent), "fails", "fail")
    return Plate(
        name="failures",
        title=f"{least} the fewest requests: {percent(min(failed.values()))}",
        caption="Share of all requests that failed, by reason; mean over seeds.",
        alt="Failed share by strategy: "
        + "; ".join(f"{s} {sum(of.values()):.1%}" for s, of in shares.items())
        + ".",
        figure=figure,
        data=Table(
            ("strategy", *reasons),
            tuple((s, *(of.get(r, 0.0) for r in reasons)) for s, of in shares.items()),
        ),
    )


def _stack(
    axes: Axes, pen: Pen, shares: Mapping[str, Mapping[str, float]], reasons: Sequence[str]
) -> None:
    for row, (strategy, of_strategy) in enumerate(shares.items()):
        left = 0.0
        for reason in reasons:
            width = of_strategy.get(reason, 0.0)
            bars = axes.barh(row, width, 0.68, left=left, color=_colour(reason), lw=0)
            pen.mark(strategy, *bars)
            left += width
        text = axes.annotate(
            percent(left), (left, row), (3, 0), textcoords="offset points", va="center",
            fontsize=7, color=style.MUTED,
        )  # fmt: skip
        pen.mark(strategy, text)


def _set_time_axis(axes: Axes, tau_s: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(max(0.3, float(GRID_S[0])), tau_s)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(FixedLocator([t for t in (1, 10, 100) if t < tau_s] + [tau_s]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _alt(study: Study, outcomes: Outcomes, strategies: list[str]) -> str:
    minute = int(np.searchsorted(GRID_S, 60.0))
    parts = []
    for strategy in strategies:
        shares = (f"{lm} {outcomes.answered(strategy, lm)[minute]:.0%}" for lm in study.lms())
        parts.append(f"{strategy}: {', '.join(shares)}")
    return "Share of requests answered within a minute. " + "; ".join(parts) + "."


def _table(outcomes: Outcomes, strategies: list[str], lms: tuple[str, ...]) -> Table:
    rows = [
        (strategy, lm, float(time_s), float(share))
        for strategy in strategies
        for lm in lms
        for time_s, share in zip(GRID_S, outcomes.answered(strategy, lm), strict=True)
    ]
    return Table(("strategy", "lm", "latency_s", "share_answered"), tuple(rows))


def _colour(reason: str) -> str:
    return style.FAILURES.get(reason, (style.AXIS, ""))[0]
