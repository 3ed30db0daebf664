"""Puts the parts together. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Final

import numpy as np

from controller import strategies
from controller.domain.errors import InputError
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
from controller.inputs.catalog import load_profile, load_testbed
from controller.inputs.documents import read_yaml_text
from controller.loop import run
from controller.workloads.spec import generate, load_workload

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
    from controller.twin.cluster import Twin  # Numba: what only reads files does without

    started_s = time.perf_counter()
    scenario = experiment.scenario()
    requests = draw_requests(experiment, scenario)
    horizon_s = experiment.slots * experiment.slot_s + experiment.tau_s
    outages = draw_outages(
        experiment.faults, scenario.testbed, horizon_s, rng_of(experiment.seed, OUTAGES)
    )
    twin = Twin(scenario, requests, outages)
    strategy = strategies.build(
        experiment.strategy,
        scenario,
        rng_of(experiment.seed, STRATEGY),
        experiment.parameters,
        partial(requests.born_in, nodes=len(scenario.testbed.nodes), lms=len(scenario.testbed.lms)),
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
    trace = trace_of(experiment.workload)
    path = trace_path(root, trace.sha256) if trace else None
    return run_files(experiment, simulate(_reading_trace(experiment, path)))


def run_once(grid: Grid) -> dict[str, bytes]:
    """Make a grid's only run here and now; the files of its folder by name."""
    (cell,) = grid.cells
    trace = trace_of(cell.experiment.workload)
    path = grid.traces[trace.sha256] if trace else None
    return run_files(cell.experiment, simulate(_reading_trace(cell.experiment, path)))


def _reading_trace(experiment: Experiment, path: Path | None) -> Experiment:
    """The experiment with its trace read from ``path``, for use on this machine only."""
    if path is None:
        return experiment
    return experiment.model_copy(update={"workload": with_trace_at(experiment.workload, str(path))})


def warm_up() -> None:
    """Compile the twin's kernel, or load it from the cache."""
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


def catalog() -> dict[str, dict[str, str]]:
    """Kind -> name -> a sentence, of all that can be named."""
    from controller.experiments.files import shipped

    titles = {name: strategies.STRATEGIES[name].title for name in strategies.names()}
    return {"strategies": titles, **shipped()}


def import_requests(
    kind: str, source: Path, out: Path, options: Sequence[str]
) -> tuple[int, float]:
    """Import a foreign trace into a request file. ``options``: NAME=VALUE, values as in YAML.

    Returns:
        Requests, and the seconds that they extend over.

    Raises:
        InputError: unknown importer or option, or a malformed trace.
    """
    from controller.workloads.importers import IMPORTERS
    from controller.workloads.trace import write_trace

    if kind not in IMPORTERS:
        choices = ", ".join(IMPORTERS)
        raise InputError("trace import", "no such kind", value=kind, remedy=f"choose {choices}")
    importer = IMPORTERS[kind]
    known = [p.name for p in signature(importer).parameters.values() if p.kind is p.KEYWORD_ONLY]
    given = dict(_option(text, kind, known) for text in options)
    trace = importer(source, **given)
    write_trace(trace, out)
    return len(trace), trace.duration_s


def _option(text: str, kind: str, known: Sequence[str]) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or name not in known:
        raise InputError(
            "--set", f"is no option of the importer {kind}", value=text,
            remedy=f"write NAME=VALUE with one of {', '.join(known)}",
        )  # fmt: skip
    return name, read_yaml_text(f"--set {name}", value)
