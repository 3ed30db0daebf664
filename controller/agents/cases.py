"""A case: a policy, the load it met and what came of it; the pair of Eq. 11 that H is made of.

Policies are told by the names of nodes and LMs, so that a case outlives the arrays it came from.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from controller.agents.performance import Performance, demand, measure
from controller.domain.decisions import MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry

SIMILAR: Final = math.log(1.25)  # loads within 25 %
_SAME_SHARE: Final = 0.05  # of an LM's requests: policies that differ by less are one policy
_NOTICEABLE: Final = 0.005  # of the objective, whatever its margin says
_HARDLY_ANY: Final = 0.1  # prompts per slot: between none and less than this lies no difference
_NODES_NAMED: Final = 5  # of an LM in a sentence; a large cluster's others are counted


@dataclass(frozen=True, slots=True)
class Case:
    """One epoch. Tuples by LM are in the order of ``lms``."""

    slot: int  # in which the policy was decided
    ended: int  # first slot after the epoch
    lms: tuple[str, ...]
    requests: tuple[float, ...]  # per slot
    prompts: tuple[float, ...]  # per request
    performance: Performance
    routing: Mapping[str, Mapping[str, float]]  # LM: node: share, where there is one
    roles: Mapping[str, tuple[str, ...]]  # every node: the LMs it may run
    up: tuple[str, ...]
    undone: bool = False  # by the no-regression guard

    @property
    def load(self) -> tuple[float, ...]:
        """Prompts per slot by LM."""
        return tuple(r * p for r, p in zip(self.requests, self.prompts, strict=True))


def cluster_key(scenario: Scenario) -> str:
    """Return the key of comparable cases: nodes, LMs, profile, deadline and objective."""
    return hashlib.sha256(repr(scenario).encode()).hexdigest()[:16]


def make_case(
    scenario: Scenario, policy: MacroPolicy, decided: int, state: ClusterState, seen: Telemetry
) -> Case:
    """Return the case of the epoch ``seen``, in which ``policy`` was in force."""
    nodes, lms = scenario.testbed.node_names, scenario.testbed.lm_names
    came = demand(seen)
    shares = np.round(policy.routing, 4)
    return Case(
        slot=decided,
        ended=seen.last_slot + 1,
        lms=lms,
        requests=tuple(came.requests.tolist()),
        prompts=tuple(came.prompts.tolist()),
        performance=measure(seen, scenario),
        routing={
            lm: {nodes[n]: float(shares[n, i]) for n in np.flatnonzero(shares[:, i])}
            for i, lm in enumerate(lms)
        },
        roles={
            node: tuple(lms[i] for i in np.flatnonzero(policy.roles[n]))
            for n, node in enumerate(nodes)
        },
        up=tuple(node for n, node in enumerate(nodes) if state.up[n]),
    )


def load_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how far apart two loads (prompts per slot by LM) are: the logarithm of the largest
    factor between them, so that twice and half are equally far."""
    pairs = zip(one, other, strict=True)
    return max(abs(math.log((a + _HARDLY_ANY) / (b + _HARDLY_ANY))) for a, b in pairs)


def alike(one: Case, other: Case) -> bool:
    """Return True if both have the same policy, up to a few percent of an LM's requests."""
    return one.roles == other.roles and all(
        _moved(shares, other.routing[lm]) <= _SAME_SHARE for lm, shares in one.routing.items()
    )


def worse(case: Case, than: Case, margin: float) -> bool:
    """Return True if the objective of ``case`` is worse by more than ``margin`` (relative), and
    noticeably so."""
    objective, best = case.performance.objective, than.performance.objective
    return objective > best * (1 + margin) and objective - best > _NOTICEABLE


def _moved(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    nodes = one.keys() | other.keys()
    return sum(abs(one.get(node, 0.0) - other.get(node, 0.0)) for node in nodes) / 2


def to_document(case: Case) -> dict[str, Any]:
    """Return the case as JSON. Names of nodes and LMs are values: as fields a store might refuse
    them."""
    document = {name: getattr(case, name) for name in Case.__slots__}
    document["performance"] = asdict(case.performance)
    document["routing"] = [
        [lm, node, share] for lm, shares in case.routing.items() for node, share in shares.items()
    ]
    document["roles"] = [[node, list(lms)] for node, lms in case.roles.items()]
    return document


def from_document(document: Mapping[str, Any]) -> Case:
    """Return the case again from :func:`to_document`; other fields are ignored."""
    values = {name: document[name] for name in Case.__slots__}
    figures = dict(values["performance"])
    for name in ("latency_s", "success"):
        figures[name] = tuple(figures[name])
    routing: dict[str, dict[str, float]] = {lm: {} for lm in values["lms"]}
    for lm, node, share in values["routing"]:
        routing[lm][node] = share
    values["roles"] = {node: tuple(lms) for node, lms in values["roles"]}
    for name in ("lms", "requests", "prompts", "up"):
        values[name] = tuple(values[name])
    return Case(**{**values, "performance": Performance(**figures), "routing": routing})


def sentence(case: Case, times: int = 1) -> str:
    """Return the case in words, after section V-D; ``times``: how often much the same was seen."""
    figures = case.performance
    told = [
        f"With {_list(case.requests)} requests a slot of {_list(case.prompts)} prompts each,"
        f" {'/'.join(case.lms)} had success-only mean latencies {_list(figures.latency_s)} s"
        f" with success ratios {_list(figures.success)};"
        f" F_norm {_number(figures.f_norm)}, global mean latency {_number(figures.t_mean_s)} s,"
        f" objective {_number(figures.objective)}.",
        f"The policy sent {', '.join(_sent(case, lm) for lm in case.lms)}.",
    ]
    spare = [text for lm in case.lms if (text := _spare(case, lm))]
    if spare:
        told.append(f"It also allowed {', '.join(spare)}.")
    down = [node for node in case.roles if node not in case.up]
    if down:
        told.append(f"{_names(down)} {'was' if len(down) == 1 else 'were'} down.")
    if times > 1:
        told.append(f"Seen {times} times.")
    if case.undone:
        told.append("It was undone.")
    return " ".join(told)


def _sent(case: Case, lm: str) -> str:
    shares = sorted(case.routing[lm].items(), key=lambda item: -item[1])
    return f"{lm} to {_names([f'{node} ({share:.0%})' for node, share in shares])}"


def _spare(case: Case, lm: str) -> str:
    """Return the nodes that may run the LM without a share of it."""
    nodes = [node for node, lms in case.roles.items() if lm in lms and node not in case.routing[lm]]
    return f"{lm} on {_names(nodes)}" if nodes else ""


def _names(names: Sequence[str]) -> str:
    shown = list(names[:_NODES_NAMED])
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _list(values: Sequence[float | None]) -> str:
    return "/".join(_number(value) for value in values)


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
