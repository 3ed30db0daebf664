"""Names beside their points, where they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.report.figure import Pen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top in points

CHARACTER_PT = 5.0  # width at the labels' size, a little generous
HEIGHT_PT = 9.0
REACH_PT = 6.0
PLACES = (
    (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1),
    (1.8, 1.8), (1.8, -1.8), (-1.8, 1.8), (-1.8, -1.8), (0, 2), (0, -2),
    (1, -3.5), (1, 3.5), (1, -5), (1, 5),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Label:
    """A text at a point in data coordinates; ``strategy`` is empty for none of ours."""

    text: str
    x: float
    y: float
    colour: str
    strategy: str = ""
    reach_x: tuple[float, float] | None = None  # of the error bar, in data coordinates


def place_labels(axes: Axes, labels: Sequence[Label], pen: Pen) -> None:
    """Write every label at the first of PLACES with the least overlap. Call with final limits."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("labels need axes on a figure")
    figure.draw_without_rendering()
    scale = 72.0 / figure.dpi
    anchors = [tuple(axes.transData.transform((p.x, p.y)) * scale) for p in labels]
    bounds = axes.get_window_extent()
    frame = tuple(v * scale for v in (bounds.x0, bounds.y0, bounds.x1, bounds.y1))
    taken = [_obstacle(axes, label, scale) for label in labels]
    for label, (x, y) in zip(labels, anchors, strict=True):
        size = CHARACTER_PT * len(label.text), HEIGHT_PT
        boxes = {place: _box(x, y, place, size) for place in PLACES}
        place = min(PLACES, key=lambda p: _cost(boxes[p], taken, frame))
        taken.append(boxes[place])
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            (place[0] * REACH_PT, place[1] * REACH_PT),
            textcoords="offset points",
            ha=_side(place[0], ("right", "center", "left")),
            va=_side(place[1], ("top", "center", "bottom")),
            color=label.colour,
            fontsize=7.5,
            fontweight="bold" if label.strategy else "normal",
        )
        if label.strategy:
            pen.mark(label.strategy, text)


def _obstacle(axes: Axes, label: Label, scale: float) -> Box:
    """Return the marker with its horizontal error bar."""
    low, high = label.reach_x or (label.x, label.x)
    left, y = axes.transData.transform((low, label.y)) * scale
    right, _ = axes.transData.transform((high, label.y)) * scale
    return left - 4, y - 4, right + 4, y + 4


def _side(direction: float, names: tuple[str, str, str]) -> str:
    return names[0] if direction < 0 else names[2] if direction > 0 else names[1]


def _box(x: float, y: float, place: tuple[float, float], size: tuple[float, float]) -> Box:
    x, y = x + place[0] * REACH_PT, y + place[1] * REACH_PT
    left = x - size[0] * (0.5 if place[0] == 0 else place[0] < 0)
    bottom = y - size[1] * (0.5 if place[1] == 0 else place[1] < 0)
    return left, bottom, left + size[0], bottom + size[1]


def _cost(box: Box, taken: Sequence[Box], frame: tuple[float, ...]) -> float:
    covered = sum(_overlap(box, other) for other in taken)
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - _overlap(box, (frame[0], frame[1], frame[2], frame[3]))
    return covered + 2 * outside


def _overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
