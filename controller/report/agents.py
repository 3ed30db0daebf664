"""Tables of agents: how they decided, what it took, and whether the cluster followed."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Final

import numpy as np

from controller.report.alignment import FIELDS, Alignment
from controller.report.captions import averaged
from controller.report.conduct import (
    APPROVED,
    REFUSED,
    UNDONE,
    TierConduct,
    add_up,
)
from controller.report.crew import Crew
from controller.report.efforts import COLUMNS, Effort, efforts
from controller.report.formats import NONE, SPACE, percent, significant
from controller.report.plates import Table
from controller.report.sheets import Cell, Head, Row, Sheet, without_empty_columns
from controller.report.study import Study
from controller.results.statistics import Interval, mean_interval

OUTCOMES: Final = ("ok", "repaired", "fallback", "late", "void")


def tell_agents(study: Study, crew: Crew) -> Sheet | None:
    """A row per strategy and tier with agents, all seeds together."""
    lines = efforts(study, crew, advice=False)
    if not lines:
        return None
    sheet = Sheet(
        name="agents",
        caption="Decisions of agents, all seeds of the nominal setting together. Repaired: valid "
        "after one round of correction. Fallback: no valid reply, so a rule decided. Late: not "
        "there by the end of the slot, so the decision before held. Void: valid, but some of it "
        "was stopped as another pod held the resources. A run goes on after its last arrival until "
        "every request is decided (the drain), so planners may decide once or more beyond the "
        "epochs. Cost: none where an optimiser answered or tokens are free, unknown where a "
        "model's price is not known.",
        heads=(
            Head("Strategy", numeric=False), Head("Tier", numeric=False), Head("Decisions"),
            *(Head(name.capitalize()) for name in OUTCOMES),
            Head("Time (s)", hint="of a decision with its repairs, at most the slot: mean, p95"),
            Head("Tokens each", hint="of a decision: in, out"),
            Head("Tokens a slot", hint="in and out, over all slots of a run; of so many slots as "
                 "an epoch has"),
            Head("Cost", hint="of a run"),
        ),
        rows=tuple(Row(_cells(line), line.strategy) for line in lines),
        data=Table(
            ("strategy", "tier", "decisions", *OUTCOMES, "took_mean_s", "took_p95_s", *COLUMNS),
            tuple(_values(line) for line in lines),
        ),
    )  # fmt: skip
    return without_empty_columns(sheet)


def _values(line: Effort) -> tuple[object, ...]:
    total = line.total
    counts = [total.outcomes[name] for name in OUTCOMES]
    took = float(np.mean(total.took_s)), total.percentile_s(0.95)
    return line.strategy, line.tier, total.calls, *counts, *took, *line.values()


def _cells(line: Effort) -> tuple[Cell, ...]:
    total = line.total
    mean_s, p95_s = float(np.mean(total.took_s)), total.percentile_s(0.95)
    return (
        Cell(line.strategy), Cell(line.tier), Cell(f"{total.calls:,}"),
        *(_share_cell(total, name) for name in OUTCOMES),
        Cell(f"{mean_s:.2f}", small=f"p95 {p95_s:.2f}"),
        *line.cells(),
    )  # fmt: skip


def _share_cell(total: TierConduct, outcome: str) -> Cell:
    """The fallback is looked for: it is there even where it is 0."""
    share = total.share(outcome)
    return Cell(percent(share), share, kind="" if share or outcome == "fallback" else "none")


def tell_guard(crew: Crew) -> Sheet | None:
    """What a guard or a person made of the planner's policies."""
    found = {s: add_up(runs.values(), "planner") for s, runs in crew.conducts.items()}
    if not any(total.details for total in found.values()):
        return None
    kinds = (UNDONE, APPROVED, REFUSED)
    return Sheet(
        name="guard",
        caption="Macro-policies that were undone because their epoch did worse than the last good "
        "one, and what a person said of them; all seeds together.",
        heads=(
            Head("Strategy", numeric=False), Head("Policies"), Head("Undone"), Head("Approved"),
            Head("Not approved"),
        ),
        rows=tuple(
            Row((Cell(s), Cell(str(t.calls)), *(Cell(str(t.details[kind])) for kind in kinds)), s)
            for s, t in found.items()
        ),
        data=Table(
            ("strategy", "policies", "undone", "approved", "not_approved"),
            tuple((s, t.calls, *(t.details[kind] for kind in kinds)) for s, t in found.items()),
        ),
    )  # fmt: skip


