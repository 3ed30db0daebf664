"""Tables of evidence: significance, sensitivity, and the paper's figures beside ours."""

from __future__ import annotations

from collections import Counter
from math import isnan

from controller.report import published
from controller.report.comparison import (
    CHANGES,
    HOLDS,
    WITHIN_NOISE,
    Comparison,
    Variation,
    compare_with_reference,
    vary,
)
from controller.report.formats import NONE, counted
from controller.report.plates import Table
from controller.report.sheets import Cell, Head, Row, Sheet, interval_cell
from controller.report.study import Study
from controller.results.statistics import Interval


def weigh_significance(study: Study) -> Sheet | None:
    """Paired comparisons of the objective with the best baseline."""
    found = compare_with_reference(study)
    reference = study.reference()
    if not found or reference is None:
        return None
    fullest = max((one.paired for one in found), key=lambda paired: paired.difference.n)
    return Sheet(
        name="significance",
        caption=f"Objective against {reference}, seed by seed. Negative is better than "
        f"{reference}; brackets are 95 % intervals; p-values in brackets are Holm-corrected "
        f"over {_comparisons(len(found))}.",
        heads=(
            Head("Strategy", numeric=False),
            Head("Pairs", hint="seeds that both strategies have finished"),
            Head("Difference"),
            Head("Relative", hint="mean objective over the reference's, minus 1"),
            Head("Effect size d", hint="mean difference over its standard deviation"),
            Head("p, paired t"),
            Head(f"p, {fullest.rank_test}"),
        ),
        rows=tuple(_compared(one) for one in found),
        data=_comparison_table(found, reference),
        notes=_smallest_p(fullest.difference.n),
    )


def rank_settings(study: Study) -> Sheet | None:
    """The ranking on every other setting, and whether it is the nominal one."""
    variations = vary(study)
    nominal = study.ranking()
    if not variations or len(nominal) < 2:
        return None
    rows = [_ranked("nominal: " + study.nominal.label(study.varying), nominal, nominal, "", 1.0)]
    rows += [
        _ranked(
            v.setting.label(study.varying, study.nominal), v.ranking, nominal, _verdict(v), v.tau
        )
        for v in variations
    ]
    verdicts = Counter(v.verdict for v in variations)
    firsts = sum(v.ranking[:1] == nominal[:1] for v in variations)
    return Sheet(
        name="sensitivity",
        caption="Rank by mean objective on every setting. "
        f"Of {counted(len(variations), 'variation')} the nominal "
        f"ranking holds on {verdicts[HOLDS]}, swaps within noise on "
        f"{verdicts[WITHIN_NOISE]} and changes on {verdicts[CHANGES]}. {nominal[0]} is first on "
        f"{firsts} of them.",
        heads=(
            Head("Setting", numeric=False),
            *(Head(s) for s in nominal),
            Head("Kendall's τ", hint="1: the same order as nominal, -1: reversed"),
            Head("Ranking", numeric=False),
        ),
        rows=tuple(rows),
        data=_sensitivity_table(study, variations, nominal),
        notes=(
            "Two strategies have changed places only where the 95 % interval of their paired "
            "difference excludes 0 both before and after; any other swap is within noise, which "
            "with few seeds is wide.",
        ),
    )


def compare_published(study: Study) -> Sheet | None:
    """The paper's figures beside ours."""
    if not published.applies(study):
        return None
    known = set(study.present())
    claims = [c for c in published.claims() if c.strategy in known or c.strategy == "MA"]
    ours = [c.ours(study) if c.strategy in known else None for c in claims]
    rows = tuple(
        Row(
            (
                Cell(c.strategy),
                Cell(c.quantity, kind="words"),
                Cell(f"{c.published} {c.unit}".strip()),
                interval_cell(mine, 0 if c.unit == "s" else 2, unit=f" {c.unit}".rstrip())
                if mine
                else Cell("not run", kind="none"),
            ),
            c.strategy if c.strategy in known else "",
        )
        for c, mine in zip(claims, ours, strict=True)
    )
    data = tuple(
        (c.strategy, c.quantity, c.published, c.unit, *_three(mine))
        for c, mine in zip(claims, ours, strict=True)
    )
    return Sheet(
        name="published",
        caption="What the paper's text reports, measured on its own hardware, beside ours from "
        "this campaign. They are not expected to agree.",
        heads=(Head("Strategy", numeric=False), Head("Quantity", numeric=False),
               Head("Paper"), Head("This campaign")),
        rows=rows,
        data=Table(("strategy", "quantity", "published", "unit", "ours", "low", "high"), data),
    )  # fmt: skip


