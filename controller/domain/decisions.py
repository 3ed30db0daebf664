"""Decisions of the tiers, and the record of their making."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

T = TypeVar("T")

REFUSE: Final = -1

PLANNER: Final = "planner"
SCHEDULER: Final = "scheduler"
DEPLOYER: Final = "deployer"
TIERS: Final = (PLANNER, SCHEDULER, DEPLOYER)

OK: Final = "ok"
REPAIRED: Final = "repaired"
FALLBACK: Final = "fallback"
LATE: Final = "late"
VOID: Final = "void"
OUTCOMES: Final = (OK, REPAIRED, FALLBACK, LATE, VOID)


class ByValue:
    """Equality by value for dataclasses that hold arrays: a decision read from a wire equals the
    one that was sent."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return one is other or (not isinstance(one, np.ndarray) and one == other)


@dataclass(frozen=True, slots=True, eq=False)
class Demand(ByValue):
    """A forecast for the whole cluster; arrays are (I,)."""

    requests: Floats  # per slot
    prompts: Floats  # per request


@dataclass(frozen=True, slots=True, eq=False)
class MacroPolicy(ByValue):
    """The planner's intent for an epoch (Eq. 12 and 13)."""

    routing: Floats  # (N, I), columns sum to 1: share of LM i's requests meant for node n
    roles: Bools  # (N, I): LM i may run on node n
    demand: Demand | None = None  # what the policy was made for, if it was made for any
    served: Floats | None = None  # (I,) share of that demand which the policy has room for


@dataclass(frozen=True, slots=True, eq=False)
class RoutingPlan(ByValue):
    """``destination[n, i]``: node that serves LM i's requests born at node n, or REFUSE."""

    destination: Ints  # (N, I)


@dataclass(frozen=True, slots=True, eq=False)
class Deployment(ByValue):
    """Desired pods, level-triggered. Rows are those of the state that was decided on."""

    mode: Ints  # (n, I) OFF, CPU, GPU
    cores: Floats  # (n, I) requests = limits; 0 where off
    vgpus: Ints  # (n, I) 0 unless GPU


@dataclass(frozen=True, slots=True)
class InForce:
    """The policy and the plan that hold, each with the slot in which it was decided."""

    policy: MacroPolicy
    policy_slot: int = 0
    plan: RoutingPlan | None = None  # None before the first
    plan_slot: int = -1


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """The age of a command: of two, the greater is the newer and wins."""

    slot: int
    sequence: int = 0  # counts the commands of one sender in a slot


@dataclass(frozen=True, slots=True)
class Orders:
    """Announcement of planner and scheduler to the nodes: what is in force from now on.

    Level-triggered: the newest stamp wins, a lost, doubled or late one does no harm. ``final``: the
    run is over, no further slot is decided.
    """

    stamp: Stamp
    in_force: InForce
    final: bool = False


APPROVED: Final = "approved"
REJECTED: Final = "rejected"


@dataclass(frozen=True, slots=True)
class Undone:
    """The no-regression guard's verdict: the policy made the objective worse and was taken back."""

    objective: float  # of the epoch under the policy that was undone
    before: float  # of the epoch under the policy that is in force again
    margin: float  # relative worsening that is tolerated
    policy_slot: int  # in which the policy in force again was decided


@dataclass(frozen=True, slots=True)
class Advice:
    """An adviser's decision beside the one applied (mode advise)."""

    outcome: str  # of the adviser's call; FALLBACK where it failed
    differences: tuple[str, ...] = ()
    fault: str = ""  # why the adviser had nothing to say


@dataclass(frozen=True, slots=True)
class Call:
    """The making of one decision: a line of decisions.jsonl without its slot and value.

    ``detail`` is for people and never parsed: what a program needs has a field of its own.
    """

    took_s: float = 0.0
    outcome: str = OK
    detail: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    drift: float | None = None  # scheduling agents: mean distance of the split from the plan
    undone: Undone | None = None  # planning agents: the guard took their policy back
    approval: str = ""  # planning agents in mode approve: APPROVED, REJECTED
    advice: Advice | None = None  # mode advise
    fault: str = ""  # a Transient error: nothing was decided, the last decision holds

    def outlasts(self, slot_s: float) -> bool:
        """Return True if the decision came when its slot was over. The slot's last moment is in
        time."""
        return self.took_s > slot_s


@dataclass(frozen=True, slots=True, eq=False)
class Decision(Generic[T]):
    """A decision and its making. A tier of several deciders (the deployers) has one call per row
    in ``calls``; planner and scheduler have exactly one."""

    value: T
    calls: tuple[Call, ...] = field(default=(Call(),))
