"""Puts the parts together. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import numpy as np

from controller import strategies
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.experiments.campaign import CampaignFile, Overrides, load_campaign_file, override
from controller.experiments.experiment import Experiment, load_experiment, trace_of, with_trace_at
from controller.experiments.faults import draw_outages
from controller.experiments.grid import Grid, StrategyBook, resolve_grid
from controller.experiments.journal import RunJournal
from controller.experiments.manifest import trace_path
from controller.experiments.outcome import Outcome, run_files
from controller.experiments.pool import Engine
from controller.experiments.records import request_table
from controller.experiments.summary import Usage
from controller.loop import run
from controller.twin.cluster import Twin
from controller.workloads.spec import generate

# Streams of a seed. Every strategy meets the same arrivals and outages under the same seed.
WORKLOAD: Final = 0
STRATEGY: Final = 1
OUTAGES: Final = 2

STRATEGY_BOOK: Final = StrategyBook(strategies.names, strategies.resolved_parameters)


def rng_of(seed: int, stream: int) -> np.random.Generator:
    """The generator of one stream of a seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream]))


def draw_requests(experiment: Experiment, scenario: Scenario) -> Requests:
    """Arrivals of an experiment."""
    rng = rng_of(experiment.seed, WORKLOAD)
    return generate(experiment.workload, scenario, experiment.slots, rng, experiment.load)


def simulate(experiment: Experiment) -> Outcome:
    """Run an experiment on the twin.

    Raises:
        InputError: the experiment contradicts itself (unknown strategy, a trace that has changed).
    """
    started_s = time.perf_counter()
    scenario = experiment.scenario()
    requests = draw_requests(experiment, scenario)
    horizon_s = experiment.slots * experiment.slot_s + experiment.tau_s
    outages = draw_outages(
        experiment.faults, scenario.testbed, horizon_s, rng_of(experiment.seed, OUTAGES)
    )
    twin = Twin(scenario, requests, outages)
    strategy = strategies.build(
        experiment.strategy, scenario, rng_of(experiment.seed, STRATEGY), experiment.parameters
    )
    journal = RunJournal()
    slots = asyncio.run(run(scenario, twin, twin, twin, strategy, journal, experiment.slots))
    return Outcome(
        scenario=scenario,
        requests=requests,
        table=request_table(twin.records, requests.slot),
        journal=journal,
        usage=Usage(slots, twin.gpu_busy_s, twin.pod_starts),
        wall_s=time.perf_counter() - started_s,
    )


def execute(text: str, root: Path) -> dict[str, bytes]:
    """Make the run of an experiment.json that belongs to the campaign at ``root``."""
    experiment = load_experiment(text, "experiment.json")
    trace, local = trace_of(experiment.workload), experiment
    if trace is not None:
        copy = str(trace_path(root, trace.sha256))
        moved = with_trace_at(experiment.workload, copy)
        local = experiment.model_copy(update={"workload": moved})
    return run_files(experiment, simulate(local))


def warm_up() -> None:
    """Compile the twin's kernel, or load it from the cache."""
    from controller.inputs.catalog import load_profile, load_testbed
    from controller.workloads.spec import load_workload

    simulate(
        Experiment(
            testbed=load_testbed("paper"),
            profile=load_profile("a5000"),
            workload=load_workload("paper"),
            strategy=strategies.names()[0],
            parameters={},
            seed=0,
            epochs=1,
            epoch_slots=1,
        )
    )


TWIN_ENGINE: Final = Engine(execute, warm_up)


def resolve(name_or_path: str | Path, changes: Overrides | None = None) -> Grid:
    """A campaign, shipped or a file, with changes, resolved and checked.

    Raises:
        InputError: it, or something that it names, is wrong.
    """
    campaign, folder = load_campaign_file(name_or_path)
    return resolve_grid(override(campaign, changes or Overrides()), folder, STRATEGY_BOOK)


def resolve_file(campaign: CampaignFile, folder: Path | None = None) -> Grid:
    """As :func:`resolve`, of a campaign at hand."""
    return resolve_grid(campaign, folder or Path(), STRATEGY_BOOK)
