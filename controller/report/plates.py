"""A plate: one figure with its words and the numbers behind it; and the pen that draws it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.report import style
from controller.report.style import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES_ID = "series-"  # group ids in the SVG: series-<index of the strategy>-<count>


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain values for a CSV file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class Plate:
    """A figure ready for the page.

    ``title`` says the finding or the quantity, ``caption`` how to read it, ``alt`` what a reader
    who does not see it should know.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: Table
    wide: bool = True


class Pen:
    """Draws strategies, always in their own look, and marks what belongs to which."""

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
        """A marker with error bars; ``xerr`` and ``yerr`` are (low, high) limits, None for none.
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
        """A curve in the strategy's line style with about so many markers, which sit elsewhere on
        every strategy's curve so that they do not cover each other."""
        look, index = self.look(strategy), self._index[strategy]
        step = max(1, len(x) // markers)
        (line,) = axes.plot(x, y, color=look.colour, ls=look.line, lw=width)
        line.set(marker=look.marker, ms=_size(look) - 1.2, mec=style.SURFACE, mew=0.5)
        line.set_markevery((index * max(1, step // 3) % step, step))
        self.mark(strategy, line)

    def legend(
        self, figure: Figure, strategies: Iterable[str], *, columns: int = 10, lines: bool = False
    ) -> None:
        """One legend above the figure's axes."""
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


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure with a canvas of its own; needs the style's rc context around it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_key(figure: Figure, colours: Mapping[str, str]) -> None:
    """A legend of plain colours above the figure's axes."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=label) for label, colour in colours.items()]
    if handles:
        figure.legend(
            handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.0,
            handleheight=0.9, borderaxespad=0.2,
        )  # fmt: skip


def _size(look: Look) -> float:
    """Marker sizes of equal weight to the eye."""
    return {"*": 8.5, "D": 4.8, "s": 5.2, "X": 6.0, "P": 6.0, "p": 6.4}.get(look.marker, 5.6)
