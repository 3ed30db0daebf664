"""Little's law on the paper's testbed: what the slots show is what the requests' times say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from controller.domain.decisions import Decision, Deployment, InForce, MacroPolicy, RoutingPlan
from controller.domain.randomness import Streams
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.inputs.catalog import load_profile, load_testbed
from controller.loop import run
from controller.strategies import build
from controller.twin.cluster import Twin

Floats = NDArray[np.float64]
SLOTS = 300


class Fixed:
    """Each origin always to the same node, spread over those that can host the LM."""

    def __init__(self, scenario: Scenario) -> None:
        hosts = [np.flatnonzero(column) for column in scenario.hosts().T]
        origins = range(len(scenario.testbed.nodes))
        self._plan = RoutingPlan(np.array([[h[n % len(h)] for h in hosts] for n in origins]))

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        return Decision(self._plan)


@dataclass
class Backlogs:
    """Journal of the prompts at the nodes as slots end."""

    seen: list[Floats] = field(default_factory=list)

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None: ...

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None: ...

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None: ...

    def observed(self, state: ClusterState) -> None:
        if state.slot < SLOTS:
            self.seen.append(state.backlog.sum(axis=0).astype(np.float64))


def poisson(scenario: Scenario, rng: np.random.Generator, per_slot: float) -> Requests:
    """Single prompts at every node for every LM."""
    nodes, lms = len(scenario.testbed.nodes), len(scenario.testbed.lms)
    size = int(rng.poisson(per_slot * SLOTS * nodes * lms))
    born_s = np.sort(rng.uniform(0, SLOTS * scenario.slot_s, size))
    return Requests(
        lm=rng.integers(0, lms, size),
        origin=rng.integers(0, nodes, size),
        prompts=np.ones(size, np.int64),
        slot=(born_s // scenario.slot_s).astype(np.int64),
        born_s=born_s,
        work=rng.uniform(0.5, 1.5, size),
        uplink_bytes=np.full(size, 1e4),
        downlink_bytes=np.full(size, 1e4),
    )


@pytest.mark.parametrize(("load", "longest"), [(3.0, 10), (8.0, 1000)])  # stable; overloaded
def test_mean_backlog_is_arrival_rate_times_mean_time(load: float, longest: float) -> None:
    """L = lambda W for each LM. L is sampled at slot ends, which neither arrivals nor routing know
    anything of; lambda W is taken from the requests' times at the nodes, cut off at the horizon."""
    scenario = Scenario(load_testbed("paper").to_domain(), load_profile("a5000").to_domain())
    horizon_s = SLOTS * scenario.slot_s
    sampled, from_times = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        twin = Twin(scenario, poisson(scenario, rng, per_slot=load))
        journal = Backlogs()
        strategy = replace(build("RF", scenario, Streams(seed), {}), scheduler=Fixed(scenario))
        asyncio.run(run(scenario, twin, twin, twin, strategy, journal, twin.slots))
        ends = np.array([np.zeros_like(journal.seen[0]), *journal.seen])
        sampled.append(((ends[1:] + ends[:-1]) / 2).mean(axis=0))
        records = twin.records
        left_s = np.fmin(records["finished_s"], records["deadline_s"])
        there_s = np.fmin(left_s, horizon_s) - np.fmin(records["arrived_s"], horizon_s)
        from_times.append(np.bincount(records["lm"], np.nan_to_num(there_s)) / horizon_s)
    difference = np.array(sampled) - np.array(from_times)
    half = stats.t.ppf(0.9995, len(difference) - 1) * stats.sem(difference)
    level = np.mean(from_times, axis=0)
    assert (np.abs(difference.mean(axis=0)) <= half).all()
    assert (half <= 0.05 * level + 0.05).all(), (half, level)
    assert level.max() > longest
