"""Mode advise: an incumbent's decisions are applied, an adviser's are made and noted beside them.

Nothing of the advice is applied or charged as time; the tokens it took are counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeVar

import numpy as np

from controller.agents.scheduler import Informed
from controller.domain.decisions import (
    OK,
    REFUSE,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.errors import InvalidDecision, Transient
from controller.domain.state import MODES, ClusterState, Telemetry
from controller.domain.testbed import Testbed
from controller.ports import Deployer, Planner, Scheduler

T = TypeVar("T")
Incumbent = TypeVar("Incumbent")
Adviser = TypeVar("Adviser")
Compare = Callable[[T, T], list[list[str]]]  # differences (applied, advised), a list per call

_NOTE: Final = 200  # characters
_MOVED: Final = 0.05  # of an LM's requests


@dataclass(frozen=True, slots=True)
class _Advised(Generic[Incumbent, Adviser]):
    """A tier whose incumbent is advised."""

    incumbent: Incumbent
    adviser: Adviser
    testbed: Testbed


class AdvisedPlanner(_Advised[Planner, Planner]):
    """Applies the incumbent's macro-policies and notes where the adviser's differ."""

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        applied = await self.incumbent.plan(state, telemetry)
        advice = self.adviser.plan(state, telemetry)
        return await _beside(applied, advice, partial(_policies, self.testbed))


class AdvisedScheduler(_Advised[Scheduler, Informed]):
    """Applies the incumbent's routing plans and notes where the adviser's differ. The adviser is
    told what was applied, so that it advises on what there is."""

    async def schedule(self, state: ClusterState, policy: MacroPolicy) -> Decision[RoutingPlan]:
        applied = await self.incumbent.schedule(state, policy)
        advice = self.adviser.schedule(state, policy)
        noted = await _beside(applied, advice, partial(_plans, self.testbed))
        self.adviser.applied(applied.value)
        return noted


class AdvisedDeployer(_Advised[Deployer, Deployer]):
    """Applies the incumbent's deployments and notes, node by node, where the adviser's differ."""

    async def deploy(self, state: ClusterState, policy: MacroPolicy) -> Decision[Deployment]:
        applied = await self.incumbent.deploy(state, policy)
        advice = self.adviser.deploy(state, policy)
        return await _beside(applied, advice, partial(_deployments, self.testbed))


async def _beside(
    applied: Decision[T], advised: Awaitable[Decision[T]], compare: Compare[T]
) -> Decision[T]:
    """The decision to apply, with a note of the other in its calls."""
    try:
        advice = await advised
    except (Transient, InvalidDecision) as error:  # advice must never stop what is applied
        return _noted(applied, [f"advice failed: {error}"] * len(applied.calls))
    differences = compare(applied.value, advice.value)
    notes = [_note(call, found) for call, found in zip(advice.calls, differences, strict=True)]
    return _noted(_charged(applied, advice.calls), notes)


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


def _note(advice: Call, differences: Sequence[str]) -> str:
    who = "advice" if advice.outcome == OK else f"advice ({advice.outcome})"
    if not differences:
        return f"{who}: same"
    return f"{who} differs in {len(differences)}: {'; '.join(differences)}"


def _noted(decision: Decision[T], notes: Sequence[str]) -> Decision[T]:
    calls = []
    for call, note in zip(decision.calls, notes, strict=True):
        short = note if len(note) <= _NOTE else note[: _NOTE - 3] + "..."
        calls.append(replace(call, detail=f"{call.detail}; {short}" if call.detail else short))
    return Decision(decision.value, tuple(calls))


def _charged(decision: Decision[T], advice: Sequence[Call]) -> Decision[T]:
    """Tokens and their cost are those of both; time and outcome are the applied decision's."""
    calls = []
    for call, other in zip(decision.calls, advice, strict=True):
        paid = [each.cost_usd for each in (call, other) if each.tokens_in or each.tokens_out]
        known = [cost for cost in paid if cost is not None]
        calls.append(
            replace(
                call,
                tokens_in=call.tokens_in + other.tokens_in,
                tokens_out=call.tokens_out + other.tokens_out,
                cost_usd=sum(known) if paid and len(known) == len(paid) else None,
            )
        )
    return Decision(decision.value, tuple(calls))
