"""Strategies by name: one strategy = planner x scheduler x deployer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.agents.advice import AdvisedDeployer, AdvisedPlanner, AdvisedScheduler
from controller.agents.approval import ApprovedPlanner
from controller.agents.bounds import BoundedDeployer, BoundedScheduler
from controller.agents.cases import cluster_key
from controller.agents.class_scheduler import ClassSchedulerAgent
from controller.agents.classes import LARGE
from controller.agents.comparison import ComparedPlanner
from controller.agents.deployer import DeployerAgent
from controller.agents.guard import GuardedPlanner
from controller.agents.kit import AgentKit
from controller.agents.memory import CaseMemory
from controller.agents.parameters import ADVISE, APPROVE, NEVER, OFF, AgentParameters
from controller.agents.planner import PlannerAgent
from controller.agents.scheduler import SchedulerAgent
from controller.domain.errors import InputError
from controller.domain.randomness import Streams
from controller.domain.scenario import Scenario
from controller.loop import Strategy
from controller.policies.activation import (
    FullDeployer,
    FullParameters,
    RandomDeployer,
    RandomParameters,
)
from controller.policies.admission import UnrefusingScheduler
from controller.policies.intent import PlannedDeployer, PlannedScheduler, RandomPlanner
from controller.policies.lyapunov import LyapunovDeployer, LyapunovParameters
from controller.policies.routing import (
    AverageScheduler,
    LocalScheduler,
    OpenPlanner,
    RandomScheduler,
)
from controller.policies.solver.deployer import SolverDeployer
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.planner import SolverPlanner
from controller.policies.solver.scheduler import SolverScheduler
from controller.policies.vtc import VtcDeployer, VtcScheduler
from controller.ports import Deployer, Planner, Scheduler

Ints = NDArray[np.int64]
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class NoParameters:
    """Empty parameters of strategies without any."""


@dataclass(frozen=True, slots=True)
class Making:
    """Inputs for building a strategy's parts."""

    scenario: Scenario
    streams: Streams
    parameters: Any
    foresight: Callable[[int], Ints] | None = None  # prompts (N, I) of a slot; diagnostics only
    agents: AgentKit | None = None

    def of(self, kind: type[P]) -> P:
        """Return the strategy's parameters if they are of type ``kind``, else the defaults of
        ``kind``."""
        return self.parameters if isinstance(self.parameters, kind) else kind()

    @property
    def kit(self) -> AgentKit:
        """Tools of the run's agents.

        Raises:
            InputError: the run has no agents.
        """
        if self.agents is None:
            raise InputError("strategy", "needs a reasoner", remedy="run it by `edgelm run`")
        return self.agents


def _agent_planner(m: Making) -> Planner:
    """Return a planning agent under the no-regression guard, which also keeps the case memory."""
    kit, p = m.kit, m.parameters
    memory = CaseMemory(kit.store, cluster_key(m.scenario), int(p.memory_tokens), kit.run)
    fallback = RandomPlanner(m.scenario, m.streams.of("planner"))
    planner: Planner = PlannerAgent(
        m.scenario, kit.step, kit.prompts, memory, fallback,
        kit.baseline, kit.rehearse, int(p.what_if),
    )  # fmt: skip
    margin = p.margin
    if p.mode == ADVISE:
        applied = _incumbent(m).planner()
        planner, margin = AdvisedPlanner(applied, planner, m.scenario.testbed), 0.0
    elif margin > 0:
        random = RandomPlanner(m.scenario, m.streams.of("guard"))
        planner = ComparedPlanner(planner, random, kit.foresee, kit.usual_load, margin)
    if p.mode == APPROVE:
        if kit.approver is None:
            raise InputError(
                "strategy", "nobody is there to approve", field="mode", value=p.mode,
                remedy="run it with --jobs 1 on a terminal, or give api.simulate an approver",
            )  # fmt: skip
        planner = ApprovedPlanner(planner, kit.approver, _incumbent(m).planner(), m.scenario.slot_s)
    return GuardedPlanner(planner, m.scenario, margin, memory=memory)


def _agent_scheduler(m: Making) -> Scheduler:
    planned = PlannedScheduler(m.scenario, m.streams.of("scheduler"))
    large = len(m.scenario.testbed.nodes) > LARGE
    agent = ClassSchedulerAgent if large else SchedulerAgent
    scheduler: Scheduler = agent(m.scenario, m.kit.step, m.kit.prompts, planned)
    if m.parameters.refusal == NEVER:
        scheduler = UnrefusingScheduler(scheduler, planned)
    if m.parameters.mode == ADVISE:
        applied = _incumbent(m).scheduler()
        return AdvisedScheduler(applied, scheduler, m.scenario.testbed)
    if m.parameters.margin > 0:
        standard = PlannedScheduler(m.scenario, m.streams.of("guard-scheduler"))
        return BoundedScheduler(scheduler, standard, m.scenario, m.parameters.margin)
    return scheduler


