"""Decisions of the tiers, and the record of each decision."""

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
    """Equality by value for dataclasses with arrays: a decision read from the wire equals the one
    that was sent."""

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
    demand: Demand | None = None  # forecast that the policy was made for, if any
    served: Floats | None = None  # (I,) share of that demand that the policy can serve


@dataclass(frozen=True, slots=True, eq=False)
class RoutingPlan(ByValue):
    """Routing of one slot. ``destination[n, i]``: node that serves LM i's requests born at node n,
    or REFUSE."""

    destination: Ints  # (N, I)


@dataclass(frozen=True, slots=True, eq=False)
class Deployment(ByValue):
    """Desired pods, level-triggered. Rows are those of the observed state."""

    mode: Ints  # (n, I) OFF, CPU, GPU
    cores: Floats  # (n, I) requests = limits; 0 where off
    vgpus: Ints  # (n, I) 0 unless GPU


@dataclass(frozen=True, slots=True)
class InForce:
    """The policy and the plan in force, each with the slot in which it was decided."""

    policy: MacroPolicy
    policy_slot: int = 0
    plan: RoutingPlan | None = None  # None before the first
    plan_slot: int = -1


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Age of a command. Of two stamps, the greater is the newer, and its command wins."""

    slot: int
    sequence: int = 0  # counts the commands of one sender in a slot


@dataclass(frozen=True, slots=True)
class Orders:
    """Announcement of planner and scheduler to the nodes: the policy and plan in force from now on.

    Level-triggered: the newest stamp wins; lost, duplicate or late orders do no harm. ``final``:
    the run is over, and no further slot is decided.
    """

    stamp: Stamp
    in_force: InForce
    final: bool = False


APPROVED: Final = "approved"
REJECTED: Final = "rejected"


@dataclass(frozen=True, slots=True)
class Undone:
    """The no-regression guard's verdict: the policy worsened the objective and was undone."""

    objective: float  # of the epoch under the policy that was undone
    before: float  # of the epoch under the policy that is back in force
    margin: float  # relative worsening that is tolerated
    policy_slot: int  # in which the policy that is back in force was decided


@dataclass(frozen=True, slots=True)
class Advice:
    """Comparison of an adviser's decision with the one applied (mode advise)."""

    outcome: str  # of the adviser's call; FALLBACK where it failed
    differences: tuple[str, ...] = ()
    fault: str = ""  # error that left the adviser without a decision


@dataclass(frozen=True, slots=True)
class Call:
    """Record of one decision: a line of decisions.jsonl without its slot and value.

    ``detail`` is for people and never parsed: programs read the other fields.
    """

    took_s: float = 0.0
    outcome: str = OK
    detail: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    drift: float | None = None  # scheduling agents: mean distance of the split from the plan
    undone: Undone | None = None  # planning agents: the guard undid their policy
    approval: str = ""  # planning agents in mode approve: APPROVED, REJECTED
    advice: Advice | None = None  # mode advise
    fault: str = ""  # a Transient error: nothing was decided, the last decision stays in force

    def outlasts(self, slot_s: float) -> bool:
        """Return True if the decision came after the end of its slot; at the end is in time."""
        return self.took_s > slot_s


@dataclass(frozen=True, slots=True, eq=False)
class Decision(Generic[T]):
    """A decision with the record of its calls. A tier of several deciders (the deployers) has one
    call per row in ``calls``; planner and scheduler have exactly one."""

    value: T
    calls: tuple[Call, ...] = field(default=(Call(),))
