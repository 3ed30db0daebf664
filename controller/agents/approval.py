"""Mode approve: a person confirms a macro-policy before it is applied."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

import numpy as np

from controller.agents.guard import Tenure
from controller.domain.decisions import Decision, MacroPolicy
from controller.domain.state import ClusterState, Telemetry
from controller.domain.testbed import Testbed
from controller.ports import Planner


class Approver(Protocol):
    """Whoever confirms: a terminal, the API."""

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        """The policy decided in ``slot`` may replace ``held``. ``reason``: what its maker says."""


class ApprovedPlanner:
    """A planner whose policies need approval. Without it the policy in force stays; at the first,
    the incumbent's is taken.

    ``limit_s`` is how long to wait for the person, in wall time; None waits for ever. That time is
    not charged to the decision: in the twin it does not pass.
    """

    def __init__(
        self,
        planner: Planner,
        approver: Approver,
        incumbent: Planner,
        tenure: Tenure,
        limit_s: float | None = None,
    ) -> None:
        self._planner = planner
        self._approver = approver
        self._incumbent = incumbent
        self._tenure = tenure
        self._limit_s = limit_s

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        held, slot = self._tenure.policy, state.slot + 1
        decision = await self._planner.plan(state, telemetry)
        (call,) = decision.calls
        # What the loop will not apply, or what is applied already, is no question to a person.
        if not self._tenure.is_late(call) and not _is_same(decision.value, held):
            verdict = await self._ask(slot, decision.value, held, call.detail)
            if verdict == "approved":
                value = decision.value
            else:
                value = held or (await self._incumbent.plan(state, telemetry)).value
                verdict += (
                    f"; the policy of slot {self._tenure.decided} stays"
                    if held
                    else "; the incumbent's policy instead"
                )
            detail = f"{verdict}; {call.detail}" if call.detail else verdict
            decision = Decision(value, (replace(call, detail=detail),))
        self._tenure.take(slot, decision)
        return decision

    async def _ask(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> str:
        try:
            async with asyncio.timeout(self._limit_s):
                approved = await self._approver.approve(slot, policy, held, reason)
        except TimeoutError:
            return "not approved: no answer"
        return "approved" if approved else "not approved"


def _is_same(policy: MacroPolicy, held: MacroPolicy | None) -> bool:
    return (
        held is not None
        and np.array_equal(policy.routing, held.routing)
        and np.array_equal(policy.roles, held.roles)
    )


def difference(testbed: Testbed, policy: MacroPolicy, held: MacroPolicy | None) -> list[str]:
    """The policy in lines for a person, with what it replaces."""
    nodes, lms = testbed.node_names, testbed.lm_names
    lines = []
    for i, lm in enumerate(lms):
        was = policy.routing[:, i] if held is None else held.routing[:, i]
        shares = [
            f"{node} {share:.0%}" + (f" (was {old:.0%})" if abs(share - old) >= 0.01 else "")
            for node, share, old in zip(nodes, policy.routing[:, i], was, strict=True)
            if max(share, old) >= 0.005
        ]
        lines.append(f"  {lm} to {', '.join(shares)}")
    for n, node in enumerate(nodes):
        role = [lm for lm, may in zip(lms, policy.roles[n], strict=True) if may]
        if held is None or not np.array_equal(policy.roles[n], held.roles[n]):
            lines.append(f"  {node} runs {'+'.join(role) or 'nothing'}")
    return lines
