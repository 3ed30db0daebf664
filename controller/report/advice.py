"""Agents that only advised: how often they would have decided otherwise, and what that took."""

from __future__ import annotations

from typing import Final

from controller.report.conduct import DIFFERS, FAILED, SAME
from controller.report.crew import Crew
from controller.report.efforts import COLUMNS, Effort, efforts
from controller.report.formats import percent
from controller.report.plates import Table
from controller.report.sheets import Cell, Head, Row, Sheet, without_empty_columns
from controller.report.study import Study

_KINDS: Final = (SAME, DIFFERS, FAILED)
_OUTCOMES: Final = ("repaired", "fallback", "late")


def tell_advice(study: Study, crew: Crew) -> Sheet | None:
    """A row per strategy and tier whose agents advise."""
    lines = efforts(study, crew, advice=True)
    if not lines:
        return None
    sheet = Sheet(
        name="advice",
        caption="What agents advised while something else decided, all seeds of the nominal "
        "setting together. Nothing of it was applied, and its time was not charged. Differs: at "
        "least one share, destination or pod is another than was decided. Failed: there was no "
        "advice. Fallback and late: a rule's advice, since there was no valid reply or none in "
        "time.",
        heads=(
            Head("Strategy", numeric=False), Head("Tier", numeric=False),
            Head("Decided by", numeric=False), Head("Decisions"),
            *(Head(name.capitalize()) for name in (*_KINDS, *_OUTCOMES)),
            Head("Tokens each", hint="of a decision's advice: in, out"),
            Head("Tokens a slot"), Head("Cost", hint="of a run"),
        ),
        rows=tuple(Row(_cells(study, line), line.strategy) for line in lines),
        data=Table(
            ("strategy", "tier", "decided_by", "decisions", *_KINDS, *_OUTCOMES, *COLUMNS),
            tuple(
                (line.strategy, line.tier, study.mandate(line.strategy).incumbent,
                 line.total.calls, *_counts(line), *line.values())
                for line in lines
            ),
        ),
    )  # fmt: skip
    return without_empty_columns(sheet)


def _counts(line: Effort) -> list[int]:
    total = line.total
    return [total.advice[k] for k in _KINDS] + [total.advised[name] for name in _OUTCOMES]


def _cells(study: Study, line: Effort) -> tuple[Cell, ...]:
    calls = line.total.calls
    shares = dict(zip((*_KINDS, *_OUTCOMES), _counts(line), strict=True))
    always = SAME, DIFFERS, "fallback"
    return (
        Cell(line.strategy), Cell(line.tier), Cell(study.mandate(line.strategy).incumbent),
        Cell(f"{calls:,}"),
        *(
            Cell(percent(count / calls), kind="" if count or name in always else "none")
            for name, count in shares.items()
        ),
        *line.cells(),
    )  # fmt: skip
