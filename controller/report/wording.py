"""The report's first words: what was run, what came out, what is missing, what is an estimate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan

from controller.report import reasoners
from controller.report.captions import lowest_objective
from controller.report.comparison import compare_with_reference
from controller.report.context import Context
from controller.report.formats import (
    SPACE,
    counted,
    listed,
    percent,
    ranges,
    significant,
)
from controller.report.study import DIAGNOSTICS, PAPER_BASELINES, Study

MANY = 12  # problems named before the rest is only counted


@dataclass(frozen=True, slots=True)
class Fact:
    """A term and what holds of it."""

    term: str
    words: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the best strategy, and the reference's beside it."""

    value: str
    label: str
    beside: str


def tiles(study: Study) -> tuple[Tile, ...]:
    """The best strategy's figures at a glance."""
    ranking, reference = study.ranking(), study.reference()
    if not ranking:
        return ()
    best = ranking[0]
    shown: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("t_mean_s", "mean latency of successes", lambda x: f"{significant(x, 2)}{SPACE}s"),
        ("success_rate", "of requests answered in time", percent),
        ("f_norm", "fairness F_norm", lambda x: f"{x:.3f}"),
        ("bound_ratio", "times the bound", lambda x: f"{x:.2f}"),
    )
    found = []
    for measure, label, write in shown:
        mine = study.interval(measure, best)
        other = study.interval(measure, reference) if reference not in (None, best) else None
        if mine.n:
            beside = f"{reference}: {write(other.mean)}" if other and other.n else ""
            found.append(Tile(write(mine.mean), label, beside))
    return tuple(found)


def headline(study: Study) -> str:
    """The finding in one line."""
    ranking = study.ranking()
    if not ranking:
        return "Nothing has finished yet"
    best = ranking[0]
    objective = significant(study.interval("objective", best).mean)
    reference, leads = study.reference(), lowest_objective(study)
    if len(ranking) == 1 or reference is None:
        return f"{best}: objective {objective}"
    if reference == best:
        return f"{leads}, {objective}"
    comparison = next(c for c in compare_with_reference(study) if c.strategy == best)
    kind = (
        "the best of the paper's baselines without agents"
        if reference in PAPER_BASELINES
        else "the next"
    )
    if isnan(comparison.share):
        return f"{leads}, {objective}; no seed in common with {kind}"
    return (
        f"{leads}, {objective}: "
        f"{100 * (1 - comparison.share):.0f}{SPACE}% below {reference}, {kind}"
    )


def facts(study: Study, context: Context) -> tuple[Fact, ...]:
    """What was run, term by term."""
    strategies, seeds = study.present(), _seeds(study)
    constants = study.constants
    hours = context.epochs * constants.epoch_slots * constants.slot_s / 3600
    return (
        Fact("Strategies", f"{len(strategies)}: {', '.join(strategies)}{_diagnostics(strategies)}"),
        Fact("Seeds", f"{len(seeds)} ({ranges(seeds)}), the same arrivals for every strategy"),
        Fact(
            "Length",
            f"{counted(context.epochs, 'epoch')} of {counted(constants.epoch_slots, 'slot')} of "
            f"{constants.slot_s:g} s: {hours:.1f} h of operation a run",
        ),
        Fact("Where", _where(context)),
        Fact("Testbed", f"{context.testbed}. {context.testbed_summary}"),
        Fact("Workload", f"{context.workload}. {context.workload_summary}"),
        Fact("Profile", f"{context.profile}. {context.profile_summary}"),
        Fact("Who decided", reasoners.told(study)),
        Fact(
            "Objective (Eq. 10)",
            f"λ·T/τ + (1 - λ)·(1 - F_norm) with T the mean latency of successes, "
            f"λ{SPACE}={SPACE}{constants.lam:g} and τ{SPACE}={SPACE}{constants.tau_s:g}{SPACE}s; "
            "lower is better",
        ),
    )


def estimates(context: Context) -> str:
    """What of the inputs is measured and what is not."""
    counts = context.sources()
    if not counts:
        return "The runs do not say where their service times come from."
    total = sum(counts.values())
    parts = [f"{count} {source}" for source, count in counts.items()]
    text = f"Of {counted(total, 'block')} of numbers behind these runs, {listed(parts)}."
    if counts.get("estimated"):
        text += (
            " Absolute times are as good as these numbers; how far the ranking of strategies hangs "
            "on them is what the sensitivity campaign measures."
        )
    return text


def missing(study: Study) -> tuple[str, ...]:
    """Runs that the figures lack, in words; empty when the grid is complete."""
    absent = [run for run in study.campaign.runs if not run.figures]
    if not absent:
        return ()
    reasons = Counter((run.strategy, run.problem or run.state) for run in absent)
    lines = []
    for (strategy, reason), count in list(reasons.items())[:MANY]:
        seeds = sorted(
            {r.seed for r in absent if (r.strategy, r.problem or r.state) == (strategy, reason)}
        )
        lines.append(f"{strategy}, seed {ranges(seeds)} ({counted(count, 'run')}): {reason}")
    if len(reasons) > MANY:
        lines.append(f"and {counted(len(reasons) - MANY, 'more kind')}, all in tables/runs.csv")
    return tuple(lines)


def progress(study: Study) -> str:
    """How many of the grid's runs are finished."""
    runs = study.campaign.runs
    done = sum(run.figures is not None for run in runs)
    return f"{done} of {counted(len(runs), 'run')} finished"


def caveat(study: Study) -> str:
    """What a reader must know before the figures; empty if nothing."""
    if study.most_seeds() != 1:
        return ""
    return (
        "One seed only: nothing here has an interval, and no difference can be told from chance. "
        "Run five seeds or more (--seeds 5) before you conclude anything."
    )


def _seeds(study: Study) -> list[int]:
    return sorted({seed for s in study.present() for seed in study.finished(s)})


def _diagnostics(strategies: tuple[str, ...]) -> str:
    found = [s for s in strategies if s in DIAGNOSTICS]
    if not found:
        return ""
    return f". {listed(found)} is told what no contestant can know and is out of competition"


def _where(context: Context) -> str:
    if not context.model_version:
        return "The runs do not say."
    return (
        f"In the digital twin, version {context.model_version}: virtual time, no hardware took "
        "part. Its rules are docs/twin.md."
    )


def evidence(study: Study) -> str:
    """Why strategies are compared by seed, and how often the best one wins."""
    text = (
        "Every seed gives all strategies the same arrivals, so they are compared seed by seed with "
        "the paper's baseline without agents that has the lowest objective."
    )
    ranking, reference = study.ranking(), study.reference()
    if reference is None or ranking[0] == reference:
        return text
    ours, theirs = study.paired("objective", ranking[0], reference)
    won = int((ours < theirs).sum())
    return f"{text} {ranking[0]} is below {reference} on {won} of {counted(len(ours), 'seed')}."
