"""Section "Decisions": every strategy's decisions by outcome."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from controller.domain.decisions import FALLBACK, LATE, OK, REPAIRED, VOID, plus, total
from controller.report.analysis.data import Data
from controller.report.structure import Section
from controller.report.table import (
    EMPTY,
    STRATEGY,
    Cell,
    Column,
    Row,
    Table,
    count,
    frame_of,
    words,
)
from controller.report.text import significant
from controller.results.run import TierFigures

_OUTCOMES: Final = (OK, REPAIRED, FALLBACK, LATE)


def decisions(data: Data) -> Table | None:
    """Tabulate the decisions of every strategy and tier by outcome, all seeds together."""
    rows = [
        {"strategy": strategy, "tier": tier, **_total(tiers)}
        for strategy in data.present()
        for tier, tiers in _by_tier(data, strategy).items()
    ]
    if not rows:
        return None
    return Table(
        name="decisions",
        caption="Decisions of all seeds by how they were made; void: the Pending rule stopped "
        "some of it.",
        frame=frame_of(rows),
        columns=(
            STRATEGY,
            Column("tier", "Tier", words("words"), numeric=False),
            Column("calls", "Decisions", count),
            Column(OK, "OK", count),
            *(Column(name, name.capitalize(), count) for name in (*_OUTCOMES[1:], VOID)),
            Column("tokens", "Tokens", _tokens),
            Column("cost_usd", "Cost (USD)", _cost),
            Column("latency_mean_s", "Time each (s)", _time),
        ),
        drop_empty=True,
    )


def _by_tier(data: Data, strategy: str) -> dict[str, list[TierFigures]]:
    tiers: dict[str, list[TierFigures]] = {}
    for run in data.finished(strategy).values():
        for name, figures in (run.figures.decisions if run.figures else {}).items():
            tiers.setdefault(name, []).append(figures)
    return tiers


def _total(tiers: Iterable[TierFigures]) -> dict[str, Any]:
    """Add up a tier's runs. Tokens or cost are unknown where a run's are; void is what is left."""
    tiers = list(tiers)
    calls = sum(t.calls for t in tiers)
    outcomes = {name: sum(getattr(t, name) for t in tiers) for name in _OUTCOMES}
    costs = [t.cost_usd for t in tiers if t.cost_usd is not None]
    took_s = [t.latency_mean_s * t.calls for t in tiers if t.latency_mean_s is not None]
    return {
        "calls": calls,
        **outcomes,
        VOID: calls - sum(outcomes.values()),
        "tokens": total(plus(t.tokens_in, t.tokens_out) for t in tiers),
        "cost_usd": sum(costs) if len(costs) == len(tiers) else None,
        "latency_mean_s": sum(took_s) / calls if calls and took_s else None,
    }


def _cost(row: Row, key: str) -> Cell:
    cost = row[key]
    if not cost and row["tokens"] == 0:
        return EMPTY
    return Cell("unknown" if cost is None else f"{cost:.2f}")


def _tokens(row: Row, key: str) -> Cell:
    return Cell("unknown") if row[key] is None else count(row, key)


def _time(row: Row, key: str) -> Cell:
    return Cell(significant(row[key])) if row[key] else EMPTY


SECTION = Section("decisions", "Decisions", tables=(decisions,), folded=True)
