"""Wiring of the testbed's services: what each needs of an experiment."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from controller import strategies
from controller.agents.approval import Approver, difference
from controller.agents.kit import AgentKit
from controller.bootstrap.agents import Access, staffed
from controller.bootstrap.live import DeployerInThread, PlannerInThread, SchedulerInThread
from controller.bootstrap.transcripts import RunTranscript
from controller.bootstrap.twin import draw_requests, reading_kept_trace
from controller.campaigns.experiment import Experiment, load_experiment, trace_of
from controller.domain.decisions import MacroPolicy
from controller.domain.errors import InputError
from controller.domain.randomness import Streams
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.testbed import Testbed
from controller.ports import Deployer, Journal, Planner, Scheduler
from controller.results.spool import Spool
from controller.strategies import Parts
from controller.testbed.central.service import Ask
from controller.testbed.emulation import EmulatedEngines
from controller.testbed.engines import WeightsEngines
from controller.testbed.handshake import TRANSCRIPT
from controller.testbed.node.runtime import Engine

TWIN: Final = "twin"
EMULATED: Final = "emulated"


class LiveWork:
    """An experiment as a service of the testbed works on it.

    Args:
        text: experiment.json.
        weights: of a node's LMs, for the target ``live``.

    Raises:
        InputError: services cannot run it.
    """

    def __init__(self, text: str, weights: Path | None = None) -> None:
        self._weights = weights
        self._experiment = load_experiment(text, "experiment.json")
        _check(self._experiment)
        self.run_id = self._experiment.run_id
        self.slots = self._experiment.slots
        self.scenario: Scenario = self._experiment.scenario()

    def engine(self, row: int, folder: Path, speed: float) -> Engine:
        if self._experiment.target == EMULATED:
            return EmulatedEngines(self.scenario, row, folder, speed)
        if self._weights is None:
            raise InputError(
                "edgelm node", "has no weights for a run on real engines", field="--weights",
                remedy="give the folder with a folder per LM",
            )  # fmt: skip
        return WeightsEngines(self.scenario.testbed, self._weights)

    @contextlib.contextmanager
    def journal(self, path: Path) -> Iterator[Journal]:
        with Spool(path, self.scenario.testbed) as spool:
            yield spool

    @contextlib.asynccontextmanager
    async def deployer(self, folder: Path) -> AsyncIterator[Deployer]:
        async with self._staffed(folder, None) as agents:
            made = self._parts(agents).deployer()
            yield made if agents else DeployerInThread(made)

    @contextlib.asynccontextmanager
    async def deciders(self, folder: Path, ask: Ask) -> AsyncIterator[tuple[Planner, Scheduler]]:
        async with self._staffed(folder, _Person(self.scenario.testbed, ask)) as agents:
            parts = self._parts(agents)
            planner, scheduler = parts.planner(), parts.scheduler()
            if agents:
                yield planner, scheduler
            else:
                yield PlannerInThread(planner), SchedulerInThread(scheduler)

    def _parts(self, agents: AgentKit | None) -> Parts:
        one = self._experiment
        return strategies.parts(
            one.strategy, self.scenario, Streams(one.seed), one.parameters, agents=agents
        )

    @contextlib.asynccontextmanager
    async def _staffed(
        self, folder: Path, approver: Approver | None
    ) -> AsyncIterator[AgentKit | None]:
        if self._experiment.reasoner is None:
            yield None
            return
        folder.mkdir(parents=True, exist_ok=True)
        # Former calls do not answer: a process that restarts finds the world changed.
        with (folder / TRANSCRIPT).open("a", encoding="utf-8", newline="\n") as out:
            calls = RunTranscript(out=out, cache=folder / "baselines", approver=approver)
            memory = folder / "cases.sqlite"
            async with staffed(self._experiment, self.scenario, calls, Access(), memory) as kit:
                yield kit


class PlayedWork:
    """An experiment as the player works on it.

    Args:
        text: experiment.json.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, text: str) -> None:
        self._experiment = load_experiment(text, "experiment.json")
        self.scenario: Scenario = self._experiment.scenario()
        trace = trace_of(self._experiment.workload)
        self.trace_sha256 = trace.sha256 if trace else ""

    def requests(self, root: Path) -> Requests:
        """Draw the requests; their trace, if they come from one, lies in ``root``."""
        return draw_requests(reading_kept_trace(self._experiment, root), self.scenario)


class _Person:
    """An approver who reads what would change."""

    def __init__(self, testbed: Testbed, ask: Ask) -> None:
        self._testbed, self._ask = testbed, ask

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        return await self._ask(slot, reason, difference(self._testbed, policy, held))


def _check(experiment: Experiment) -> None:
    """Raise InputError for what only the twin can do."""
    if experiment.target == TWIN:
        raise InputError(
            "experiment.json", "is for the twin, not for services", field="target",
            value=experiment.target, remedy="run it by `edgelm run`",
        )  # fmt: skip
    if experiment.faults != type(experiment.faults)():
        raise InputError(
            "experiment.json", "outages can be planned in the twin only", field="faults",
            value=experiment.faults.name, remedy="leave them out; kill a node instead",
        )  # fmt: skip
    if strategies.recipe(experiment.strategy).diagnostic:
        raise InputError(
            "experiment.json", "knows the future, which a testbed does not", field="strategy",
            value=experiment.strategy, remedy="choose a contestant (edgelm list)",
        )  # fmt: skip
