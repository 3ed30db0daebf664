"""A strategy on the twin, as often as it takes to time it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Protocol

import numpy as np

from controller.agents.kit import AgentKit
from controller.domain.decisions import Decision, Deployment, InForce, MacroPolicy, RoutingPlan
from controller.domain.randomness import Streams
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.testbed import scaled
from controller.loop import Strategy, run
from controller.results.journal import RunJournal
from controller.workloads.spec import generate, load_workload

TESTBED, PROFILE, WORKLOAD = "paper", "a5000", "paper"
EPOCH_SLOTS: Final = 10  # planners are to be seen often


class Build(Protocol):
    """:func:`controller.strategies.build`."""

    def __call__(
        self,
        name: str,
        scenario: Scenario,
        streams: Streams,
        parameters: Mapping[str, Any],
        *,
        agents: AgentKit | None = None,
    ) -> Strategy: ...


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Scenario and requests of a repetition."""

    scenario: Scenario
    requests: Requests
    slots: int


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """A repetition on the twin."""

    wall_s: float
    slots: int
    journal: RunJournal


def make_job(nodes: int, slots: int, epoch_slots: int = 50) -> Job:
    """Return the paper's workload on so many nodes, the paper's in turn."""
    testbed = scaled(load_testbed(TESTBED), nodes).to_domain()
    scenario = Scenario(testbed, load_profile(PROFILE).to_domain(), epoch_slots=epoch_slots)
    requests = generate(load_workload(WORKLOAD), scenario, slots, np.random.default_rng(0), 1.0)
    return Job(scenario, requests, slots)


def time_lap(job: Job, strategy: Strategy) -> Lap:
    """Run it once, from a swept heap."""
    from controller.twin.cluster import Twin

    twin, journal = Twin(job.scenario, job.requests), RunJournal()
    gc.collect()
    started_s = time.perf_counter()
    slots = asyncio.run(run(job.scenario, twin, twin, twin, strategy, journal, job.slots))
    return Lap(time.perf_counter() - started_s, slots, journal)


@dataclass
class Stopwatch:
    """The tiers of a strategy, timed by ``clock``."""

    strategy: Strategy
    clock: Callable[[], float] = time.perf_counter
    took_s: dict[str, list[float]] = field(default_factory=dict)
    total_s: float = 0.0

    def timed(self) -> Strategy:
        """Return the strategy with watched parts."""
        return Strategy(self, self, self)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        started_s = self._now_s()
        decision = await self.strategy.planner.plan(state, telemetry, in_force)
        self._note("planner", started_s)
        return decision

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        started_s = self._now_s()
        decision = await self.strategy.scheduler.schedule(state, in_force)
        self._note("scheduler", started_s)
        return decision

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        started_s = self._now_s()
        decision = await self.strategy.deployer.deploy(state, in_force)
        self._note("deployers", started_s)
        return decision

    def _now_s(self) -> float:
        """Return the clock without what has been noted: the planner thinks while the scheduler
        waits."""
        return self.clock() - self.total_s

    def _note(self, tier: str, started_s: float) -> None:
        took_s = self._now_s() - started_s
        self.total_s += took_s
        self.took_s.setdefault(tier, []).append(took_s)


def spread(took_s: list[float]) -> dict[str, float]:
    """Return the spread of a tier's decision times."""
    return {
        "calls": len(took_s),
        "median_s": median(took_s),
        "p95_s": float(np.quantile(took_s, 0.95)),
        "max_s": max(took_s),
    }
