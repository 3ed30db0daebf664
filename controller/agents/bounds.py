"""The guard's bounds on schedulers and deployers: a valid decision that is far worse than what the
fallback would have done is changed, and the change recorded.

Only an agent's own decisions are bounded. What the fallback has decided, or what is late, passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.agents.expectation import Pods, Waits, changes, occupation
from controller.domain.arrivals import expect
from controller.domain.capacity import blocked, feasible
from controller.domain.decisions import (
    OK,
    REPAIRED,
    Bounded,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.scenario import Scenario
from controller.domain.state import OFF, ClusterState
from controller.ports import Deployer, Scheduler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SOON: Final = 0.05  # of tau: a request that can be served so soon is not refused
AHEAD: Final = 2.0  # requests of mean size, likewise, however slow they are
NOTICEABLE: Final = 0.01  # of tau, by which a wait must be longer
HORIZON: Final = 10  # slots that a node's pods are judged over
ROOM: Final = 0.1  # of them, by which pods must be busier
DISTURBANCES: Final = 2  # steps an epoch in which a node may stop or restart pods with a load


class BoundedScheduler:
    """A scheduler whose plans are compared, LM by LM, with those of ``planned``.

    A refusal stands only where no node of the role could serve the request soon. An LM's column
    is replaced where its prompts would wait longer, by more than ``margin``, than as planned.
    """

    def __init__(
        self, scheduler: Scheduler, planned: Scheduler, scenario: Scenario, margin: float
    ) -> None:
        self._scheduler = scheduler
        self._planned = planned
        self._scenario = scenario
        self._margin = margin
        self._hosts = scenario.hosts()
        self._expected: Floats | None = None

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        policy = in_force.policy
        expected = expect(self._expected, state.arrived_prompts, policy.demand)
        self._expected = expected
        decision = await self._scheduler.schedule(state, in_force)
        planned = (await self._planned.schedule(state, in_force)).value.destination
        (call,) = decision.calls
        if call.outcome not in (OK, REPAIRED):
            return decision
        waits = Waits(self._scenario, state, policy, expected)
        destination = decision.value.destination.copy()
        usable = policy.roles & self._hosts & state.up[:, None]
        refusals = self._accept(destination, waits, usable, policy)
        longer = self._wait_longer(destination, planned, waits)
        destination[:, longer] = planned[:, longer]
        if not refusals.any() and not longer.any():
            return decision
        lms = self._scenario.testbed.lm_names
        note = Bounded(refusals=_named(lms, refusals), waits=_named(lms, longer))
        return Decision(RoutingPlan(destination), (replace(call, bounded=note),))

    def _accept(self, destination: Ints, waits: Waits, usable: Bools, policy: MacroPolicy) -> Bools:
        """Send refused requests to the node that is done first, one origin after the other, where
        that is soon. Return (I,) the LMs of which some were."""
        found = np.zeros(destination.shape[1], np.bool_)
        batch = np.ones(len(found)) if policy.demand is None else policy.demand.prompts
        refused = destination < 0
        sent = waits.sent(destination)
        for i in np.flatnonzero(refused.any(axis=0)):
            nodes = np.flatnonzero(usable[:, i] & np.isfinite(waits.prompt_s[:, i]))
            if not len(nodes):
                continue
            limit_s = np.maximum(
                SOON * self._scenario.tau_s, AHEAD * batch[i] * waits.prompt_s[nodes, i]
            )
            for origin in np.flatnonzero(refused[:, i]):
                wait_s = waits.done_s(sent)[nodes, i]
                best = int(np.argmin(wait_s - limit_s))
                if wait_s[best] > limit_s[best]:
                    break
                destination[origin, i] = nodes[best]
                sent[nodes[best], i] += waits.expected[origin, i]
                found[i] = True
        return found

    def _wait_longer(self, destination: Ints, planned: Ints, waits: Waits) -> Bools:
        mine_s, planned_s = waits.mean_s(destination), waits.mean_s(planned)
        worse = mine_s > planned_s * (1 + self._margin) + NOTICEABLE * self._scenario.tau_s
        return np.asarray(worse & (destination >= 0).any(axis=0))


class BoundedDeployer:
    """A deployer whose pods are compared, node by node, with those of ``planned`` and with the
    node's own before.

    A node's pods are replaced where they would be busier with its queue and its share of the load,
    by more than ``margin``. In ``DISTURBANCES`` steps of an epoch it may stop or restart
    pods with a load, as a change of pods takes; after that they stay. Knows a node by its row
    alone, so that it decides the same on its node as beside all others.
    """

    def __init__(
        self, deployer: Deployer, planned: Deployer, scenario: Scenario, margin: float
    ) -> None:
        self._deployer = deployer
        self._planned = planned
        self._scenario = scenario
        self._margin = margin
        self._lms = scenario.testbed.lm_names
        nodes = range(len(scenario.testbed.nodes))
        self._disturbed: list[deque[int]] = [deque() for _ in nodes]  # slots
        self._before: list[Pods | None] = [None for _ in nodes]  # pods before the last disturbance

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        decision = await self._deployer.deploy(state, in_force)
        planned = (await self._planned.deploy(state, in_force)).value
        rows = [
            self._bounded(
                state, row, in_force.policy, _row(decision.value, row), _row(planned, row)
            )
            if call.outcome in (OK, REPAIRED)
            else None
            for row, call in enumerate(decision.calls)
        ]
        if all(better is None for better in rows):
            return decision
        afresh = (await self._planned.deploy(_emptied(state), in_force)).value
        pods, calls = [], []
        for row, (better, call) in enumerate(zip(rows, decision.calls, strict=True)):
            mine = _row(decision.value, row)
            one = mine
            if better is not None:
                one = self._least_busy(state, row, in_force.policy, better, _row(afresh, row))
                changed = _differ(mine, one)
                if changed.any():
                    call = replace(call, bounded=Bounded(pods=_named(self._lms, changed)))
            pods.append(one)
            calls.append(call)
        mode, cores, vgpus = (np.array(column) for column in zip(*pods, strict=True))
        return Decision(Deployment(mode, cores, vgpus), tuple(calls))

    def _bounded(
        self, state: ClusterState, row: int, policy: MacroPolicy, mine: Pods, planned: Pods
    ) -> Pods | None:
        """Return better pods for a row than ``mine``, or None where these may be."""
        n, slot = int(state.rows[row]), state.slot + 1
        load = _load(state, row, policy, n)
        before = self._before[n]
        disturbs = self._disturbs(state, row, mine, load)
        if (
            disturbs
            and self._may_disturb(n, slot)
            and self._leads_on(state, row, mine, planned, load)
        ):
            self._disturbed[n].append(slot)
            self._before[n] = _row_wanted(state, row)
            return None
        standards = [planned]
        if before is not None and self._may_return(state, row, policy, before):
            starved = (mine[0] == OFF) & (before[0] != OFF) & (load > 0)
            standards += [before] if starved.any() else []
        if not disturbs and len(standards) == 1 and not _differ(mine, planned).any():
            return None
        best = min(standards, key=lambda pods: self._busy(state, row, pods, load))
        limit = self._busy(state, row, best, load) * (1 + self._margin) + ROOM
        return None if not disturbs and self._busy(state, row, mine, load) <= limit else best

    def _least_busy(
        self, state: ClusterState, row: int, policy: MacroPolicy, one: Pods, other: Pods
    ) -> Pods:
        if blocked(self._scenario, state)[row]:
            return one
        load = _load(state, row, policy, int(state.rows[row]))
        return min((one, other), key=lambda pods: self._busy(state, row, pods, load))

    def _busy(self, state: ClusterState, row: int, pods: Pods, load: Floats) -> float:
        return occupation(self._scenario, state, row, pods, load, HORIZON)

    def _disturbs(self, state: ClusterState, row: int, pods: Pods, load: Floats) -> bool:
        """Return True if the pods stop or restart one that has a queue or a share."""
        running = state.want_mode[row] != OFF
        return bool((running & changes(state, row, pods) & (load > 0)).any())

    def _leads_on(
        self, state: ClusterState, row: int, mine: Pods, planned: Pods, load: Floats
    ) -> bool:
        """Return True if the pods that are to run will be fast enough once they do; those that are
        off may be about to start elsewhere."""
        now = np.where(mine[0] == OFF, 0.0, load)
        busy = (
            occupation(self._scenario, state, row, pods, now, HORIZON, settled=True)
            for pods in (mine, planned)
        )
        own, other = busy
        return own <= other * (1 + self._margin) + ROOM

    def _may_disturb(self, n: int, slot: int) -> bool:
        before = self._disturbed[n]
        while before and before[0] <= slot - self._scenario.epoch_slots:
            before.popleft()
        return len(before) < DISTURBANCES

    def _may_return(self, state: ClusterState, row: int, policy: MacroPolicy, before: Pods) -> bool:
        """Return True if a node's former pods are still allowed."""
        n = int(state.rows[row])
        mode, cores, vgpus = before
        return not blocked(self._scenario, state)[row] and bool(
            ((mode == OFF) | policy.roles[n]).all()
            and feasible(self._scenario, n, mode, cores, vgpus)
        )


