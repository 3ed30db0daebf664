"""How soon a strategy is back after its world has changed.

A change is an epoch from which on the workload's phase is another one, or in which a scheduled
outage begins or ends; changes of one epoch are one. The level before is the mean objective of the
up to LEVEL_EPOCHS epochs before it, back to the change before. A run is back in the first epoch,
from that of the change on and before the next change, whose objective is at most 1 + MARGIN times
this level; the epochs until then are counted, so 0 means that the epoch of the change was no worse.
If there is no such epoch it is not back within the phase. It has left again if the mean of the
epochs from then on and before the next change is above that limit: queues take a while to build.
Random outages are not known beforehand and are no changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from controller.report.formats import NONE, percent
from controller.report.plates import Table
from controller.report.sheets import Cell, Head, Row, Sheet
from controller.report.study import Study
from controller.results.run import Setting
from controller.results.statistics import Interval, mean_interval

LEVEL_EPOCHS: Final = 5
MARGIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """``at``: when, in epochs; ``epoch``: the first that it touches."""

    epoch: int
    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """Of one strategy after one change, over seeds: ``epochs`` of the seeds that were back, and
    how many of these ``left`` again."""

    strategy: str
    change: Change
    epochs: tuple[int, ...]
    runs: int
    left: int = 0

    @property
    def interval(self) -> Interval:
        return mean_interval(self.epochs)


def find_changes(study: Study) -> tuple[Setting, tuple[Change, ...]]:
    """The setting to look at, the nominal one if anything changes in it, and its changes in runs
    that are long enough; none if no setting has any."""
    ordered = sorted(study.settings, key=lambda setting: setting != study.nominal)
    for setting in ordered:
        for strategy in study.present(setting)[:1]:
            run = next(iter(study.finished(strategy, setting).values()))
            epochs = len(run.figures.per_epoch) if run.figures else 0
            found = [c for c in changes_of(run.experiment) if c.epoch < epochs]
            if found:
                return setting, tuple(found)
    return study.nominal, ()


def changes_of(experiment: Mapping[str, Any]) -> list[Change]:
    """Changes of an experiment, those of one epoch together; whatever the run's length is."""
    epochs = int(experiment.get("epochs", 0))
    epoch_s = float(experiment.get("slot_s", 30.0)) * int(experiment.get("epoch_slots", 50))
    found: dict[int, list[tuple[float, str]]] = {}
    events = _phases(experiment.get("workload", {}).get("process", {}), epochs)
    for outage in (experiment.get("faults") or {}).get("outages", ()):
        events.append((float(outage["down_s"]) / epoch_s, f"{outage['node']} down"))
        if outage.get("up_s") is not None:
            events.append((float(outage["up_s"]) / epoch_s, f"{outage['node']} back"))
    for at, words in sorted(events):
        if 0 < at < epochs:
            found.setdefault(int(at), []).append((at, words))
    return [
        Change(epoch, parts[0][0], ", ".join(dict.fromkeys(words for _, words in parts)))
        for epoch, parts in found.items()
    ]


def _phases(process: Mapping[str, Any], epochs: int) -> list[tuple[float, str]]:
    if process.get("kind") != "phases":
        return []
    phases = list(process["phases"])
    mixes = [(phase.get("load", 1.0), phase.get("weights") or {}) for phase in phases]
    times = -(-epochs // sum(phase["epochs"] for phase in phases))
    repeats = times if process.get("after") == "repeat" else 1
    starts = accumulate(phase["epochs"] for phase in phases * repeats)
    order = list(range(len(phases))) * repeats + [0] * (process.get("after") == "repeat")
    pairs = zip(starts, pairwise(order), strict=False)
    return [
        (float(start), f"mix {after + 1}")
        for start, (before, after) in pairs
        if mixes[before] != mixes[after]
    ]


def recoveries(study: Study, setting: Setting, changes: tuple[Change, ...]) -> list[Recovery]:
    """Every strategy after every change that has an epoch before it."""
    found = []
    starts = [0, *(change.epoch for change in changes)]
    ends: list[int | None] = [*(change.epoch for change in changes[1:]), None]
    for strategy in study.present(setting):
        runs = [
            [epoch.objective for epoch in run.figures.per_epoch]
            for run in study.finished(strategy, setting).values()
            if run.figures
        ]
        for change, start, end in zip(changes, starts, ends, strict=False):
            if change.epoch > start:
                returns = [_return(run, start, change.epoch, end) for run in runs]
                back = [one for one in returns if one]
                times, left = tuple(k for k, _ in back), sum(again for _, again in back)
                found.append(Recovery(strategy, change, times, len(runs), left))
    return found


def _return(run: list[float], start: int, at: int, end: int | None) -> tuple[int, bool] | None:
    """Epochs until it is back, and whether it leaves again; None if it is not back."""
    before = run[max(start, at - LEVEL_EPOCHS) : at]
    if not before:
        return None
    limit = (1 + MARGIN) * sum(before) / len(before)
    after = run[at:end]
    for k, value in enumerate(after):
        if value <= limit:
            return k, sum(after[k:]) / len(after[k:]) > limit
    return None


def tell_recoveries(found: list[Recovery]) -> Sheet | None:
    """A row per strategy, a column per change."""
    if not found:
        return None
    changes = list(dict.fromkeys(one.change for one in found))
    cells = {(one.strategy, one.change): one for one in found}
    strategies = list(dict.fromkeys(one.strategy for one in found))
    return Sheet(
        name="adaptation",
        caption=f"Epochs until the objective is back within {percent(MARGIN)} of its level before "
        f"a change: the mean of the up to {LEVEL_EPOCHS} epochs before, of the same strategy and "
        "seed. 0: the epoch of the change was no worse. Left again: "
        "the mean from then until the next change is above. Mean over the seeds that were back "
        "before the next change, ± half the width of the 95 % interval.",
        heads=(
            Head("Strategy", numeric=False),
            *(Head(f"{c.words} (epoch {c.epoch + 1})") for c in changes),
        ),
        rows=tuple(Row((Cell(s), *(_cell(cells[s, c]) for c in changes)), s) for s in strategies),
        data=Table(
            ("strategy", "change", "epoch", "runs", "back", "left_again", "epochs_mean", "low",
             "high"),
            tuple(
                (one.strategy, one.change.words, one.change.epoch + 1, one.runs, len(one.epochs),
                 one.left,                 one.interval.mean, one.interval.low, one.interval.high)
                for one in found
            ),
        ),
    )  # fmt: skip


def _cell(one: Recovery) -> Cell:
    if not one.runs:
        return Cell(NONE, kind="none")
    if not one.epochs:
        return Cell("not within the phase", 1e9)
    interval = one.interval
    margin = interval.high - interval.mean if interval.n > 1 else 0.0
    missed = one.runs - len(one.epochs)
    small = [
        f"± {margin:.1f}" if margin else "",
        f"{missed} of {one.runs} not within the phase" if missed else "",
        f"{one.left} of {one.runs} left again" if one.left else "",
    ]
    return Cell(f"{interval.mean:.1f}", interval.mean, "; ".join(filter(None, small)))
