"""Objective over time: the campaigns of one name as lines, a line per strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from controller.airflow.campaigns import Campaign

WIDTH: Final = 640
HEIGHT: Final = 240
MOST: Final = 30  # campaigns of a chart, the newest

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 30
_TICKS: Final = 4  # lines across, about
_DATES: Final = 6  # at most


@dataclass(frozen=True, slots=True)
class Point:
    """A campaign's objective in the drawing, and its words."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """A strategy's points, from the oldest; where a campaign lacks it, the line is broken."""

    strategy: str
    points: tuple[Point, ...]
    path: str  # of an SVG


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The campaigns of one name, the newest first, and their objective as lines."""

    name: str
    campaigns: tuple[Campaign, ...]
    strategies: tuple[str, ...]
    lines: tuple[Line, ...]
    levels: tuple[Tick, ...]
    dates: tuple[Tick, ...]
    more: int  # older campaigns that are not shown

    def objective(self, campaign: Campaign, strategy: str) -> float | None:
        """Return an objective of the table; None if the campaign has none of this strategy."""
        found = (one.objective for one in campaign.standings if one.strategy == strategy)
        return next(found, None)


def charts(campaigns: Iterable[Campaign]) -> list[Chart]:
    """Return a chart for each name with at least two campaigns that have an objective; campaigns
    come newest first."""
    named: dict[str, list[Campaign]] = {}
    for one in campaigns:
        if any(standing.objective is not None for standing in one.standings):
            named.setdefault(one.name, []).append(one)
    return [_chart(name, found) for name, found in named.items() if len(found) > 1]


def _chart(name: str, found: Sequence[Campaign]) -> Chart:
    shown = tuple(found[:MOST])
    oldest_first = shown[::-1]
    best: dict[str, float] = {}  # of the newest campaign that has the strategy
    for campaign in oldest_first:
        for one in campaign.standings:
            if one.objective is not None:
                best[one.strategy] = one.objective
    values = [s.objective for c in shown for s in c.standings if s.objective is not None]
    levels = _levels(min(values), max(values))
    bottom, top = levels[0], levels[-1]

    def y(value: float) -> float:
        room = HEIGHT - _TOP - _BOTTOM
        return round(HEIGHT - _BOTTOM - room * (value - bottom) / (top - bottom), 1)

    places = [_x(k, len(shown)) for k in range(len(shown))]
    strategies = tuple(sorted(best, key=lambda strategy: (best[strategy], strategy)))
    return Chart(
        name=name,
        campaigns=shown,
        strategies=strategies,
        lines=tuple(_line(one, oldest_first, places, y) for one in strategies),
        levels=tuple(Tick(y(level), f"{level:g}") for level in levels),
        dates=_dates(oldest_first, places),
        more=len(found) - len(shown),
    )


def _line(
    strategy: str,
    campaigns: Sequence[Campaign],
    places: Sequence[float],
    y: Callable[[float], float],
) -> Line:
    points, path, broken = [], [], True
    for campaign, x in zip(campaigns, places, strict=True):
        found = [one.objective for one in campaign.standings if one.strategy == strategy]
        if not found or found[0] is None:
            broken = True
            continue
        points.append(Point(x, y(found[0]), f"{strategy}, {campaign.folder}: {found[0]:.4f}"))
        path.append(f"{'M' if broken else 'L'}{x:g} {points[-1].y:g}")
        broken = False
    return Line(strategy, tuple(points), " ".join(path))


def _x(k: int, count: int) -> float:
    return round(_LEFT + 10 + (WIDTH - _LEFT - _RIGHT - 20) * k / (count - 1), 1)


def _levels(low: float, high: float) -> list[float]:
    """Return round numbers from just below ``low`` to just above ``high``."""
    span = max(high - low, 0.01)
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if span / (power * k) <= _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


def _dates(campaigns: Sequence[Campaign], places: Sequence[float]) -> tuple[Tick, ...]:
    """Return some campaigns' days; their times if all are of one day."""
    whens = [datetime.fromtimestamp(one.changed_unix_s, UTC) for one in campaigns]
    form = "%H:%M" if len({when.date() for when in whens}) == 1 else "%d %b"
    step = math.ceil(len(whens) / _DATES)
    chosen = range(len(whens) - 1, -1, -step)  # the newest among them
    return tuple(Tick(places[k], f"{whens[k]:{form}}") for k in sorted(chosen))
