"""Mode advise: an incumbent's decisions are applied, an adviser's are made and logged beside them.

Nothing of the advice is applied or charged as time; the tokens it took are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np

from controller.domain.decisions import (
    OK,
    REFUSE,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.errors import EdgelmError
from controller.domain.state import MODES, ClusterState, Telemetry
from controller.domain.testbed import Testbed
from controller.ports import Deployer, Planner, Scheduler

T = TypeVar("T")
Log = Callable[[int, str, Decision[Any]], None]  # slot, tier, what was advised
Compare = Callable[[T, T], list[list[str]]]  # differences (applied, advised), a list per call

_NOTE: Final = 200  # characters
_MOVED: Final = 0.05  # of an LM's requests


class _Advice:
    """An adviser's part in a decision, the same for every tier.

    ``patience_s``: wall time that a decision made waits for its advice, so that both are noted
    together; None waits for it. Advice that comes later is logged, not noted.
    """

    def __init__(self, testbed: Testbed, log: Log, patience_s: float | None) -> None:
        self.nodes, self.lms = testbed.node_names, testbed.lm_names
        self._log = log
        self._patience_s = patience_s
        self._pending: set[asyncio.Task[Any]] = set()

    async def beside(
        self,
        slot: int,
        tier: str,
        applied: Awaitable[Decision[T]],
        advised: Awaitable[Decision[T]],
        compare: Compare[T],
    ) -> Decision[T]:
        """The decision to apply, with a note of the other in its calls."""
        task = asyncio.ensure_future(self._logged(slot, tier, advised))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        decision = await applied
        await asyncio.wait((task,), timeout=self._patience_s)
        if not task.done():
            return _noted(decision, ["advice: not there in time"] * len(decision.calls))
        advice = task.result()
        if isinstance(advice, EdgelmError):
            return _noted(decision, [f"advice failed: {advice}"] * len(decision.calls))
        differences = compare(decision.value, advice.value)
        notes = [_note(call, found) for call, found in zip(advice.calls, differences, strict=True)]
        return _noted(_charged(decision, advice.calls), notes)

    async def _logged(
        self, slot: int, tier: str, advised: Awaitable[Decision[T]]
    ) -> Decision[T] | EdgelmError:
        try:
            advice = await advised
        except EdgelmError as error:  # advice must never stop what is applied
            return error
        self._log(slot, tier, advice)
        return advice


class AdvisedPlanner:
    """Applies the incumbent's macro-policies and notes where the adviser's differ."""

    def __init__(
        self,
        incumbent: Planner,
        adviser: Planner,
        testbed: Testbed,
        log: Log,
        patience_s: float | None = None,
    ) -> None:
        self._incumbent, self._adviser = incumbent, adviser
        self._advice = _Advice(testbed, log, patience_s)

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        applied = self._incumbent.plan(state, telemetry)
        advised = self._adviser.plan(state, telemetry)
        return await self._advice.beside(state.slot + 1, "planner", applied, advised, self._compare)

    def _compare(self, applied: MacroPolicy, advised: MacroPolicy) -> list[list[str]]:
        nodes, found = self._advice.nodes, []
        for i, lm in enumerate(self._advice.lms):
            change = advised.routing[:, i] - applied.routing[:, i]
            moved = float(np.maximum(change, 0.0).sum())
            if moved > _MOVED:
                found.append(
                    f"{lm} {nodes[int(change.argmin())]}->{nodes[int(change.argmax())]}"
                    f" ({moved:.0%} of it)"
                )
        for n, i in np.argwhere(applied.roles != advised.roles):
            sign = "+" if advised.roles[n, i] else "-"
            found.append(f"{sign}{self._advice.lms[i]} on {nodes[n]}")
        return [found]


class AdvisedScheduler:
    """Applies the incumbent's routing plans and notes where the adviser's differ."""

    def __init__(
        self,
        incumbent: Scheduler,
        adviser: Scheduler,
        testbed: Testbed,
        log: Log,
        patience_s: float | None = None,
    ) -> None:
        self._incumbent, self._adviser = incumbent, adviser
        self._advice = _Advice(testbed, log, patience_s)

    async def schedule(self, state: ClusterState, policy: MacroPolicy) -> Decision[RoutingPlan]:
        applied = self._incumbent.schedule(state, policy)
        advised = self._adviser.schedule(state, policy)
        return await self._advice.beside(
            state.slot + 1, "scheduler", applied, advised, self._compare
        )

    def _compare(self, applied: RoutingPlan, advised: RoutingPlan) -> list[list[str]]:
        nodes, found = self._advice.nodes, []
        names = dict(enumerate(nodes)) | {REFUSE: "refused"}
        for n, i in np.argwhere(applied.destination != advised.destination):
            here, there = applied.destination[n, i], advised.destination[n, i]
            found.append(f"{self._advice.lms[i]} of {nodes[n]} {names[here]}->{names[there]}")
        return [found]


class AdvisedDeployer:
    """Applies the incumbent's deployments and notes, node by node, where the adviser's differ."""

    def __init__(
        self,
        incumbent: Deployer,
        adviser: Deployer,
        testbed: Testbed,
        log: Log,
        patience_s: float | None = None,
    ) -> None:
        self._incumbent, self._adviser = incumbent, adviser
        self._advice = _Advice(testbed, log, patience_s)

    async def deploy(self, state: ClusterState, policy: MacroPolicy) -> Decision[Deployment]:
        applied = self._incumbent.deploy(state, policy)
        advised = self._adviser.deploy(state, policy)
        return await self._advice.beside(
            state.slot + 1, "deployer", applied, advised, self._compare
        )

    def _compare(self, applied: Deployment, advised: Deployment) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in applied.mode]
        differ = (
            (applied.mode != advised.mode)
            | (applied.cores != advised.cores)
            | (applied.vgpus != advised.vgpus)
        )
        for n, i in np.argwhere(differ):
            change = f"{_pod(applied, n, i)}->{_pod(advised, n, i)}"
            found[n].append(f"{self._advice.lms[i]} {change}")
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
