"""Strategies by name: one strategy = planner x scheduler x deployer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.loop import Strategy
from controller.policies.activation import FullDeployer, RandomDeployer
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


@dataclass(frozen=True, slots=True)
class NoParameters:
    """The strategy has none."""


@dataclass(frozen=True, slots=True)
class Making:
    """What a part of a strategy may be made from."""

    scenario: Scenario
    rng: np.random.Generator
    parameters: Any
    foresight: Callable[[int], Ints] | None = None  # prompts (N, I) of a slot; diagnostics only


PLANNERS: dict[str, Callable[[Making], Planner]] = {
    "open": lambda m: OpenPlanner(m.scenario),
    "solver": lambda m: SolverPlanner(m.scenario, m.parameters),
}
SCHEDULERS: dict[str, Callable[[Making], Scheduler]] = {
    "random": lambda m: RandomScheduler(m.scenario, m.rng),
    "average": lambda m: AverageScheduler(m.scenario),
    "local": lambda m: LocalScheduler(m.scenario),
    "vtc": lambda m: VtcScheduler(m.scenario),
    "solver": lambda m: SolverScheduler(m.scenario, m.parameters),
    "oracle": lambda m: SolverScheduler(m.scenario, m.parameters, m.foresight),
}
DEPLOYERS: dict[str, Callable[[Making], Deployer]] = {
    "random": lambda m: RandomDeployer(m.scenario, m.rng),
    "lyapunov": lambda m: LyapunovDeployer(m.scenario, m.parameters),
    "full": lambda m: FullDeployer(m.scenario),
    "vtc": lambda m: VtcDeployer(m.scenario),
    "solver": lambda m: SolverDeployer(m.scenario),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parts by name, the parameters' type, and a line for ``edgelm list``."""

    planner: str
    scheduler: str
    deployer: str
    title: str
    parameters: type = NoParameters
    diagnostic: bool = False  # sees what no contestant can; never part of "all strategies"


STRATEGIES: dict[str, Recipe] = {
    "RR": Recipe("open", "random", "random", "random scheduling, random deployment"),
    "RL": Recipe(
        "open", "random", "lyapunov", "random scheduling, Lyapunov deployment", LyapunovParameters
    ),
    "AL": Recipe(
        "open", "average", "lyapunov", "average scheduling, Lyapunov deployment", LyapunovParameters
    ),
    "RF": Recipe("open", "random", "full", "random scheduling, full activation"),
    "LL": Recipe(
        "open", "local", "lyapunov", "local processing, Lyapunov deployment", LyapunovParameters
    ),
    "VTC-GPU": Recipe(
        "open", "vtc", "vtc", "least virtual service first, in calibrated GPU-seconds"
    ),
    "SOLVER": Recipe(
        "solver", "solver", "solver", "rolling-horizon optimiser (MILP)", SolverParameters
    ),
    "ORACLE": Recipe(
        "solver",
        "oracle",
        "solver",
        "diagnostic: SOLVER that is told each slot's prompts beforehand",
        SolverParameters,
        diagnostic=True,
    ),
}


def names() -> list[str]:
    """Contestants in the order of reports."""
    return [name for name, parts in STRATEGIES.items() if not parts.diagnostic]


def recipe(name: str) -> Recipe:
    """The parts of a strategy.

    Raises:
        InputError: unknown name; lists the choices.
    """
    if name not in STRATEGIES:
        choices = ", ".join(STRATEGIES)
        raise InputError("strategy", "is not known", value=name, remedy=f"choose one of {choices}")
    return STRATEGIES[name]


def resolved_parameters(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a strategy, defaults filled in.

    Raises:
        InputError: unknown strategy or parameter, or a value that is not a number of 0 or more.
    """
    kind = recipe(name).parameters
    known = {field.name for field in fields(kind)}
    for key, value in overrides.items():
        where = f"strategy {name}"
        if key not in known:
            choices = ", ".join(sorted(known)) or "none"
            raise InputError(where, "is not a parameter", field=key, remedy=f"it has {choices}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < np.inf:
            raise InputError(where, "must be a number of 0 or more", field=key, value=value)
    # As floats, so that 1 and 1.0 are one experiment.
    return asdict(kind(**{key: float(value) for key, value in overrides.items()}))


def build(
    name: str,
    scenario: Scenario,
    rng: np.random.Generator,
    parameters: Mapping[str, Any],
    foresight: Callable[[int], Ints] | None = None,
) -> Strategy:
    """Assemble a strategy for a run. ``foresight`` is for diagnostics alone.

    Raises:
        InputError: as :func:`resolved_parameters`.
    """
    parts = recipe(name)
    resolved = parts.parameters(**resolved_parameters(name, parameters))
    making = Making(scenario, rng, resolved, foresight if parts.diagnostic else None)
    return Strategy(
        planner=PLANNERS[parts.planner](making),
        scheduler=SCHEDULERS[parts.scheduler](making),
        deployer=DEPLOYERS[parts.deployer](making),
    )