def _emptied(state: ClusterState) -> ClusterState:
    """Return the state as if no pod was there."""
    return replace(
        state,
        want_mode=np.zeros_like(state.want_mode),
        want_cores=np.zeros_like(state.want_cores),
        want_vgpus=np.zeros_like(state.want_vgpus),
        pod=np.zeros_like(state.pod),
    )


def _load(state: ClusterState, row: int, policy: MacroPolicy, n: int) -> Floats:
    """Return (I,) prompts that the node has to serve in the horizon."""
    demand = policy.demand
    each = np.ones(policy.routing.shape[1]) if demand is None else demand.requests * demand.prompts
    share = np.where(policy.roles[n], policy.routing[n] * each, 0.0)
    return np.asarray(state.backlog[row] + HORIZON * share)


def _row(pods: Deployment, row: int) -> Pods:
    return pods.mode[row], pods.cores[row], pods.vgpus[row]


def _row_wanted(state: ClusterState, row: int) -> Pods:
    return state.want_mode[row], state.want_cores[row], state.want_vgpus[row]


def _differ(one: Pods, other: Pods) -> Bools:
    return np.asarray(np.any([a != b for a, b in zip(one, other, strict=True)], axis=0), np.bool_)


def _named(lms: Sequence[str], chosen: Bools) -> tuple[str, ...]:
    return tuple(lm for lm, yes in zip(lms, chosen.tolist(), strict=True) if yes)
