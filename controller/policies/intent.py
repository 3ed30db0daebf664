"""Policies that draw a macro-policy at random or follow a given one: the random baseline of
section IV-A, and the fallback of agents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.arrivals import expect
from controller.domain.capacity import blocked
from controller.domain.decisions import (
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, ClusterState, Telemetry
from controller.policies.patterns import DeploymentBuilder, enumerate_fixed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DRAWS = 20  # attempts to draw roles in which every LM has a node


class RandomPlanner:
    """Planner that draws a new macro-policy at every call.

    Every node draws its role uniformly from all non-empty sets of LMs that it can run at once,
    subsets of larger sets included. On the paper's testbed every node has room for all LMs that it
    can host, so its largest set alone would leave nothing to draw.
    """

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._hosts = scenario.hosts()
        self._rng = rng
        self._sets: list[Bools] = [np.zeros((0, 0), np.bool_)] * len(self._hosts)
        for patterns in enumerate_fixed(scenario):
            sets = np.unique(patterns.mode != OFF, axis=0)
            sets = sets[sets.any(axis=1)] if sets.any() else sets
            for n in patterns.rows:
                self._sets[n] = sets

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del telemetry, in_force
        for _ in range(DRAWS):
            roles = self._draw_roles(state.up)
            if (roles & state.up[:, None]).any(axis=0).all():
                break
        able = _first_of(roles & state.up[:, None], roles, self._hosts)
        # Normalised exponentials are uniform on the simplex, a Dirichlet(1) draw.
        shares = np.where(able, self._rng.standard_exponential(able.shape), 0.0)
        return Decision(MacroPolicy(routing=shares / shares.sum(axis=0), roles=roles))

    def _draw_roles(self, up: Bools) -> Bools:
        """Return (N, I) a random role for each node, redrawn where an LM has no node that is up."""
        draw = [int(k) for k in self._rng.integers([len(sets) for sets in self._sets])]
        roles = np.array([sets[k] for sets, k in zip(self._sets, draw, strict=True)])
        for i in self._rng.permutation(roles.shape[1]):
            if not (roles[:, i] & up).any():
                self._take_in(int(i), roles, up)
        return roles

    def _take_in(self, i: int, roles: Bools, up: Bools) -> None:
        """Redraw one node's role so that LM i is in it and no LM loses its only node."""
        alone = roles & ((roles & up[:, None]).sum(axis=0) == 1)
        for n in self._rng.permutation(np.flatnonzero(self._hosts[:, i] & up)):
            sets = self._sets[n]
            fits = sets[sets[:, i] & ~(alone[n] & ~sets).any(axis=1)]
            if len(fits):
                roles[n] = fits[self._rng.integers(len(fits))]
                return


class PlannedScheduler:
    """Scheduler that keeps the split of requests near the planner's shares.

    For each LM, origins are assigned largest first, each to the node that is furthest behind its
    share of the prompts so far. Independent draws would stray from the plan by the square root of
    the number of requests; this assignment strays by about one request, however long the run.
    A decision counts the prompts expected of each origin. After the slot, the prompts that arrived
    are counted, at the node that the plan in force sent them to.
    """

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._hosts = scenario.hosts()
        self._rng = rng
        self._policy: MacroPolicy | None = None
        self._expected = np.ones(self._hosts.shape)  # prompts a slot by origin
        self._behind = np.zeros(self._hosts.shape)  # prompts short of the plan, by node
        self._last: tuple[int, Floats] | None = None  # slot, shares

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        self._learn(state, in_force)
        share = self._shares(state, in_force.policy)
        self._last = state.slot + 1, share
        return Decision(RoutingPlan(self._deal(share)))

    def _deal(self, share: Floats) -> Ints:
        """Return (N, I) the destination of each origin; each turn assigns one origin of every
        LM."""
        largest = np.lexsort((self._rng.random(share.shape), -self._expected), axis=0)
        ties = self._rng.random((len(share), *share.shape))
        owed = np.where(share > 0, self._behind, -np.inf)
        destination, lms = np.zeros(share.shape, np.int64), np.arange(share.shape[1])
        for origin, tie in zip(largest, ties, strict=True):
            dealt = self._expected[origin, lms]
            owed += share * dealt
            first = owed >= owed.max(axis=0) - 1e-9
            best = np.where(first, tie, -1.0).argmax(axis=0)
            owed[best, lms] -= dealt
            destination[origin, lms] = best
        return destination

    def _shares(self, state: ClusterState, policy: MacroPolicy) -> Floats:
        """Return (N, I) the planned split over the in-role nodes that are up, or over all in-role
        nodes if none is up. Split evenly where the plan gives those nodes nothing."""
        able = _first_of(policy.roles & state.up[:, None], policy.roles, self._hosts)
        planned = np.where(able, policy.routing, 0.0)
        weight = np.where(planned.sum(axis=0) > 0, planned, able)
        return np.asarray(weight / weight.sum(axis=0))

    def _learn(self, state: ClusterState, in_force: InForce) -> None:
        """Update the expected prompts, and the deficits if the last slot was decided here. A new
        policy starts without deficits."""
        born, before = state.arrived_prompts, None if self._policy is None else self._expected
        self._expected = expect(before, born, in_force.policy.demand)
        if in_force.policy != self._policy:
            self._policy = in_force.policy
            self._behind = np.zeros_like(self._behind)
        elif self._last is not None and self._last[0] == state.slot and in_force.plan is not None:
            share, destination = self._last[1], in_force.plan.destination
            sent = np.where(destination >= 0, born, 0)
            self._behind += share * sent.sum(axis=0)
            to = np.maximum(destination, 0)  # REFUSE to 0, where ``sent`` is 0
            np.subtract.at(self._behind, (to, np.arange(born.shape[1])), sent)


class PlannedDeployer:
    """Deployer that keeps the pods as they are. A node that wants none yet starts those of its
    role: as many LMs as fit at once, on GPUs rather than on CPUs."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._kinds = enumerate_fixed(scenario)

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        builder, roles = DeploymentBuilder(state), in_force.policy.roles[state.rows]
        empty = ~(state.want_mode != OFF).any(axis=1) & ~blocked(self._scenario, state)
        for patterns in self._kinds:
            rows = builder.rows(patterns)
            rows = rows[empty[rows]]
            active, on_gpu = patterns.mode != OFF, patterns.mode == GPU
            worth = active.sum(axis=1) * (roles.shape[1] + 1) + on_gpu.sum(axis=1)
            off_role = (active & ~roles[rows][:, None]).any(axis=2)
            builder.choose(rows, patterns, np.where(off_role, -1, worth).argmax(axis=1))
        return Decision(builder.build(), (Call(),) * len(state.rows))


def _first_of(*choices: Bools) -> Bools:
    """Return (N, I) for each LM the nodes of the first of ``choices`` that has any."""
    chosen = choices[-1]
    for able in reversed(choices[:-1]):
        chosen = np.where(able.any(axis=0), able, chosen)
    return np.asarray(chosen)
