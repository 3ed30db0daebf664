"""What-if runs of the twin: figures of random macro-policies, and of a candidate from now on.

Neither uses more of a run than its planner has observed: a candidate is tried on arrivals drawn
from a forecast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain import metrics
from controller.domain.decisions import (
    Call,
    Decision,
    Demand,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.profile import linear, prompt_columns
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.loop import Strategy, run
from controller.policies.intent import PlannedScheduler, RandomPlanner
from controller.policies.solver.deployer import SolverDeployer
from controller.policies.solver.node import Kind
from controller.ports import Deployer, Scheduler

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RANDOM_POLICIES = 8


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """Figures of merit (Eq. 5-10); None for the mean of nothing."""

    objective: float
    f_norm: float
    t_norm: float
    t_mean_s: float | None
    success_rate: float | None
    per_lm: tuple[tuple[float | None, float | None], ...]  # (rho, t_mean_s)


async def rehearse_random(
    scenario: Scenario,
    requests: Requests,
    rng: np.random.Generator,
    policies: int = RANDOM_POLICIES,
) -> Rehearsed:
    """Return the random-policy baseline of section IV-A: means over ``policies`` runs on
    ``requests``. Each run begins with an empty cluster and draws a random macro-policy every
    epoch."""
    strategies = [
        Strategy(
            RandomPlanner(scenario, rng), PlannedScheduler(scenario, rng), SolverDeployer(scenario)
        )
        for _ in range(policies)
    ]
    return _average([await _play(scenario, requests, strategy) for strategy in strategies])


async def rehearse(
    scenario: Scenario,
    policy: MacroPolicy,
    state: ClusterState,
    demand: Demand,
    *,
    slots: int = 20,
    seed: int,
    kinds: Sequence[Kind] | None = None,
) -> Rehearsed:
    """Return the figures that ``policy`` would reach in ``slots`` slots that begin in ``state``.

    Only the requests of those slots count. They are drawn from ``demand``, are born at the slots'
    starts (the hardest case) and queue behind the backlog. They follow the policy's shares, and
    pods are the best allocation for its roles, so that the figures are the policy's own: SOLVER's
    scheduler would compensate for a bad split. One seed gives every candidate the same arrivals.

    Assumptions for facts that the state lacks: the backlog consists of requests of mean size that
    have just arrived, starting pods are ready, and nodes that are down stay down, without births.

    ``kinds``: of the testbed's nodes; who rehearses often finds them once.
    """
    rng, first = np.random.default_rng(seed), _start_slots(scenario)
    waiting = _backlog(np.where(state.up[:, None], state.backlog, 0), demand.prompts)
    born = _arrivals(demand, state.up, slots, rng)
    deployer = SolverDeployer(scenario, kinds)
    takeover = _Takeover(state, first, PlannedScheduler(scenario, rng), deployer)
    candidate = policy if policy.demand is not None else replace(policy, demand=demand)
    return await _play(
        scenario,
        _requests(scenario, waiting, born, first),
        Strategy(_Constant(candidate), takeover, takeover),
        outages=[(int(n), 0.0, np.inf) for n in np.flatnonzero(~state.up)],
        first_slot=first,
    )


class _Constant:
    """Planner that always returns one policy."""

    def __init__(self, policy: MacroPolicy) -> None:
        self._decision = Decision(policy)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del state, telemetry, in_force
        return self._decision


class _Takeover:
    """Scheduler and deployer that keep the pods wanted in ``present`` and all requests at their
    origins until slot ``first``, then follow the given ones."""

    def __init__(
        self, present: ClusterState, first: int, scheduler: Scheduler, deployer: Deployer
    ) -> None:
        self._first, self._scheduler, self._deployer = first, scheduler, deployer
        nodes, lms = present.backlog.shape
        self._stay = RoutingPlan(np.tile(np.arange(nodes)[:, None], lms))
        self._wanted = Deployment(present.want_mode, present.want_cores, present.want_vgpus)

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        if state.slot + 1 < self._first:
            return Decision(self._stay)
        if state.slot + 1 == self._first:  # the backlog is no sample of a slot's arrivals
            none = np.zeros_like(state.arrived_prompts)
            state = replace(state, arrived_prompts=none, arrived_requests=none)
        return await self._scheduler.schedule(state, in_force)

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        if state.slot + 1 < self._first:
            return Decision(self._wanted, (Call(),) * len(state.rows))
        return await self._deployer.deploy(state, in_force)


class _Silence:
    """Journal that records nothing."""

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None:
        pass

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None:
        pass

    def deployed(
        self, slot: int, state: ClusterState, decision: Decision[Deployment], voided: Bools
    ) -> None:
        pass

    def missed(self, slot: int, tier: str, rows: Ints, fault: str) -> None:
        pass

    def observed(self, state: ClusterState) -> None:
        pass


async def _play(
    scenario: Scenario,
    requests: Requests,
    strategy: Strategy,
    outages: Sequence[tuple[int, float, float]] = (),
    first_slot: int = 0,
) -> Rehearsed:
    """Return the figures of the requests born from ``first_slot`` on, each followed to its end."""
    from controller.twin.cluster import Twin

    twin = Twin(scenario, requests, outages)
    await run(scenario, twin, twin, twin, strategy, _Silence(), twin.slots)
    counted, records = requests.slot >= first_slot, twin.records
    latency_s = np.where(records["failure"] == 0, records["returned_s"] - requests.born_s, np.nan)
    return _figures(scenario, requests.lm[counted], latency_s[counted])


def _figures(scenario: Scenario, lm: Ints, latency_s: Floats) -> Rehearsed:
    """Return the metrics (Eq. 5-10) of finished requests. ``latency_s`` is NaN for failed ones."""
    types, done = len(scenario.testbed.lms), np.isfinite(latency_s)
    arrivals = np.bincount(lm, minlength=types)
    successes = np.bincount(lm[done], minlength=types)
    rates = metrics.service_rates(successes, arrivals)
    f_norm = metrics.normalised_jain(rates)
    t_norm = metrics.normalised_latency(latency_s[done], scenario.tau_s)
    return Rehearsed(
        objective=metrics.objective(t_norm, f_norm, scenario.lam),
        f_norm=f_norm,
        t_norm=t_norm,
        t_mean_s=_mean(latency_s[done]),
        success_rate=_mean(done),
        per_lm=tuple(
            (_mean(done[lm == i]), _mean(latency_s[done & (lm == i)])) for i in range(types)
        ),
    )


def _average(runs: Sequence[Rehearsed]) -> Rehearsed:
    """Return the mean of each figure over the runs that have it."""

    def mean(values: Iterable[float | None]) -> float | None:
        return _mean(np.array([value for value in values if value is not None]))

    return Rehearsed(
        objective=float(np.mean([r.objective for r in runs])),
        f_norm=float(np.mean([r.f_norm for r in runs])),
        t_norm=float(np.mean([r.t_norm for r in runs])),
        t_mean_s=mean(r.t_mean_s for r in runs),
        success_rate=mean(r.success_rate for r in runs),
        per_lm=tuple(
            (mean(rho for rho, _ in lm), mean(t_mean_s for _, t_mean_s in lm))
            for lm in zip(*(r.per_lm for r in runs), strict=True)
        ),
    )


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if values.size else None


def _start_slots(scenario: Scenario) -> int:
    """Return the number of slots after which every starting pod is ready."""
    profiles = scenario.profile.lms.values()
    longest_s = max(max(lm.start_cpu_s, lm.start_gpu_s) for lm in profiles)
    return max(1, ceil((longest_s + scenario.testbed.network.control_s) / scenario.slot_s))


def _backlog(backlog: Ints, prompts: Floats) -> list[tuple[int, int, int]]:
    """Return (origin, LM, K) of the backlog (N, I) as requests of mean size ``prompts`` (I,), each
    born at the node where it waits."""
    rows = []
    for n, i in np.argwhere(backlog > 0).tolist():
        waiting = int(backlog[n, i])
        count = max(1, round(waiting / max(1.0, float(prompts[i]))))
        rows += [(n, i, int(k)) for k in waiting // count + (np.arange(count) < waiting % count)]
    return rows


def _arrivals(demand: Demand, up: Bools, slots: int, rng: np.random.Generator) -> Ints:
    """Return (R, 4) slot, origin, LM and K of arrivals: a Poisson number of requests a slot, with
    the same rate at each origin; K uniform from 1 up, with the forecast mean. Draws for all nodes;
    keeps those at nodes that are up."""
    rate = np.tile(np.maximum(0.0, demand.requests) / len(up), (slots, len(up), 1))
    counts = rng.poisson(rate)
    rows = np.repeat(np.argwhere(counts > 0), counts[counts > 0], axis=0)
    top = 2 * np.maximum(1.0, demand.prompts[rows[:, 2]]) - 1
    whole = np.floor(top + rng.random(len(rows))).astype(np.int64)  # its mean is top
    drawn = np.column_stack([rows, rng.integers(1, whole, endpoint=True)])
    return drawn[up[drawn[:, 1]]]


def _requests(
    scenario: Scenario, waiting: Sequence[tuple[int, int, int]], born: Ints, first: int
) -> Requests:
    """Return ``waiting`` (origin, LM, K), born a moment before slot ``first``, and ``born`` (R, 4),
    born at the starts of the slots from ``first`` on, as requests. All prompts have the profile's
    reference size."""
    before = np.array(waiting, np.int64).reshape(-1, 3)
    origin, lm, prompts = np.concatenate([before, born[:, 1:]]).T
    slot = np.concatenate([np.full(len(before), first - 1), first + born[:, 0]])
    born_s = slot * scenario.slot_s
    born_s[: len(before)] = np.nextafter(first * scenario.slot_s, 0.0)
    uplink, downlink = _payload_bytes(scenario)
    return Requests(
        lm=lm,
        origin=origin,
        prompts=prompts,
        slot=slot,
        born_s=born_s,
        work=np.ones(len(lm)),
        uplink_bytes=uplink[lm] * prompts,
        downlink_bytes=downlink[lm] * prompts,
    )


def _payload_bytes(scenario: Scenario) -> tuple[Floats, Floats]:
    """Return (I,) bytes up and down of a reference prompt."""
    profiles = [scenario.profile.lms[name] for name in scenario.testbed.lm_names]
    sizes = [{k: np.array(v) for k, v in prompt_columns(p.reference)} for p in profiles]
    pairs = list(zip(profiles, sizes, strict=True))
    up = np.array([linear(p.uplink_bytes, size) for p, size in pairs])
    return up, np.array([linear(p.downlink_bytes, size) for p, size in pairs])
