"""Macro-policies of a run, and which of them is in force in a slot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Policy:
    """A macro-policy with the call that made it. ``shares``: LM -> node -> share of its requests;
    ``roles``: node -> LMs."""

    slot: int  # decided in
    shares: Mapping[str, Mapping[str, float]]
    roles: Mapping[str, Sequence[str]]
    outcome: str
    took_s: float
    detail: str
    tokens_in: int | None  # None: unknown
    tokens_out: int | None
    cost_usd: float | None

    @property
    def first_slot(self) -> int:
        """The first slot in which it is in force: a planner thinks beside the old policy, but in
        slot 0 all wait for it."""
        return self.slot + 1 if self.slot else 0


def policies_of(decisions: Iterable[Mapping[str, Any]]) -> list[Policy]:
    """Return the macro-policies that a planner's decisions hold, in order."""
    return [_policy(line) for line in decisions]


def has_intent(policies: Sequence[Policy]) -> bool:
    """Return True if anything was planned: without a planner all shares are alike on all nodes
    that can host an LM, as the roles say."""
    return any(not _is_open(policy) for policy in policies)


def in_force(policies: Sequence[Policy], slots: int) -> Ints:
    """Return the (slots,) index of the policy in force in each slot."""
    starts = [policy.first_slot for policy in policies]
    found = np.searchsorted(starts, np.arange(slots), side="right") - 1
    return np.maximum(found, 0)


def _is_open(policy: Policy) -> bool:
    for lm, shares in policy.shares.items():
        hosts = {node for node, lms in policy.roles.items() if lm in lms}
        if hosts != shares.keys() or (
            shares and max(shares.values()) - min(shares.values()) > 1e-9
        ):
            return False
    return True


def _policy(line: Mapping[str, Any]) -> Policy:
    return Policy(
        slot=line["slot"],
        shares=line["decided"]["routing"],
        roles=line["decided"]["roles"],
        outcome=line["outcome"],
        took_s=line["took_s"],
        detail=line.get("detail", ""),
        tokens_in=line.get("tokens_in", 0),
        tokens_out=line.get("tokens_out", 0),
        cost_usd=line.get("cost_usd"),
    )
