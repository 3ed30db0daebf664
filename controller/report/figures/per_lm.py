"""Fig. 6: latency and success ratio of every LM, and where the time goes."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from controller.report import published, style
from controller.report.captions import averaged, conjugated, tied
from controller.report.formats import listed, percent
from controller.report.outcomes import COMPONENTS, Outcomes
from controller.report.plates import Pen, Plate, Table, draw_key, new_figure
from controller.report.study import Study
from controller.results.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL = "all"
Cells = dict[tuple[str, str], Interval]  # (strategy, LM or ALL)


def draw_per_lm(study: Study) -> Plate | None:
    """Bars grouped by LM: mean latency of successes above, success ratio below."""
    strategies, lms = study.present(), study.lms()
    if not strategies:
        return None
    latency = _cells(study, "t_mean_s", "t_mean_s")
    success = _cells(study, "rho", "success_rate")
    pen = Pen(study.strategies)
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
    beside = published.applies(study) and "LM4" in lms
    if beside:
        _draw_published(upper, lower, lms.index("LM4"))
    pen.legend(figure, strategies)
    return Plate(
        name="fig6-per-lm",
        title=_finding(success, study.contestants() or strategies, lms),
        caption=_caption(study, beside),
        alt=_alt(success, strategies, lms),
        figure=figure,
        data=_table(latency, success),
    )


def draw_components(study: Study, outcomes: Outcomes) -> Plate | None:
    """Stacked bars of the mean time of a success, a panel per LM, a row per strategy."""
    strategies = [s for s in study.present() if outcomes.of(s)]
    lms = study.lms()
    if not strategies:
        return None
    figure = new_figure(style.FULL_IN, 0.22 * len(strategies) + 1.15)
    pen = Pen(study.strategies)
    panels = figure.subplots(1, len(lms), sharey=True, squeeze=False)[0]
    for axes, lm in zip(panels, lms, strict=True):
        _stack(axes, pen, outcomes, strategies, lm)
        axes.set_title(lm)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    panels[0].set_yticks(range(len(strategies)), strategies)
    panels[0].set_ylim(len(strategies) - 0.4, -0.6)
    figure.supxlabel("mean time of a success (s)", fontsize=7.5, color=style.MUTED)
    draw_key(figure, {part: style.COMPONENTS[part][0] for part in COMPONENTS})
    rows = tuple(
        (s, lm, *map(float, outcomes.components_s(s, lm))) for s in strategies for lm in lms
    )
    share = _queue_share(rows)
    return Plate(
        name="where-time-goes",
        title=_share_words(share),
        caption=(
            "Mean over seeds, successes only. Queueing includes the start of a pod and the time "
            "until the slot's decision is in force. Transfers take milliseconds at the testbed's "
            "bandwidth and are too thin to see; the table has them."
        ),
        alt="Mean uplink, queue, inference and downlink time per strategy and LM; "
        f"queueing is {share:.0%} of the total on average over strategies and LMs.",
        figure=figure,
        data=Table(("strategy", "lm", *(f"{part}_s" for part in COMPONENTS)), rows),
    )


def _stack(axes: Axes, pen: Pen, outcomes: Outcomes, strategies: list[str], lm: str) -> None:
    for row, strategy in enumerate(strategies):
        left = 0.0
        seconds = np.nan_to_num(outcomes.components_s(strategy, lm)).tolist()
        for part, width in zip(COMPONENTS, seconds, strict=True):
            bars = axes.barh(row, width, 0.68, left=left, color=style.COMPONENTS[part][0], lw=0)
            pen.mark(strategy, *bars)
            left += width


def _cells(study: Study, field: str, overall: str) -> Cells:
    cells = {}
    for strategy in study.present():
        for lm in study.lms():
            cells[strategy, lm] = mean_interval(study.lm_values(field, strategy, lm))
        cells[strategy, ALL] = study.interval(overall, strategy)
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


def _finding(success: Cells, strategies: tuple[str, ...], lms: tuple[str, ...]) -> str:
    worst = {s: min((success[s, lm].mean, lm) for lm in lms) for s in strategies}
    best = tied({s: ratio for s, (ratio, _) in worst.items()}, percent, highest=True)
    ratio, lm = worst[best[0]]
    if len(strategies) == 1:
        return f"{best[0]} answers {percent(ratio)} of requests for {lm}, its worst-served LM"
    if ratio == 1:
        return f"{conjugated(best, 'answers', 'answer')} every request of every LM in time"
    if len(best) > 1:
        return f"{listed(best)} serve their worst-served LM best: {percent(ratio)}"
    return f"{best[0]} serves its worst-served LM best: {percent(ratio)} of {lm}"


def _caption(study: Study, beside: bool) -> str:
    text = averaged(study, " with 95 % t-intervals") + "."
    if beside:
        text += f" Dashed grey lines are {published.WHERE}."
    return text


def _alt(success: Cells, strategies: tuple[str, ...], lms: tuple[str, ...]) -> str:
    parts = []
    for strategy in strategies:
        ratios = ", ".join(f"{lm} {success[strategy, lm].mean:.2f}" for lm in lms)
        parts.append(f"{strategy}: {ratios}")
    return "Success ratio by strategy and LM. " + "; ".join(parts) + "."


def _table(latency: Cells, success: Cells) -> Table:
    rows = tuple(
        (s, lm, t.n, t.mean, t.low, t.high, success[s, lm].mean, success[s, lm].low,
         success[s, lm].high)
        for (s, lm), t in latency.items()
    )  # fmt: skip
    names = ("t_mean_s", "t_mean_low_s", "t_mean_high_s", "success", "success_low", "success_high")
    return Table(("strategy", "lm", "seeds", *names), rows)


def _queue_share(rows: tuple[tuple[object, ...], ...]) -> float:
    times = np.array([row[2:] for row in rows], np.float64)
    times = times[~np.isnan(times).any(axis=1)]
    return float((times[:, 1] / times.sum(axis=1)).mean()) if len(times) else float("nan")


def _share_words(share: float) -> str:
    if isnan(share):
        return "Where the time goes"
    return f"Waiting is {percent(round(share, 2))} of a success's time, over all strategies and LMs"
