"""Campaign folders with invented numbers, written by the writers of real runs.

Nothing here is a result. Latencies are lognormal around a strategy's ``PACE``; requests of an LM
fail with a fixed chance. All files agree: the summary is computed from the requests.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from controller import strategies
from controller.campaigns.experiment import Experiment
from controller.campaigns.reasoner import Reasoner
from controller.domain.decisions import PLANNER, Call, MacroPolicy
from controller.domain.requests import DEADLINE, NOT_DEPLOYED, Requests, RequestTable
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_OFF, POD_READY, POD_STARTING, ClusterState
from controller.inputs.catalog import load_profile, load_testbed
from controller.results.folder import FORMAT_VERSION, publish
from controller.results.journal import Entry, RunJournal
from controller.results.summary import Usage
from controller.results.writing import Outcome, run_files
from controller.workloads.spec import load_workload
from tests.samples import sample_agents

PACE = {"RR": 9.0, "RL": 5.0, "AL": 4.0, "LL": 3.0, "RF": 8.0, "VTC-GPU": 2.0, "SOLVER": 1.0,
        "MA": 1.5, "MAL": 2.5}  # fmt: skip
BASE_S = np.array([8.0, 14.0, 4.0, 30.0])  # of the LMs at pace 1
NODES = ("vm2", "vm3", "vm4")
EPOCH_SLOTS = 10
DRAIN = 5
Files = dict[str, bytes]


@dataclass(frozen=True)
class Sample:
    """What to write. ``failed`` and ``pending`` name (strategy, seed) pairs; ``modes``: of agents
    that do not simply decide; ``edit`` changes a run's files before they are written."""

    strategies: Sequence[str] = ("RR", "RL", "LL", "SOLVER")  # names, or labels as "MA (off)"
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 3
    loads: Sequence[float] = (1.0,)
    profiles: Sequence[str] = ("invented",)
    workload: str = "paper"
    failed: Iterable[tuple[str, int]] = ()
    pending: Iterable[tuple[str, int]] = ()
    agents: Sequence[str] = ()  # strategies of these that have agents
    modes: Mapping[str, str] = field(default_factory=dict)
    edit: Callable[[Files], Files] = lambda files: files


def write_sample(folder: Path, sample: Sample = Sample()) -> Path:
    """Write a campaign and return its folder."""
    entries = [
        _write_run(folder, sample, strategy, seed, load, profile)
        for profile in sample.profiles
        for load in sample.loads
        for strategy in sample.strategies
        for seed in sample.seeds
    ]
    manifest = {"format": FORMAT_VERSION, "name": "sample", "summary": "Invented numbers.",
                "campaign": {}, "runs": entries}  # fmt: skip
    (folder / "campaign.json").write_text(json.dumps(manifest, indent=1))
    return folder


def _write_run(
    folder: Path, sample: Sample, label: str, seed: int, load: float, profile: str
) -> dict[str, Any]:
    experiment = _experiment(sample, label, seed, load, profile)
    axes = {"strategy": label, "seed": seed, "testbed": "paper", "profile": profile,
            "workload": sample.workload, "load": load, "faults": "none",
            "epochs": sample.epochs}  # fmt: skip
    if (label, seed) in set(sample.failed):
        error = "Permanent: it broke"
        return {"id": experiment.run_id, "state": "failed", **axes, "error": error}
    if (label, seed) in set(sample.pending):
        return {"id": experiment.run_id, "state": "pending", **axes}
    pace = PACE[experiment.strategy] * load * (1.5 if "x1.5" in profile else 1.0)
    outcome = sample_outcome(experiment, pace, label in sample.agents)
    files = sample.edit(run_files(experiment.canonical_json(), outcome))
    publish(folder, experiment.run_id, files)
    return {"id": experiment.run_id, "state": "done", **axes}


def _experiment(sample: Sample, label: str, seed: int, load: float, profile: str) -> Experiment:
    name = label.partition(" (")[0]
    mode = {"mode": sample.modes[label]} if label in sample.modes else {}
    has_agents = label in sample.agents and mode != {"mode": "off"}
    inputs = {"name": profile, "summary": "Invented for a test."}
    return Experiment(
        testbed=_shipped("testbed"),
        profile=_shipped("profile").model_copy(update=inputs),
        workload=_shipped("workload"),
        strategy=name,
        parameters=strategies.resolved_parameters(name, mode),
        reasoner=Reasoner() if has_agents else None,
        seed=seed,
        epochs=sample.epochs,
        epoch_slots=EPOCH_SLOTS,
        load=load,
    )


@cache
def _shipped(kind: str) -> Any:
    return {
        "testbed": lambda: load_testbed("paper"),
        "profile": lambda: load_profile("a5000"),
        "workload": lambda: load_workload("paper"),
    }[kind]()


def small_scenario(experiment: Experiment) -> Scenario:
    """The experiment's scenario with three nodes only."""
    whole = experiment.scenario()
    nodes = tuple(node for node in whole.testbed.nodes if node.name in NODES)
    return replace(whole, testbed=replace(whole.testbed, nodes=nodes))


