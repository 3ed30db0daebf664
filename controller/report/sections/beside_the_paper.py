"""Section "Beside the paper": figures in the paper's text beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.report import style
from controller.report.analysis import published
from controller.report.analysis.data import Data
from controller.report.figure import Figure, Pen, new_figure
from controller.report.structure import Section
from controller.report.table import (
    STRATEGY,
    Cell,
    Column,
    Row,
    Table,
    frame_of,
    make_frame,
    mean,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def published_figures(data: Data) -> Table | None:
    """Tabulate the paper's figures beside ours; None on another testbed or load than its own."""
    if not published.applies(data):
        return None
    known = set(data.present())
    rows = []
    for claim in published.claims():
        if claim.strategy in known or claim.strategy == "MA":
            ours = claim.ours(data) if claim.strategy in known else None
            rows.append(
                {
                    "strategy": claim.strategy,
                    "quantity": claim.quantity,
                    "published": claim.published,
                    "unit": claim.unit,
                    "ours": ours.mean if ours else None,
                    "low": ours.low if ours else None,
                    "high": ours.high if ours else None,
                }
            )
    return Table(
        name="published",
        caption="What the paper's text reports, measured on its own hardware, beside ours from "
        "this campaign. They are not expected to agree.",
        frame=frame_of(rows),
        columns=(
            STRATEGY,
            Column("quantity", "Quantity", words("words"), numeric=False),
            Column("published", "Paper", _theirs),
            Column("ours", "This campaign", _ours),
        ),
    )


def _theirs(row: Row, key: str) -> Cell:
    return Cell(f"{row[key]} {row['unit']}".strip())


def _ours(row: Row, key: str) -> Cell:
    if row[key] is None:
        return Cell("not run", kind="none")
    unit = row["unit"]
    interval = {key: row[key], f"{key}_high": row["high"]}
    return mean(0 if unit == "s" else 2, f" {unit}".rstrip())(interval, key)


def inferred_figures(data: Data) -> Table | None:
    """Tabulate the paper's figures beside ours in the estimated and the inferred worlds; None
    without an inferred one."""
    found = published.worlds(data) if published.applies(data) else {}
    if not found:
        return None
    known = {s for world in found.values() for s in world.present()}
    rows: list[dict[str, object]] = []
    for claim in (*published.claims(), *published.unasked()):
        if claim.strategy not in known:
            continue
        ours = {title: claim.ours(world) for title, world in found.items()}
        rows.append(
            {
                "strategy": claim.strategy, "quantity": claim.quantity,
                "published": claim.published, "unit": claim.unit,
                **{title: one.mean if one else None for title, one in ours.items()},
            }
        )  # fmt: skip
    return Table(
        name="inferred",
        caption="The paper's figures beside three kinds of numbers: published, estimated from data "
        "sheets, and inferred from published aggregates of the baselines, not measured. SOLVER's "
        "rows stand beside MA's figures, which no search was given.",
        frame=frame_of(rows),
        columns=(
            STRATEGY,
            Column("quantity", "Quantity", words("words"), numeric=False),
            Column("published", "Paper", _theirs),
            *(Column(title, title.capitalize(), _plain) for title in found),
        ),
    )


def worlds(data: Data) -> Figure | None:
    """Draw latency against fairness as published, and in the estimated and inferred worlds."""
    found = published.worlds(data) if published.applies(data) else {}
    if not found:
        return None
    pen = Pen(data.strategies)
    drawing = new_figure(style.FULL_IN, 2.7)
    panels = drawing.subplots(1, 1 + len(found), sharex=True, sharey=True)
    _draw_published(panels[0])
    rows: list[tuple[object, ...]] = []
    for axes, (title, world) in zip(panels[1:], found.items(), strict=True):
        axes.set_title(title, loc="left")
        for strategy in world.present():
            latency = world.interval("t_mean_s", strategy)
            fairness = world.interval("f_norm", strategy)
            if latency.n:
                pen.point(axes, strategy, latency.mean, fairness.mean)
                rows.append((title, strategy, latency.n, latency.mean, fairness.mean))
    panels[0].set_xlim(left=0)
    panels[0].set_ylim(top=1.04)
    panels[0].set_ylabel("fairness $F_{norm}$")
    drawing.supxlabel("mean latency of successes (s)")
    pen.legend(drawing, [s for s in data.strategies if any(row[1] == s for row in rows)])
    return Figure(
        name="worlds",
        title="The paper's results beside an estimated and inferred testbeds",
        caption="Each panel is one testbed: the published one, where the text gives RF, RL and MA "
        "alone; ours with estimated service times; and ours with numbers inferred from published "
        "aggregates of the baselines, not measured, on fewer seeds and epochs.",
        alt="Mean latency and fairness by world and strategy: "
        + "; ".join(f"{w}, {s} {t:.0f} s and {f:.2f}" for w, s, _, t, f in rows)
        + ".",
        drawing=drawing,
        frame=make_frame(("world", "strategy", "seeds", "t_mean_s", "f_norm"), tuple(rows)),
    )


def _draw_published(axes: Axes) -> None:
    axes.set_title("published", loc="left")
    known = [(point.strategy, point.t_mean_s, point.f_norm) for point in published.POINTS]
    for strategy, t_mean_s, f_norm in (*known, (published.FAIRNESS_ONLY[0], 0.0, 1.0)):
        axes.plot(
            t_mean_s, f_norm, marker=style.KNOWN[strategy].marker, ms=6.5, mfc=style.SURFACE,
            mec=style.PUBLISHED, mew=1.1, ls="none", clip_on=False,
        )  # fmt: skip
        axes.annotate(
            strategy, (t_mean_s, f_norm), (6, -3), textcoords="offset points", fontsize=7,
            color=style.PUBLISHED,
        )  # fmt: skip


def _plain(row: Row, key: str) -> Cell:
    if row[key] is None:
        return Cell("not run", kind="none")
    return Cell(f"{row[key]:.{0 if row['unit'] == 's' else 2}f} {row['unit']}".strip(), row[key])


SECTION = Section(
    "published",
    "Beside the paper",
    tables=(published_figures, inferred_figures),
    figures=(worlds,),
)