_COLUMNS: Final[tuple[tuple[str, str, str], ...]] = (
    ("drift", "Drift", "share of prompts that went elsewhere than the policy meant: total "
     "variation distance between planned and real split, mean over epochs and LMs by prompts"),
    ("off_role", "Requests off role", "sent to a node whose role lacks the LM"),
    ("no_pod", "Met no pod", "requests that found no ready pod as the slot of their arrival began"),
    ("no_pod_wait_s", "Waited for it (s)", "mean wait for service of those that were answered"),
    ("no_pod_lost", "Lost of these", "not answered in time"),
    ("plan_uncovered", "Plan without pod", "planned shares at nodes that have no ready pod of the "
     "LM, mean over slots"),
    ("pods_off_role", "Pods off role", "ready pods of LMs that the node's role lacks"),
    ("roles_idle", "Roles idle", "LMs in a node's role without a ready pod there"),
)  # fmt: skip


def tell_alignment(study: Study, crew: Crew) -> Sheet | None:
    """Whether requests and pods followed the policy, per strategy that has one."""
    if not crew.alignments:
        return None
    cells = {s: {f: over_seeds(runs, f) for f in FIELDS} for s, runs in crew.alignments.items()}
    names = [f"{f}{side}" for f in FIELDS for side in ("", "_low", "_high")]
    return without_empty_columns(
        Sheet(
            name="alignment",
            caption="Requests and pods beside the policy in force, for strategies that have one. "
            + averaged(study, ", ± half the width of the 95 % interval")
            + ". The drain takes no part.",
            heads=(
                Head("Strategy", numeric=False),
                *(Head(title, hint=hint) for _, title, hint in _COLUMNS),
            ),
            rows=tuple(
                Row((Cell(s), *(_aligned(of[f], f) for f, _, _ in _COLUMNS)), s)
                for s, of in cells.items()
            ),
            data=Table(
                ("strategy", "seeds", *names),
                tuple(
                    (s, len(crew.alignments[s]),
                     *(v for f in FIELDS for v in (of[f].mean, of[f].low, of[f].high)))
                    for s, of in cells.items()
                ),
            ),
            notes=(" ".join(f"{title}: {hint}." for _, title, hint in _COLUMNS),),
        )
    )  # fmt: skip


def over_seeds(runs: Mapping[int, Alignment], field: str) -> Interval:
    """A figure of alignment, mean over seeds."""
    return mean_interval([getattr(run, field) for run in runs.values()])


def _aligned(interval: Interval, field: str) -> Cell:
    if not interval.n:
        return Cell(NONE, kind="none")
    mean, margin = interval.mean, interval.high - interval.mean
    if field.endswith("_s"):
        return _with_margin(significant(mean), mean, margin)
    if not 0.001 <= mean <= 0.999:
        return Cell(percent(mean), mean)  # no decimals to give a margin in
    return _with_margin(f"{100 * mean:.1f}", 100 * mean, 100 * margin, f"{SPACE}%")


def _with_margin(text: str, mean: float, margin: float, unit: str = "") -> Cell:
    """The margin in the mean's decimals; none where it is not known or reads as 0."""
    places = len(text.partition(".")[2])
    small = f"{margin:.{places}f}"
    shown = "" if isnan(margin) or not float(small) else f"± {small}{unit}"
    return Cell(f"{text}{unit}", mean, shown)
