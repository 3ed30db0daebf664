"""Words that several sections' captions and titles share."""

from __future__ import annotations

from controller.report.analysis.data import Data
from controller.report.text import leading, significant, tied


def averaged(data: Data, interval: str) -> str:
    """Say what a mean is over, with how ``interval`` is shown; one seed has neither."""
    if data.most_seeds() > 1:
        return f"Mean over seeds{interval}"
    return "One seed, so there is no interval"


def lowest_objective(data: Data) -> str:
    """Say that "A has" or "A and B have" the lowest objective, or that all have the same."""
    means = {s: data.interval("objective", s).mean for s in data.ranking()}
    return leading(
        means,
        tied(means, significant),
        "has the lowest objective",
        "have the lowest objective",
        "All strategies have the same objective",
    )
