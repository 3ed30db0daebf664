"""Runs in which SOLVER and agents answered by the reference reasoner decide on the same states."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from controller import strategies
from controller.agents.chat import Ask, Completion
from controller.agents.kit import AgentKit
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.bootstrap.twin import draw_requests
from controller.domain.decisions import Decision, Deployment, InForce, MacroPolicy, RoutingPlan
from controller.domain.randomness import Streams
from controller.domain.state import ClusterState, Telemetry
from controller.inputs.catalog import template_dir
from controller.loop import Strategy, run
from controller.reference_model.answers import answer
from controller.results.journal import RunJournal
from controller.store.sqlite import memory_store
from controller.twin.cluster import Twin
from tests.samples.small import small_experiment
from tests.unit.agents.scripted import Unrecorded

Asked = list[tuple[Ask, dict[str, Any]]]
Duet = list[tuple[ClusterState, Decision[Any], Decision[Any]]]  # the agents' decision, SOLVER's


@dataclass
class Optimiser:
    """The reference reasoner without its server."""

    asked: Asked = field(default_factory=list)

    async def complete(self, ask: Ask) -> Completion:
        reply = answer(json.loads(json.dumps(ask.messages)))
        self.asked.append((ask, reply))
        return Completion(content=json.dumps(reply), finish="stop")


@dataclass
class Both:
    """Asks both; the agents' decisions are applied."""

    agents: Strategy
    solver: Strategy
    plans: Duet = field(default_factory=list)
    routes: Duet = field(default_factory=list)
    pods: Duet = field(default_factory=list)

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        mine = await self.agents.planner.plan(state, telemetry, in_force)
        own = InForce(self.plans[-1][2].value) if self.plans else None
        self.plans.append((state, mine, await self.solver.planner.plan(state, telemetry, own)))
        return mine

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        mine = await self.agents.scheduler.schedule(state, in_force)
        self.routes.append((state, mine, await self.solver.scheduler.schedule(state, in_force)))
        return mine

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        mine = await self.agents.deployer.deploy(state, in_force)
        self.pods.append((state, mine, await self.solver.deployer.deploy(state, in_force)))
        return mine


@cache
def play(epochs: int, epoch_slots: int, load: float = 1.0) -> tuple[Both, Asked]:
    """A run on the shipped testbed and workload."""
    experiment = small_experiment(strategy="MA", epochs=epochs, epoch_slots=epoch_slots, load=load)
    scenario, optimiser = experiment.scenario(), Optimiser()

    measured: list[str] = []

    async def baseline() -> str:
        assert not measured, "once a run: it takes a second"
        measured.append("Random policies do badly.")
        return measured[0]

    async def rehearse(*_: Any) -> dict[str, Any]:
        raise AssertionError("the tool is off")

    store = memory_store()
    kit = AgentKit(
        step=Step(optimiser, Unrecorded(), scenario.slot_s, str),
        prompts=Prompts(template_dir() / "prompts"),
        store=store,
        run="test",
        baseline=baseline,
        rehearse=rehearse,
        foresee=rehearse,  # type: ignore[arg-type]
        usual_load=rehearse,  # type: ignore[arg-type]
    )
    both = Both(
        strategies.build("MA", scenario, Streams(0), {"margin": 0}, agents=kit),
        strategies.build("SOLVER", scenario, Streams(0), {}),
    )
    twin = Twin(scenario, draw_requests(experiment, scenario), ())
    duet = Strategy(both, both, both)
    with closing(store):
        asyncio.run(run(scenario, twin, twin, twin, duet, RunJournal(), experiment.slots))
    return both, optimiser.asked


def messages(context: object, observation: object) -> list[dict[str, str]]:
    """A prompt that is nothing but its blocks."""
    return [
        {"role": "system", "content": f"Decide.\n<context>{json.dumps(context)}</context>"},
        {"role": "user", "content": f"<observation>{json.dumps(observation)}</observation>"},
    ]
