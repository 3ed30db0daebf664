"""Mode advise: an incumbent's decisions are applied, an adviser's are made and noted beside them.

Nothing of the advice is applied or charged as time; the tokens it took are counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeVar

import numpy as np

from controller.domain.decisions import (
    FALLBACK,
    REFUSE,
    Advice,
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
    plus,
)
from controller.domain.errors import InvalidDecision, Transient
from controller.domain.state import MODES, ClusterState, Telemetry
from controller.domain.testbed import Testbed
from controller.ports import Deployer, Planner, Scheduler

T = TypeVar("T")
Incumbent = TypeVar("Incumbent")
Adviser = TypeVar("Adviser")
Compare = Callable[[T, T], list[list[str]]]  # differences (applied, advised), a list per call

_MOVED: Final = 0.05  # of an LM's requests


@dataclass(frozen=True, slots=True)
class _Advised(Generic[Incumbent, Adviser]):
    """A tier whose incumbent is advised."""

    incumbent: Incumbent
    adviser: Adviser
    testbed: Testbed


class AdvisedPlanner(_Advised[Planner, Planner]):
    """Applies the incumbent's macro-policies and notes where the adviser's differ."""

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        applied = await self.incumbent.plan(state, telemetry, in_force)
        advice = self.adviser.plan(state, telemetry, in_force)
        return await _beside(applied, advice, partial(_policies, self.testbed))


class AdvisedScheduler(_Advised[Scheduler, Scheduler]):
    """Applies the incumbent's routing plans and notes where the adviser's differ."""

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        applied = await self.incumbent.schedule(state, in_force)
        advice = self.adviser.schedule(state, in_force)
        return await _beside(applied, advice, partial(_plans, self.testbed))


class AdvisedDeployer(_Advised[Deployer, Deployer]):
    """Applies the incumbent's deployments and notes, node by node, where the adviser's differ."""

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        applied = await self.incumbent.deploy(state, in_force)
        advice = self.adviser.deploy(state, in_force)
        return await _beside(applied, advice, partial(_deployments, self.testbed))


async def _beside(
    applied: Decision[T], advised: Awaitable[Decision[T]], compare: Compare[T]
) -> Decision[T]:
    """Return the decision to apply, with the other noted in its calls."""
    try:
        advice = await advised
    except (Transient, InvalidDecision) as error:  # advice must never stop what is applied
        failed = Advice(FALLBACK, fault=str(error))
        return Decision(applied.value, tuple(replace(c, advice=failed) for c in applied.calls))
    differences = compare(applied.value, advice.value)
    calls = [
        replace(_charged(call, other), advice=Advice(other.outcome, tuple(found)))
        for call, other, found in zip(applied.calls, advice.calls, differences, strict=True)
    ]
    return Decision(applied.value, tuple(calls))


def _policies(testbed: Testbed, applied: MacroPolicy, advised: MacroPolicy) -> list[list[str]]:
    nodes, lms, found = testbed.node_names, testbed.lm_names, []
    for i, lm in enumerate(lms):
        change = advised.routing[:, i] - applied.routing[:, i]
        moved = float(np.maximum(change, 0.0).sum())
        if moved > _MOVED:
            found.append(
                f"{lm} {nodes[int(change.argmin())]}->{nodes[int(change.argmax())]}"
                f" ({moved:.0%} of it)"
            )
    for n, i in np.argwhere(applied.roles != advised.roles):
        sign = "+" if advised.roles[n, i] else "-"
        found.append(f"{sign}{lms[i]} on {nodes[n]}")
    return [found]


def _plans(testbed: Testbed, applied: RoutingPlan, advised: RoutingPlan) -> list[list[str]]:
    nodes, lms, found = testbed.node_names, testbed.lm_names, []
    names = dict(enumerate(nodes)) | {REFUSE: "refused"}
    for n, i in np.argwhere(applied.destination != advised.destination):
        here, there = applied.destination[n, i], advised.destination[n, i]
        found.append(f"{lms[i]} of {nodes[n]} {names[here]}->{names[there]}")
    return [found]


def _deployments(testbed: Testbed, applied: Deployment, advised: Deployment) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in applied.mode]
    differ = (
        (applied.mode != advised.mode)
        | (applied.cores != advised.cores)
        | (applied.vgpus != advised.vgpus)
    )
    for n, i in np.argwhere(differ):
        change = f"{_pod(applied, n, i)}->{_pod(advised, n, i)}"
        found[n].append(f"{testbed.lm_names[i]} {change}")
    return found


def _pod(deployment: Deployment, n: int, i: int) -> str:
    cores, vgpus = deployment.cores[n, i], deployment.vgpus[n, i]
    size = f" {vgpus} vGPU" if vgpus else f" {cores:g} cores" if cores else ""
    return MODES[deployment.mode[n, i]] + size


def _charged(applied: Call, advice: Call) -> Call:
    """Return the applied call with the tokens and cost of both; time and outcome are its own."""
    paid = [one.cost_usd for one in (applied, advice) if one.asked]
    known = [cost for cost in paid if cost is not None]
    return replace(
        applied,
        tokens_in=plus(applied.tokens_in, advice.tokens_in),
        tokens_out=plus(applied.tokens_out, advice.tokens_out),
        cost_usd=sum(known) if paid and len(known) == len(paid) else None,
    )