def _comparisons(number: int) -> str:
    return "the only comparison" if number == 1 else f"the {number} comparisons"


def _compared(one: Comparison) -> Row:
    p, d = one.paired, one.paired.difference
    return Row(
        (
            Cell(one.strategy, one.strategy),
            Cell(str(d.n), d.n),
            _signed(d.mean, d.low, d.high, 3),
            _percent(one.share - 1),
            _signed(p.effect, p.effect_low, p.effect_high, 1),
            _p_value(p.p_t, one.p_t_holm),
            _p_value(p.p_rank, one.p_rank_holm),
        ),
        one.strategy,
    )


def _comparison_table(found: list[Comparison], reference: str) -> Table:
    rows = []
    for one in found:
        p, d = one.paired, one.paired.difference
        difference = (d.n, d.mean, d.low, d.high, one.share)
        effect = (p.effect, p.effect_low, p.effect_high)
        tests = (p.p_t, one.p_t_holm, p.rank_test, p.p_rank, one.p_rank_holm)
        rows.append((one.strategy, reference, *difference, *effect, *tests))
    return Table(
        (
            "strategy", "reference", "pairs", "difference", "low", "high", "share_of_reference",
            "effect_dz", "effect_low", "effect_high",
            "p_t", "p_t_holm", "rank_test", "p_rank", "p_rank_holm",
        ),
        tuple(rows),
    )  # fmt: skip


def _signed(mean: float, low: float, high: float, digits: int) -> Cell:
    if isnan(mean):
        return Cell(NONE, kind="none")
    small = "" if isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]"
    return Cell(f"{mean:+.{digits}f}", mean, small)


def _percent(share: float) -> Cell:
    return Cell(NONE, kind="none") if isnan(share) else Cell(f"{share:+.0%}", share)


def _p_value(p: float, corrected: float) -> Cell:
    if isnan(p):
        return Cell(NONE, kind="none")
    return Cell(
        _p_text(p), p, f"({_p_text(corrected)})", kind="significant" if corrected < 0.05 else ""
    )


def _p_text(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _three(interval: Interval | None) -> tuple[float | None, ...]:
    return (interval.mean, interval.low, interval.high) if interval else (None, None, None)


def _smallest_p(pairs: int) -> tuple[str, ...]:
    least = 2 / 2**pairs
    if pairs < 2 or least < 0.05:
        return ()
    return (
        f"With {pairs} pairs the exact test cannot give a p-value below {least:.3g}, however large "
        "the difference; the t test can, as it assumes normal differences.",
    )


def _ranked(
    label: str, ranking: tuple[str, ...], nominal: tuple[str, ...], verdict: str, tau: float
) -> Row:
    ranks = [ranking.index(s) + 1 if s in ranking else 0 for s in nominal]
    cells = [
        Cell(str(rank) if rank else NONE, rank, kind="moved" if rank != place else "")
        for place, rank in enumerate(ranks, 1)
    ]
    return Row(
        (Cell(label), *cells, Cell(NONE if isnan(tau) else f"{tau:.2f}", tau),
         Cell(verdict, kind="words"))
    )  # fmt: skip


def _verdict(variation: Variation) -> str:
    swaps = variation.clear_swaps or variation.swaps
    words = ", ".join(f"{now} passes {was}" for was, now in swaps[:3])
    more = f" and {len(swaps) - 3} more" if len(swaps) > 3 else ""
    return f"{variation.verdict}: {words}{more}" if swaps else variation.verdict


def _sensitivity_table(
    study: Study, variations: list[Variation], nominal: tuple[str, ...]
) -> Table:
    axes = study.varying
    rows = [
        (*(v.setting.value(a) for a in axes), v.tau, v.verdict,
         *(v.ranking.index(s) + 1 if s in v.ranking else None for s in nominal))
        for v in variations
    ]  # fmt: skip
    names = (*axes, "kendall_tau", "verdict", *(f"rank_{s}" for s in nominal))
    return Table(names, tuple(rows))
