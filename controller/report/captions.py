"""Words that captions share: what means are over, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controller.report.formats import listed, significant
from controller.report.study import Study

Write = Callable[[float], str]


def averaged(study: Study, interval: str) -> str:
    """What a mean is over, with how ``interval`` is shown; one seed has neither."""
    if study.most_seeds() > 1:
        return f"Mean over seeds{interval}"
    return "One seed, so there is no interval"


def tied(values: Mapping[str, float], write: Write, *, highest: bool = False) -> list[str]:
    """Names whose value reads the same as the best one's."""
    best = write((max if highest else min)(values.values()))
    return [name for name, value in values.items() if write(value) == best]


def lowest_objective(study: Study) -> str:
    """ "A has" or "A and B have" the lowest objective."""
    means = {s: study.interval("objective", s).mean for s in study.ranking()}
    names = tied(means, significant)
    return f"{conjugated(names, 'has', 'have')} the lowest objective"


def conjugated(names: list[str], one: str, several: str) -> str:
    """Names with the form of the verb that suits their number."""
    return f"{listed(names)} {one if len(names) == 1 else several}"
