"""Section "Up to the bound": what separates the best strategy from the bound, over load."""

from __future__ import annotations

from collections.abc import Sequence

from controller.report import style
from controller.report.analysis.data import Data
from controller.report.analysis.gap import PARTS, Gap, measure_gaps
from controller.report.figure import Figure, Pen, draw_key, name_rows, new_figure
from controller.report.structure import Section
from controller.report.table import make_frame
from controller.report.text import significant


def gap(data: Data) -> Figure | None:
    """Draw stacked bars, a row per load and strategy; None without any."""
    gaps = measure_gaps(data)
    if not gaps:
        return None
    figure = new_figure(style.FULL_IN, 0.25 * len(gaps) + 1.0)
    pen = Pen(data.strategies)
    axes = figure.subplots()
    colours = {part: style.GAP[part][0] for part in PARTS}
    for row, one in enumerate(gaps):
        widths = dict(zip(PARTS, one.parts.tolist(), strict=True))
        axes.annotate(
            f"{significant(one.ratio)} times the bound",
            (pen.stack(axes, one.strategy, row, widths, colours), row), (4, 0),
            textcoords="offset points", va="center", fontsize=6.5, color=style.MUTED,
        )  # fmt: skip
    name_rows(axes, (_label(data, one) for one in gaps))
    axes.set_xlim(0, 1.14 * max(one.objective for one in gaps))
    axes.set_xlabel("objective")
    draw_key(figure, colours)
    return Figure(
        name="gap",
        title=_finding(data, gaps),
        caption=_caption(data, gaps),
        alt="Objective over bound: "
        + "; ".join(f"{_label(data, one)}: {significant(one.ratio)}" for one in gaps)
        + ".",
        drawing=figure,
        frame=make_frame(
            ("load", "strategy", *PARTS, "objective", "ratio"),
            tuple(
                (g.setting.value("load"), g.strategy, *g.parts.tolist(), g.objective, g.ratio)
                for g in gaps
            ),
        ),
    )


def _label(data: Data, one: Gap) -> str:
    load = one.setting.value("load")
    return one.strategy if len(data.loads()) < 2 or load is None else f"{one.strategy}, {load:g}"


def _finding(data: Data, gaps: Sequence[Gap]) -> str:
    """Name the largest part beyond the bound, where the load is closest to the nominal one."""
    nearest = min(
        gaps,
        key=lambda g: (
            data.is_diagnostic(g.strategy),
            abs(float(g.setting.value("load") or 1) - 1),
        ),
    )
    beyond = dict(zip(PARTS[1:], nearest.parts[1:].tolist(), strict=True))
    largest = max(beyond, key=lambda part: beyond[part])
    return f"What separates {nearest.strategy} from the bound is mostly {largest}"


def _caption(data: Data, gaps: Sequence[Gap]) -> str:
    text = (
        "Parts of the objective of the best strategy at each load (the number beside its name), "
        "mean over seeds. The bound knows everything beforehand and has no queues, no shared GPUs "
        "and no start-ups but the first. A wait counts as start-up if the pod was not ready as the "
        "slot of the arrival began."
    )
    if any(data.is_diagnostic(one.strategy) for one in gaps):
        text += (
            " ORACLE is SOLVER that knows each slot's prompts beforehand: its lead is what that "
            "information is worth."
        )
    return text


SECTION = Section("bound", "Up to the bound", figures=(gap,))
