"""Decisions of the tiers, and the record of each decision."""

from __future__ import annotations

from collections.abc import Iterable
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

OK: Final = "ok"  # a valid reply
REPAIRED: Final = "repaired"  # a valid reply after correction
FALLBACK: Final = "fallback"  # no valid reply: a rule decided
LATE: Final = "late"  # took longer than its slot: the previous decision stays in force
VOID: Final = "void"  # valid, but the Pending rule stopped a part of it
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

    mode: Ints  # (rows, I) OFF, CPU, GPU
    cores: Floats  # (rows, I) CPU cores, request and limit of the pod; 0 where OFF
    vgpus: Ints  # (rows, I) 0 unless GPU


@dataclass(frozen=True, slots=True)
class InForce:
    """The policy and the plan in force, each with the slot in which it was decided."""

    policy: MacroPolicy
    policy_slot: int = 0
    plan: RoutingPlan | None = None  # None before the first
    plan_slot: int = -1


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Place of a command in their order: the command with the greatest stamp wins."""

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


PAST: Final = "past"  # the last good epoch's
IN_FORCE: Final = "in_force"
RANDOM: Final = "random"


@dataclass(frozen=True, slots=True)
class Undone:
    """The guard's verdict on a macro-policy: it is not in force, another one is."""

    objective: float  # of the policy that was undone: of its epoch, or as rehearsed
    before: float  # of the policy that is in force instead, likewise
    margin: float  # relative worsening that is tolerated
    policy_slot: int  # in which the policy that is in force was decided
    by: str = PAST  # the policy in force: PAST by outcomes; IN_FORCE or RANDOM by rehearsal


@dataclass(frozen=True, slots=True)
class Bounded:
    """The guard's changes to a routing plan or to a node's pods, by LM."""

    refusals: tuple[str, ...] = ()  # refused, though a node could have served them soon: sent there
    waits: tuple[str, ...] = ()  # sent where they would have waited long: sent as planned
    pods: tuple[str, ...] = ()  # of a node: other pods than those that were decided on


@dataclass(frozen=True, slots=True)
class Advice:
    """Comparison of an adviser's decision with the one applied (mode advise)."""

    outcome: str  # of the adviser's call; FALLBACK where it failed
    differences: tuple[str, ...] = ()
    fault: str = ""  # error that left the adviser without a decision


Amount = TypeVar("Amount", int, float)


def plus(one: Amount | None, other: Amount | None) -> Amount | None:
    """Return the sum of two amounts; None, for unknown, if either is."""
    return None if one is None or other is None else one + other


def total(amounts: Iterable[Amount | None]) -> Amount | None:
    """Return the sum of amounts, 0 of none; None, for unknown, if one of them is."""
    found = list(amounts)
    return None if None in found else sum(one for one in found if one is not None)


@dataclass(frozen=True, slots=True)
class Call:
    """Record of one decision: its time, its outcome, tokens and cost of all its model calls. It is
    a line of decisions.jsonl without slot and value.

    ``detail`` is for people and never parsed: programs read the other fields.
    """

    took_s: float = 0.0  # time of the decision
    outcome: str = OK
    detail: str = ""
    tokens_in: int | None = 0  # None: a reply did not say
    tokens_out: int | None = 0
    cost_usd: float | None = None
    # Scheduling agents: total variation distance between where the prompts of the epoch went and
    # where the policy wants them, mean over LMs, in [0, 1].
    drift: float | None = None
    undone: Undone | None = None  # planning agents: the guard undid their policy
    bounded: Bounded | None = None  # scheduling and deployment agents: the guard changed theirs
    shared: str = ""  # deployment agents: the node, alike in all, whose call decided here too
    approval: str = ""  # planning agents in mode approve: APPROVED, REJECTED
    advice: Advice | None = None  # mode advise
    fault: str = ""  # a Transient error: nothing was decided, the last decision stays in force

    @property
    def asked(self) -> bool:
        """True if a model was asked, as far as tokens show it."""
        return self.tokens_in != 0 or self.tokens_out != 0

    def outlasts(self, slot_s: float) -> bool:
        """Return True if the decision took longer than a slot of ``slot_s`` seconds."""
        return self.took_s > slot_s


@dataclass(frozen=True, slots=True, eq=False)
class Decision(Generic[T]):
    """A decision with the record of its calls. A tier of several deciders (the deployers) has one
    call per row in ``calls``; planner and scheduler have exactly one."""

    value: T
    calls: tuple[Call, ...] = field(default=(Call(),))