def _agent_deployer(m: Making) -> Deployer:
    deployer = DeployerAgent(m.scenario, m.kit.step, m.kit.prompts, PlannedDeployer(m.scenario))
    if m.parameters.mode == ADVISE:
        applied = _incumbent(m).deployer()
        return AdvisedDeployer(applied, deployer, m.scenario.testbed)
    if m.parameters.margin > 0:
        standard = PlannedDeployer(m.scenario)
        return BoundedDeployer(deployer, standard, m.scenario, m.parameters.margin)
    return deployer


def _random_deployer(m: Making) -> Deployer:
    nodes = m.scenario.testbed.node_names
    streams = [m.streams.of("deployer", node) for node in nodes]
    return RandomDeployer(m.scenario, streams, m.of(RandomParameters))


def _incumbent(m: Making) -> Parts:
    """Return the parts of the strategy whose decisions apply where agents do not decide."""
    return parts(m.parameters.incumbent, m.scenario, m.streams, {})


PLANNERS: dict[str, Callable[[Making], Planner]] = {
    "open": lambda m: OpenPlanner(m.scenario),
    "solver": lambda m: SolverPlanner(m.scenario, m.parameters),
    "agent": _agent_planner,
}
SCHEDULERS: dict[str, Callable[[Making], Scheduler]] = {
    "random": lambda m: RandomScheduler(m.scenario, m.streams.of("scheduler")),
    "average": lambda m: AverageScheduler(m.scenario),
    "local": lambda m: LocalScheduler(m.scenario),
    "vtc": lambda m: VtcScheduler(m.scenario),
    "solver": lambda m: SolverScheduler(m.scenario, m.parameters),
    "oracle": lambda m: SolverScheduler(m.scenario, m.parameters, m.foresight),
    "agent": _agent_scheduler,
}
DEPLOYERS: dict[str, Callable[[Making], Deployer]] = {
    "random": _random_deployer,
    "lyapunov": lambda m: LyapunovDeployer(m.scenario, m.of(LyapunovParameters)),
    "full": lambda m: FullDeployer(m.scenario, m.of(FullParameters)),
    "vtc": lambda m: VtcDeployer(m.scenario),
    "solver": lambda m: SolverDeployer(m.scenario),
    "agent": _agent_deployer,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parts by name, the parameters' type, and a line for ``edgelm list``."""

    planner: str
    scheduler: str
    deployer: str
    title: str
    parameters: type = NoParameters
    diagnostic: bool = False  # knows more than a contestant can; never part of "all strategies"

    @property
    def has_agents(self) -> bool:
        """True if at least one part is an agent."""
        return "agent" in (self.planner, self.scheduler, self.deployer)


STRATEGIES: dict[str, Recipe] = {
    "RR": Recipe(
        "open", "random", "random", "random scheduling, random deployment", RandomParameters
    ),
    "RL": Recipe(
        "open", "random", "lyapunov", "random scheduling, Lyapunov deployment", LyapunovParameters
    ),
    "AL": Recipe(
        "open", "average", "lyapunov", "average scheduling, Lyapunov deployment", LyapunovParameters
    ),
    "RF": Recipe("open", "random", "full", "random scheduling, full activation", FullParameters),
    "LL": Recipe(
        "open", "local", "lyapunov", "local processing, Lyapunov deployment", LyapunovParameters
    ),
    "VTC-GPU": Recipe(
        "open", "vtc", "vtc", "least virtual service first, in calibrated GPU-seconds"
    ),
    "SOLVER": Recipe(
        "solver", "solver", "solver", "rolling-horizon optimiser (MILP)", SolverParameters
    ),
    "MAL": Recipe(
        "agent",
        "agent",
        "lyapunov",
        "planning and scheduling agents, Lyapunov deployment",
        AgentParameters,
    ),
    "MA": Recipe(
        "agent",
        "agent",
        "agent",
        "planning, scheduling and deployment agents",
        AgentParameters,
    ),
    "ORACLE": Recipe(
        "solver",
        "oracle",
        "solver",
        "diagnostic: SOLVER that knows each slot's prompts beforehand",
        SolverParameters,
        diagnostic=True,
    ),
}


def names() -> list[str]:
    """Return the contestants in the order of reports."""
    return [name for name, parts in STRATEGIES.items() if not parts.diagnostic]


def recipe(name: str) -> Recipe:
    """Return the parts of a strategy.

    Raises:
        InputError: unknown name; lists the choices.
    """
    if name not in STRATEGIES:
        near = get_close_matches(name.upper(), STRATEGIES, n=1)
        guess = f"did you mean {near[0]}? " if near else ""
        remedy = f"{guess}choose one of {', '.join(STRATEGIES)}"
        raise InputError("strategy", "is not known", value=name, remedy=remedy)
    return STRATEGIES[name]


def resolved_parameters(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a strategy, defaults filled in. Parameters that came later than
    others (``later``) are left out at their default, so that runs keep their ids.

    Raises:
        InputError: unknown strategy or parameter, a number below 0, or a value not among the
            parameter's choices.
    """
    kind = recipe(name).parameters
    known = {field.name: field for field in fields(kind)}
    for key, value in overrides.items():
        if key not in known:
            choices = ", ".join(sorted(known)) or "none"
            raise InputError(
                f"strategy {name}", "is not a parameter", field=key, remedy=f"it has {choices}"
            )
        _check_value(f"strategy {name}", known[key], value)
    # Numbers as floats, so that 1 and 1.0 are one experiment.
    found = kind(**{k: v if isinstance(v, str) else float(v) for k, v in overrides.items()})
    later = {name for name, field in known.items() if field.metadata.get("later")}
    return {
        name: value
        for name, value in asdict(found).items()
        if name not in later or value != known[name].default
    }


def _check_value(source: str, parameter: Field[Any], value: object) -> None:
    if isinstance(parameter.default, str):
        plain = tuple(name for name in names() if not STRATEGIES[name].has_agents)
        choices = parameter.metadata.get("choices", plain)
        if value not in choices:
            raise InputError(
                source, "is not among the choices", field=parameter.name, value=value,
                remedy=f"choose one of {', '.join(choices)}",
            )  # fmt: skip
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= float(str(value)) < np.inf:
        raise InputError(source, "must be a number of 0 or more", field=parameter.name, value=value)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a strategy for one run. Each part is built on demand, so that a process on a
    node builds its deployer alone."""

    recipe: Recipe
    making: Making

    def planner(self) -> Planner:
        return PLANNERS[self.recipe.planner](self.making)

    def scheduler(self) -> Scheduler:
        return SCHEDULERS[self.recipe.scheduler](self.making)

    def deployer(self) -> Deployer:
        return DEPLOYERS[self.recipe.deployer](self.making)


def parts(
    name: str,
    scenario: Scenario,
    streams: Streams,
    parameters: Mapping[str, Any],
    foresight: Callable[[int], Ints] | None = None,
    agents: AgentKit | None = None,
) -> Parts:
    """Return the parts of a strategy for a run. ``foresight`` is for diagnostics only, ``agents``
    for strategies with agents.

    Raises:
        InputError: as :func:`resolved_parameters`.
    """
    found = recipe(name)
    resolved = found.parameters(**resolved_parameters(name, parameters))
    if found.has_agents and resolved.mode == OFF:
        return parts(resolved.incumbent, scenario, streams, {})
    making = Making(scenario, streams, resolved, foresight if found.diagnostic else None, agents)
    return Parts(found, making)


def check(name: str, scenario: Scenario, parameters: Mapping[str, Any]) -> None:
    """Check that a strategy can work on a testbed, by building the parts that need no agent.

    Raises:
        InputError: it cannot, as where a deployer would have to enumerate too much.
    """
    made = parts(name, scenario, Streams(0), parameters)
    names = (made.recipe.planner, made.recipe.scheduler, made.recipe.deployer)
    makers = (made.planner, made.scheduler, made.deployer)
    for part, make in zip(names, makers, strict=True):
        if part not in ("agent", "oracle"):
            make()
    if made.recipe.has_agents and made.making.parameters.mode in (ADVISE, APPROVE):
        check(made.making.parameters.incumbent, scenario, {})


def build(
    name: str,
    scenario: Scenario,
    streams: Streams,
    parameters: Mapping[str, Any],
    foresight: Callable[[int], Ints] | None = None,
    agents: AgentKit | None = None,
) -> Strategy:
    """Return all :func:`parts` of a strategy, for a run in one process."""
    made = parts(name, scenario, streams, parameters, foresight, agents)
    return Strategy(made.planner(), made.scheduler(), made.deployer())
