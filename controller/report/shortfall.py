"""Says at the top where much of what is shown as an agent's is not."""

from __future__ import annotations

from typing import Final

from controller.report.crew import Crew
from controller.report.efforts import Effort, efforts
from controller.report.formats import listed, percent
from controller.report.study import Study

_DECISIONS: Final = "decisions are fallbacks or late"
_ADVICE: Final = "advice is a fallback or late"
MUCH: Final = 0.1  # of a strategy's or a tier's decisions


def warn(study: Study, crew: Crew) -> tuple[str, ...]:
    """A sentence per strategy whose decisions, all or a tier's, were often fallbacks or late."""
    found: dict[str, list[Effort]] = {}
    for advice in (False, True):
        for line in efforts(study, crew, advice=advice):
            found.setdefault(line.strategy, []).append(line)
    words = {s: _of_all(lines) or _of_tiers(lines) for s, lines in found.items()}
    return tuple(
        f"{s}: {of} {_ADVICE if study.mandate(s).advises else _DECISIONS}, not the reasoner's."
        for s, of in words.items()
        if of
    )


def _of_all(lines: list[Effort]) -> str:
    calls = sum(line.total.calls for line in lines)
    lost = sum(line.total.lost * line.total.calls for line in lines) / calls
    return f"{percent(lost)} of its" if lost >= MUCH else ""


def _of_tiers(lines: list[Effort]) -> str:
    """A planner decides seldom: what it does not do is lost in a mean."""
    return listed(
        f"{percent(line.total.lost)} of its {line.tier}'s"
        for line in lines
        if line.total.lost >= MUCH
    )
