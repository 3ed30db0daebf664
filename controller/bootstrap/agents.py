"""Agents for a run: the model that answers them, their memory, their transcript."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from controller.agents.chat import ChatModel
from controller.agents.endpoint.address import KEY_VARIABLE
from controller.agents.endpoint.call_time import DeclaredTime, WallTime
from controller.agents.endpoint.endpoint import CHECK_S, Endpoint, Models, Tools
from controller.agents.endpoint.limits import Limiter
from controller.agents.kit import AgentKit
from controller.agents.prompts import Prompts
from controller.agents.replies import planner_format
from controller.agents.step import Step
from controller.agents.transcript import Silent, Transcript
from controller.agents.views import RepairView
from controller.agents.what_if import declaration_of
from controller.bootstrap.transcripts import RunTranscript
from controller.campaigns.experiment import Experiment
from controller.campaigns.grid import Grid
from controller.campaigns.reasoner import FAULTY, Reasoner
from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.metrics import objective
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.files import replace_file
from controller.inputs.catalog import template_dir
from controller.inputs.prices import load_prices
from controller.policies.solver.node import Kind, find_kinds
from controller.reference_model.completions import Latency
from controller.reference_model.process import KeptServer, serving, start_server
from controller.rehearsal import Rehearsed, rehearse, rehearse_random
from controller.store.sqlite import memory_store, open_store
from controller.workloads.spec import generate

BASELINE_EPOCHS: Final = 2
BASELINE_SEED: Final = 20_260_101  # of the arrivals that random policies are measured on
REHEARSAL_SEED: Final = 1
MOST_REQUESTS: Final = 100  # a slot and node, to rehearse; the paper's load is 4


@dataclass(frozen=True, slots=True)
class Access:
    """Limits and prices for reasoners elsewhere. The key is in the environment and nowhere else."""

    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    prices: str | None = None  # file


@contextlib.asynccontextmanager
async def staffed(
    experiment: Experiment,
    scenario: Scenario,
    calls: RunTranscript,
    access: Access,
    memory: Path | None = None,
) -> AsyncIterator[AgentKit | None]:
    """Yield the kit of the experiment's agents, or None if it has none.

    ``memory``: file of their case memory, for a process that may restart; None keeps it in memory.

    Raises:
        InputError, Permanent: the reasoner cannot be asked.
    """
    if experiment.reasoner is None:
        yield None
        return
    prompts = Prompts(template_dir() / "prompts")
    head = {"reasoner": experiment.reasoner.described(), "templates": prompts.hashes()}
    transcript = Transcript(calls.out, head, calls.former)
    kinds = functools.cache(functools.partial(find_kinds, scenario))
    async with _reached(experiment, scenario, access, calls, transcript) as reasoner:
        with contextlib.closing(open_store(memory) if memory else memory_store()) as store:
            yield AgentKit(
                step=Step(
                    reasoner,
                    transcript,
                    scenario.slot_s,
                    lambda problems: prompts.render("repair.j2", RepairView(problems)),
                ),
                prompts=prompts,
                store=store,
                run=experiment.run_id,
                baseline=functools.partial(_baseline, experiment, scenario, calls.cache),
                rehearse=functools.partial(_rehearse, scenario),
                foresee=functools.partial(_foresee, scenario, kinds),
                usual_load=functools.partial(_usual_load, experiment, scenario),
                approver=transcript.attended(calls.approver),
            )


@contextlib.asynccontextmanager
async def _reached(
    experiment: Experiment,
    scenario: Scenario,
    access: Access,
    calls: RunTranscript,
    transcript: Transcript,
) -> AsyncIterator[ChatModel]:
    if calls.silent or experiment.reasoner is None:
        yield Silent()
        return
    with _server(experiment.reasoner, experiment.seed) as server:
        endpoint = _endpoint(
            experiment.reasoner, experiment.seed, access, server, note=transcript.note
        )
        try:
            limit_s = max(CHECK_S, scenario.slot_s)
            await endpoint.check(limit_s, _tools(experiment, scenario))
            yield endpoint
        finally:
            await endpoint.close()


def check_reasoners(
    grid: Grid, access: Access, say: Callable[[str], None] = print
) -> list[tuple[str, list[str]]]:
    """Ask every reasoner elsewhere that a grid names something tiny, with tools if any of its runs
    uses them, before any run begins. Return for each its label and what it turned out not to
    understand.

    ``say`` is called with what takes long.

    Raises:
        InputError, Permanent: one cannot be asked; says what to do.
    """
    asked: dict[Reasoner, Tools] = {}
    for cell in grid.cells:
        one = cell.experiment
        if one.reasoner is not None and not one.reasoner.embedded:
            asked[one.reasoner] = asked.get(one.reasoner) or _tools(one, one.scenario())
    limit_s = max(CHECK_S, grid.campaign.slot_s)  # no call will have more
    return [
        (reasoner.label(), asyncio.run(check_reasoner(reasoner, access, tools, say, limit_s)))
        for reasoner, tools in asked.items()
    ]


async def check_reasoner(
    reasoner: Reasoner,
    access: Access,
    tools: Tools = (),
    say: Callable[[str], None] = print,
    limit_s: float = CHECK_S,
) -> list[str]:
    """Ask a reasoner elsewhere something tiny; what it turned out not to understand.

    Raises:
        InputError, Permanent: it cannot be asked; says what to do.
    """
    endpoint = _endpoint(reasoner, 0, access)
    try:
        await endpoint.check(limit_s, tools, say)
        return list(endpoint.notes)
    finally:
        await endpoint.close()


def _tools(experiment: Experiment, scenario: Scenario) -> Tools:
    """Return the tools that the experiment's planner is offered."""
    trials = experiment.parameters.get("what_if", 0)
    if not isinstance(trials, int | float) or trials < 1:
        return ()
    return (declaration_of(planner_format(scenario)),)


