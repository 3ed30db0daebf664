"""How agents decided, and what it took in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from controller.report import style
from controller.report.conduct import OUTCOMES, TIERS, TierConduct, add_up
from controller.report.crew import Crew
from controller.report.formats import percent
from controller.report.plates import Pen, Plate, Table, draw_key, new_figure
from controller.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tiers = dict[tuple[str, str], TierConduct]  # (strategy, tier), agents only
_TROUBLE = ("repaired", "fallback", "late")


def draw_outcomes(study: Study, crew: Crew) -> Plate | None:
    """Stacked bars, a row per strategy and tier; None if every reply could be used at once."""
    tiers = _agents(study, crew)
    if not any(total.outcomes[name] for total in tiers.values() for name in _TROUBLE):
        return None
    shares = {key: {name: t.share(name) for name in OUTCOMES} for key, t in tiers.items()}
    figure = new_figure(style.FULL_IN, 0.22 * len(tiers) + 0.9)
    axes = figure.add_subplot()
    _stack(axes, study, shares, {name: style.OUTCOMES[name][0] for name in OUTCOMES})
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: percent(share))
    axes.set_xlabel("share of decisions")
    used = [name for name in OUTCOMES if any(of[name] for of in shares.values())]
    draw_key(figure, {name: style.OUTCOMES[name][0] for name in used})
    worst = max(shares, key=lambda key: shares[key]["fallback"] + shares[key]["late"])
    lost = shares[worst]["fallback"] + shares[worst]["late"]
    return Plate(
        name="agent-outcomes",
        title=f"At most {percent(lost)} of a tier's decisions were not the agent's own"
        if lost
        else "Every decision was the agent's own, some after a repair",
        caption="How decisions came about, all seeds together. Fallback and late decisions are a "
        "rule's or the decision before.",
        alt="Decisions that were the agent's own: "
        + "; ".join(
            f"{s} {t} {1 - of['fallback'] - of['late']:.1%}" for (s, t), of in shares.items()
        )
        + ".",
        figure=figure,
        data=_table(shares, OUTCOMES),
    )


def draw_tokens(study: Study, crew: Crew) -> Plate | None:
    """Stacked bars: tokens of a slot by tier, a row per strategy; None without any."""
    slots = {s: sum(c.slots for c in runs.values()) for s, runs in crew.conducts.items()}
    shares: dict[tuple[str, str], dict[str, float]] = {}
    for strategy, runs in crew.conducts.items():
        totals = {tier: add_up(runs.values(), tier) for tier in TIERS}
        shares[strategy, ""] = {
            tier: (t.tokens_in + t.tokens_out) / slots[strategy] for tier, t in totals.items()
        }
    most = max((sum(of.values()) for of in shares.values()), default=0)
    if not most:
        return None
    figure = new_figure(style.FULL_IN, 0.24 * len(shares) + 0.9)
    axes = figure.add_subplot()
    _stack(axes, study, shares, {tier: style.TIERS[tier][0] for tier in TIERS})
    axes.set_xlim(0, 1.05 * most)
    axes.xaxis.set_major_formatter(lambda tokens, _: f"{tokens:,.0f}")
    axes.set_xlabel("tokens a slot, prompts and replies")
    draw_key(figure, {tier: style.TIERS[tier][0] for tier in TIERS})
    largest = max(TIERS, key=lambda tier: sum(of[tier] for of in shares.values()))
    return Plate(
        name="agent-tokens",
        title=f"Most tokens are the {largest}'s",
        caption="Tokens of a slot by tier, mean over all slots of all seeds. A planner is asked "
        "once an epoch, a scheduler once a slot, a deployer once a slot on every node.",
        alt="Tokens a slot: "
        + "; ".join(f"{s} {sum(of.values()):,.0f}" for (s, _), of in shares.items())
        + ".",
        figure=figure,
        data=_table(shares, TIERS),
    )


def _agents(study: Study, crew: Crew) -> Tiers:
    """Of agents that decide: what others advise is in no decision's outcome."""
    totals = {
        (s, tier): add_up(runs.values(), tier)
        for s, runs in crew.conducts.items()
        if not study.mandate(s).advises
        for tier in TIERS
    }
    return {key: total for key, total in totals.items() if total.is_agent}


def _stack(
    axes: Axes,
    study: Study,
    shares: Mapping[tuple[str, str], Mapping[str, float]],
    colours: Mapping[str, str],
) -> None:
    pen = Pen(study.strategies)
    for row, ((strategy, _), of) in enumerate(shares.items()):
        left = 0.0
        for name, colour in colours.items():
            pen.mark(strategy, *axes.barh(row, of[name], 0.68, left=left, color=colour, lw=0))
            left += of[name]
    axes.set_yticks(range(len(shares)), [f"{s}  {tier}".strip() for s, tier in shares])
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.grid(visible=False, axis="y")


def _table(shares: Mapping[tuple[str, str], Mapping[str, float]], names: tuple[str, ...]) -> Table:
    by_tier = any(tier for _, tier in shares)
    head = ("strategy", "tier") if by_tier else ("strategy",)
    rows = tuple((*key[: len(head)], *(of[name] for name in names)) for key, of in shares.items())
    return Table((*head, *names), rows)