def sample_outcome(experiment: Experiment, pace: float, has_agents: bool) -> Outcome:
    """A run with invented requests, slots and decisions."""
    scenario, epochs = small_scenario(experiment), experiment.epochs
    table = sample_table(np.random.default_rng(experiment.seed), scenario, epochs, pace)
    journal = RunJournal()
    for state in sample_states(np.random.default_rng(experiment.seed), scenario, epochs, pace):
        journal.observed(state)
    mode = str(experiment.parameters.get("mode", "apply"))
    if has_agents:
        journal.entries = sample_agents.entries(scenario, epochs, DRAIN, mode)
    else:
        hosts = scenario.hosts()
        policy = MacroPolicy(hosts / hosts.sum(axis=0), hosts)
        journal.entries = [
            Entry(slot, PLANNER, policy, (Call(),))
            for slot in range(0, epochs * EPOCH_SLOTS, EPOCH_SLOTS)
        ]
    asked = experiment.reasoner is not None
    return Outcome(
        scenario=scenario,
        requests=_requests(table),
        table=table,
        journal=journal,
        usage=Usage(epochs * EPOCH_SLOTS + DRAIN, 100.0 * pace, int(40 * pace)),
        wall_s=1.0,
        reasoner=sample_agents.REASONER if asked else None,
        transcript=sample_agents.transcript(scenario, epochs) if asked else None,
    )


def sample_table(
    rng: np.random.Generator, scenario: Scenario, epochs: int, pace: float
) -> RequestTable:
    """One request per (slot, node, LM), served where it was born."""
    shape = epochs * EPOCH_SLOTS, len(NODES), len(BASE_S)
    slot, node, lm = (axis.ravel() for axis in np.indices(shape))
    base = BASE_S[lm]
    inference = base * rng.lognormal(0, 0.3, len(slot))
    queue = base * (pace - 1) * rng.lognormal(0, 0.6, len(slot)) + 0.05
    latency = inference + queue + 0.002
    late = latency > scenario.tau_s
    lost = rng.random(len(slot)) < 0.04 * pace * (lm + 1) / 4
    failure = np.where(late | (lm != 3), DEADLINE, NOT_DEPLOYED)
    born = slot * scenario.slot_s

    def reached(times: Any) -> Any:
        return np.where(lost | late, np.nan, times)

    return RequestTable(
        lm=lm,
        origin=node,
        destination=node,
        prompts=np.full(len(slot), 4),
        slot=slot,
        born_s=born,
        arrived_s=born + 0.001,
        started_s=reached(born + 0.001 + queue),
        finished_s=reached(born + latency - 0.001),
        returned_s=reached(born + latency),
        uplink_s=np.full(len(slot), 0.001),
        queue_s=reached(queue),
        inference_s=reached(inference),
        downlink_s=reached(np.full(len(slot), 0.001)),
        latency_s=reached(latency),
        failure=np.where(lost | late, failure, 0),
        attempts=np.ones(len(slot), int),
        recomputed_prompts=np.zeros(len(slot), int),
    )


def _requests(table: RequestTable) -> Requests:
    one = np.ones(len(table))
    return Requests(
        table.lm, table.origin, table.prompts, table.slot, table.born_s, 0.01 * one, one, one
    )


def sample_states(
    rng: np.random.Generator, scenario: Scenario, epochs: int, pace: float
) -> list[ClusterState]:
    """A daily swing of backlogs; LM k runs on GPU where (node + k) is odd."""
    shape = len(NODES), len(BASE_S)
    node, lm = np.indices(shape)
    found = []
    for slot in range(epochs * EPOCH_SLOTS + DRAIN):
        on = rng.random(shape) < 0.9
        gpu = (node + lm) % 2 == 1
        pod = np.where(on, POD_READY, np.where(gpu, POD_STARTING, POD_OFF))
        mode = np.where(pod == POD_OFF, OFF, np.where(gpu, GPU, CPU))
        swing = pace * (1 + np.sin(slot / EPOCH_SLOTS)) * (node + 1)
        cores, vgpus = np.where(mode == CPU, 4.0, 0.0), np.where(mode == GPU, 1, 0)
        found.append(
            ClusterState(
                time_s=(slot + 1) * scenario.slot_s,
                slot=slot,
                rows=np.arange(len(NODES)),
                up=np.full(len(NODES), True),
                heard_s=np.full(len(NODES), (slot + 1) * scenario.slot_s),
                backlog=(swing * rng.random(shape) * 4).astype(int),
                mode=mode,
                cores=cores,
                vgpus=vgpus,
                cards=vgpus,
                pod=pod,
                want_mode=mode,
                want_cores=cores,
                want_vgpus=vgpus,
                want_slot=np.full(len(NODES), slot),
                free_cores=np.zeros(len(NODES)),
                free_ram_gb=np.zeros(len(NODES)),
                free_vgpus=np.zeros(len(NODES), int),
                arrived_prompts=np.full(shape, 4),
                arrived_requests=np.ones(shape, int),
                busy_s=np.where(pod == POD_READY, 20.0, 0.0),
            )
        )
    return found


def edited_lines(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """An ``edit`` that changes every line of a file of JSON lines."""

    def edit(files: Files) -> Files:
        lines = map(json.loads, files[name].splitlines())
        text = [json.dumps(change(line), separators=(",", ":")) + "\n" for line in lines]
        return {**files, name: "".join(text).encode()}

    return edit


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """A table of the report of the campaign in ``folder``."""
    with (folder / "report" / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))