def _endpoint(
    reasoner: Reasoner,
    seed: int,
    access: Access,
    server: KeptServer | None = None,
    note: Callable[[str], None] | None = None,
) -> Endpoint:
    """Return what asks ``reasoner``; ``server`` is the run's own, if it has one."""
    return Endpoint(
        server.url if server else reasoner.address,
        Models(**reasoner.named_models().model_dump()),
        key="" if server else os.environ.get(KEY_VARIABLE, ""),
        prices=load_prices(access.prices),
        limits=Limiter() if server else _limiter(reasoner.address, access),
        call_time=DeclaredTime if server else WallTime,
        temperature=reasoner.temperature,
        reasoning_effort=reasoner.reasoning_effort,
        max_tokens=reasoner.max_tokens,
        seed=seed,
        own=server,
        note=note,
    )


# This process's own: runs share an address's allowance and a reference reasoner, since both are
# made for all of them. They end with the process.
_LIMITERS: Final[dict[tuple[str, Access], Limiter]] = {}
_SERVERS: Final[dict[Latency, KeptServer]] = {}


def _limiter(url: str, access: Access) -> Limiter:
    """Return the rate limiter shared by all runs of this process."""
    if (url, access) not in _LIMITERS:
        _LIMITERS[url, access] = Limiter(access.requests_per_min, access.tokens_per_min)
    return _LIMITERS[url, access]


@contextlib.contextmanager
def _server(reasoner: Reasoner, seed: int) -> Iterator[KeptServer | None]:
    """Keep the run's own server, if it needs one. A faulty one is a run's alone: its faults follow
    from the run's seed."""
    latency = Latency(reasoner.first_token_s, reasoner.token_s)
    if reasoner.kind == FAULTY:
        with serving(latency, reasoner.faults, seed) as server:
            yield server
    else:
        yield _reference(latency) if reasoner.embedded else None


def _reference(latency: Latency) -> KeptServer:
    """Return this process's reference reasoner."""
    if latency not in _SERVERS:
        _SERVERS[latency] = KeptServer(functools.partial(start_server, latency))
        atexit.register(_SERVERS[latency].end)
    return _SERVERS[latency]


