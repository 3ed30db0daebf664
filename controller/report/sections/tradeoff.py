"""Section "Latency against fairness": Fig. 5 with the paper's points beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from controller.report import style
from controller.report.analysis import published
from controller.report.analysis.data import MEASURE, Data
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, limits, new_figure
from controller.report.labels import Label, place_labels
from controller.report.structure import Section
from controller.report.table import make_frame
from controller.report.text import leading, subject, tied
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

NEAR: Final = 0.012  # of the axes' width and height: markers this close cover each other


def latency_fairness(data: Data) -> Figure | None:
    """Draw one marker per strategy with 95 % intervals, over lines of equal objective."""
    points = {s: (data.interval("t_mean_s", s), data.interval("f_norm", s)) for s in data.present()}
    points = {s: p for s, p in points.items() if p[0].n}
    if not points:
        return None
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 3.6)
    axes = figure.add_subplot()
    beside = published.applies(data)
    _set_limits(axes, points, beside)
    _draw_levels(axes, data)
    labels = []
    rings = _rings(axes, points)
    for strategy, (latency, fairness) in points.items():
        pen.point(
            axes, strategy, latency.mean, fairness.mean,
            ring=rings[strategy], xerr=limits(latency), yerr=limits(fairness),
        )  # fmt: skip
        look = pen.look(strategy)
        labels.append(
            Label(strategy, latency.mean, fairness.mean, look.colour, strategy, limits(latency))
        )
    if beside:
        labels += _draw_published(axes)
    axes.set_xlabel("mean end-to-end latency of successes (s)")
    axes.set_ylabel("normalised Jain fairness $F_{norm}$", parse_math=True)
    place_labels(axes, labels, pen)
    return Figure(
        name="fig5-latency-fairness",
        title=_finding({s: points[s] for s in data.contestants() if s in points} or points),
        caption=_caption(data, beside, any(rings.values())),
        alt=_alt(points),
        drawing=figure,
        frame=_frame(points),
    )


Points = dict[str, tuple[Interval, Interval]]


def _rings(axes: Axes, points: Points) -> dict[str, int]:
    """Count the markers under a strategy's, around which it is drawn as a ring."""
    width, height = (high - low for low, high in (axes.get_xlim(), axes.get_ylim()))
    places = {s: (t.mean / width, f.mean / height) for s, (t, f) in points.items()}
    rings: dict[str, int] = {}
    for strategy, (x, y) in places.items():
        under = (places[s] for s in rings)
        rings[strategy] = sum(abs(x - a) < NEAR and abs(y - b) < 2 * NEAR for a, b in under)
    return rings


def _set_limits(axes: Axes, points: Points, beside: bool) -> None:
    reach = [max(t.mean, t.high if t.high == t.high else 0.0) for t, _ in points.values()]
    low = min(f.mean for _, f in points.values())
    if beside:
        reach += [point.t_mean_s * 1.08 for point in published.POINTS]
        low = min(low, *(point.f_norm for point in published.POINTS))
    axes.set_xlim(0, max(reach) * 1.06)
    axes.set_ylim(max(-0.02, low - 0.12), 1.04)


def _draw_levels(axes: Axes, data: Data) -> None:
    """Draw lines on which the objective (Eq. 10) is equal."""
    tau_s, lam = data.constants.tau_s, data.constants.lam
    if not 0 < lam < 1:
        return
    x = np.array(axes.get_xlim())
    axes.grid(visible=False)
    bottom, top = axes.get_ylim()
    for level in np.arange(0.05, 1.0, 0.05 if top - bottom < 0.6 else 0.1):
        y = 1 - (level - lam * x / tau_s) / (1 - lam)
        axes.plot(x, y, color=style.GRID, lw=0.8, zorder=0)
        if bottom + 0.02 < y[1] < top - 0.02:
            axes.annotate(
                f"{level:.2g}", (x[1], y[1]), (3, 0), textcoords="offset points", va="center",
                fontsize=6.5, color=style.MUTED, annotation_clip=False,
            )  # fmt: skip
    axes.annotate(
        "objective", (1, 1), (3, 6), xycoords="axes fraction", textcoords="offset points",
        fontsize=6.5, color=style.MUTED, ha="center", annotation_clip=False,
    )  # fmt: skip


