"""Section "Agents": how they decided, their tokens, and what a reasoner's faults cost."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Final

import numpy as np

from controller.domain.decisions import (
    APPROVED,
    FALLBACK,
    LATE,
    OK,
    PLANNER,
    REJECTED,
    REPAIRED,
    TIERS,
    VOID,
)
from controller.report import style
from controller.report.analysis.agent_tiers import AgentTier, agent_tiers
from controller.report.analysis.data import Data
from controller.report.analysis.decision_counts import (
    BOUNDED,
    DIFFERS,
    FAILED,
    OUTCOMES,
    SAME,
    UNDONE,
    add_up,
)
from controller.report.analysis.fault_rates import Curve, fault_curves, faulty
from controller.report.captions import averaged
from controller.report.figure import Figure, Pen, draw_key, name_rows, new_figure
from controller.report.structure import Section
from controller.report.table import STRATEGY, Cell, Column, Row, Table, frame_of, make_frame
from controller.report.text import percent, significant
from controller.results.statistics import Interval

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

_COUNTED: Final = (OK, REPAIRED, FALLBACK, LATE, VOID)
_TROUBLE: Final = (REPAIRED, FALLBACK, LATE)
SCALE: Final = 3.0  # times the curves' top, beyond which a level would flatten them


def agents(data: Data) -> Table | None:
    """Tabulate how agents decided, a row per strategy and tier, all seeds together."""
    tiers = agent_tiers(data, advising=False)
    if not tiers:
        return None
    return Table(
        name="agents",
        caption="Decisions of agents, all seeds of the nominal setting together. Repaired: valid "
        "after one round of correction. Fallback: no valid reply, so a rule decided. Late: not "
        "there by the end of the slot, so the decision before held. Void: valid, but some of it "
        "was stopped as another pod held the resources. A run goes on after its last arrival until "
        "every request is decided (the drain), so planners may decide once or more beyond the "
        "epochs. Tokens: unknown where a server reported none with one of its answers. Cost: none "
        "where an optimiser answered or tokens are free, unknown where tokens or a model's price "
        "are not known.",
        frame=frame_of(
            {
                "strategy": one.strategy,
                "tier": one.tier,
                "decisions": one.counts.calls,
                **{name: one.counts.outcomes[name] for name in _COUNTED},
                "took_mean_s": float(np.mean(one.counts.took_s)),
                "took_p95_s": one.counts.percentile_s(0.95),
                **_tokens(one),
            }
            for one in tiers
        ),
        columns=(
            STRATEGY,
            Column("tier", "Tier", numeric=False),
            Column("decisions", "Decisions", _number),
            *(Column(name, name.capitalize(), _share) for name in _COUNTED),
            Column("took_mean_s", "Time (s)", _time,
                   "of a decision with its repairs, at most the slot: mean, p95"),
            Column("tokens_in", "Tokens each", _tokens_each, "of a decision: in, out"),
            Column("tokens_per_slot", "Tokens a slot", _tokens_a_slot,
                   "in and out, over all slots of a run; of so many slots as an epoch has"),
            Column("cost_usd_per_run", "Cost", _cost, "of a run"),
        ),
        drop_empty=True,
    )  # fmt: skip


def advice(data: Data) -> Table | None:
    """Tabulate the advice of agents that do not decide, a row per strategy and tier."""
    tiers = agent_tiers(data, advising=True)
    if not tiers:
        return None
    kinds = (SAME, DIFFERS, FAILED)
    return Table(
        name="advice",
        caption="What agents advised while something else decided, all seeds of the nominal "
        "setting together. Nothing of it was applied, and its time was not charged. Differs: at "
        "least one share, destination or pod is another than was decided. Failed: there was no "
        "advice. Fallback and late: a rule's advice, since there was no valid reply or none in "
        "time.",
        frame=frame_of(
            {
                "strategy": one.strategy,
                "tier": one.tier,
                "decided_by": data.incumbent(one.strategy),
                "decisions": one.counts.calls,
                **{kind: one.counts.advice[kind] for kind in kinds},
                **{name: one.counts.advised[name] for name in _TROUBLE},
                **_tokens(one),
            }
            for one in tiers
        ),
        columns=(
            STRATEGY,
            Column("tier", "Tier", numeric=False),
            Column("decided_by", "Decided by", numeric=False),
            Column("decisions", "Decisions", _number),
            *(Column(name, name.capitalize(), _share) for name in (*kinds, *_TROUBLE)),
            Column("tokens_in", "Tokens each", _tokens_each, "of a decision's advice: in, out"),
            Column("tokens_per_slot", "Tokens a slot", _tokens_a_slot),
            Column("cost_usd_per_run", "Cost", _cost, "of a run"),
        ),
        drop_empty=True,
    )


def guard(data: Data) -> Table | None:
    """Tabulate the decisions that a guard changed and those that a person approved or rejected."""
    totals = {
        (strategy, tier): add_up(runs.values(), tier)
        for strategy, runs in data.records.counts.items()
        for tier in TIERS
    }
    if not any(total.verdicts for total in totals.values()):
        return None
    return Table(
        name="guard",
        caption="Decisions that the guard changed: macro-policies undone because they did worse "
        "than others, or would have; routing plans and pods changed because the fallback's served "
        "more. And what a person said of a policy. All seeds together.",
        frame=frame_of(
            {
                "strategy": strategy,
                "tier": tier,
                "decisions": total.calls,
                "changed": total.verdicts[UNDONE] + total.verdicts[BOUNDED],
                "approved": total.verdicts[APPROVED] if tier == PLANNER else None,
                "not_approved": total.verdicts[REJECTED] if tier == PLANNER else None,
            }
            for (strategy, tier), total in totals.items()
            if total.verdicts
        ),
        columns=(
            STRATEGY,
            Column("tier", "Tier", numeric=False),
            Column("decisions", "Decisions"),
            Column("changed", "Changed by the guard"),
            Column("approved", "Approved"),
            Column("not_approved", "Not approved"),
        ),
    )


def _tokens(one: AgentTier) -> dict[str, float | None]:
    return {
        "tokens_in": _each(one.counts.tokens_in, one.counts.calls),
        "tokens_out": _each(one.counts.tokens_out, one.counts.calls),
        "tokens_per_slot": one.tokens_per_slot,
        "tokens_per_epoch": one.tokens_per_epoch,
        "cost_usd_per_run": one.cost_usd_per_run,
    }


def _each(tokens: int | None, calls: int) -> float | None:
    return None if tokens is None else tokens / calls


def _number(row: Row, key: str) -> Cell:
    return Cell(f"{row[key]:,}")


def _share(row: Row, key: str) -> Cell:
    """Write a share of the decisions; 0 is shown where the reader looks for it."""
    share = row[key] / row["decisions"]
    is_shown = share or key in (FALLBACK, SAME, DIFFERS)
    return Cell(percent(share), share, kind="" if is_shown else "none")


def _time(row: Row, key: str) -> Cell:
    return Cell(f"{row[key]:.2f}", small=f"p95 {row['took_p95_s']:.2f}")


def _tokens_each(row: Row, key: str) -> Cell:
    return Cell(_amount(row[key]), small=f"out {_amount(row['tokens_out'])}")


def _tokens_a_slot(row: Row, key: str) -> Cell:
    return Cell(_amount(row[key]), small=f"epoch {_amount(row['tokens_per_epoch'])}")


def _amount(tokens: float | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,.0f}"


def _cost(row: Row, key: str) -> Cell:
    cost = row[key]
    return Cell("unknown" if cost is None else f"{cost:.2f} USD" if cost else "none")


def agent_outcomes(data: Data) -> Figure | None:
    """Draw stacked bars, a row per strategy and tier; None if every reply could be used at once."""
    tiers = agent_tiers(data, advising=False)
    if not any(one.counts.outcomes[name] for one in tiers for name in _TROUBLE):
        return None
    shares = {
        (one.strategy, one.tier): {name: one.counts.share(name) for name in OUTCOMES}
        for one in tiers
    }
    figure = new_figure(style.FULL_IN, 0.22 * len(tiers) + 0.9)
    axes = figure.add_subplot()
    _stack(axes, data, shares, {name: style.OUTCOMES[name][0] for name in OUTCOMES})
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: percent(share))
    axes.set_xlabel("share of decisions")
    used = [name for name in OUTCOMES if any(of[name] for of in shares.values())]
    draw_key(figure, {name: style.OUTCOMES[name][0] for name in used})
    worst = max(shares, key=lambda key: shares[key]["fallback"] + shares[key]["late"])
    lost = shares[worst]["fallback"] + shares[worst]["late"]
    return Figure(
        name="agent-outcomes",
        title=f"At most {percent(lost)} of a tier's decisions were not the agent's own"
        if lost
        else "Every decision was the agent's own, some after a repair",
        caption="How decisions were made, all seeds together. Fallback and late decisions are a "
        "rule's or the decision before.",
        alt="Decisions that were the agent's own: "
        + "; ".join(
            f"{s} {t} {1 - of['fallback'] - of['late']:.1%}" for (s, t), of in shares.items()
        )
        + ".",
        drawing=figure,
        frame=_frame(shares, OUTCOMES),
    )


def agent_tokens(data: Data) -> Figure | None:
    """Draw stacked bars: tokens of a slot by tier, a row per strategy; None without any."""
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for strategy, runs in data.records.counts.items():
        slots = sum(run.slots for run in runs.values())
        totals = {tier: add_up(runs.values(), tier) for tier in TIERS}
        tokens = {tier: total.tokens for tier, total in totals.items()}
        if all(number is not None for number in tokens.values()):  # else there is no bar to draw
            shares[strategy, ""] = {tier: (number or 0) / slots for tier, number in tokens.items()}
    most = max((sum(of.values()) for of in shares.values()), default=0)
    if not most:
        return None
    figure = new_figure(style.FULL_IN, 0.24 * len(shares) + 0.9)
    axes = figure.add_subplot()
    _stack(axes, data, shares, {tier: style.TIERS[tier][0] for tier in TIERS})
    axes.set_xlim(0, 1.05 * most)
    axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
    axes.set_xlabel("tokens a slot, prompts and replies")
    draw_key(figure, {tier: style.TIERS[tier][0] for tier in TIERS})
    largest = max(TIERS, key=lambda tier: sum(of[tier] for of in shares.values()))
    return Figure(
        name="agent-tokens",
        title=f"Most tokens are the {largest}'s",
        caption="Tokens of a slot by tier, mean over all slots of all seeds. A planner is asked "
        "once an epoch, a scheduler once a slot, a deployer once a slot on every node.",
        alt="Tokens a slot: "
        + "; ".join(f"{s} {sum(of.values()):,.0f}" for (s, _), of in shares.items())
        + ".",
        drawing=figure,
        frame=_frame(shares, TIERS),
    )


def _stack(
    axes: Axes,
    data: Data,
    shares: Mapping[tuple[str, str], Mapping[str, float]],
    colours: Mapping[str, str],
) -> None:
    pen = Pen(data.strategies)
    for row, ((strategy, _), widths) in enumerate(shares.items()):
        pen.stack(axes, strategy, row, widths, colours)
    name_rows(axes, (f"{s}  {tier}".strip() for s, tier in shares))


def _frame(
    shares: Mapping[tuple[str, str], Mapping[str, float]], names: tuple[str, ...]
) -> pl.DataFrame:
    by_tier = any(tier for _, tier in shares)
    head = ("strategy", "tier") if by_tier else ("strategy",)
    rows = tuple((*key[: len(head)], *(of[name] for name in names)) for key, of in shares.items())
    return make_frame((*head, *names), rows)


def fault_rates(data: Data) -> Figure | None:
    """Draw a curve per strategy whose runs differ by the rate of faults; None below two rates."""
    curves = fault_curves(data)
    if not curves:
        return None
    pen = Pen(data.strategies)
    figure = new_figure(style.FULL_IN, 2.9)
    axes = figure.add_subplot()
    for rates in curves.values():
        first = rates[min(rates)]
        points = {rate: data.interval("objective", s) for rate, s in sorted(rates.items())}
        for rate, point in points.items():
            if not isnan(point.low):
                axes.plot([rate, rate], [point.low, point.high], color=pen.look(first).colour, lw=1)
        pen.line(axes, first, list(points), [p.mean for p in points.values()], markers=len(points))
    axes.set_xlim(left=-0.02)
    axes.set_ylim(bottom=0)
    _draw_level(axes, data)
    axes.xaxis.set_major_formatter(lambda rate, _: percent(rate))
    axes.set_xlabel("share of replies that are spoilt")
    axes.set_ylabel("objective (lower is better)")
    pen.legend(figure, [rates[min(rates)] for rates in curves.values()], lines=True)
    return Figure(
        name="fault-rates",
        title=_fault_finding(data, curves),
        caption=averaged(data, ", bars are 95 % t-intervals")
        + ". Faults are malformed, infeasible, "
        "refused, empty, cut, slow or lost replies in the given mix. Some are survived without "
        "the fallback: prose around a valid reply, a slow one that is still in time, what a "
        "repair mends.",
        alt="Objective by rate of faults: "
        + "; ".join(
            f"{name} at {rate:.0%}: {data.interval('objective', s).mean:.3f}"
            for name, rates in curves.items()
            for rate, s in sorted(rates.items())
        )
        + ".",
        drawing=figure,
        frame=_fault_frame(data, curves),
    )


def _draw_level(axes: Axes, data: Data) -> None:
    """Draw the level of the fallbacks alone: a line, or a word where it is far above the curves."""
    top = axes.get_ylim()[1]
    for strategy, (kinds, rate) in faulty(data).items():
        level = data.interval("objective", strategy).mean
        if rate < 1:
            continue
        words, off = f"every reply spoilt ({kinds}): {significant(level)}", level > SCALE * top
        if not off:
            axes.axhline(level, color=style.MUTED, lw=0.8, ls=(0, (3, 2)))
        axes.annotate(
            f"{words}, off the scale" if off else words, (0.01, top if off else level), (0, -3),
            xycoords=axes.get_yaxis_transform(), textcoords="offset points", va="top",
            fontsize=6.5, color=style.MUTED,
        )  # fmt: skip


def _fault_finding(data: Data, curves: dict[str, Curve]) -> str:
    rates = max(curves.values(), key=len)
    shown = [rate for rate in rates if rate < 1] or list(rates)
    low, high = (data.interval("objective", rates[r]).mean for r in (min(shown), max(shown)))
    return (
        f"With {percent(max(shown))} of replies spoilt the objective is {significant(high / low)} "
        f"times that with {percent(min(shown))}"
    )


def _fault_frame(data: Data, curves: dict[str, Curve]) -> pl.DataFrame:
    rows = []
    for name, rates in curves.items():
        for rate, strategy in sorted(rates.items()):
            point: Interval = data.interval("objective", strategy)
            rows.append((name, rate, strategy, point.n, point.mean, point.low, point.high))
    names = ("faults", "rate", "strategy", "seeds", "objective", "low", "high")
    return make_frame(names, tuple(rows))


SECTION = Section(
    "agents",
    "Agents",
    tables=(agents, advice, guard),
    figures=(agent_outcomes, agent_tokens, fault_rates),
    words="agents.html.j2",
)