async def _baseline(experiment: Experiment, scenario: Scenario, cache: Path | None) -> str:
    """Return what random policies achieve as a sentence, measured once per testbed and workload."""
    about = experiment.changed(strategy="", parameters={}, reasoner=None, seed=0, epochs=1)
    path = cache / f"{about.run_id}.json" if cache else None
    if path and path.is_file():
        return str(json.loads(path.read_bytes())["sentence"])
    rng = np.random.default_rng(BASELINE_SEED)
    slots = BASELINE_EPOCHS * experiment.epoch_slots
    requests = generate(experiment.workload, scenario, slots, rng, experiment.load)
    measured = await rehearse_random(scenario, requests, rng)
    sentence = _sentence(measured, scenario.testbed.lm_names)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"sentence": sentence, **asdict(measured)}
        replace_file(path, json.dumps(document, indent=1).encode())
    return sentence


def _usual_load(experiment: Experiment, scenario: Scenario) -> Demand:
    """Return the mean load of the arrivals that random policies are measured on."""
    rng = np.random.default_rng(BASELINE_SEED)
    slots, lms = BASELINE_EPOCHS * experiment.epoch_slots, len(scenario.testbed.lms)
    requests = generate(experiment.workload, scenario, slots, rng, experiment.load)
    count = np.bincount(requests.lm, minlength=lms).astype(np.float64)
    prompts = np.bincount(requests.lm, weights=requests.prompts, minlength=lms)
    return Demand(count / slots, prompts / np.maximum(1.0, count))


def _sentence(measured: Rehearsed, lms: Sequence[str]) -> str:
    ratios = "/".join("none" if rho is None else f"{rho:.2f}" for rho, _ in measured.per_lm)
    mean = "none" if measured.t_mean_s is None else f"{measured.t_mean_s:.0f}"
    return (
        "For reference, uniformly random macro-policies on this cluster and workload: success "
        f"ratios {ratios} for {'/'.join(lms)}, global mean latency {mean} s, "
        f"F_norm {measured.f_norm:.2f}, objective {measured.objective:.3f}. Doing no better than "
        "that calls for a significant change."
    )


async def _rehearse(
    scenario: Scenario, policy: MacroPolicy, state: ClusterState
) -> Mapping[str, Any]:
    """Return the figures of a candidate under its own forecast, for the what-if tool."""
    if policy.demand is None:
        return {"error": "a candidate needs a forecast"}
    most = MOST_REQUESTS * len(scenario.testbed.nodes)
    if policy.demand.requests.sum() > most:
        return {"error": f"forecasts of over {most} requests a slot are not rehearsed"}
    found = await rehearse(scenario, policy, state, policy.demand, seed=REHEARSAL_SEED)
    lms = scenario.testbed.lm_names
    return {
        "objective": round(found.objective, 5),
        "f_norm": round(found.f_norm, 4),
        "t_mean_s": None if found.t_mean_s is None else round(found.t_mean_s, 1),
        "success_ratio": {
            lm: None if rho is None else round(rho, 3)
            for lm, (rho, _) in zip(lms, found.per_lm, strict=True)
        },
    }


async def _foresee(
    scenario: Scenario,
    kinds: Callable[[], Sequence[Kind]],
    policy: MacroPolicy,
    state: ClusterState,
    load: Demand,
) -> float:
    """Return the objective of a policy under a load, for the guard. Requests that fail count as
    served at the deadline: the objective alone would praise a policy that fails evenly."""
    most = MOST_REQUESTS * len(scenario.testbed.nodes)
    scale = min(1.0, most / max(1.0, float(load.requests.sum())))
    bounded = Demand(load.requests * scale, np.maximum(1.0, load.prompts))
    found = await rehearse(scenario, policy, state, bounded, seed=REHEARSAL_SEED, kinds=kinds())
    served = found.success_rate or 0.0
    t_norm = served * found.t_norm + (1 - served)
    return objective(t_norm, found.f_norm, scenario.lam)
