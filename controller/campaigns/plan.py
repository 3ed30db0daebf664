"""The plan of a campaign: which runs are to be made, in which parts, and about how long they take
and what they cost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.campaigns.estimate import Estimates, Expected
from controller.campaigns.grid import Cell, Grid
from controller.campaigns.runner import turn
from controller.domain.errors import InputError
from controller.results.completeness import is_complete
from controller.results.folder import ID_DIGITS, run_folder

# Axes that a row's label names where they differ in the plan, after strategy and seed.
PLACES: Final = ("testbed", "profile", "workload", "load", "faults", "rules", "plans_on", "epochs")
MOST_STRATEGIES: Final = 3  # named in a label
MOST_SEEDS: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """Part of a plan: runs that one task makes."""

    label: str  # unique in the plan
    runs: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {"label": self.label, "runs": list(self.runs)}


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs to make, in rows. ``minutes`` of one worker and ``usd`` are None where unknown."""

    folder: Path
    campaign: str
    digest: str  # of the whole grid's run ids, in order
    target: str
    runs: int  # in the grid
    pending: int
    minutes: float | None
    usd: float | None
    reasoners: tuple[str, ...]
    rows: tuple[Row, ...]

    def document(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "folder": str(self.folder),
            "campaign": self.campaign,
            "digest": self.digest,
            "target": self.target,
            "runs": self.runs,
            "pending": self.pending,
            "minutes": self.minutes,
            "usd": self.usd,
            "reasoners": list(self.reasoners),
            "rows": [row.document() for row in self.rows],
        }


def make_plan(root: Path, grid: Grid, most_rows: int, estimates: Estimates) -> Plan:
    """Return the plan of what ``root`` lacks of the grid, in at most ``most_rows`` rows of about
    equal expected time. Nothing is written."""
    cells = [c for c in grid.cells if not is_complete(run_folder(root, c.run_id))]
    cells.sort(key=turn)
    expected = {cell.run_id: estimates.of(cell.experiment) for cell in cells}
    wall_s = _total([one.wall_s for one in expected.values()])
    usd = _total([one.usd for one in expected.values()])
    parts = _parts(cells, _weights(cells, expected), most_rows)
    reasoners = (c.experiment.reasoner for c in grid.cells)
    return Plan(
        folder=root,
        campaign=grid.campaign.name,
        digest=grid_digest([cell.run_id for cell in grid.cells]),
        target=" and ".join(sorted({cell.experiment.target for cell in grid.cells})),
        runs=len(grid.cells),
        pending=len(cells),
        minutes=None if wall_s is None else round(wall_s / 60, 3),
        usd=None if usd is None else round(usd, 4),
        reasoners=tuple(dict.fromkeys(one.label() for one in reasoners if one)),
        rows=tuple(
            Row(label, tuple(cell.run_id for cell in part))
            for label, part in zip(_labels(parts, cells), parts, strict=True)
        ),
    )


def grid_digest(run_ids: Sequence[str]) -> str:
    """Return how the SHA-256 of the run ids, a line each, begins."""
    return hashlib.sha256("\n".join(run_ids).encode()).hexdigest()[:ID_DIGITS]


def check_budget(plan: Plan, hours_at_most: float | None, usd_at_most: float | None) -> None:
    """Raise unless the plan is known to stay within the limits.

    Raises:
        InputError: it takes too long or costs too much, or nobody knows.
    """
    hours = None if plan.minutes is None else plan.minutes / 60
    _check_limit(plan, "--hours-at-most", hours_at_most, hours, "time", "h of one worker")
    _check_limit(plan, "--usd-at-most", usd_at_most, plan.usd, "cost", "USD")


def _check_limit(
    plan: Plan, option: str, limit: float | None, value: float | None, what: str, unit: str
) -> None:
    if limit is None or (value is not None and value <= limit):
        return
    runs = f"{plan.pending} pending runs"
    minutes = "unknown" if plan.minutes is None else f"about {plan.minutes:.1f}"
    if value is None:
        raise InputError(
            plan.campaign, f"the {what} of {runs} is unknown, so it may be over the limit",
            field=option, value=limit,
            remedy="make one short run with the same strategy and reasoner into a folder beside "
            f"{plan.folder}, give --prices for the models, or leave the limit out",
        )  # fmt: skip
    raise InputError(
        plan.campaign,
        f"{runs} are expected to take {value:.2f} {unit} ({minutes} minutes in all), over the "
        f"limit of {limit:g}",
        field=option, value=limit,
        remedy="give fewer strategies, seeds or epochs, or a higher limit",
    )  # fmt: skip


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _weights(cells: Sequence[Cell], expected: Mapping[str, Expected]) -> list[float]:
    """Return the expected time of each run; that of an unknown one is the mean of the others."""
    found = [expected[cell.run_id].wall_s for cell in cells]
    known = [value for value in found if value is not None]
    mean_s = sum(known) / len(known) if known else 1.0
    return [mean_s if value is None else value for value in found]


def _parts(cells: Sequence[Cell], weights: Sequence[float], most: int) -> list[list[Cell]]:
    """Cut the sequence into at most ``most`` parts of about equal weight: a run belongs to the part
    in which its middle lies."""
    count = min(most, len(cells))
    parts: list[list[Cell]] = [[] for _ in range(count)]
    total, before = sum(weights) or 1.0, 0.0
    for cell, weight in zip(cells, weights, strict=True):
        middle = (before + weight / 2) / total
        parts[min(count - 1, int(middle * count))].append(cell)
        before += weight
    return [part for part in parts if part]


def _labels(parts: Sequence[Sequence[Cell]], cells: Sequence[Cell]) -> list[str]:
    """Return a label for each part, numbered where two would be the same."""
    axes = [cell.axes() for cell in cells]
    places = [place for place in PLACES if len({one[place] for one in axes}) > 1]
    order = list(dict.fromkeys(one["strategy"] for one in axes))
    labels = [_label(part, places, order) for part in parts]
    several, seen = Counter(labels), Counter[str]()
    for position, label in enumerate(labels):
        if several[label] > 1:
            seen[label] += 1
            labels[position] = f"{label}, part {seen[label]} of {several[label]}"
    return labels


def _label(part: Sequence[Cell], places: Sequence[str], order: Sequence[str]) -> str:
    """Return strategies, seeds, and the value of each varying axis on which the runs agree."""
    axes = [cell.axes() for cell in part]
    strategies = sorted({one["strategy"] for one in axes}, key=order.index)
    few = len(strategies) <= MOST_STRATEGIES
    words = [", ".join(strategies) if few else f"{len(strategies)} strategies"]
    words.append(_seeds(sorted({one["seed"] for one in axes})))
    for place in places:
        values = {one[place] for one in axes}
        if len(values) == 1:
            (value,) = values
            words.append(f"{place} {value:g}" if isinstance(value, float) else f"{place} {value}")
    return ", ".join(words)


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"seeds {seeds[0]} to {seeds[-1]}"
    if len(seeds) > MOST_SEEDS:
        return f"{len(seeds)} seeds from {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
