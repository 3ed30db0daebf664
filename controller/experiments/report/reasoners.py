"""Who reasoned, in words: beside every result of a strategy with agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from controller.experiments.report.formats import listed
from controller.experiments.report.plates import Table
from controller.experiments.report.reading import Reasoning
from controller.experiments.report.study import Study

OPTIMISER = "optimiser, not a language model"


def told(study: Study) -> str:
    """Who decided in this campaign, reasoner by reasoner."""
    labels = _grouped(study, study.agents(), lambda one: one.label)
    if not labels:
        return "Algorithms only; no language model took part."
    parts = [
        f"The agents of {_named(names)} reasoned by {label}." for label, names in labels.items()
    ]
    text = " ".join(parts)
    if all(_is_optimiser(study.reasoning(s)) for s in study.agents()):
        text += " No language model took part."
    return text


def beside(study: Study, strategies: Iterable[str]) -> str:
    """The short form for captions; empty without a strategy that has agents."""
    groups = _grouped(study, strategies, _short)
    return " ".join(f"{_named(names)}: {label}." for label, names in groups.items())


def named_in(study: Study, table: Table) -> tuple[str, ...]:
    """Strategies that a figure's or table's numbers name."""
    cells = {str(value) for row in table.rows for value in row}
    return tuple(s for s in study.strategies if s in cells or s in table.columns)


def _short(reasoning: Reasoning) -> str:
    by = f"an {OPTIMISER}" if _is_optimiser(reasoning) else reasoning.label
    return f"reasoned by {by}"


def _named(strategies: Iterable[str]) -> str:
    """Names; variants of one, as "MA (faulty:all=0.2)", are not told apart."""
    counts = Counter(strategy.split(" (")[0] for strategy in strategies)
    return listed(f"{name} in its {n} variants" if n > 1 else name for name, n in counts.items())


def _is_optimiser(reasoning: Reasoning | None) -> bool:
    return reasoning is not None and reasoning.is_language_model is False


def _grouped(
    study: Study, strategies: Iterable[str], words: Callable[[Reasoning], str]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for strategy in strategies:
        if reasoning := study.reasoning(strategy):
            groups.setdefault(words(reasoning), []).append(strategy)
    return groups
