"""The macro-policies of a run, from the planner's lines of its decisions.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_PLANNER: Final = '"tier":"planner"'


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy and how it came about. ``shares``: LM -> node -> share of its requests;
    ``roles``: node -> LMs."""

    slot: int  # decided in
    shares: Mapping[str, Mapping[str, float]]
    roles: Mapping[str, Sequence[str]]
    outcome: str
    took_s: float
    detail: str
    tokens_in: int
    tokens_out: int
    cost_usd: float | None

    @property
    def first_slot(self) -> int:
        """In force from here on: a planner thinks beside the old policy, but in slot 0 all wait."""
        return self.slot + 1 if self.slot else 0


def read_policies(folder: Path) -> list[Policy]:
    """Policies of the run in ``folder``, in order; none if its decisions say none.

    Raises:
        OSError, ValueError: decisions.jsonl is missing or damaged.
    """
    with (folder / "decisions.jsonl").open(encoding="utf-8") as lines:
        return [_policy(json.loads(text)) for text in lines if _PLANNER in text[:64]]


def has_intent(policies: Sequence[Policy]) -> bool:
    """Whether anything was planned: without a planner all shares are alike on all nodes that can
    host an LM, and that is what the roles say."""
    return any(not _is_open(policy) for policy in policies)


def in_force(policies: Sequence[Policy], slots: int) -> Ints:
    """(slots,) index of the policy in force in each slot."""
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


def _policy(line: Mapping[str, object]) -> Policy:
    given: dict[str, object] = {"detail": "", "tokens_in": 0, "tokens_out": 0, "cost_usd": None}
    given |= {name: line[name] for name in (*given, "slot", "outcome", "took_s") if name in line}
    decided = line["decided"]
    if not isinstance(decided, dict):
        raise ValueError("a planner's line decides nothing")
    return Policy(shares=decided["routing"], roles=decided["roles"], **given)  # type: ignore[arg-type]
