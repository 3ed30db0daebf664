"""Who reasoned and who decided, in words: beside every result of a strategy with agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from controller.agents.parameters import ADVISE, APPROVE, OFF
from controller.report.formats import listed
from controller.report.plates import Table
from controller.report.study import Study
from controller.results.run import Reasoning

OPTIMISER = "optimiser, not a language model"


def told(study: Study) -> str:
    """Who decided in this campaign, reasoner by reasoner."""
    shown = study.present()
    parts = [_sentence(study, names, words) for words, names in _grouped(study, shown, _label)]
    if not any(study.reasoning(s) for s in shown):
        return " ".join([*parts, "Algorithms only; no language model took part."])
    if all(_is_optimiser(study.reasoning(s)) for s in study.agents()):
        parts.append("No language model took part.")
    return " ".join(parts)


def beside(study: Study, strategies: Iterable[str]) -> str:
    """The short form for captions; empty without a strategy that has agents."""
    groups = _grouped(study, strategies, _short)
    return " ".join(
        f"{_named(study, names)}: {_in_short(study, names, words)}." for words, names in groups
    )


def named_in(study: Study, table: Table) -> tuple[str, ...]:
    """Strategies that a figure's or table's numbers name."""
    cells = {str(value) for row in table.rows for value in row}
    return tuple(s for s in study.strategies if s in cells or s in table.columns)


def _sentence(study: Study, names: list[str], label: str) -> str:
    mandate, who = study.mandate(names[0]), _named(study, names)
    if mandate.mode == OFF:
        return f"In {who} {mandate.incumbent} decided in the agents' place: none was asked."
    if mandate.mode == ADVISE:
        return (
            f"In {who} {mandate.incumbent} decided in the agents' place: they only advised, and "
            f"reasoned by {label}."
        )
    approved = " A person confirmed each macro-policy." if mandate.mode == APPROVE else ""
    who = names[0] if len(names) == 1 else who  # variants may differ in nothing but the reasoner
    return f"The agents of {who} reasoned by {label}.{approved}"


def _in_short(study: Study, names: list[str], reasoner: str) -> str:
    mandate = study.mandate(names[0])
    if mandate.mode == OFF:
        return f"{mandate.incumbent} decided, no agent was asked"
    if mandate.mode == ADVISE:
        return f"{mandate.incumbent} decided; agents, reasoned by {reasoner}, only advised"
    return f"reasoned by {reasoner}"


def _label(reasoning: Reasoning | None) -> str:
    return reasoning.label if reasoning else ""


def _short(reasoning: Reasoning | None) -> str:
    return f"an {OPTIMISER}" if _is_optimiser(reasoning) else _label(reasoning)


def _named(study: Study, strategies: Iterable[str]) -> str:
    """Names of strategies of one mandate; variants of one, as "MA (faulty:all=0.2)", are not told
    apart, but from those of another mandate."""
    names = list(strategies)
    counts = Counter(strategy.split(" (")[0] for strategy in names)
    mandate = study.mandate(names[0])
    words = listed(f"{name} in its {n} variants" if n > 1 else name for name, n in counts.items())
    return words if mandate.decides else f"{words} ({mandate.mode})"


def _is_optimiser(reasoning: Reasoning | None) -> bool:
    return reasoning is not None and reasoning.is_language_model is False


def _grouped(
    study: Study, strategies: Iterable[str], words: Callable[[Reasoning | None], str]
) -> list[tuple[str, list[str]]]:
    """Strategies with agents, asked or not, by mandate and reasoner."""
    groups: dict[tuple[object, str], list[str]] = {}
    for strategy in strategies:
        reasoning, mandate = study.reasoning(strategy), study.mandate(strategy)
        if reasoning or mandate.mode == OFF:
            groups.setdefault((mandate, words(reasoning)), []).append(strategy)
    return [(words, names) for (_, words), names in groups.items()]
