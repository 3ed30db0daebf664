"""What a search has found: facts that hold together, facts that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.campaigns.facts import FactsFile
from controller.inference.search import Sample

Floats = NDArray[np.float64]

SHOWN: Final = 6  # sets of facts


@dataclass(frozen=True, slots=True)
class FactFound:
    """A fact's least distance in any world, and the share of worlds in which it holds."""

    name: str
    least: float
    share: float


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two facts that each hold in some worlds and in no world together. ``least``: the smallest
    distance, in tolerances, from the farther of the two."""

    one: str
    other: str
    least: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """Worlds in which a set of facts holds, a set that no world extends.

    ``ranges``: number -> (least, median, greatest) factor over the worlds. ``rules``: rule ->
    value -> worlds. ``nearest``: the world with the least distance from the set's facts.
    """

    facts: tuple[str, ...]
    missing: tuple[str, ...]
    worlds: int
    nearest: Sample
    ranges: dict[str, tuple[float, float, float]]
    rules: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Found:
    """All of it. ``all_least``: the smallest distance from the farthest of all facts."""

    samples: int
    facts: tuple[FactFound, ...]
    contradictions: tuple[Contradiction, ...]
    accepted: tuple[Accepted, ...]
    all_least: float


def analyse(file: FactsFile, samples: Sequence[Sample]) -> Found:
    """Return what the samples say about the facts."""
    far = np.array([one.distances for one in samples])
    holds = far <= 1.0
    names = [fact.name for fact in file.facts]
    contradictions = [
        Contradiction(names[a], names[b], float(far[:, (a, b)].max(axis=1).min()))
        for a, b in combinations(range(len(names)), 2)
        if holds[:, a].any() and holds[:, b].any() and not (holds[:, a] & holds[:, b]).any()
    ]
    return Found(
        samples=len(samples),
        facts=tuple(
            FactFound(name, float(far[:, f].min()), float(holds[:, f].mean()))
            for f, name in enumerate(names)
        ),
        contradictions=tuple(sorted(contradictions, key=lambda one: -one.least)),
        accepted=tuple(_accepted(file, samples, far, chosen) for chosen in _maximal(holds)),
        all_least=float(far.max(axis=1).min()),
    )


def _maximal(holds: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the largest sets of facts that hold together in some world and that no other such set
    contains, most facts first."""
    sets = {tuple(np.flatnonzero(row).tolist()) for row in np.unique(holds, axis=0)}
    found = [one for one in sets if one and not any(set(one) < set(other) for other in sets)]
    worlds = {one: int(holds[:, list(one)].all(axis=1).sum()) for one in found}
    return sorted(found, key=lambda one: (-len(one), -worlds[one], one))[:SHOWN]


def _accepted(
    file: FactsFile, samples: Sequence[Sample], far: Floats, chosen: tuple[int, ...]
) -> Accepted:
    inside = np.flatnonzero((far[:, chosen] <= 1.0).all(axis=1))
    # Among the accepted worlds, the one that is least far from the facts outside the set too.
    worst = np.maximum(far[inside], 0).clip(max=1e6).max(axis=1)
    nearest = samples[int(inside[np.argmin(worst)])]
    worlds = [samples[int(k)].world for k in inside]
    names = [fact.name for fact in file.facts]
    rules = {}
    for rule in type(file.rules).model_fields:
        values = [getattr(world.rules, rule) for world in worlds]
        rules[rule] = {value: values.count(value) for value in sorted(set(values))}
    for key in file.parameters:
        drawn = [f"{world.parameters[key]:g}" for world in worlds]
        rules[key] = {value: drawn.count(value) for value in sorted(set(drawn))}
    return Accepted(
        facts=tuple(names[f] for f in chosen),
        missing=tuple(name for f, name in enumerate(names) if f not in chosen),
        worlds=len(inside),
        nearest=nearest,
        ranges={key: _range([world.scale[key] for world in worlds]) for key in file.scale},
        rules=rules,
    )


def _range(values: list[float]) -> tuple[float, float, float]:
    return min(values), float(np.median(values)), max(values)
