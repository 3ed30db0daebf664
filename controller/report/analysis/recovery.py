"""Epochs until a strategy's objective is back after a change of load or nodes.

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
from itertools import pairwise
from typing import Any, Final

from controller.domain.errors import InputError
from controller.inputs.documents import parse
from controller.report.analysis.data import Data
from controller.results.run import Setting
from controller.results.statistics import Interval, mean_interval
from controller.workloads.processes import Phases
from controller.workloads.spec import WorkloadFile

LEVEL_EPOCHS: Final = 5
MARGIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the load's mix or of the nodes. ``at``: when, in epochs; ``epoch``: the first
    that it touches."""

    epoch: int
    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """One strategy after one change, over seeds: ``epochs`` of the seeds that were back, and how
    many of these ``left`` again."""

    strategy: str
    change: Change
    epochs: tuple[int, ...]
    runs: int
    left: int = 0

    @property
    def interval(self) -> Interval:
        return mean_interval(self.epochs)


def find_changes(data: Data) -> tuple[Setting, tuple[Change, ...]]:
    """Return the setting to look at, the nominal one if anything changes in it, and its changes in
    runs that are long enough; none if no setting has any."""
    ordered = sorted(data.settings, key=lambda setting: setting != data.nominal)
    for setting in ordered:
        for strategy in data.present(setting)[:1]:
            run = next(iter(data.finished(strategy, setting).values()))
            epochs = len(run.figures.per_epoch) if run.figures else 0
            found = [c for c in changes_of(run.experiment) if c.epoch < epochs]
            if found:
                return setting, tuple(found)
    return data.nominal, ()


def changes_of(experiment: Mapping[str, Any]) -> list[Change]:
    """Return the changes of an experiment, those of one epoch together; whatever the run's length
    is."""
    if not experiment:
        return []
    epochs = int(experiment["epochs"])
    epoch_s = float(experiment["slot_s"]) * int(experiment["epoch_slots"])
    events = _phase_starts(experiment, epochs)
    for outage in experiment["faults"]["outages"]:
        events.append((float(outage["down_s"]) / epoch_s, f"{outage['node']} down"))
        if outage["up_s"] is not None:
            events.append((float(outage["up_s"]) / epoch_s, f"{outage['node']} back"))
    found: dict[int, list[tuple[float, str]]] = {}
    for at, words in sorted(events):
        if 0 < at < epochs:
            found.setdefault(int(at), []).append((at, words))
    return [
        Change(epoch, parts[0][0], ", ".join(dict.fromkeys(words for _, words in parts)))
        for epoch, parts in found.items()
    ]


def _phase_starts(experiment: Mapping[str, Any], epochs: int) -> list[tuple[float, str]]:
    """Return when the load's mix changes; never in a workload of another version of edgelm."""
    try:
        process = parse(WorkloadFile, "workload", experiment["workload"]).process
    except InputError:
        return []
    if not isinstance(process, Phases):
        return []
    lengths = [phase.epochs for phase in process.phases]
    order = [k for k, length in enumerate(lengths) for _ in range(length)]
    repeats = process.after == "repeat"
    at = [order[e % len(order) if repeats else min(e, len(order) - 1)] for e in range(epochs)]
    mixes = [(phase.load, phase.weights) for phase in process.phases]
    return [
        (float(epoch), f"mix {after + 1}")
        for epoch, (before, after) in enumerate(pairwise(at), 1)
        if mixes[before] != mixes[after]
    ]


def recoveries(data: Data, setting: Setting, changes: tuple[Change, ...]) -> list[Recovery]:
    """Return every strategy's recovery after every change that has an epoch before it."""
    found = []
    starts = [0, *(change.epoch for change in changes)]
    ends: list[int | None] = [*(change.epoch for change in changes[1:]), None]
    for strategy in data.present(setting):
        runs = [
            [epoch.objective for epoch in run.figures.per_epoch]
            for run in data.finished(strategy, setting).values()
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
    """Return the epochs until it is back, and whether it leaves again; None if it is not back."""
    before = run[max(start, at - LEVEL_EPOCHS) : at]
    if not before:
        return None
    limit = (1 + MARGIN) * sum(before) / len(before)
    after = run[at:end]
    for k, value in enumerate(after):
        if value <= limit:
            return k, sum(after[k:]) / len(after[k:]) > limit
    return None
