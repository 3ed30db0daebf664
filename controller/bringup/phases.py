"""Phases of a bring-up, one after the other: each says whether it can be left out, and is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from controller.bringup.playbooks import Failure, Outcome, Watcher
from controller.domain.errors import InputError

DRAIN: Final = "drain"
PROVISION: Final = "provision"
REACH: Final = "reach"
SITE: Final = {  # tag of site.yml: title
    "validate": "Examine the machines before anything is changed",
    "hosts": "Base system, containers, GPU drivers",
    "kubernetes": "Kubernetes and the network of pods",
    "services": "Registry, MongoDB, Prometheus, Grafana",
    "edgelm": "Controller, nodes, models",
    "airflow": "Airflow",
    "check": "Examine the testbed",
}
TITLES: Final = {
    DRAIN: "Drain machines that the testbed file has no longer",
    PROVISION: "Machines, network, addresses",
    REACH: "Wait until the machines answer",
    **SITE,
}
ROLES: Final = "roles"  # instead of the tags of site.yml: those that somebody has chosen


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase. ``should_skip`` returns why there is nothing to do, "" if there is."""

    name: str
    title: str
    should_skip: Callable[[], str]
    execute: Callable[[Watcher], Outcome]


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a phase. ``skipped``: why nothing was done; ``log``: where all of it stands."""

    name: str
    ok: bool = True
    skipped: str = ""
    seconds: float = 0.0
    changed: dict[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    unreachable: tuple[str, ...] = ()
    cancelled: bool = False
    log: str = ""


class Display(Watcher, Protocol):
    """Display of the progress of a bring-up."""

    def begin(self, number: int, of: int, phase: Phase) -> None: ...

    def end(self, result: Result) -> None: ...


def run_phases(
    phases: Sequence[Phase], display: Display, ended: Callable[[Result], None],
    first: str | None = None, last: str | None = None,
) -> list[Result]:  # fmt: skip
    """Run phases in their order, up to the first that fails.

    Args:
        ended: called with each result.
        first, last: names of the phases to begin and to end with.

    Raises:
        InputError: there is no such phase, or the last is before the first.
    """
    names = [one.name for one in phases]
    begin, end = limits(names, first, last)
    results = []
    for k, phase in enumerate(phases):
        if begin <= k <= end:
            display.begin(k + 1, len(phases), phase)
            result = _one(phase, display)
            display.end(result)
            ended(result)
            results.append(result)
            if not result.ok:
                break
    return results


def names_of(tags: Sequence[str]) -> list[str]:
    """Return the names of all phases, in their order. ``tags``: roles that somebody has chosen."""
    return [DRAIN, PROVISION, REACH, *((ROLES,) if tags else SITE)]


def limits(names: Sequence[str], first: str | None, last: str | None) -> tuple[int, int]:
    """Return the places of the first and the last phase to run.

    Raises:
        InputError: there is no such phase, or the last comes before the first.
    """
    begin = _position("--from", first, names, 0)
    end = _position("--until", last, names, len(names) - 1)
    if end < begin:
        raise InputError("edgelm up", f"comes before --from {first}", field="--until", value=last,
                         remedy=f"phases are {', '.join(names)}")  # fmt: skip
    return begin, end


def _position(option: str, name: str | None, names: Sequence[str], default: int) -> int:
    if name is None:
        return default
    if name not in names:
        raise InputError("edgelm up", "is no phase", field=option, value=name,
                         remedy=f"choose from {', '.join(names)}")  # fmt: skip
    return names.index(name)


def _one(phase: Phase, display: Display) -> Result:
    reason = phase.should_skip()
    if reason:
        return Result(phase.name, skipped=reason)
    began = time.monotonic()
    outcome = phase.execute(display)
    return Result(
        phase.name, outcome.ok, "", round(time.monotonic() - began, 1), dict(outcome.changed),
        tuple(outcome.failures), tuple(outcome.unreachable), outcome.cancelled, outcome.log,
    )  # fmt: skip
