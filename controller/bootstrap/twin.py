"""Runs experiments on the twin: here, in a worker of a campaign, or again from a transcript."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from controller import strategies
from controller.agents.approval import Approver
from controller.agents.kit import AgentKit
from controller.agents.lines import whole_lines
from controller.bootstrap.agents import Access, staffed
from controller.bootstrap.transcripts import RunTranscript, described, transcript_kept_at
from controller.campaigns.approvals import Asking, Confirm, approver_of
from controller.campaigns.code_digest import code_digest
from controller.campaigns.experiment import Experiment, load_experiment, trace_of, with_trace_at
from controller.campaigns.faults import draw_outages
from controller.campaigns.grid import Grid
from controller.campaigns.pool import Engine, Listener
from controller.campaigns.watch import WatchedJournal
from controller.domain.errors import InputError
from controller.domain.randomness import Streams
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.inputs.catalog import load_profile, load_testbed
from controller.loop import Strategy, run
from controller.results.campaign import read_run
from controller.results.folder import EXPERIMENT, TRANSCRIPT, trace_path, unfinished_transcript
from controller.results.journal import RunJournal
from controller.results.summary import Usage
from controller.results.writing import Outcome, run_files
from controller.twin.records import request_table
from controller.workloads.spec import generate, load_workload

T = TypeVar("T")

# The world's streams of a seed: every strategy meets the same arrivals and outages under the same
# seed. Those of strategies are in domain/randomness.py.
WORKLOAD: Final = 0
OUTAGES: Final = 2


def rng_of(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of one stream of a seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream]))


def draw_requests(experiment: Experiment, scenario: Scenario) -> Requests:
    """Return the arrivals of an experiment."""
    rng = rng_of(experiment.seed, WORKLOAD)
    return generate(experiment.workload, scenario, experiment.slots, rng, experiment.load)


def simulate(
    experiment: Experiment,
    calls: RunTranscript | None = None,
    access: Access | None = None,
    journal: RunJournal | None = None,
) -> Outcome:
    """Run an experiment on the twin. ``calls``: those of its agents, former and new.

    Raises:
        InputError: the experiment contradicts itself (unknown strategy, a trace that has changed),
            or its reasoner cannot be asked.
    """
    from controller.twin.cluster import Twin  # Numba: what only reads files does without

    started_s = time.perf_counter()
    scenario, believed = experiment.scenario(), experiment.believed()
    requests = draw_requests(experiment, scenario)
    horizon_s = experiment.slots * experiment.slot_s + experiment.tau_s
    outages = draw_outages(
        experiment.faults, scenario.testbed, horizon_s, rng_of(experiment.seed, OUTAGES)
    )
    twin, calls = Twin(scenario, requests, outages), calls or RunTranscript()
    journal = journal or RunJournal()

    async def play() -> int:
        async with staffed(experiment, believed, calls, access or Access()) as agents:
            strategy = _build(experiment, believed, requests, agents)
            return await run(scenario, twin, twin, twin, strategy, journal, experiment.slots)

    slots = _run_to_end(play)
    transcript = calls.lines() if experiment.reasoner else None
    return Outcome(
        scenario=scenario,
        requests=requests,
        table=request_table(twin.records, requests.slot),
        journal=journal,
        usage=Usage(slots, twin.gpu_busy_s, twin.pod_starts),
        wall_s=time.perf_counter() - started_s,
        code=code_digest(experiment.strategy),
        target=experiment.target,
        reasoner=described(experiment, transcript),
        transcript=transcript,
    )


def _run_to_end(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine and return its result: here, or in a thread of its own where an event loop
    runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, "edgelm-run") as thread:
        return thread.submit(context.run, lambda: asyncio.run(work())).result()


def _build(
    experiment: Experiment, scenario: Scenario, requests: Requests, agents: AgentKit | None
) -> Strategy:
    shape = {"nodes": len(scenario.testbed.nodes), "lms": len(scenario.testbed.lms)}
    return strategies.build(
        experiment.strategy,
        scenario,
        Streams(experiment.seed),
        experiment.parameters,
        partial(requests.born_in, **shape),
        agents,
    )


def execute(
    text: str, root: Path, listener: Listener, access: Access | None = None
) -> dict[str, bytes]:
    """Make the run of an experiment.json that belongs to the campaign at ``root``. A run with
    agents goes on from the calls that an earlier attempt has made."""
    experiment = load_experiment(text, "experiment.json")
    readable = reading_kept_trace(experiment, root)
    journal = WatchedJournal(experiment.slots, partial(listener.advanced, experiment.run_id))
    if experiment.reasoner is None:
        return run_files(text, simulate(readable, journal=journal))
    transcript = unfinished_transcript(root, experiment.run_id)
    approver = Asking(experiment, listener.confirm)
    with transcript_kept_at(transcript, root / "baselines", approver) as calls:
        return run_files(text, simulate(readable, calls, access, journal))


def replay(run: Path) -> dict[str, bytes]:
    """Make the files of a finished run again from its transcript with nobody to ask.

    Raises:
        InputError: ``run`` is no finished run with a transcript, or one of another version of the
            model, or damaged.
        Permanent: the transcript does not fit the experiment.
    """
    finished = read_run(run)
    if TRANSCRIPT not in finished.files:
        raise InputError(
            str(run), "is a run without a transcript",
            remedy="give the folder of a run with agents, CAMPAIGN/runs/ID",
        )  # fmt: skip
    one = load_experiment(finished.content(EXPERIMENT), str(run / EXPERIMENT))
    calls = RunTranscript(former=whole_lines(finished.content(TRANSCRIPT)), silent=True)
    readable = reading_kept_trace(one, run.parent.parent)
    return run_files(one.canonical_json(), simulate(readable, calls))


def run_once(grid: Grid, approver: Approver | Confirm | None = None) -> dict[str, bytes]:
    """Make a grid's only run here and now; the files of its folder by name.

    Raises:
        InputError: nobody is there to approve, or ``approver`` cannot.
    """
    (cell,) = grid.cells
    trace = trace_of(cell.experiment.workload)
    path = grid.traces[trace.sha256] if trace else None
    calls = RunTranscript(approver=approver_of(cell.experiment, approver))
    return run_files(
        cell.experiment.canonical_json(), simulate(_reading_trace(cell.experiment, path), calls)
    )


def reading_kept_trace(experiment: Experiment, root: Path) -> Experiment:
    """Return the experiment with its trace, if it has one, read from the copy that the campaign at
    ``root`` keeps."""
    trace = trace_of(experiment.workload)
    return _reading_trace(experiment, trace_path(root, trace.sha256) if trace else None)


def _reading_trace(experiment: Experiment, path: Path | None) -> Experiment:
    """Return the experiment with its trace read from ``path``, for use on this machine only."""
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


def probe(grid: Grid) -> Callable[[Experiment], float]:
    """Return a function that runs an experiment of the grid on the twin, here and now, and returns
    the seconds it took. Whoever is to approve its policies says yes."""
    warm = False

    def seconds(experiment: Experiment) -> float:
        nonlocal warm
        if not warm:
            warm_up()
            warm = True
        trace = trace_of(experiment.workload)
        path = grid.traces[trace.sha256] if trace else None
        calls = RunTranscript(approver=approver_of(experiment, bool))
        return simulate(_reading_trace(experiment, path), calls).wall_s

    return seconds


def twin_engine(access: Access | None = None) -> Engine:
    """Return the engine that makes the runs of a campaign."""
    return Engine(partial(execute, access=access), warm_up)
