"""Section "Is the difference real?": paired comparisons with the best baseline, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

from controller.report.analysis.data import PAPER_BASELINES, Data
from controller.report.analysis.ranking import compare_with_reference
from controller.report.structure import Section
from controller.report.table import EMPTY, Cell, Column, Row, Table, frame_of, value
from controller.results.statistics import EXACT_UP_TO


def significance(data: Data) -> Table | None:
    """Tabulate paired comparisons of the objective with the best baseline."""
    found = compare_with_reference(data)
    reference = data.reference()
    if not found or reference is None:
        return None
    fullest = max((one.paired for one in found), key=lambda paired: paired.difference.n)
    over = "the only comparison" if len(found) == 1 else f"the {len(found)} comparisons"
    rows = [
        {
            "strategy": one.strategy,
            "reference": reference,
            "pairs": one.paired.difference.n,
            "difference": one.paired.difference.mean,
            "low": one.paired.difference.low,
            "high": one.paired.difference.high,
            "share_of_reference": one.share,
            "effect_dz": one.paired.effect,
            "effect_low": one.paired.effect_low,
            "effect_high": one.paired.effect_high,
            "p_t": one.paired.p_t,
            "p_t_holm": one.p_t_holm,
            "rank_test": one.paired.rank_test,
            "p_rank": one.paired.p_rank,
            "p_rank_holm": one.p_rank_holm,
        }
        for one in found
    ]
    return Table(
        name="significance",
        caption=f"Objective against {reference}, seed by seed. Negative is better than "
        f"{reference}; brackets are 95 % intervals; p-values in brackets are Holm-corrected "
        f"over {over}.",
        frame=frame_of(rows),
        columns=(
            Column("strategy", "Strategy", numeric=False),
            Column("pairs", "Pairs", hint="seeds that both strategies have finished"),
            Column("difference", "Difference", _difference),
            Column("share_of_reference", "Relative", value(lambda share: f"{share - 1:+.0%}"),
                   "mean objective over the reference's, minus 1"),
            Column("effect_dz", "Effect size d", _effect,
                   "mean difference over its standard deviation"),
            Column("p_t", "p, paired t", _p_value),
            Column("p_rank", f"p, {fullest.rank_test}", _p_value),
        ),
        notes=(*_smallest_p(fullest.difference.n, len(found)), *_choice(data, reference)),
    )  # fmt: skip


def _difference(row: Row, key: str) -> Cell:
    return _signed(row[key], row["low"], row["high"], 3)


def _effect(row: Row, key: str) -> Cell:
    return _signed(row[key], row["effect_low"], row["effect_high"], 1)


def _signed(mean: float, low: float, high: float, digits: int) -> Cell:
    if isnan(mean):
        return EMPTY
    small = "" if isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]"
    return Cell(f"{mean:+.{digits}f}", mean, small)


def _p_value(row: Row, key: str) -> Cell:
    p, corrected = row[key], row[f"{key}_holm"]
    if isnan(p):
        return EMPTY
    kind = "significant" if corrected < 0.05 else ""
    return Cell(_p_text(p), p, f"({_p_text(corrected)})", kind=kind)


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _smallest_p(pairs: int, tests: int) -> tuple[str, ...]:
    """Say what the exact test can resolve, where correction for all tests takes it beyond 0.05."""
    if not 2 <= pairs <= EXACT_UP_TO:
        return ()
    least = 2 / 2**pairs
    corrected = min(1.0, least * tests)
    if corrected < 0.05:
        return ()
    over = f" ({corrected:.3g} corrected)" if tests > 1 else ""
    return (
        f"With {pairs} pairs the exact test cannot give a p-value below {least:.3g}{over}, however "
        "large the difference; the t test can, as it assumes normal differences.",
    )


def _choice(data: Data, reference: str) -> tuple[str, ...]:
    """Say that the reference was chosen by the same seeds, and from how many."""
    means = [data.interval("objective", s).mean for s in data.ranking() if s in PAPER_BASELINES]
    if reference not in PAPER_BASELINES or len(means) < 2:
        return ()
    return (
        f"{reference} was chosen on these same seeds, as the best of {len(means)} baselines "
        f"({means[0]:.3g}, the next {means[1]:.3g}). Chance favours the one that is chosen, so "
        "what others gain on it is rather under- than overstated.",
    )


@dataclass(frozen=True, slots=True)
class Wins:
    """Seeds on which the best strategy is below the reference."""

    best: str
    reference: str
    won: int
    seeds: int


def wins(data: Data) -> Wins | None:
    """Count the seeds that the best strategy wins; None if it is the reference itself."""
    ranking, reference = data.ranking(), data.reference()
    if reference is None or ranking[0] == reference:
        return None
    ours, theirs = data.paired("objective", ranking[0], reference)
    return Wins(ranking[0], reference, int((ours < theirs).sum()), len(ours))


SECTION = Section(
    "significance",
    "Is the difference real?",
    tables=(significance,),
    words="significance.html.j2",
    view=wins,
)
