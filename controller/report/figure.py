"""A figure with its words and numbers, and the pen that draws strategies alike in all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from controller.report import style
from controller.report.style import Look
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

SERIES_ID = "series-"  # group ids in the SVG: series-<index of the strategy>-<count>


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the page and its files.

    ``title``: the finding or the quantity; ``caption``: how to read it; ``alt``: what a reader who
    does not see it should know; ``frame``: the numbers of its CSV file.
    """

    name: str
    title: str
    caption: str
    alt: str
    drawing: Drawing
    frame: pl.DataFrame
    wide: bool = True


class Pen:
    """A pen that draws every strategy in its own look, and marks what belongs to which."""

    def __init__(self, strategies: tuple[str, ...]) -> None:
        self._index = {name: k for k, name in enumerate(strategies)}
        self._looks = style.looks(strategies)
        self._count = itertools.count()

    def look(self, strategy: str) -> Look:
        return self._looks[strategy]

    def mark(self, strategy: str, *artists: Any) -> None:
        """Let the page switch these artists with the strategy."""
        for artist in artists:
            artist.set_gid(f"{SERIES_ID}{self._index[strategy]}-{next(self._count)}")

    def point(
        self,
        axes: Axes,
        strategy: str,
        x: float,
        y: float,
        *,
        ring: int = 0,
        **errors: tuple[float, float] | None,
    ) -> None:
        """Draw a marker with error bars; ``xerr`` and ``yerr``: (low, high) limits, None for none.
        ``ring``: markers at the same place, around which it is drawn hollow."""
        look = self.look(strategy)
        for direction, limits in errors.items():
            if limits is not None:
                along = (limits, (y, y)) if direction == "xerr" else ((x, x), limits)
                (line,) = axes.plot(*along, color=look.colour, lw=1.1, solid_capstyle="butt")
                self.mark(strategy, line)
        fill: dict[str, Any] = (
            {"mfc": "none", "mec": look.colour, "mew": 1.1, "ms": _size(look) + 5.5 * min(ring, 4)}
            if ring
            else {"mfc": look.colour, "mec": style.SURFACE, "mew": 0.6, "ms": _size(look)}
        )
        (marker,) = axes.plot([x], [y], look.marker, zorder=3, **fill)
        self.mark(strategy, marker)

    def line(
        self, axes: Axes, strategy: str, x: Any, y: Any, *, markers: int, width: float = 1.3
    ) -> None:
        """Draw a curve in the strategy's line style with about so many markers, which sit
        elsewhere on every strategy's curve so that they do not cover each other."""
        look, index = self.look(strategy), self._index[strategy]
        step = max(1, len(x) // markers)
        (line,) = axes.plot(x, y, color=look.colour, ls=look.line, lw=width)
        line.set(marker=look.marker, ms=_size(look) - 1.2, mec=style.SURFACE, mew=0.5)
        line.set_markevery((index * max(1, step // 3) % step, step))
        self.mark(strategy, line)

    def band(self, axes: Axes, strategy: str, x: Any, points: list[Interval]) -> None:
        """Draw a curve of means with its band of intervals."""
        low, high = ([getattr(point, side) for point in points] for side in ("low", "high"))
        colour = self.look(strategy).colour
        self.mark(strategy, axes.fill_between(x, low, high, color=colour, alpha=0.14, lw=0))
        self.line(axes, strategy, x, [point.mean for point in points], markers=8)

    def stack(
        self, axes: Axes, strategy: str, row: int, widths: Mapping[str, float],
        colours: Mapping[str, str],
    ) -> float:  # fmt: skip
        """Draw a row of bars end to end, one for each colour; returns where it ends."""
        left = 0.0
        for name, colour in colours.items():
            bars = axes.barh(row, widths.get(name, 0.0), 0.68, left=left, color=colour, lw=0)
            self.mark(strategy, *bars)
            left += widths.get(name, 0.0)
        return left

    def legend(
        self, figure: Drawing, strategies: Iterable[str], *, columns: int = 10, lines: bool = False
    ) -> None:
        """Draw one legend above the figure's axes."""
        from matplotlib.lines import Line2D

        names = list(strategies)
        handles = []
        for name in names:
            look = self.look(name)
            handles.append(
                Line2D(
                    [], [], color=look.colour, ls=look.line if lines else "none",
                    marker=look.marker, ms=_size(look) - 0.5, mec=style.SURFACE, mew=0.5,
                )
            )  # fmt: skip
        legend = figure.legend(
            handles, names, loc="outside upper left", ncols=min(columns, max(1, len(names))),
            handlelength=2.2 if lines else 1.0, borderaxespad=0.2,
        )  # fmt: skip
        for name, handle, text in zip(
            names, legend.legend_handles, legend.get_texts(), strict=True
        ):
            self.mark(name, handle, text)


def new_figure(width_in: float, height_in: float) -> Drawing:
    """Return an empty drawing with a canvas of its own; needs the style's rc context around it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_key(figure: Drawing, colours: Mapping[str, str]) -> None:
    """Draw a legend of plain colours above the figure's axes."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=label) for label, colour in colours.items()]
    if handles:
        figure.legend(
            handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.0,
            handleheight=0.9, borderaxespad=0.2,
        )  # fmt: skip


def name_rows(axes: Axes, names: Iterable[str]) -> None:
    """Name the rows of a chart from top to bottom."""
    rows = list(names)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def limits(interval: Interval) -> tuple[float, float] | None:
    """Return an interval's limits for an error bar; None where there are none."""
    return None if isnan(interval.low) else (interval.low, interval.high)


def _size(look: Look) -> float:
    """Return marker sizes of equal weight to the eye."""
    return {"*": 8.5, "D": 4.8, "s": 5.2, "X": 6.0, "P": 6.0, "p": 6.4}.get(look.marker, 5.6)
