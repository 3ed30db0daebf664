"""Files of facts: what was reported of a testbed, and what of it is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from controller import strategies
from controller.campaigns.rules import RuleSet
from controller.domain.errors import InputError
from controller.inputs import scaling
from controller.inputs.catalog import load_profile, locate, parse, read_yaml
from controller.inputs.fields import Count, Name, Positive, Record, Text
from controller.inputs.profile import ProfileFile

MEASURES: Final = ("objective", "success_rate", "f_norm", "jain", "t_mean_s")
PER_LM: Final = ("rho", "t_mean_s")  # after an LM's name: LM4.rho

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Quantity(Record):
    """A named figure of a strategy, or its difference from the same figure of another."""

    name: Name
    strategy: str = Field(description="without agents, as in `edgelm list strategies`")
    quantity: str = Field(description=f"{', '.join(MEASURES)}, LM.rho or LM.t_mean_s")
    minus: str = Field(default="", description="a strategy whose figure is subtracted")

    @model_validator(mode="after")
    def _exists(self) -> Self:
        for name in filter(None, (self.strategy, self.minus)):
            found = strategies.STRATEGIES.get(name)
            if found is None or found.has_agents:
                known = ", ".join(s for s, r in strategies.STRATEGIES.items() if not r.has_agents)
                raise ValueError(f"strategy {name!r} must be one of {known}")
        lm, dot, figure = self.quantity.rpartition(".")
        if (figure not in PER_LM or not lm) if dot else (self.quantity not in MEASURES):
            raise ValueError(
                f"quantity {self.quantity!r} must be one of {', '.join(MEASURES)}, LM.rho or "
                "LM.t_mean_s"
            )
        return self

    @property
    def strategies(self) -> tuple[str, ...]:
        return (self.strategy, self.minus) if self.minus else (self.strategy,)


class Fact(Quantity):
    """A reported figure. It holds where ours is within ``tolerance`` of ``target``, or beyond it on
    the side that ``side`` allows."""

    target: Number
    tolerance: Positive
    side: Literal["near", "at_least", "at_most"] = "near"
    reading: Text = Field(description="where it stands, and how it is read")

    def distance(self, value: float) -> float:
        """Return how far a figure is off, in tolerances; inf if there is none."""
        off = value - self.target
        if off != off:
            return inf
        off = {"near": abs(off), "at_least": max(0.0, -off), "at_most": max(0.0, off)}[self.side]
        return off / self.tolerance


class Watched(Quantity):
    """A figure that nobody searched for, shown of the nearest worlds."""

    reported: Text


class Choices(Record):
    """Rules of the twin that are unknown: the possible values of each."""

    late: tuple[Literal["drop", "serve"], ...] = ("drop",)
    inactive: tuple[Literal["wait", "fail"], ...] = ("wait",)
    slices: tuple[Literal["share", "static"], ...] = ("share",)
    origins: tuple[Literal["workers", "all"], ...] = ("workers",)
    blocks: tuple[Literal["stopping", "pending"], ...] = ("stopping",)


class Range(Record):
    """Bounds of a factor, drawn log-uniformly."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low:g} and {self.high:g}")
        return self


class FactsFile(Record):
    """Facts about a testbed, and the numbers and rules of it that are unknown."""

    name: Name
    summary: Text
    testbed: str = "paper"
    profile: str = "a5000"
    workload: str = "paper"
    load: Positive = 1.0
    epochs: Count = 3
    scale: dict[str, Range] = Field(
        description="number of the profile, as campaigns scale it -> bounds of its factor"
    )
    rules: Choices = Choices()
    parameters: dict[str, tuple[Number, ...]] = Field(
        default_factory=dict, description="STRATEGY.parameter -> its possible values"
    )
    facts: Annotated[tuple[Fact, ...], Field(min_length=1)]
    watch: tuple[Watched, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in (*self.facts, *self.watch)]
        if len(set(names)) < len(names):
            raise ValueError(f"facts need different names, not {', '.join(names)}")
        for key, values in self.parameters.items():
            strategy, _, parameter = key.partition(".")
            try:
                for value in values:
                    strategies.resolved_parameters(strategy, {parameter: value})
            except InputError as error:
                raise ValueError(f"parameters {key}: {error}") from None
        return self

    @property
    def strategies(self) -> tuple[str, ...]:
        """Strategies that a world is judged by."""
        return tuple(sorted({name for fact in self.facts for name in fact.strategies}))


class World(Record):
    """One way in which the testbed may have been: factors, rules, strategies' parameters."""

    scale: dict[str, float]
    rules: RuleSet
    parameters: dict[str, float]


def scaled(profile: ProfileFile, factors: Mapping[str, float], name: str = "") -> ProfileFile:
    """Return the profile with some of its numbers multiplied, under a name of its own: many factors
    would make a long one.

    Raises:
        InputError: an unknown number, or a factor out of bounds.
    """
    document = scaling.scale(profile.model_dump(mode="json"), factors)
    document["name"] = name or f"{profile.name}-scaled"
    document["summary"] = profile.summary
    return parse(ProfileFile, f"profile {profile.name}, scaled", document)


def load_facts(name_or_path: str | Path) -> tuple[FactsFile, bytes]:
    """Return a file of facts by shipped name or path, and its content.

    Raises:
        InputError: it does not exist, is malformed, or scales what its profile lacks.
    """
    path = locate("facts", name_or_path)
    found = parse(FactsFile, str(path), read_yaml(path))
    profile = load_profile(found.profile)
    for end in ("low", "high"):
        scaled(profile, {key: getattr(bounds, end) for key, bounds in found.scale.items()})
    lms = {one.quantity.rpartition(".")[0] for one in (*found.facts, *found.watch)} - {""}
    unknown = sorted(lms - set(profile.lms))
    if unknown:
        raise InputError(
            str(path), f"profile {profile.name} has no such LM", field="quantity",
            value=unknown[0], remedy=f"choose from {', '.join(profile.lms)}",
        )  # fmt: skip
    return found, path.read_bytes()
