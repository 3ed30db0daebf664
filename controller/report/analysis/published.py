"""Figures in the text of the paper, of its own testbed. Nothing is read off its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from controller.report.analysis.data import Data
from controller.results.statistics import Interval, mean_interval

INFERRED: Final = "paper-inferred"  # begins the names of inferred profiles
WHERE: Final = "the paper's own figures, measured on its own hardware"


@dataclass(frozen=True, slots=True)
class Point:
    """A published point of Fig. 5. ``more``: the latency is at least this."""

    strategy: str
    t_mean_s: float
    f_norm: float
    more: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A published figure and the same figure of ours, None where we have none."""

    strategy: str
    quantity: str
    published: str
    unit: str
    ours: Callable[[Data], Interval | None]


POINTS: Final = (Point("MA", 74.0, 0.90), Point("RF", 406.0, 0.62, more=True))
FAIRNESS_ONLY: Final = ("RL", 1.0)  # F_norm about 1.0, its latency is not in the text
STABLE_EPOCHS: Final = (10, 30)  # MA: "stable performance within 10-30 macro epochs"
LM4_SUCCESS_BELOW: Final = (("RR", "MAL", "AL"), 0.3)
LM4_LATENCY_ABOVE_S: Final = (("RR", "MAL", "AL"), 600.0)
MA_SUCCESS_ABOVE: Final = 0.4


def applies(data: Data) -> bool:
    """Return True if the nominal setting is the paper's testbed under the paper's load."""
    setting = data.nominal
    named = setting.value("testbed") == "paper" and setting.value("workload") == "paper"
    return named and setting.value("load") in (None, 1, 1.0)


def worlds(data: Data) -> dict[str, Data]:
    """Return the campaign as seen on the nominal setting and on each inferred world's, by title;
    empty without an inferred world."""
    inferred = [
        setting
        for setting in data.settings
        if str(setting.value("profile")).startswith(INFERRED) and data.present(setting)
    ]
    if not inferred:
        return {}
    found = {"estimated": data}
    for setting in inferred:
        name = str(setting.value("profile")).removeprefix(INFERRED).strip("-")
        found[f"inferred {name}".strip()] = replace(data, nominal=setting)
    return found


def unasked() -> tuple[Claim, ...]:
    """Return figures of SOLVER beside those published of MA: no search was given them."""
    return (
        Claim("SOLVER", "mean latency", "MA: 74", "s", _measure("SOLVER", "t_mean_s")),
        Claim("SOLVER", "F_norm", "MA: 0.90", "", _measure("SOLVER", "f_norm")),
        Claim("SOLVER", "success ratio of LM4", "MA: above 0.4", "", _lm("SOLVER", "LM4", "rho")),
    )


def claims() -> tuple[Claim, ...]:
    """Return every published figure of section VI, in its order."""
    lm4 = [
        claim
        for s in LM4_SUCCESS_BELOW[0]
        for claim in (
            Claim(s, "success ratio of LM4", "often below 0.3", "", _lm(s, "LM4", "rho")),
            Claim(s, "mean latency of LM4", "above 600", "s", _lm(s, "LM4", "t_mean_s")),
        )
    ]
    return (
        Claim("MA", "mean latency", "74", "s", _measure("MA", "t_mean_s")),
        Claim("MA", "F_norm", "0.90", "", _measure("MA", "f_norm")),
        Claim("MA", "lowest success ratio of an LM", "above 0.4", "", _lowest_rho("MA")),
        Claim("RF", "mean latency", "above 406", "s", _measure("RF", "t_mean_s")),
        Claim("RF", "fairness", "about 0.62", "", _measure("RF", "f_norm")),
        Claim("RL", "fairness", "about 1.0", "", _measure("RL", "f_norm")),
        Claim("RL", "mean latency below RR's by", "over 50", "s", _gain("RR", "RL")),
        *lm4,
    )


def _measure(strategy: str, measure: str) -> Callable[[Data], Interval | None]:
    def ours(data: Data) -> Interval | None:
        found = data.interval(measure, strategy)
        return found if found.n else None

    return ours


def _lm(strategy: str, lm: str, field: str) -> Callable[[Data], Interval | None]:
    def ours(data: Data) -> Interval | None:
        found = data.lm_interval(field, strategy, lm)
        return found if found.n else None

    return ours


def _lowest_rho(strategy: str) -> Callable[[Data], Interval | None]:
    def ours(data: Data) -> Interval | None:
        rows = [data.lm_values("rho", strategy, lm) for lm in data.lms()]
        found = mean_interval([min(seed) for seed in zip(*rows, strict=True)])
        return found if found.n else None

    return ours


def _gain(slower: str, faster: str) -> Callable[[Data], Interval | None]:
    def ours(data: Data) -> Interval | None:
        a, b = data.paired("t_mean_s", slower, faster)
        found = mean_interval(a - b)
        return found if found.n else None

    return ours
