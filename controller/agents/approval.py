"""Mode approve: a person confirms a macro-policy before it is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import APPROVED, REJECTED, Decision, InForce, MacroPolicy
from controller.domain.state import ClusterState, Telemetry
from controller.domain.testbed import Testbed
from controller.ports import Planner

Bools = NDArray[np.bool_]

NOTICEABLE: Final = 0.01  # of an LM's requests; smaller changes are rounding to a person


@runtime_checkable
class Approver(Protocol):
    """A person or program that confirms policies: a terminal, the API."""

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        """Return True if the policy decided in ``slot`` may replace ``held``. ``reason``: what its
        maker says."""


class ApprovedPlanner:
    """A planner whose policies need approval. Without it the policy in force stays; at the first,
    the incumbent's is taken.

    It waits for the person as long as it takes. That time is not charged to the decision: in the
    twin it does not pass.
    """

    def __init__(
        self, planner: Planner, approver: Approver, incumbent: Planner, slot_s: float
    ) -> None:
        self._planner = planner
        self._approver = approver
        self._incumbent = incumbent
        self._slot_s = slot_s

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        held, slot = in_force.policy if in_force else None, state.slot + 1
        decision = await self._planner.plan(state, telemetry, in_force)
        (call,) = decision.calls
        if held is not None and _looks_alike(decision.value, held):
            # No question to a person. The very shares that were approved go on.
            value = replace(decision.value, routing=held.routing, roles=held.roles)
            return Decision(value, decision.calls)
        if held is not None and call.outlasts(self._slot_s):
            return decision  # the loop will hold the policy in force
        if await self._approver.approve(slot, decision.value, held, call.detail):
            return Decision(decision.value, (replace(call, approval=APPROVED),))
        value = held or (await self._incumbent.plan(state, telemetry, in_force)).value
        return Decision(value, (replace(call, approval=REJECTED),))


def _looks_alike(policy: MacroPolicy, held: MacroPolicy) -> bool:
    return np.array_equal(policy.roles, held.roles) and bool(
        np.all(np.abs(policy.routing - held.routing) < NOTICEABLE)
    )


def difference(testbed: Testbed, policy: MacroPolicy, held: MacroPolicy | None) -> list[str]:
    """Return the policy in lines for a person, with what it replaces."""
    nodes, lms = testbed.node_names, testbed.lm_names
    lines = []
    for i, lm in enumerate(lms):
        was = policy.routing[:, i] if held is None else held.routing[:, i]
        shares = [
            f"{node} {share:.0%}" + (f" (was {old:.0%})" if abs(share - old) >= NOTICEABLE else "")
            for node, share, old in zip(nodes, policy.routing[:, i], was, strict=True)
            if max(share, old) >= 0.005
        ]
        lines.append(f"  {lm} to {', '.join(shares)}")
    for n, node in enumerate(nodes):
        role = _named(lms, policy.roles[n])
        if held is None:
            lines.append(f"  {node} runs {role}")
        elif not np.array_equal(policy.roles[n], held.roles[n]):
            lines.append(f"  {node} runs {role} (was {_named(lms, held.roles[n])})")
    return lines


def _named(lms: Sequence[str], role: Bools) -> str:
    return "+".join(lm for lm, may in zip(lms, role, strict=True) if may) or "nothing"
