"""What separates the best strategy from the bound, over load."""

from __future__ import annotations

from collections.abc import Sequence

from controller.report import style
from controller.report.formats import significant
from controller.report.gap import PARTS, Gap
from controller.report.plates import Pen, Plate, Table, draw_key, new_figure
from controller.report.study import DIAGNOSTICS, Study


def draw_gaps(study: Study, gaps: Sequence[Gap]) -> Plate | None:
    """Stacked bars, a row per load and strategy; None without any."""
    if not gaps:
        return None
    figure = new_figure(style.FULL_IN, 0.25 * len(gaps) + 1.0)
    pen = Pen(study.strategies)
    axes = figure.subplots()
    for row, gap in enumerate(gaps):
        left = 0.0
        for part, width in zip(PARTS, gap.parts.tolist(), strict=True):
            colour = style.GAP[part][0]
            pen.mark(gap.strategy, *axes.barh(row, width, 0.68, left=left, color=colour, lw=0))
            left += width
        axes.annotate(
            f"{significant(gap.ratio)} times the bound",
            (left, row), (4, 0), textcoords="offset points", va="center", fontsize=6.5,
            color=style.MUTED,
        )  # fmt: skip
    axes.set_yticks(range(len(gaps)), [_label(study, gap) for gap in gaps])
    axes.set_ylim(len(gaps) - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * max(gap.objective for gap in gaps))
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("objective")
    draw_key(figure, {part: style.GAP[part][0] for part in PARTS})
    return Plate(
        name="gap",
        title=_finding(gaps),
        caption=_caption(gaps),
        alt="Objective over bound: "
        + "; ".join(f"{_label(study, gap)}: {significant(gap.ratio)}" for gap in gaps)
        + ".",
        figure=figure,
        data=Table(
            ("load", "strategy", *PARTS, "objective", "ratio"),
            tuple(
                (g.setting.value("load"), g.strategy, *g.parts.tolist(), g.objective, g.ratio)
                for g in gaps
            ),
        ),
    )


def _label(study: Study, gap: Gap) -> str:
    load = gap.setting.value("load")
    return gap.strategy if len(study.loads()) < 2 or load is None else f"{gap.strategy}, {load:g}"


def _finding(gaps: Sequence[Gap]) -> str:
    """The largest part beyond the bound, where the load is closest to the nominal one."""
    gap = min(
        gaps,
        key=lambda g: (g.strategy in DIAGNOSTICS, abs(float(g.setting.value("load") or 1) - 1)),
    )
    beyond = dict(zip(PARTS[1:], gap.parts[1:].tolist(), strict=True))
    largest = max(beyond, key=lambda part: beyond[part])
    return f"What separates {gap.strategy} from the bound is mostly {largest}"


def _caption(gaps: Sequence[Gap]) -> str:
    text = (
        "Parts of the objective of the best strategy at each load (the number beside its name), "
        "mean over seeds. The bound knows everything beforehand and has no queues, no shared GPUs "
        "and no start-ups but the first. A wait counts as start-up if the pod was not ready as the "
        "slot of the arrival began."
    )
    if any(gap.strategy in DIAGNOSTICS for gap in gaps):
        text += (
            " ORACLE is SOLVER that is told each slot's prompts beforehand: its lead is what that "
            "information is worth."
        )
    return text
