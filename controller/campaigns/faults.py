"""Node outages of an experiment, at given times or random."""

from __future__ import annotations

from math import inf

import numpy as np
from pydantic import Field, model_validator

from controller.domain.errors import InputError
from controller.domain.testbed import Testbed
from controller.inputs.documents import combine
from controller.inputs.fields import LINE, NonNegative, Positive, PositiveSeconds, Record

Spans = list[tuple[int, float, float]]  # node row, down_s, up_s


class Outage(Record):
    """A node that goes down at a known time of the run."""

    node: str
    down_s: NonNegative
    up_s: Positive | None = Field(None, description="later than down_s; null: it stays down")

    @model_validator(mode="after")
    def _in_order(self) -> Outage:
        if self.up_s is not None and self.up_s <= self.down_s:
            raise ValueError(f"up_s must be later than down_s {self.down_s}, not {self.up_s}")
        return self


class RandomOutages(Record):
    """Losses of nodes as a Poisson process per node; repair times are exponential."""

    per_node_hour: float = Field(
        strict=True,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="losses an hour of a node that is up, above 0, at most 3600 (one a second)",
    )
    repair_s: PositiveSeconds = Field(
        description="mean time until it is up again, above 0, at most 1e6"
    )
    nodes: tuple[str, ...] | None = Field(None, description="null: any worker")


class Faults(Record):
    """Node outages of a run."""

    name: str = Field(
        "none",
        min_length=1,
        max_length=80,
        pattern=LINE,
        description="one line of at most 80 printable characters",
    )
    outages: tuple[Outage, ...] = ()
    random: RandomOutages | None = None

    def check(self, testbed: Testbed, source: str) -> None:
        """Raise InputError for nodes that the testbed lacks."""
        named = [(f"outages[{k}].node", outage.node) for k, outage in enumerate(self.outages)]
        drawn = (self.random.nodes or ()) if self.random else ()
        named += [(f"random.nodes[{k}]", node) for k, node in enumerate(drawn)]
        errors = [
            InputError(
                source,
                f"testbed {testbed.name} has no such node",
                field=f"faults {self.name!r}: {place}",
                value=node,
                remedy=f"its nodes are {', '.join(testbed.node_names)}",
            )
            for place, node in named
            if node not in testbed.node_names
        ]
        if errors:
            raise combine(source, errors)


def draw_outages(
    faults: Faults, testbed: Testbed, horizon_s: float, rng: np.random.Generator
) -> Spans:
    """Return the outages up to ``horizon_s``: (node row, down_s, up_s), disjoint and ascending per
    node."""
    row = {name: n for n, name in enumerate(testbed.node_names)}
    spans: list[list[tuple[float, float]]] = [[] for _ in testbed.nodes]
    for outage in faults.outages:
        up_s = inf if outage.up_s is None else outage.up_s
        spans[row[outage.node]].append((outage.down_s, up_s))
    if faults.random is not None:
        for name in faults.random.nodes or testbed.node_names:
            spans[row[name]] += _losses(faults.random, horizon_s, rng)
    return [(n, *span) for n, node_spans in enumerate(spans) for span in _merged(node_spans)]


def _losses(
    random: RandomOutages, horizon_s: float, rng: np.random.Generator
) -> list[tuple[float, float]]:
    losses: list[tuple[float, float]] = []
    up_s = 0.0
    while True:
        down_s = up_s + rng.exponential(3600.0 / random.per_node_hour)
        if down_s >= horizon_s:
            return losses
        up_s = down_s + rng.exponential(random.repair_s)
        losses.append((down_s, up_s))


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of intervals: a node that is lost twice at once is lost once."""
    union: list[tuple[float, float]] = []
    for down_s, up_s in sorted(spans):
        if union and down_s <= union[-1][1]:
            union[-1] = union[-1][0], max(union[-1][1], up_s)
        else:
            union.append((down_s, up_s))
    return union
