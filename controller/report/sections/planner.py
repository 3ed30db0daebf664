"""Section "The planner, epoch by epoch": one run of each strategy with agents, to be browsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.domain.errors import InputError
from controller.report.analysis.data import Data
from controller.report.analysis.planner_epochs import PlannerEpoch, planner_epochs
from controller.report.structure import Render, Section
from controller.report.text import ranges
from controller.results.run import Run

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_BYTES: Final = 1_400_000  # of all browsers of a page together


@dataclass(frozen=True, slots=True)
class Browser:
    """One run's planner: every epoch as a folded part of the page. ``shown``: the epochs that the
    page has room for, if not all ``of`` them."""

    strategy: str
    series: int
    seed: int
    run: str
    epochs: tuple[Markup, ...]
    of: int
    shown: str


@dataclass(frozen=True, slots=True)
class EpochView:
    """One epoch of a browser. ``incumbent``: decided, where the planner only advised."""

    strategy: str
    incumbent: str
    epoch: PlannerEpoch


def browsers(data: Data, render: Render) -> list[Markup]:
    """Render the shown seed's run of each strategy with agents, else its first."""
    return [render("browser.html.j2", view) for view in make_browsers(data, render)]


def make_browsers(data: Data, render: Render, max_bytes: int = MAX_BYTES) -> list[Browser]:
    """Return a browser per strategy with agents; a run that cannot be read is a problem."""
    found = []
    counts = data.records.counts
    for strategy, by_seed in counts.items():
        wanted = data.shown_seed()
        seed = wanted if wanted in by_seed else min(by_seed)
        run = data.finished(strategy)[seed]
        try:
            epochs = planner_epochs(run, data.constants, by_seed[seed])
        except InputError as error:
            data.problems.append(str(error))
            continue
        incumbent = data.incumbent(strategy) if data.advises(strategy) else ""
        parts = [render("epoch.html.j2", EpochView(strategy, incumbent, one)) for one in epochs]
        series = data.strategies.index(strategy)
        found.append(_fitted(strategy, series, run, epochs, parts, max_bytes // len(counts)))
    return found


def _fitted(
    strategy: str, series: int, run: Run, epochs: list[PlannerEpoch], parts: list[Markup],
    limit: int,
) -> Browser:  # fmt: skip
    """Keep as many epochs as fit: first those that are notable, then from the first on."""
    chosen: list[int] = []
    used = 0
    for k in sorted(range(len(parts)), key=lambda k: (not epochs[k].notable, k)):
        size = len(parts[k].encode())
        if used + size <= limit:
            chosen.append(k)
            used += size
    shown = ""
    if len(chosen) < len(parts):
        shown = ranges(epochs[k].epoch + 1 for k in chosen) or "none"
    kept = tuple(parts[k] for k in sorted(chosen))
    return Browser(strategy, series, run.seed, run.id, kept, len(parts), shown)


SECTION = Section(
    "planner", "The planner, epoch by epoch", blocks=browsers, words="planner.html.j2"
)
