"""``edgelm bench``: the speed of the twin and of the solver on this machine.

Times are wall times, and medians over repetitions. What is compared alternates, so that a busy
moment of the machine hits both.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final, Protocol

import numpy as np

from controller.domain.decisions import Decision, Deployment, MacroPolicy, RoutingPlan
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.experiments.journal import DEPLOYER, SCHEDULER, RunJournal
from controller.experiments.machine import describe_machine
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.testbed import scaled
from controller.loop import Strategy, run
from controller.workloads.spec import generate, load_workload

TESTBED, PROFILE, WORKLOAD = "paper", "a5000", "paper"
EPOCH_SLOTS: Final = 10  # SOLVER's planner is to be seen often
NO_REFERENCE: Final = "not available in an installed wheel; run make bench in a checkout"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    slots: int = 1500  # the paper's 30 epochs
    scaling_slots: int = 200
    solver_slots: Mapping[int, int] = field(default_factory=lambda: {6: 200, 60: 60, 600: 20})
    repetitions: int = 5

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes."""
        return tuple(self.solver_slots)


class Build(Protocol):
    """:func:`controller.strategies.build`."""

    def __call__(
        self,
        name: str,
        scenario: Scenario,
        rng: np.random.Generator,
        parameters: Mapping[str, Any],
    ) -> Strategy: ...


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a repetition simulates."""

    scenario: Scenario
    requests: Requests
    slots: int


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """A repetition on the twin."""

    wall_s: float
    slots: int
    journal: RunJournal


def run_bench(
    build: Build, say: Callable[[str], None], effort: Effort | None = None
) -> dict[str, Any]:
    """Measure everything; takes about a minute. ``say`` is told what is being measured.

    Returns:
        ``twin.slots_per_s`` and ``twin.requests_per_s``: RF on the paper's testbed on one core,
        decisions and journal included. ``twin.simpy_ratio``: how many times faster that is than
        the SimPy model of the tests, which replays the same decisions; None without a checkout.
        ``twin.scaling``: nodes -> seconds per slot, and per slot and node.
        ``solver.decision_s``: nodes -> tier of SOLVER -> calls, median, 95th percentile, longest.
        ``machine``: what all this ran on.
    """
    effort = effort or Effort()
    say(f"twin: RF, {effort.slots} slots on {TESTBED}, beside the SimPy model")
    figures = _twin(build, effort)
    figures["twin.scaling"] = scaling = {}
    for nodes in effort.sizes:
        say(f"twin: RF, {effort.scaling_slots} slots on {nodes} nodes")
        slot_s = _slot_s(build, _job(nodes, effort.scaling_slots), effort.repetitions)
        scaling[str(nodes)] = {"slot_s": slot_s, "slot_node_s": slot_s / nodes}
    figures["solver.decision_s"] = decisions = {}
    for nodes, slots in effort.solver_slots.items():
        say(f"solver: {slots} slots on {nodes} nodes")
        decisions[str(nodes)] = _decisions(build, _job(nodes, slots))
    return {**figures, "machine": describe_machine()}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    ratio = figures["twin.simpy_ratio"]
    lines = [
        f"twin    {figures['twin.slots_per_s']:,.0f} slots/s, "
        f"{figures['twin.requests_per_s']:,.0f} requests/s (RF, {TESTBED}, one core)",
        f"        {ratio:.1f} times the SimPy model" if ratio else f"        SimPy: {NO_REFERENCE}",
    ]
    for nodes, cost in figures["twin.scaling"].items():
        lines.append(
            f"        {nodes:>3} nodes: {1e3 * cost['slot_s']:8.3f} ms per slot, "
            f"{1e6 * cost['slot_node_s']:6.2f} us per slot and node"
        )
    for nodes, tiers in figures["solver.decision_s"].items():
        for tier, spent in tiers.items():
            lines.append(
                f"solver  {nodes:>3} nodes: {tier:<9} {1e3 * spent['median_s']:8.2f} ms median, "
                f"{1e3 * spent['p95_s']:8.2f} ms p95, {1e3 * spent['max_s']:8.2f} ms longest"
            )
    lines.append(
        "on      " + ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    )
    return "\n".join(lines)


def _job(nodes: int, slots: int) -> Job:
    """The paper's workload on so many nodes, the paper's in turn."""
    testbed = load_testbed(TESTBED)
    scenario = Scenario(scaled(testbed, nodes).to_domain(), load_profile(PROFILE).to_domain())
    requests = generate(load_workload(WORKLOAD), scenario, slots, np.random.default_rng(0), 1.0)
    return Job(scenario, requests, slots)


def _lap(job: Job, strategy: Strategy) -> Lap:
    from controller.twin.cluster import Twin

    twin, journal = Twin(job.scenario, job.requests), RunJournal()
    gc.collect()
    started_s = time.perf_counter()
    slots = asyncio.run(run(job.scenario, twin, twin, twin, strategy, journal, job.slots))
    return Lap(time.perf_counter() - started_s, slots, journal)


def _full(build: Build, job: Job) -> Strategy:
    return build("RF", job.scenario, np.random.default_rng(1), {})


def _twin(build: Build, effort: Effort) -> dict[str, Any]:
    """Twin and SimPy in turn; several laps of the twin, which is fast, to one of SimPy."""
    job = _job(len(load_testbed(TESTBED).to_domain().nodes), effort.slots)
    warm = _lap(job, _full(build, job))
    replay = _reference(job, warm)
    twin_s, simpy_s = [], []
    for _ in range(effort.repetitions):
        laps = [_lap(job, _full(build, job)).wall_s for _ in range(effort.repetitions)]
        twin_s.append(median(laps))
        if replay:
            started_s = time.perf_counter()
            replay()
            simpy_s.append(time.perf_counter() - started_s)
    wall_s = median(twin_s)
    return {
        "twin.slots_per_s": warm.slots / wall_s,
        "twin.requests_per_s": len(job.requests) / wall_s,
        "twin.simpy_ratio": median(simpy_s) / wall_s if simpy_s else None,
    }


def _reference(job: Job, lap: Lap) -> Callable[[], object] | None:
    """The SimPy model on a lap's decisions. It is part of the tests: only a checkout has it."""
    try:
        model = importlib.import_module("tests.reference.model")
    except ImportError:
        return None
    entries = lap.journal.entries
    plans = [entry for entry in entries if entry.tier == SCHEDULER]
    deployments = [entry for entry in entries if entry.tier == DEPLOYER]
    script = [
        model.Slot(
            plan=plan.value,
            route_thought_s=plan.calls[0].took_s,
            deployment=deployed.value,
            deploy_thought_s=np.array([call.took_s for call in deployed.calls]),
        )
        for plan, deployed in zip(plans, deployments, strict=True)
    ]
    return lambda: model.simulate(job.scenario, job.requests, script)


