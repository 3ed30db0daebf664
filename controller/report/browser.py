"""The decisions browser: which epochs of which run are shown, within a bounded size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.domain.errors import InputError
from controller.report.crew import Crew
from controller.report.formats import ranges
from controller.report.planning import Planning, read_planning
from controller.report.study import Study
from controller.results.run import Run

if TYPE_CHECKING:
    from markupsafe import Markup

MAX_BYTES: Final = 1_400_000  # of all browsers of a page together


@dataclass(frozen=True, slots=True)
class Story:
    """One run's planner: every epoch as a folded part of the page."""

    strategy: str
    seed: int
    run: str
    epochs: tuple[Markup, ...]
    note: str


def tell_stories(
    study: Study,
    crew: Crew,
    render: Callable[[str, Planning], Markup],
    max_bytes: int = MAX_BYTES,
) -> tuple[list[Story], tuple[str, ...]]:
    """The shown seed's run of each strategy with agents, else its first; and what cannot be read.
    ``render`` makes a part of the page of a strategy's planning."""
    import polars as pl

    stories, problems = [], []
    shown = [s for s in crew.conducts if crew.conducts[s]]
    for strategy in shown:
        seed = _seed(study, crew, strategy)
        run = study.finished(strategy)[seed]
        try:
            mandate = study.mandate(strategy)
            plannings = read_planning(
                run, study.constants, crew.conducts[strategy][seed],
                mandate.incumbent if mandate.advises else "",
            )  # fmt: skip
        except (OSError, ValueError, LookupError, TypeError, InputError,
                pl.exceptions.PolarsError) as error:  # fmt: skip
            problems.append(f"runs/{run.id}: its decisions cannot be shown: {error}"[:200])
            continue
        stories.append(_story(strategy, run, plannings, render, max_bytes // len(shown)))
    return stories, tuple(problems)


def _seed(study: Study, crew: Crew, strategy: str) -> int:
    seeds, wanted = sorted(crew.conducts[strategy]), study.shown_seed()
    return wanted if wanted in seeds else seeds[0]


def _story(
    strategy: str,
    run: Run,
    plannings: Sequence[Planning],
    render: Callable[[str, Planning], Markup],
    limit: int,
) -> Story:
    """As many epochs as fit: first those that are notable, then from the first on."""
    parts = [render(strategy, planning) for planning in plannings]
    chosen: list[int] = []
    used = 0
    for k in sorted(range(len(parts)), key=lambda k: (not plannings[k].notable, k)):
        size = len(parts[k].encode())
        if used + size <= limit:
            chosen.append(k)
            used += size
    note = ""
    if len(chosen) < len(parts):
        kept = ranges(plannings[k].epoch + 1 for k in chosen) or "none"
        note = (
            f"Of {len(parts)} decisions as many are shown as the page has room for, repaired, "
            f"failed and changed ones first: epochs {kept}. All are in "
            f"runs/{run.id}/transcript.jsonl."
        )
    return Story(strategy, run.seed, run.id, tuple(parts[k] for k in sorted(chosen)), note)
