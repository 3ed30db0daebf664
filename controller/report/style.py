"""One look for every figure: colours that colour-blind readers tell apart, on paper and on screen.

A strategy keeps its colour, marker and line across figures and reports. On the page the light
colours become CSS variables, which a dark theme replaces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

FULL_IN: Final = 7.16  # two columns of a paper
HALF_IN: Final = 3.5  # one column

INK: Final = "#1b2430"
MUTED: Final = "#5a6675"
AXIS: Final = "#a9b2be"
GRID: Final = "#e5e9ef"
SURFACE: Final = "#ffffff"
PUBLISHED: Final = "#8a929d"  # the paper's own figures
TINTS: Final = {  # light -> (CSS variable, dark)
    INK: ("ink", "#e8ebf0"),
    MUTED: ("muted", "#a3adba"),
    AXIS: ("axis", "#4d5763"),
    GRID: ("grid", "#2a313b"),
    SURFACE: ("surface", "#161a20"),
    PUBLISHED: ("published", "#7f8894"),
}

RC: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 7.5,
    "text.color": INK,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelsize": 7.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.facecolor": "none",
    "figure.facecolor": SURFACE,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "edgelm",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a label's dollar signs are no formula
}


@dataclass(frozen=True, slots=True)
class Look:
    """The look of a strategy. ``dark`` replaces ``colour`` on a dark page."""

    colour: str
    dark: str
    marker: str
    line: str | tuple[float, tuple[float, ...]]


KNOWN: Final = {
    "RR": Look("#0b2a72", "#5069c0", "o", (0, (4, 1.5))),
    "RL": Look("#0a9ce4", "#4dc6ff", "s", (0, (4, 1.5))),
    "AL": Look("#136457", "#29cc76", "^", (0, (1, 1))),
    "LL": Look("#4d7300", "#f2f269", "v", (0, (6, 1.5, 1, 1.5))),
    "RF": Look("#7924aa", "#a058f4", "D", (0, (4, 1.5))),
    "MAL": Look("#8c1420", "#e0333c", "P", (0, (6, 1.5, 1, 1.5))),
    "VTC-GPU": Look("#99805a", "#8d7a6c", "X", (0, (2, 1))),
    "SOLVER": Look("#f0891a", "#f29100", "*", "solid"),
    "MA": Look("#0d0f16", "#ffffff", "p", "solid"),
    "ORACLE": Look("#3c3cf0", "#c8ffd0", "H", (0, (1, 1))),
    "DRL": Look("#b26ea3", "#d97aaa", "<", (0, (2, 1))),
}
SPARE: Final = (
    Look("#c2577b", "#f09ab8", "h", "solid"),
    Look("#3f7f93", "#7fc4d8", ">", "dashed"),
    Look("#6d6f00", "#c9cb5a", "d", "dotted"),
    Look("#4b4f8f", "#a0a4f0", "8", "dashdot"),
)

COMPONENTS: Final = {  # where the time goes
    "uplink": ("#7fb8e0", "#7fb8e0"),
    "queue": ("#d99a1e", "#d18a12"),
    "inference": ("#34495e", "#66788f"),
    "downlink": ("#c6dc86", "#d8ea9e"),
}
GAP: Final = {  # what separates a strategy from the bound
    "bound": ("#34495f", "#66788e"),
    "slower service": ("#5f8fb8", "#6d9fcb"),
    "queueing": ("#d99a1f", "#d18a13"),
    "start-ups": ("#c8553e", "#e0725b"),
    "slot delay": ("#9a6fb0", "#b08ac6"),
    "transfers": ("#c6dc87", "#d8ea9f"),
    "unfairness": ("#8d8d86", "#a5a59e"),
}
FAILURES: Final = {
    "refused": ("#8fb8de", "#6f9cc9"),
    "deadline": ("#c8553d", "#e0725a"),
    "not_deployed": ("#e3b23c", "#e8bf5c"),
    "lost_node": ("#4a4e69", "#8f5fd0"),
    "unfinished": ("#9aa5a0", "#66706c"),
}
OUTCOMES: Final = {  # of an agent's decision
    "ok": ("#9fc6a8", "#5f9a70"),
    "void": ("#cfd6a0", "#a3ab62"),
    "repaired": ("#e3b33d", "#e8c05d"),
    "fallback": ("#c8563d", "#e0735a"),
    "late": ("#4a4f69", "#8f60d0"),
}
TIERS: Final = {
    "planner": ("#34485e", "#6b7f98"),
    "scheduler": ("#2c75b3", "#4a94d4"),
    "deployer": ("#7fb9e0", "#a5d0ee"),
}
MODES: Final = {  # drawn as an image, so one colour must do on both themes
    "GPU": ("#cc7a12", "#cc7a12"),
    "CPU": ("#2c74b3", "#2c74b3"),
    "starting, stopping or pending": ("#a3a9b2", "#a3a9b2"),
}
HEAT: Final = "#cf4436"  # backlog, from nothing (transparent) to the most


def looks(strategies: tuple[str, ...]) -> dict[str, Look]:
    """Return the look of each strategy; unknown ones take the spare looks by name, then their
    colours with other markers."""
    unknown = sorted(name for name in strategies if name not in KNOWN)
    spare = {name: _spare(k) for k, name in enumerate(unknown)}
    return {name: KNOWN.get(name) or spare[name] for name in strategies}


def _spare(k: int) -> Look:
    colour, other = SPARE[k % len(SPARE)], SPARE[(k + k // len(SPARE)) % len(SPARE)]
    return replace(colour, marker=other.marker, line=other.line)


@cache
def tints() -> dict[str, tuple[str, str]]:
    """Return every light colour of a figure that the page replaces: CSS variable and dark value."""
    named = dict(TINTS)
    for group, table in (
        ("part", COMPONENTS),
        ("gap", GAP),
        ("fail", FAILURES),
        ("mode", MODES),
        ("outcome", OUTCOMES),
        ("tier", TIERS),
    ):
        for k, (light, dark) in enumerate(table.values()):
            named[light] = (f"{group}-{k}", dark)
    for k, look in enumerate((*KNOWN.values(), *SPARE)):
        named[look.colour] = (f"series-{k}", look.dark)
    return named