def _slot_s(build: Build, job: Job, repetitions: int) -> float:
    """Seconds per slot."""
    laps = [_lap(job, _full(build, job)) for _ in range(repetitions)]
    return median(lap.wall_s / lap.slots for lap in laps)


@dataclass
class _Stopwatch:
    """The tiers of a strategy, timed."""

    strategy: Strategy
    took_s: dict[str, list[float]] = field(default_factory=dict)

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]:
        started_s = time.perf_counter()
        decision = await self.strategy.planner.plan(state, telemetry)
        self._note("planner", started_s)
        return decision

    async def schedule(self, state: ClusterState, policy: MacroPolicy) -> Decision[RoutingPlan]:
        started_s = time.perf_counter()
        decision = await self.strategy.scheduler.schedule(state, policy)
        self._note("scheduler", started_s)
        return decision

    async def deploy(self, state: ClusterState, policy: MacroPolicy) -> Decision[Deployment]:
        started_s = time.perf_counter()
        decision = await self.strategy.deployer.deploy(state, policy)
        self._note("deployers", started_s)
        return decision

    def _note(self, tier: str, started_s: float) -> None:
        self.took_s.setdefault(tier, []).append(time.perf_counter() - started_s)


def _decisions(build: Build, job: Job) -> dict[str, dict[str, float]]:
    """What SOLVER's decisions take; all nodes' deployers together."""
    often = replace(job, scenario=replace(job.scenario, epoch_slots=EPOCH_SLOTS))
    watch = _Stopwatch(build("SOLVER", often.scenario, np.random.default_rng(1), {}))
    _lap(often, Strategy(watch, watch, watch))
    return {
        tier: {
            "calls": len(took_s),
            "median_s": median(took_s),
            "p95_s": float(np.quantile(took_s, 0.95)),
            "max_s": max(took_s),
        }
        for tier, took_s in watch.took_s.items()
    }
