"""Schedulers of the paper's baselines (random, average, local) and their planner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Decision, InForce, MacroPolicy, RoutingPlan
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry

Ints = NDArray[np.int64]


class OpenPlanner:
    """Planner of strategies that do not plan: every LM may run wherever it fits, with equal shares
    for all such nodes."""

    def __init__(self, scenario: Scenario) -> None:
        hosts = scenario.hosts()
        self._policy = MacroPolicy(routing=hosts / hosts.sum(axis=0), roles=hosts)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del state, telemetry, in_force
        return Decision(self._policy)


class _Feasible:
    """Padded table of the nodes that can host each LM and are up."""

    def __init__(self, scenario: Scenario) -> None:
        self._hosts = scenario.hosts()
        self._all_up = self._tabulate(np.ones(len(self._hosts), np.bool_))

    def table(self, state: ClusterState) -> tuple[Ints, Ints]:
        """Return ((N, I) nodes, of which the first (I,) counts are valid). If every host of an LM
        is down, its column lists all its hosts, and requests wait for one of them."""
        return (
            self._all_up
            if np.count_nonzero(state.up) == len(state.up)
            else self._tabulate(state.up)
        )

    def _tabulate(self, up: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        able = self._hosts & up[:, None]
        able = np.where(able.any(axis=0), able, self._hosts)
        return np.argsort(~able, axis=0, kind="stable"), able.sum(axis=0)


class RandomScheduler:
    """Scheduler that draws a node for each (origin, LM), uniformly from the LM's hosts (RR, RL,
    RF)."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._feasible = _Feasible(scenario)
        self._rng = rng
        self._lms = np.arange(len(scenario.testbed.lms))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        del in_force
        nodes, counts = self._feasible.table(state)
        draw = (self._rng.random(nodes.shape) * counts).astype(np.int64)
        return Decision(RoutingPlan(nodes[draw, self._lms]))


class AverageScheduler:
    """Scheduler that rotates origins over the nodes that can host the LM, so that each node gets
    the same share (AL)."""

    def __init__(self, scenario: Scenario) -> None:
        self._feasible = _Feasible(scenario)

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        del in_force
        nodes, counts = self._feasible.table(state)
        turn = (np.arange(len(nodes))[:, None] + state.slot + 1) % counts
        return Decision(RoutingPlan(nodes[turn, np.arange(nodes.shape[1])]))


class LocalScheduler:
    """Scheduler that keeps every request at its origin, even where its LM cannot run (LL)."""

    def __init__(self, scenario: Scenario) -> None:
        nodes, lms = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        self._plan = Decision(RoutingPlan(np.tile(np.arange(nodes)[:, None], lms)))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        del state, in_force
        return self._plan
