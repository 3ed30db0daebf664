"""The strategies of a campaign by objective, for a terminal or a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Final

from controller.domain.words import printable
from controller.report.analysis.agent_tiers import MUCH
from controller.report.analysis.data import SERVED_LITTLE, analyse
from controller.results.campaign import read_campaign
from controller.results.run import Run, TierFigures
from controller.results.statistics import Interval

COLUMNS: Final = {
    "objective": ("objective", 4),
    "t_mean_s": ("latency, s", 1),
    "f_norm": ("F_norm", 3),
    "success_rate": ("success", 3),
    "bound_ratio": ("x bound", 2),
}

BOUND: Final = "x bound: objective over its bound"


@dataclass(frozen=True, slots=True)
class Standing:
    """One strategy on one setting, best objective first. ``setting``: axes that differ in this
    campaign. ``lost``: tier -> which part of its agents' decisions were fallbacks or late;
    ``guarded``: likewise, changed by the guard."""

    setting: dict[str, Any]
    strategy: str
    figures: dict[str, Interval]
    lost: Mapping[str, float] = field(default_factory=dict)
    guarded: Mapping[str, float] = field(default_factory=dict)

    def texts(self) -> list[str]:
        """Return the figures in the order of COLUMNS as ``mean±half width``."""
        return [_text(self.figures[key], digits) for key, (_, digits) in COLUMNS.items()]

    def document(self) -> dict[str, Any]:
        """Return, for JSON, mean and 95 % limits of every figure, null where there is none."""
        return {
            **self.setting,
            "strategy": self.strategy,
            "fallback_or_late": dict(self.lost),
            "changed_by_guard": dict(self.guarded),
            **{
                key: {
                    "mean": _finite(found.mean),
                    "low": _finite(found.low),
                    "high": _finite(found.high),
                    "seeds": found.n,
                }
                for key, found in self.figures.items()
            },
        }


def standings(root: Path) -> list[Standing]:
    """Rank the strategies of the campaign at ``root`` by setting, then by mean objective.

    Raises:
        InputError: ``root`` is no campaign folder.
    """
    data = analyse(read_campaign(root))
    return [
        Standing(
            setting={axis: setting.value(axis) for axis in data.varying},
            strategy=strategy,
            figures={key: data.interval(key, strategy, setting) for key in COLUMNS},
            lost=_share(
                data.finished(strategy, setting).values(), lambda tier: tier.fallback + tier.late
            ),
            guarded=_share(data.finished(strategy, setting).values(), lambda tier: tier.guarded),
        )
        for setting in data.settings
        for strategy in data.ranking(setting)
    ]


def print_table(found: Sequence[Standing]) -> None:
    """Print the standings to the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    axes = list(found[0].setting)
    several = any(figure.n > 1 for one in found for figure in one.figures.values())
    caption = f"mean±95 % interval over seeds; {BOUND}" if several else f"one seed; {BOUND}"
    table = Table(box=box.SIMPLE, pad_edge=False, caption=caption, caption_justify="left")
    for name in (*axes, "strategy"):
        table.add_column(name, no_wrap=True)
    for title, _ in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    last = found[0].setting
    for standing in found:
        if standing.setting != last:
            table.add_section()
        last = standing.setting
        names = [*(str(standing.setting[axis]) for axis in axes), standing.strategy]
        # As text: a name may look like markup, or hold what a terminal obeys.
        table.add_row(*(Text(printable(name)) for name in names), *standing.texts())
    console = Console()
    unbounded = console.options.update(max_width=1000)
    width = console.measure(table, options=unbounded).maximum
    console.width = max(console.width, width)  # never cut a number
    console.print(table)
    for standing in found:
        for words in _warnings(standing):
            console.print(printable(words), style="red", markup=False, highlight=False)


def _warnings(standing: Standing) -> list[str]:
    """Return what a strategy's figures hide: whom it served, and who decided."""
    where = "".join(f", {axis} {value}" for axis, value in standing.setting.items())
    found, served = [], standing.figures["success_rate"].mean
    if served < SERVED_LITTLE:
        found.append(f"{standing.strategy}{where} served {served:.0%} of all requests")
    for shares, words in (
        (standing.lost, "decisions are fallbacks or late, not the reasoner's"),
        (standing.guarded, "decisions were changed by the guard"),
    ):
        much = [f"{share:.0%} of its {tier}'s" for tier, share in shares.items() if share >= MUCH]
        if much:
            found.append(f"{standing.strategy}{where}: {' and '.join(much)} {words}")
    return found


def _share(runs: Iterable[Run], count: Callable[[TierFigures], int]) -> dict[str, float]:
    """Return the share of the agents' decisions that ``count`` counts, by tier."""
    counted: dict[str, list[TierFigures]] = {}
    for run in runs:
        if run.figures and run.figures.reasoner:
            for name, tier in run.figures.decisions.items():
                if _is_agents(tier):
                    counted.setdefault(name, []).append(tier)
    return {
        name: sum(map(count, tiers)) / sum(tier.calls for tier in tiers)
        for name, tiers in counted.items()
    }


def _is_agents(tier: TierFigures) -> bool:
    """Return False for a tier without agents, which takes no tokens and never falls back."""
    return any((tier.tokens_in != 0, tier.repaired, tier.fallback, tier.late))


def _text(found: Interval, digits: int) -> str:
    if not isfinite(found.mean):
        return "-"
    if not isfinite(found.low):
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f}±{found.high - found.mean:.{digits}f}"


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
