"""The top of the page: the finding, the best strategy's figures, the campaign's inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from controller.agents.parameters import NEVER
from controller.report.analysis import published
from controller.report.analysis.agent_tiers import Shortfall, shortfalls
from controller.report.analysis.data import (
    PAPER_BASELINES,
    SERVED_LITTLE,
    Constants,
    Data,
    ReasonerGroup,
)
from controller.report.analysis.inputs import Inputs, inputs_of
from controller.report.analysis.ranking import compare_with_reference
from controller.report.text import SPACE, percent, significant, tied
from controller.results.run import Reasoning

MANY = 12  # kinds of missing runs that are named


@dataclass(frozen=True, slots=True)
class Headline:
    """The strategies with the lowest objective beside the reference. ``share``: the best's mean
    objective over the reference's, NaN without a common seed."""

    leaders: tuple[str, ...]
    objective: float
    reference: str = ""  # empty if there is none but the best
    alone: bool = False
    share: float = 1.0
    against_paper: bool = False
    unserved: tuple[tuple[str, float], ...] = ()  # strategies that served few requests: the share
    admission: str = ""  # of the first, where it decides which requests are served


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the best strategy, and the reference's beside it."""

    value: str
    label: str
    beside: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Runs of one strategy that are missing for one reason."""

    strategy: str
    seeds: tuple[int, ...]
    runs: int
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Strategies, seeds and inputs of the campaign."""

    strategies: tuple[str, ...]
    diagnostics: tuple[str, ...]
    seeds: tuple[int, ...]
    constants: Constants
    inputs: Inputs
    hours: float
    reasoners: tuple[ReasonerGroup, ...]
    has_agents: bool
    only_optimisers: bool
    notes: tuple[str, ...]  # what reasoners' servers turned out not to understand


@dataclass(frozen=True, slots=True)
class Overview:
    """The top of the page."""

    headline: Headline | None
    setting: str  # of several, to which headline and tiles speak; empty if there is one
    done: int
    runs: int
    best: str
    tiles: tuple[Tile, ...]
    reasoners: tuple[ReasonerGroup, ...]
    shortfalls: tuple[Shortfall, ...]
    one_seed: bool
    beside_paper: bool  # the paper's own figures stand beside ours
    by_other_code: tuple[str, ...]  # strategies whose runs several versions of the code made
    missing: tuple[Missing, ...]
    more_missing: int
    facts: Facts


def overview(data: Data) -> Overview:
    """Return the top of the page."""
    missing = missing_runs(data)
    return Overview(
        headline=headline(data),
        setting=_setting(data),
        done=sum(run.figures is not None for run in data.campaign.runs),
        runs=len(data.campaign.runs),
        best=next(iter(data.ranking()), ""),
        tiles=_tiles(data),
        reasoners=tuple(data.reasoners(data.present(), in_short=True)),
        shortfalls=tuple(shortfalls(data)),
        one_seed=data.most_seeds() == 1,
        beside_paper=published.applies(data),
        by_other_code=_by_other_code(data),
        missing=missing[:MANY],
        more_missing=max(0, len(missing) - MANY),
        facts=_facts(data),
    )


def headline(data: Data) -> Headline | None:
    """Return the finding; None if nothing has finished."""
    ranking, reference = data.ranking(), data.reference()
    if not ranking or reference is None:
        return None
    best = ranking[0]
    means = {s: data.interval("objective", s).mean for s in ranking}
    leaders = tuple(tied(means, significant))
    served = {s: data.interval("success_rate", s).mean for s in ranking}
    unserved = tuple((s, share) for s, share in served.items() if share < SERVED_LITTLE)
    if len(ranking) == 1 or reference == best:
        return Headline(
            leaders, means[best], alone=len(ranking) == 1, unserved=unserved,
            admission=_admission(data, best),
        )  # fmt: skip
    share = next(c.share for c in compare_with_reference(data) if c.strategy == best)
    paper = reference in PAPER_BASELINES
    return Headline(
        leaders, means[best], reference, share=share, against_paper=paper, unserved=unserved,
        admission=_admission(data, best),
    )  # fmt: skip


def _setting(data: Data) -> str:
    """Return the setting of the headline where a campaign has several: "load 0.8, one of 3"."""
    if len(data.settings) < 2:
        return ""
    axes = [f"{axis} {data.nominal.value(axis)}" for axis in data.varying]
    return f"{', '.join(axes)}: one of {len(data.settings)} settings"


def _admission(data: Data, strategy: str) -> str:
    """Say whether a strategy that can refuse requests may, unless it answers all of them."""
    refusal = data.refusal(strategy)
    if refusal == NEVER:
        return f"{strategy} refuses no request here"
    served = data.interval("success_rate", strategy).mean
    if not refusal or served != served or percent(served) == percent(1.0):
        return ""
    return f"{strategy} may refuse requests and answers {percent(served)} of them"


def _by_other_code(data: Data) -> tuple[str, ...]:
    digests: dict[str, set[str]] = {}
    for run in data.campaign.runs:
        if run.figures:
            digests.setdefault(run.strategy, set()).add(run.figures.code)
    return tuple(strategy for strategy, found in digests.items() if len(found) > 1)


def missing_runs(data: Data) -> tuple[Missing, ...]:
    """Return the runs that the figures lack, by strategy and reason."""
    absent = [run for run in data.campaign.runs if not run.figures]
    reasons = Counter((run.strategy, run.problem or run.state) for run in absent)
    return tuple(
        Missing(
            strategy,
            tuple(
                r.seed for r in absent if (r.strategy, r.problem or r.state) == (strategy, reason)
            ),
            count,
            reason,
        )
        for (strategy, reason), count in reasons.items()
    )


def _tiles(data: Data) -> tuple[Tile, ...]:
    ranking, reference = data.ranking(), data.reference()
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
        mine = data.interval(measure, best)
        other = data.interval(measure, reference) if reference not in (None, best) else None
        if mine.n:
            beside = f"{reference}: {write(other.mean)}" if other and other.n else ""
            found.append(Tile(write(mine.mean), label, beside))
    return tuple(found)


def _reasonings(data: Data) -> Iterator[Reasoning]:
    for run in data.campaign.runs:
        if run.figures and run.figures.reasoner:
            yield run.figures.reasoner


def _facts(data: Data) -> Facts:
    strategies, constants, inputs = data.present(), data.constants, inputs_of(data)
    agents = data.agents()
    reasonings = [data.reasoning(s) for s in agents]
    return Facts(
        strategies=strategies,
        diagnostics=tuple(s for s in strategies if data.is_diagnostic(s)),
        seeds=tuple({seed for s in strategies for seed in data.finished(s)}),
        constants=constants,
        inputs=inputs,
        hours=inputs.epochs * constants.epoch_slots * constants.slot_s / 3600,
        reasoners=tuple(data.reasoners(strategies)),
        has_agents=bool(agents),
        only_optimisers=all(one and one.is_language_model is False for one in reasonings),
        notes=tuple(sorted({note for one in _reasonings(data) for note in one.notes})),
    )