def _draw_published(axes: Axes) -> list[Label]:
    labels = []
    for point in published.POINTS:
        _draw_hollow(axes, point.strategy, point.t_mean_s, point.f_norm)
        if point.more:
            axes.annotate(
                "", (point.t_mean_s + 28, point.f_norm), (point.t_mean_s + 6, point.f_norm),
                arrowprops={"arrowstyle": "->", "color": style.PUBLISHED, "lw": 0.9},
            )  # fmt: skip
        name = f"{point.strategy} in the paper"
        labels.append(Label(name, point.t_mean_s, point.f_norm, style.PUBLISHED))
    strategy, fairness = published.FAIRNESS_ONLY
    _draw_hollow(axes, strategy, 0, fairness)
    return [*labels, Label(f"{strategy} in the paper", 0, fairness, style.PUBLISHED)]


def _draw_hollow(axes: Axes, strategy: str, t_mean_s: float, f_norm: float) -> None:
    axes.plot(
        t_mean_s, f_norm, marker=style.KNOWN[strategy].marker, ms=6.5, mfc=style.SURFACE,
        mec=style.PUBLISHED, mew=1.1, ls="none", zorder=2, clip_on=False,
    )  # fmt: skip


def _finding(points: Points) -> str:
    """Name all that tie at the precision of the table."""
    latency = {s: t.mean for s, (t, _) in points.items()}
    fairness = {s: f.mean for s, (_, f) in points.items()}
    fastest = tied(latency, _written("t_mean_s"))
    fairest = tied(fairness, _written("f_norm"), highest=True)
    if len(points) == 1:
        return f"Latency and fairness of {fastest[0]}"
    if len(fastest) == len(fairest) == len(points):
        return "No strategy differs from another in latency or fairness"
    if fastest == fairest:
        return f"{subject(fastest, 'is', 'are')} both the fastest and the fairest"
    speed = leading(
        latency, fastest, "is the fastest", "are the fastest", "No strategy is faster than another"
    )
    evenness = leading(
        fairness, fairest, "is the fairest", "are the fairest", "no strategy is fairer than another"
    )
    return f"{speed}; {evenness}"


def _written(measure: str) -> Callable[[float], str]:
    digits = MEASURE[measure].digits
    return lambda value: f"{value:.{digits}f}"


def _caption(data: Data, beside: bool, ringed: bool) -> str:
    text = (
        averaged(data, " with 95 % t-intervals")
        + "; up and to the left is better. Along a grey line "
        "the objective (Eq. 10) is the same. Latency counts successes only: read it with the "
        "success rates."
    )
    if ringed:
        text += " A ring is drawn around the marker of another strategy at nearly the same place."
    if beside:
        text += (
            f" Hollow grey markers are {published.WHERE}: MA 74 s at 0.90, RF above 406 s (arrow) "
            "at about 0.62, RL at about 1.0 with no latency stated (drawn on the axis)."
        )
    return text


def _alt(points: Points) -> str:
    parts = [f"{s} {t.mean:.0f} s and {f.mean:.2f}" for s, (t, f) in points.items()]
    return "Mean latency and normalised fairness by strategy: " + "; ".join(parts) + "."


def _frame(points: Points) -> pl.DataFrame:
    rows = [(s, t.n, t.mean, t.low, t.high, f.mean, f.low, f.high) for s, (t, f) in points.items()]
    names = ("t_mean_s", "t_mean_low_s", "t_mean_high_s", "f_norm", "f_norm_low", "f_norm_high")
    return make_frame(("strategy", "seeds", *names), tuple(rows))


SECTION = Section("tradeoff", "Latency against fairness", figures=(latency_fairness,))
