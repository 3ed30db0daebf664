"""Section "Does the cluster follow the plan?": requests and pods beside the macro-policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Final

from controller.report.analysis.alignment import FIELDS, Alignment
from controller.report.analysis.data import Data
from controller.report.captions import averaged
from controller.report.structure import Section
from controller.report.table import EMPTY, STRATEGY, Cell, Column, Row, Table, frame_of, with_limits
from controller.report.text import SPACE, percent, significant
from controller.results.statistics import Interval, mean_interval

Alignments = Mapping[str, Mapping[int, Alignment]]  # by strategy and seed

MAL: Final = "MAL"
RIVALS: Final = ("RL", "MA")  # its deployer without its planner; its planner without its deployer
CLOSE: Final = 1.1  # factors below this are called the same
TINY: Final = 0.001


def alignment(data: Data) -> Table | None:
    """Tabulate whether requests and pods followed the policy, per strategy that has one."""
    return tabulate_alignments(data, data.records.alignments)


def tabulate_alignments(data: Data, found: Alignments) -> Table | None:
    """Tabulate alignments, mean over seeds; None without any."""
    if not found:
        return None
    columns = (
        Column("drift", "Drift", _share, "share of prompts that went elsewhere than the policy "
               "meant: total variation distance between planned and real split, mean over epochs "
               "and LMs by prompts"),
        Column("off_role", "Requests off role", _share, "sent to a node whose role lacks the LM"),
        Column("no_pod", "Met no pod", _share,
               "requests that found no ready pod as the slot of their arrival began"),
        Column("no_pod_wait_s", "Waited for it (s)", _seconds,
               "mean wait for service of those that were answered"),
        Column("no_pod_lost", "Lost of these", _share, "not answered in time"),
        Column("plan_uncovered", "Plan without pod", _share,
               "planned shares at nodes that have no ready pod of the LM, mean over slots"),
        Column("pods_off_role", "Pods off role", _share,
               "ready pods of LMs that the node's role lacks"),
        Column("roles_idle", "Roles idle", _share,
               "LMs in a node's role without a ready pod there"),
    )  # fmt: skip
    rows = []
    for strategy, by_seed in found.items():
        row: dict[str, object] = {"strategy": strategy, "seeds": len(by_seed)}
        for field in FIELDS:
            row |= with_limits(field, _over_seeds(by_seed, field))
        rows.append(row)
    return Table(
        name="alignment",
        caption="Requests and pods beside the policy in force, for strategies that have one. "
        + averaged(data, ", ± half the width of the 95 % interval")
        + ". The drain takes no part.",
        frame=frame_of(rows),
        columns=(STRATEGY, *columns),
        notes=(" ".join(f"{column.title}: {column.hint}." for column in columns),),
        drop_empty=True,
    )


def _over_seeds(by_seed: Mapping[int, Alignment], field: str) -> Interval:
    return mean_interval([getattr(run, field) for run in by_seed.values()])


def _share(row: Row, key: str) -> Cell:
    mean, margin = row[key], row[f"{key}_high"] - row[key]
    if isnan(mean):
        return EMPTY
    if not 0.001 <= mean <= 0.999:
        return Cell(percent(mean), mean)  # no decimals to give a margin in
    return _with_margin(f"{100 * mean:.1f}", 100 * mean, 100 * margin, f"{SPACE}%")


def _seconds(row: Row, key: str) -> Cell:
    mean = row[key]
    if isnan(mean):
        return EMPTY
    return _with_margin(significant(mean), mean, row[f"{key}_high"] - mean)


def _with_margin(text: str, mean: float, margin: float, unit: str = "") -> Cell:
    """Write the margin in the mean's decimals; none where it is not known or reads as 0."""
    places = len(text.partition(".")[2])
    small = f"{margin:.{places}f}"
    shown = "" if isnan(margin) or not float(small) else f"± {small}{unit}"
    return Cell(f"{text}{unit}", mean, shown)


@dataclass(frozen=True, slots=True)
class Rival:
    """MAL's fairness beside a rival's; the verdict follows from the paired interval:
    less, fairer, unclear, or one seed."""

    name: str
    verdict: str
    f_norm: float
    rival_f_norm: float


@dataclass(frozen=True, slots=True)
class Misalignment:
    """MAL beside the best-aligned strategy ``other``; ``worse``: figure -> (MAL's, the other's)
    where MAL's is noticeably more."""

    fairness: tuple[Rival, ...]
    t_mean_s: float | None
    latencies: Mapping[str, float]
    no_pod: float
    other: str
    worse: Mapping[str, tuple[float, float]]
    leaves_roles: bool


def misalignment(data: Data) -> Misalignment | None:
    """Compare MAL with its rivals; None without MAL."""
    return compare_mal(data, data.records.alignments)


def compare_mal(data: Data, found: Alignments) -> Misalignment | None:
    """Compare MAL's alignment with that of MA, or of any other strategy with a policy."""
    if MAL not in found:
        return None
    others = [s for s in found if s != MAL]
    other = "MA" if "MA" in others else next(iter(others), "")
    mine = {f: _over_seeds(found[MAL], f).mean for f in FIELDS}
    theirs = {f: _over_seeds(found[other], f).mean for f in FIELDS} if other else {}
    compared = ("no_pod", "plan_uncovered", "pods_off_role", "off_role")
    rivals = {s: data.interval("t_mean_s", s).mean for s in RIVALS if data.finished(s)}
    return Misalignment(
        fairness=tuple(rival for s in RIVALS if (rival := _rival(data, s))),
        t_mean_s=data.interval("t_mean_s", MAL).mean if data.finished(MAL) and rivals else None,
        latencies=rivals,
        no_pod=mine["no_pod"],
        other=other,
        worse={f: (mine[f], theirs[f]) for f in compared if other and _more(mine[f], theirs[f])},
        leaves_roles=not mine["off_role"] <= TINY,
    )


def _rival(data: Data, name: str) -> Rival | None:
    ours, theirs = data.paired("f_norm", MAL, name)
    gap = mean_interval(ours - theirs)
    if not gap.n:
        return None
    if isnan(gap.low):
        verdict = "one seed"
    else:
        verdict = "less" if gap.high < 0 else "fairer" if gap.low > 0 else "unclear"
    return Rival(name, verdict, float(ours.mean()), float(theirs.mean()))


def _more(mine: float, theirs: float) -> bool:
    """Return True where mine is noticeably more; NaN is not."""
    return mine - theirs > TINY and mine > CLOSE * theirs


SECTION = Section(
    "alignment",
    "Does the cluster follow the plan?",
    tables=(alignment,),
    words="alignment.html.j2",
    view=misalignment,
)
