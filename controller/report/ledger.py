"""Tables for the record: how decisions came about, where numbers come from, every run."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from controller.report.context import Context
from controller.report.formats import NONE, significant
from controller.report.plates import Table
from controller.report.sheets import Cell, Head, Row, Sheet, without_empty_columns
from controller.report.study import Study
from controller.results.run import TierFigures

_OUTCOMES = ("ok", "repaired", "fallback", "late")


def count_decisions(study: Study) -> Sheet | None:
    """How decisions came about, all seeds together."""
    lines = [
        (strategy, tier, _add_up(tiers))
        for strategy in study.present()
        for tier, tiers in _by_tier(study, strategy).items()
    ]
    if not lines:
        return None
    sheet = Sheet(
        name="decisions",
        caption="Decisions of all seeds by how they came about; void: the Pending rule stopped "
        "some of it.",
        heads=(
            Head("Strategy", numeric=False), Head("Tier", numeric=False), Head("Decisions"),
            Head("OK"), Head("Repaired"), Head("Fallback"), Head("Late"), Head("Void"),
            Head("Tokens"), Head("Cost (USD)"), Head("Time each (s)"),
        ),
        rows=tuple(
            Row((Cell(strategy), Cell(tier, kind="words"), *_cells(total)), strategy)
            for strategy, tier, total in lines
        ),
        data=Table(
            ("strategy", "tier", "calls", *_OUTCOMES, "void", "tokens", "cost_usd",
             "latency_mean_s"),
            tuple(
                (strategy, tier, *astuple(total)) for strategy, tier, total in lines
            ),
        ),
    )  # fmt: skip
    return without_empty_columns(sheet)


@dataclass(frozen=True, slots=True)
class _Total:
    calls: int
    ok: int
    repaired: int
    fallback: int
    late: int
    void: int
    tokens: int
    cost_usd: float | None  # None: of some calls it is not known
    latency_mean_s: float | None


def _by_tier(study: Study, strategy: str) -> dict[str, list[TierFigures]]:
    tiers: dict[str, list[TierFigures]] = {}
    for run in study.finished(strategy).values():
        for name, figures in (run.figures.decisions if run.figures else {}).items():
            tiers.setdefault(name, []).append(figures)
    return tiers


def _add_up(tiers: list[TierFigures]) -> _Total:
    calls = sum(t.calls for t in tiers)
    ok, repaired, fallback, late = (sum(getattr(t, name) for t in tiers) for name in _OUTCOMES)
    costs = [t.cost_usd for t in tiers if t.cost_usd is not None]
    took_s = [t.latency_mean_s * t.calls for t in tiers if t.latency_mean_s is not None]
    return _Total(
        calls=calls,
        ok=ok,
        repaired=repaired,
        fallback=fallback,
        late=late,
        void=calls - ok - repaired - fallback - late,
        tokens=sum(t.tokens_in + t.tokens_out for t in tiers),
        cost_usd=sum(costs) if len(costs) == len(tiers) else None,
        latency_mean_s=sum(took_s) / calls if calls and took_s else None,
    )


def _cells(total: _Total) -> list[Cell]:
    cost, mean_s = total.cost_usd, total.latency_mean_s
    counts = (total.calls, total.ok, total.repaired, total.fallback, total.late, total.void)
    free = not cost and not total.tokens
    return [
        *map(_count, counts),
        _count(total.tokens),
        Cell(NONE, kind="none") if free else Cell("unknown" if cost is None else f"{cost:.2f}"),
        Cell(significant(mean_s)) if mean_s else Cell(NONE, kind="none"),
    ]


def list_sources(context: Context) -> Sheet | None:
    """Where every number of testbed and profile comes from."""
    if not context.blocks:
        return None
    return Sheet(
        name="sources",
        caption="Every block of numbers of testbed and profile, with its source.",
        heads=(Head("Numbers", numeric=False), Head("Source", numeric=False),
               Head("How", numeric=False)),
        rows=tuple(
            Row(
                (Cell(b.path, kind="code"), Cell(b.source, kind=b.source),
                 Cell(b.how, kind="words"))
            )
            for b in context.blocks
        ),
        data=Table(
            ("numbers", "source", "how"), tuple((b.path, b.source, b.how) for b in context.blocks)
        ),
    )  # fmt: skip


def list_runs(study: Study) -> Sheet:
    """Every run of the grid with its state."""
    axes = tuple(dict.fromkeys(a for setting in study.settings for a, _ in setting.axes))
    runs = study.campaign.runs
    shown = axes if len(study.settings) > 1 else ()
    return Sheet(
        name="runs",
        caption="Every run of the grid.",
        heads=(
            Head("Run", numeric=False), Head("Strategy", numeric=False), Head("Seed"),
            *(Head(axis.capitalize(), numeric=False) for axis in shown),
            Head("State", numeric=False), Head("Objective"),
        ),
        rows=tuple(
            Row(
                (
                    Cell(r.id, kind="code"), Cell(r.strategy), Cell(str(r.seed)),
                    *(Cell(str(r.setting.value(axis) or "")) for axis in shown),
                    Cell(r.problem or r.state, kind="words"),
                    Cell(f"{r.figures.objective:.3f}" if r.figures else NONE),
                ),
                r.strategy,
            )
            for r in runs
        ),
        data=Table(
            ("run", "strategy", "seed", *axes, "state", "problem", "objective"),
            tuple(
                (r.id, r.strategy, r.seed, *(r.setting.value(a) for a in axes), r.state,
                 r.problem, r.figures.objective if r.figures else None)
                for r in runs
            ),
        ),
    )  # fmt: skip


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value) if value else Cell("0", 0, kind="none")
