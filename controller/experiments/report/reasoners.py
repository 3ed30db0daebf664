"""Who reasoned, in words: beside every result of a strategy with agents."""

from __future__ import annotations

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
    parts = [f"the agents of {listed(names)} by {label}" for label, names in labels.items()]
    text = f"Answered were {listed(parts)}."
    if all(_is_optimiser(study.reasoning(s)) for s in study.agents()):
        text += " No language model took part."
    return text


def beside(study: Study, strategies: Iterable[str]) -> str:
    """The short form for captions; empty without a strategy that has agents."""
    groups = _grouped(study, strategies, _short)
    return " ".join(f"{listed(names)}: {label}." for label, names in groups.items())


def named_in(study: Study, table: Table) -> tuple[str, ...]:
    """Strategies that a figure's or table's numbers name."""
    cells = {str(value) for row in table.rows for value in row}
    return tuple(s for s in study.strategies if s in cells or s in table.columns)


def _short(reasoning: Reasoning) -> str:
    return OPTIMISER if _is_optimiser(reasoning) else f"answered by {reasoning.label}"


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
