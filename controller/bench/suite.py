"""All of ``edgelm bench``: the twin beside the SimPy model, its scaling, SOLVER and the agents.

Times are wall times, and medians over repetitions. What is compared alternates, so that a busy
moment of the machine hits both.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import numpy as np

from controller.bench.agents import Answer, measure_agents
from controller.bench.laps import (
    EPOCH_SLOTS,
    TESTBED,
    Build,
    Job,
    Lap,
    Stopwatch,
    make_job,
    spread,
    time_lap,
)
from controller.bench.machine import describe_machine
from controller.domain.decisions import DEPLOYER, SCHEDULER
from controller.domain.randomness import Streams
from controller.inputs.catalog import load_testbed
from controller.loop import Strategy

NO_REFERENCE: Final = "not available in an installed wheel; run make bench in a checkout"


@dataclass(frozen=True, slots=True)
class Effort:
    """Sizes and repetitions of a benchmark."""

    slots: int = 1500  # the paper's 30 epochs
    scaling_slots: int = 200
    solver_slots: Mapping[int, int] = field(default_factory=lambda: {6: 200, 60: 60, 600: 20})
    agent_slots: Mapping[int, int] = field(default_factory=lambda: {6: 100, 60: 30, 600: 11})
    repetitions: int = 5

    @property
    def sizes(self) -> tuple[int, ...]:
        """Nodes."""
        return tuple(self.solver_slots)


def run_bench(
    build: Build, answer: Answer, say: Callable[[str], None], effort: Effort | None = None
) -> dict[str, Any]:
    """Measure everything; takes about a minute. ``say`` gets the name of each measurement,
    ``answer`` answers the agents.

    Returns:
        ``twin.slots_per_s`` and ``twin.requests_per_s``: RF on the paper's testbed on one core,
        decisions and journal included. ``twin.simpy_ratio``: how many times faster that is than
        the SimPy model of the tests, which replays the same decisions; None without a checkout.
        ``twin.scaling``: nodes -> seconds per slot, and per slot and node.
        ``solver.decision_s``: nodes -> tier of SOLVER -> calls, median, 95th percentile, longest.
        ``agents.calls``: nodes -> tier -> calls of a decision, own seconds of a call without the
        model's, estimated tokens of the largest call.
        ``machine``: what all this ran on.
    """
    effort = effort or Effort()
    say(f"twin: RF, {effort.slots} slots on {TESTBED}, beside the SimPy model")
    figures = _twin(build, effort)
    figures["twin.scaling"] = scaling = {}
    for nodes in effort.sizes:
        say(f"twin: RF, {effort.scaling_slots} slots on {nodes} nodes")
        slot_s = _slot_s(build, make_job(nodes, effort.scaling_slots), effort.repetitions)
        scaling[str(nodes)] = {"slot_s": slot_s, "slot_node_s": slot_s / nodes}
    figures["solver.decision_s"] = decisions = {}
    for nodes, slots in effort.solver_slots.items():
        say(f"solver: {slots} slots on {nodes} nodes")
        decisions[str(nodes)] = _decisions(build, make_job(nodes, slots, EPOCH_SLOTS))
    figures["agents.calls"] = calls = {}
    for nodes, slots in effort.agent_slots.items():
        say(f"agents: {slots} slots on {nodes} nodes")
        calls[str(nodes)] = measure_agents(build, answer, make_job(nodes, slots, EPOCH_SLOTS))
    return {**figures, "machine": describe_machine()}


def report(figures: Mapping[str, Any]) -> str:
    """Return the figures as lines of text."""
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
    for nodes, tiers in figures["agents.calls"].items():
        for tier, one in tiers.items():
            lines.append(
                f"agents  {nodes:>3} nodes: {tier:<9} {1e3 * one['call_median_s']:8.2f} ms a call "
                f"without the model, {one['calls']:>3} at once; tokens: {one['prompt_tokens']:,} "
                f"prompt, {one['schema_tokens']:,} schema, {one['reply_tokens']:,} reply"
            )
    lines.append(
        "on      " + ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    )
    return "\n".join(lines)


def _full(build: Build, job: Job) -> Strategy:
    return build("RF", job.scenario, Streams(1), {})


def _twin(build: Build, effort: Effort) -> dict[str, Any]:
    """Measure twin and SimPy in turn; several laps of the twin, which is fast, to one of SimPy."""
    job = make_job(len(load_testbed(TESTBED).to_domain().nodes), effort.slots)
    warm = time_lap(job, _full(build, job))
    replay = _reference(job, warm)
    twin_s, simpy_s = [], []
    for _ in range(effort.repetitions):
        laps = [time_lap(job, _full(build, job)).wall_s for _ in range(effort.repetitions)]
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
    """Return the SimPy model on a lap's decisions. It is part of the tests: only a checkout has
    it."""
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
    """Return seconds per slot."""
    laps = [time_lap(job, _full(build, job)) for _ in range(repetitions)]
    return median(lap.wall_s / lap.slots for lap in laps)


def _decisions(build: Build, job: Job) -> dict[str, dict[str, float]]:
    """Return the times of SOLVER's decisions; all nodes' deployers together."""
    watch = Stopwatch(build("SOLVER", job.scenario, Streams(1), {}))
    time_lap(job, watch.timed())
    return {tier: spread(took_s) for tier, took_s in watch.took_s.items()}
