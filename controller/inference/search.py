"""The sampler: worlds drawn broadly at first, then near those that many facts allow.

Samples come in batches. A sample depends on the file, the seed, its number and the samples before
its batch, so that a search that was interrupted goes on as if it had not been, on any number of
cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.campaigns.facts import FactsFile, Quantity, World
from controller.campaigns.rules import RuleSet

Floats = NDArray[np.float64]

BATCH: Final = 50
BROAD: Final = 0.25  # of the samples, drawn over the whole ranges
BROAD_AT_LEAST: Final = 50
ELITE: Final = 25  # worlds near which new ones are drawn
STEP: Final = 0.12  # of a factor's logarithmic range
FARTHEST: Final = 1e3  # tolerances
MOVED: Final = 0.5  # chance that a factor moves
REDRAWN: Final = 0.08  # chance that a rule or parameter is drawn anew


@dataclass(frozen=True, slots=True)
class Sample:
    """A world with its figures by strategy, and its distance from every fact (F,) in tolerances."""

    number: int
    world: World
    figures: Mapping[str, Mapping[str, float | None]]
    distances: Floats


def value_of(quantity: Quantity, figures: Mapping[str, Mapping[str, float | None]]) -> float:
    """Return a quantity of a world's figures; NaN where there is none."""
    values = [figures.get(name, {}).get(quantity.quantity) for name in quantity.strategies]
    first, *others = [float("nan") if value is None else value for value in values]
    return first - others[0] if others else first


def distances_of(file: FactsFile, figures: Mapping[str, Mapping[str, float | None]]) -> Floats:
    """Return (F,) the distance of a world's figures from every fact."""
    return np.array([fact.distance(value_of(fact, figures)) for fact in file.facts])


def propose(
    file: FactsFile, seed: int, number: int, samples: int, before: Sequence[Sample]
) -> World:
    """Return the world of a sample. ``before``: the samples before its batch."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    broad = max(BROAD_AT_LEAST, round(BROAD * samples))
    if number < broad or not before:
        return _anywhere(file, rng)
    # Every fact is left out in turn, and none in the last: a contradiction between two facts would
    # else keep the search from worlds that all others allow.
    facts = len(file.facts)
    left_out = number % (facts + 1)
    chosen = [f for f in range(facts) if f != left_out]
    far = np.minimum([one.distances[chosen] for one in before], FARTHEST)
    # Concave, so that a world in which one fact holds and another is far off is nearer than one
    # between the two.
    cost = np.log1p(np.maximum(far - 1.0, 0.0)).sum(axis=1)
    elite = np.argsort(cost, kind="stable")[:ELITE]
    return _near(file, before[int(rng.choice(elite))].world, rng)


def _anywhere(file: FactsFile, rng: np.random.Generator) -> World:
    return World(
        scale={
            key: exp(rng.uniform(log(bounds.low), log(bounds.high)))
            for key, bounds in file.scale.items()
        },
        rules=RuleSet(name="inferred", **_rules(file, rng)),
        parameters={key: float(rng.choice(values)) for key, values in file.parameters.items()},
    )


def _near(file: FactsFile, world: World, rng: np.random.Generator) -> World:
    scale = dict(world.scale)
    for key, bounds in file.scale.items():
        if rng.random() < MOVED:
            low, high = log(bounds.low), log(bounds.high)
            moved = log(scale[key]) + STEP * (high - low) * float(rng.standard_normal())
            scale[key] = exp(min(high, max(low, moved)))
    rules, drawn = world.rules.model_dump(), _rules(file, rng)
    rules |= {rule: value for rule, value in drawn.items() if rng.random() < REDRAWN}
    parameters = {
        key: float(rng.choice(values)) if rng.random() < REDRAWN else world.parameters[key]
        for key, values in file.parameters.items()
    }
    return World(scale=scale, rules=RuleSet(**rules), parameters=parameters)


def _rules(file: FactsFile, rng: np.random.Generator) -> dict[str, str]:
    choices = file.rules.model_dump()
    return {rule: values[int(rng.integers(len(values)))] for rule, values in choices.items()}
