"""Section "LM by LM": Fig. 6, how soon requests are answered, where time goes, why some fail."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from controller.report import style
from controller.report.analysis import published
from controller.report.analysis.data import Data
from controller.report.analysis.requests import COMPONENTS, GRID_S
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, draw_key, name_rows, new_figure
from controller.report.structure import Section
from controller.report.table import make_frame
from controller.report.text import leading, listed, percent, subject, tied
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

ALL = "all"
Cells = dict[tuple[str, str], Interval]  # (strategy, LM or ALL)


def per_lm(data: Data) -> Figure | None:
    """Draw bars grouped by LM: mean latency of successes above, success ratio below."""
    strategies, lms = data.present(), data.lms()
    if not strategies:
        return None
    latency = _cells(data, "t_mean_s", "t_mean_s")
    success = _cells(data, "rho", "success_rate")
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw_bars(upper, pen, latency, strategies, lms)
    _draw_bars(lower, pen, success, strategies, lms)
    upper.set_ylabel("mean latency (s)")
    upper.set_title("(a) End-to-end latency of successes")
    lower.set_ylabel("success ratio")
    lower.set_title("(b) Success ratio")
    upper.set_ylim(bottom=0)
    lower.set_ylim(0, 1.05)
    beside = published.applies(data) and "LM4" in lms
    if beside:
        _draw_published(upper, lower, lms.index("LM4"))
    pen.legend(figure, strategies)
    return Figure(
        name="fig6-per-lm",
        title=_per_lm_finding(success, data.contestants() or strategies, lms),
        caption=_per_lm_caption(data, beside),
        alt=_per_lm_alt(success, strategies, lms),
        drawing=figure,
        frame=_per_lm_frame(latency, success),
    )


def where_time_goes(data: Data) -> Figure | None:
    """Draw stacked bars of the mean time of a success, a panel per LM, a row per strategy."""
    strategies = list(data.records.outcomes)
    lms = data.lms()
    if not strategies:
        return None
    figure = new_figure(style.FULL_IN, 0.22 * len(strategies) + 1.15)
    pen = Pen(data.strategies)
    colours = {part: style.COMPONENTS[part][0] for part in COMPONENTS}
    panels = figure.subplots(1, len(lms), sharey=True, squeeze=False)[0]
    for axes, lm in zip(panels, lms, strict=True):
        for row, strategy in enumerate(strategies):
            seconds = np.nan_to_num(data.records.components_s(strategy, lm)).tolist()
            pen.stack(axes, strategy, row, dict(zip(COMPONENTS, seconds, strict=True)), colours)
        axes.set_title(lm)
        name_rows(axes, strategies)
    figure.supxlabel("mean time of a success (s)", fontsize=7.5, color=style.MUTED)
    draw_key(figure, colours)
    rows = tuple(
        (s, lm, *map(float, data.records.components_s(s, lm))) for s in strategies for lm in lms
    )
    share = _queue_share(rows)
    return Figure(
        name="where-time-goes",
        title=_share_words(share),
        caption=(
            "Mean over seeds, successes only. Queueing includes the start of a pod and the time "
            "until the slot's decision is in force. Transfers take milliseconds at the testbed's "
            "bandwidth and are too thin to see; the table has them."
        ),
        alt="Mean uplink, queue, inference and downlink time per strategy and LM; "
        f"queueing is {share:.0%} of the total on average over strategies and LMs.",
        drawing=figure,
        frame=make_frame(("strategy", "lm", *(f"{part}_s" for part in COMPONENTS)), rows),
    )


def _cells(data: Data, field: str, overall: str) -> Cells:
    cells = {}
    for strategy in data.present():
        for lm in data.lms():
            cells[strategy, lm] = data.lm_interval(field, strategy, lm)
        cells[strategy, ALL] = data.interval(overall, strategy)
    return cells


def _draw_bars(
    axes: Axes, pen: Pen, cells: Cells, strategies: tuple[str, ...], lms: tuple[str, ...]
) -> None:
    groups = (*lms, ALL)
    width = 0.84 / len(strategies)
    for k, strategy in enumerate(strategies):
        colour = pen.look(strategy).colour
        for group, lm in enumerate(groups):
            cell = cells[strategy, lm]
            if not cell.n:
                continue
            x = group - 0.42 + (k + 0.5) * width
            pen.mark(strategy, *axes.bar(x, cell.mean, width * 0.88, color=colour, lw=0))
            if not isnan(cell.low):
                (line,) = axes.plot([x, x], [cell.low, cell.high], color=style.INK, lw=0.8)
                pen.mark(strategy, line)
    axes.set_xticks(range(len(groups)), [*lms, "all LMs"])
    axes.tick_params(axis="x", length=0, labelcolor=style.INK)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.55, len(groups) - 0.45)
    axes.axvline(len(lms) - 0.5, color=style.AXIS, lw=0.6)


def _draw_published(upper: Axes, lower: Axes, group: int) -> None:
    names, ratio = published.LM4_SUCCESS_BELOW
    _, latency_s = published.LM4_LATENCY_ABOVE_S
    span = [group - 0.46, group + 0.46]
    for axes, level, words in (
        (upper, latency_s, f"{', '.join(names)} above {latency_s:.0f} s"),
        (lower, ratio, f"{', '.join(names)} below {ratio}"),
    ):
        axes.plot(span, [level, level], color=style.PUBLISHED, lw=1, ls=(0, (2, 1.5)))
        # Above the axes, since beside the line there are bars.
        axes.set_title(
            f"dashed: the paper, {words}", loc="right", color=style.PUBLISHED, fontsize=6.5,
            fontweight="normal",
        )  # fmt: skip


def _per_lm_finding(success: Cells, strategies: tuple[str, ...], lms: tuple[str, ...]) -> str:
    worst = {s: min((success[s, lm].mean, lm) for lm in lms) for s in strategies}
    best = tied({s: ratio for s, (ratio, _) in worst.items()}, percent, highest=True)
    ratio, lm = worst[best[0]]
    if len(strategies) == 1:
        return f"{best[0]} answers {percent(ratio)} of requests for {lm}, its worst-served LM"
    if ratio == 1:
        return f"{subject(best, 'answers', 'answer')} every request of every LM in time"
    if len(best) == len(strategies):
        return f"No strategy serves its worst-served LM better than another: {percent(ratio)}"
    if len(best) > 1:
        return f"{listed(best)} serve their worst-served LM best: {percent(ratio)}"
    return f"{best[0]} serves its worst-served LM best: {percent(ratio)} of {lm}"


def _per_lm_caption(data: Data, beside: bool) -> str:
    text = averaged(data, " with 95 % t-intervals") + "."
    if beside:
        text += f" Dashed grey lines are {published.WHERE}."
    return text


def _per_lm_alt(success: Cells, strategies: tuple[str, ...], lms: tuple[str, ...]) -> str:
    parts = []
    for strategy in strategies:
        ratios = ", ".join(f"{lm} {success[strategy, lm].mean:.2f}" for lm in lms)
        parts.append(f"{strategy}: {ratios}")
    return "Success ratio by strategy and LM. " + "; ".join(parts) + "."


def _per_lm_frame(latency: Cells, success: Cells) -> pl.DataFrame:
    rows = tuple(
        (s, lm, t.n, t.mean, t.low, t.high, success[s, lm].mean, success[s, lm].low,
         success[s, lm].high)
        for (s, lm), t in latency.items()
    )  # fmt: skip
    names = ("t_mean_s", "t_mean_low_s", "t_mean_high_s", "success", "success_low", "success_high")
    return make_frame(("strategy", "lm", "seeds", *names), rows)


def _queue_share(rows: tuple[tuple[object, ...], ...]) -> float:
    times = np.array([row[2:] for row in rows], np.float64)
    times = times[~np.isnan(times).any(axis=1)]
    return float((times[:, 1] / times.sum(axis=1)).mean()) if len(times) else float("nan")


def _share_words(share: float) -> str:
    if isnan(share):
        return "Where the time goes"
    return f"Waiting is {percent(round(share, 2))} of a success's time, over all strategies and LMs"


PANELS_A_ROW = 4
REASONS = {
    "refused": "refused at the door",
    "deadline": "deadline passed",
    "not_deployed": "LM not deployed in time",
    "lost_node": "node lost",
    "unfinished": "unfinished at the end",
}


def latency_distributions(data: Data) -> Figure | None:
    """Draw a panel per LM: share of all requests answered within a time."""
    strategies = list(data.records.outcomes)
    lms = data.lms()
    if not strategies:
        return None
    pen = Pen(data.strategies)
    columns = min(PANELS_A_ROW, len(lms))
    rows = -(-len(lms) // columns)
    figure = new_figure(style.FULL_IN, 1.75 * rows + 0.55)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    shown = data.constants.tau_s * 1.001 >= GRID_S
    for axes, lm in zip(panels, lms, strict=False):
        for strategy in strategies:
            curve = data.records.answered(strategy, lm)
            pen.line(axes, strategy, GRID_S[shown], curve[shown], width=1.2, markers=5)
        axes.set_title(lm)
        _set_time_axis(axes, data.constants.tau_s)
    for axes in panels[len(lms) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share answered")
    figure.supxlabel("end-to-end latency (s)", fontsize=7.5, color=style.MUTED)
    pen.legend(figure, strategies, lines=True)
    return Figure(
        name="latency-cdf",
        title="How soon requests are answered",
        caption=(
            "Share of all requests of an LM that are answered within a time, all seeds together. "
            "A curve ends at the success ratio: what is missing to 1 was never answered in time."
        ),
        alt=_distributions_alt(data, strategies),
        drawing=figure,
        frame=_distributions_frame(data, strategies, lms),
    )


def failures(data: Data) -> Figure | None:
    """Draw stacked bars: requests that failed, by reason."""
    shares = {s: data.records.failure_shares(s) for s in data.records.outcomes}
    if not shares:
        return None
    found = {reason for of_strategy in shares.values() for reason in of_strategy}
    reasons = [r for r in REASONS if r in found] + sorted(found - set(REASONS))
    figure = new_figure(style.FULL_IN, 0.24 * len(shares) + 0.85)
    axes = figure.add_subplot()
    pen, colours = Pen(data.strategies), {reason: _colour(reason) for reason in reasons}
    for row, (strategy, of_strategy) in enumerate(shares.items()):
        end = pen.stack(axes, strategy, row, of_strategy, colours)
        text = axes.annotate(
            percent(end), (end, row), (3, 0), textcoords="offset points", va="center",
            fontsize=7, color=style.MUTED,
        )  # fmt: skip
        pen.mark(strategy, text)
    name_rows(axes, shares)
    axes.set_xlim(0, max(0.05, 1.12 * max(sum(of.values()) for of in shares.values())))
    axes.xaxis.set_major_formatter(lambda share, _: percent(share))
    axes.set_xlabel("share of all requests")
    draw_key(figure, {REASONS.get(reason, reason): _colour(reason) for reason in reasons})
    rivals = [s for s in shares if s in data.contestants()] or list(shares)
    failed = {s: sum(shares[s].values()) for s in rivals}
    return Figure(
        name="failures",
        title=_failures_finding(failed),
        caption="Share of all requests that failed, by reason; mean over seeds.",
        alt="Failed share by strategy: "
        + "; ".join(f"{s} {sum(of.values()):.1%}" for s, of in shares.items())
        + ".",
        drawing=figure,
        frame=make_frame(
            ("strategy", *reasons),
            tuple((s, *(of.get(r, 0.0) for r in reasons)) for s, of in shares.items()),
        ),
    )


def _failures_finding(failed: Mapping[str, float]) -> str:
    least, share = tied(failed, percent), percent(min(failed.values()))
    if len(failed) == 1:
        return f"{least[0]} fails {share} of its requests"
    who = leading(
        failed,
        least,
        "fails the fewest requests",
        "fail the fewest requests",
        "No strategy fails fewer requests than another",
    )
    return f"{who}: {share}"


def _set_time_axis(axes: Axes, tau_s: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(max(0.3, float(GRID_S[0])), tau_s)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(FixedLocator([t for t in (1, 10, 100) if t < tau_s] + [tau_s]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _distributions_alt(data: Data, strategies: list[str]) -> str:
    minute = int(np.searchsorted(GRID_S, 60.0))
    parts = []
    for strategy in strategies:
        shares = (f"{lm} {data.records.answered(strategy, lm)[minute]:.0%}" for lm in data.lms())
        parts.append(f"{strategy}: {', '.join(shares)}")
    return "Share of requests answered within a minute. " + "; ".join(parts) + "."


def _distributions_frame(data: Data, strategies: list[str], lms: tuple[str, ...]) -> pl.DataFrame:
    rows = [
        (strategy, lm, float(time_s), float(share))
        for strategy in strategies
        for lm in lms
        for time_s, share in zip(GRID_S, data.records.answered(strategy, lm), strict=True)
    ]
    return make_frame(("strategy", "lm", "latency_s", "share_answered"), tuple(rows))


def _colour(reason: str) -> str:
    return style.FAILURES.get(reason, (style.AXIS, ""))[0]


SECTION = Section(
    "lms",
    "LM by LM",
    figures=(per_lm, latency_distributions, where_time_goes, failures),
)
