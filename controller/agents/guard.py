"""The no-regression guard around a planner.

Attribution: an epoch's outcomes are ascribed to the policy that was in force in it (in all but its
first slot, in which its planner was still thinking). Outcomes lag behind births, failures by up to
tau, so an epoch after a change holds some outcomes of the older policy. That is let pass where the
older policy was good, and it is why the epoch after an undone policy is not judged at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.agents.cases import SIMILAR, Case, alike, load_distance, make_case, worse
from controller.agents.memory import CaseMemory
from controller.domain.decisions import Call, Decision, InForce, MacroPolicy, Undone
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Planner


@dataclass(frozen=True, slots=True, eq=False)
class _Epoch:
    """A policy and its case."""

    case: Case
    policy: MacroPolicy


class GuardedPlanner:
    """Remembers each epoch and undoes a policy that did worse than the last good one.

    Worse is an objective higher by more than ``margin`` (relative; 0 never undoes) with every LM's
    prompts per slot within 25 % and the same nodes up. The good policy is put back without asking
    the planner: its answer would be thrown away, and next time it sees the undone case among its
    precedents. A policy is undone once: if the planner insists on it, it stays.
    """

    def __init__(
        self,
        planner: Planner,
        scenario: Scenario,
        margin: float,
        *,
        memory: CaseMemory | None = None,
    ) -> None:
        self._planner = planner
        self._scenario = scenario
        self._margin = margin
        self._memory = memory
        self._up: list[bool] = []  # when the epoch began
        self._steady = True  # the same nodes were up when it ended
        self._good: _Epoch | None = None
        self._undone: list[Case] = []
        self._settling = False  # the epoch shows what was left of an undone policy
        self._odd = False  # the last epoch's load was unlike the good one's

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        epoch = self._ended(state, telemetry, in_force)
        back = self._judge(epoch) if epoch and self._margin > 0 else None
        if epoch and self._memory is not None:
            self._memory.record(replace(epoch.case, undone=back is not None))
        if epoch and back:
            undone = Undone(
                objective=epoch.case.performance.objective,
                before=back.case.performance.objective,
                margin=self._margin,
                policy_slot=back.case.slot,
            )
            decision = Decision(back.policy, (Call(undone=undone),))
        else:
            decision = await self._planner.plan(state, telemetry, in_force)
        self._up = state.up.tolist()
        return decision

    def _ended(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> _Epoch | None:
        """Return the epoch that ended, if it was one policy's and anything is known of it."""
        if in_force is None or in_force.policy_slot > telemetry.first_slot:
            return None
        policy = in_force.policy
        case = make_case(self._scenario, policy, in_force.policy_slot, state, telemetry)
        self._steady = state.up.tolist() == self._up
        return _Epoch(case, policy) if case.performance.outcomes else None

    def _judge(self, epoch: _Epoch) -> _Epoch | None:
        """Return the epoch whose policy comes back, if the policy of this epoch is to be undone."""
        case, good = epoch.case, self._good
        settling, self._settling = self._settling, False
        if settling or not self._steady:
            return None
        if good is None or case.up != good.case.up:
            self._good = epoch
            return None
        if load_distance(case.load, good.case.load) > SIMILAR:
            # Loads are random: one odd epoch does not make another world, two in a row do.
            self._good = epoch if self._odd else good
            self._odd = not self._odd
            return None
        self._odd = False
        if alike(case, good.case) or not worse(case, good.case, 0.0):
            self._good = epoch
            return None
        insisted = any(alike(case, other) for other in self._undone)
        if insisted or not worse(case, good.case, self._margin):
            return None
        self._undone.append(case)
        self._settling = True
        return good
