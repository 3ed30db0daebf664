"""The guard before a macro-policy is applied: it is rehearsed under the load seen, beside others.

So it holds under any load, and from the first policy on. The guard of ``guard.py`` looks back: at
what came of a policy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.agents.performance import demand
from controller.agents.what_if import TRIAL_S
from controller.domain.decisions import (
    IN_FORCE,
    OK,
    PAST,
    RANDOM,
    REPAIRED,
    Decision,
    Demand,
    InForce,
    MacroPolicy,
    Undone,
)
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Planner

Foresee = Callable[[MacroPolicy, ClusterState, Demand], Awaitable[float]]

DRAWS: Final = 3  # random policies that a policy has to beat, on average
NOTICEABLE: Final = 0.005  # of the objective


@dataclass(frozen=True, slots=True, eq=False)
class _Rehearsed:
    """A policy, how it does, where it comes from and when it was decided."""

    policy: MacroPolicy
    objective: float
    by: str
    slot: int


class ComparedPlanner:
    """A planner whose policies are rehearsed before they are applied, from the present state and
    under the load of the epoch that ended (before the first, under the usual one).

    A policy is undone if its objective is not below the mean of a few random ones, or above that
    of the policy in force, or of the one before it, by more than ``margin`` (relative). The best
    of all of them is applied. ``foresee`` counts a request that fails as served at the deadline.
    """

    def __init__(
        self,
        planner: Planner,
        random: Planner,
        foresee: Foresee,
        usual_load: Callable[[], Demand],
        margin: float,
    ) -> None:
        self._planner = planner
        self._random = random
        self._foresee = foresee
        self._usual_load = usual_load
        self._margin = margin
        self._past: InForce | None = None  # in force before the policy that is
        self._last: InForce | None = None

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        self._note(in_force)
        decision = await self._planner.plan(state, telemetry, in_force)
        (call,) = decision.calls
        if call.outcome not in (OK, REPAIRED):
            return decision
        load = demand(telemetry)
        if not load.requests.any():
            load = self._usual_load()
        slot = state.slot + 1
        candidates = [(decision.value, OK, slot), *self._held(decision.value, in_force)]
        for _ in range(DRAWS):
            drawn = (await self._random.plan(state, telemetry, in_force)).value
            candidates.append((replace(drawn, demand=load), RANDOM, slot))
        mine, *others = [
            _Rehearsed(policy, await self._foresee(policy, state, load), by, since)
            for policy, by, since in candidates
        ]
        call = replace(call, took_s=call.took_s + TRIAL_S * len(candidates))
        better = self._better(mine, others)
        if better is None:
            return Decision(decision.value, (call,))
        undone = Undone(mine.objective, better.objective, self._margin, better.slot, better.by)
        return Decision(better.policy, (replace(call, undone=undone),))

    def _note(self, in_force: InForce | None) -> None:
        if in_force and (self._last is None or self._last.policy != in_force.policy):
            self._past, self._last = self._last, in_force

    def _held(
        self, policy: MacroPolicy, in_force: InForce | None
    ) -> list[tuple[MacroPolicy, str, int]]:
        """Return the policy in force and the one before it, if they are others than ``policy``."""
        held = [(in_force, IN_FORCE), (self._past, PAST)]
        return [
            (one.policy, by, one.policy_slot)
            for one, by in held
            if one is not None and one.policy != policy
        ]

    def _better(self, mine: _Rehearsed, others: Sequence[_Rehearsed]) -> _Rehearsed | None:
        """Return the policy to apply instead of ``mine``, if that is to be undone."""
        random = [one.objective for one in others if one.by == RANDOM]
        held = [one.objective for one in others if one.by != RANDOM]
        beaten = bool(held) and mine.objective > min(held) * (1 + self._margin) + NOTICEABLE
        if mine.objective < sum(random) / len(random) and not beaten:
            return None
        best = min(others, key=lambda one: one.objective)
        return best if best.objective < mine.objective else None
