"""A campaign's figures by strategy, seed and setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.agents.parameters import ADVISE, ALLOWED, APPLY, MODES, OFF
from controller.domain.errors import InputError
from controller.report.analysis.occupancy import Occupancy, read_occupancy
from controller.report.analysis.records import Records, read_records
from controller.results.campaign import Campaign
from controller.results.run import Reasoning, Run, Setting, Summary
from controller.results.statistics import Interval, mean_interval, share_interval
from controller.strategies import STRATEGIES

Floats = NDArray[np.float64]

# Of the paper's; MAL is not among them: how it fares depends on who reasons.
SERVED_LITTLE: Final = 0.1  # of all requests: named beside any other figure
PAPER_BASELINES: Final = ("RR", "RL", "AL", "LL", "RF")
KNOWN_ORDER: Final = (*PAPER_BASELINES, "DRL", "VTC-GPU", "SOLVER", "MAL", "MA", "ORACLE")


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run. ``better`` is "low", "high" or "" where neither is."""

    key: str
    title: str
    hint: str
    better: str
    digits: int
    of: Callable[[Summary], float]


MEASURES: Final = (
    Measure("objective", "Objective", "Eq. 10: latency and unfairness, lower is better", "low", 4,
            lambda s: s.objective),
    Measure("t_mean_s", "Mean latency (s)", "mean end-to-end latency of successes", "low", 1,
            lambda s: _number(s.t_mean_s)),
    Measure("f_norm", "Fairness F_norm",
            "Jain's index over the LMs' success ratios, 1 is equal", "high", 3,
            lambda s: s.f_norm),
    Measure("success_rate", "Success rate",
            "share of all requests answered before the deadline", "high", 3,
            lambda s: _number(s.success_rate)),
    Measure("bound_ratio", "Ratio to bound",
            "objective over the least possible at the same success rate", "low", 2,
            lambda s: bound_ratio(s)),
    Measure("pod_starts", "Pod starts", "pods started during a run", "", 0,
            lambda s: float(s.pod_starts)),
    Measure("gpu_utilisation", "GPU use", "share of the GPUs' time with work on them", "", 2,
            lambda s: _number(s.gpu_utilisation)),
)  # fmt: skip
MEASURE: Final = {measure.key: measure for measure in MEASURES}
SHARES: Final = ("success_rate", "f_norm")  # of at most 1


def bound_ratio(summary: Summary) -> float:
    """Return the objective over the bound at the same success rate; NaN without a bound."""
    return summary.objective / summary.bound if summary.bound else nan


@dataclass(frozen=True, slots=True)
class Constants:
    """The problem's constants, from the experiment of the nominal setting's first run."""

    tau_s: float = nan
    lam: float = nan
    slot_s: float = nan
    epoch_slots: int = 0


@dataclass(frozen=True, slots=True)
class Occupancies:
    """The shown seed's slots of every strategy that has finished it."""

    seed: int | None
    by_strategy: Mapping[str, Occupancy]


@dataclass(frozen=True, slots=True)
class ReasonerGroup:
    """Strategies whose agents have one reasoner and one mode. ``variants``: name -> number of
    strategies of that name, which differ in their reasoners."""

    variants: Mapping[str, int]
    first: str
    mode: str
    incumbent: str
    label: str
    is_optimiser: bool


@dataclass(frozen=True)
class Data:
    """A campaign with its nominal setting, which the detailed figures show.

    ``strategies`` are those of the grid, in an order that is the same in every report.
    ``problems`` grows as files are read: a sentence for each that cannot be.
    """

    campaign: Campaign
    strategies: tuple[str, ...]
    settings: tuple[Setting, ...]
    nominal: Setting
    varying: tuple[str, ...]  # axes on which settings differ
    constants: Constants
    cells: Mapping[tuple[Setting, str], Mapping[int, Run]]  # finished runs by ascending seed
    experiments: Mapping[str, Mapping[str, Any]]  # by strategy, of its first finished run
    problems: list[str] = field(default_factory=list)

    def finished(self, strategy: str, setting: Setting | None = None) -> Mapping[int, Run]:
        """Return seed -> finished run, ascending, on the nominal setting if none is given."""
        return self.cells.get((setting or self.nominal, strategy), {})

    def present(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Return the strategies with a finished run on the setting."""
        return tuple(s for s in self.strategies if self.finished(s, setting))

    def values(self, measure: str, strategy: str, setting: Setting | None = None) -> Floats:
        """Return the measure of every finished seed, in the order of :meth:`finished`."""
        of = MEASURE[measure].of
        runs = self.finished(strategy, setting).values()
        return np.array([of(run.figures) for run in runs if run.figures], np.float64)

    def interval(self, measure: str, strategy: str, setting: Setting | None = None) -> Interval:
        """Return the mean over seeds with its 95 % interval: Wilson's for success rate and
        fairness, else the t-interval."""
        values = self.values(measure, strategy, setting)
        if measure not in SHARES:
            return mean_interval(values)
        counts = [
            [lm.arrivals for lm in run.figures.per_lm.values()]
            for run in self.finished(strategy, setting).values()
            if run.figures
        ]
        # The index of fairness is no better known than the rate of the rarest LM.
        of = sum if measure == "success_rate" else min
        return share_interval(values, sum(of(found) for found in counts if found))

    def lm_values(self, field: str, strategy: str, lm: str) -> Floats:
        """Return ``rho`` or ``t_mean_s`` of an LM for every finished seed of the nominal setting;
        NaN where there is none."""
        runs = self.finished(strategy).values()
        found = [run.figures.per_lm.get(lm) for run in runs if run.figures]
        values = [_number(getattr(one, field)) if one else nan for one in found]
        return np.array(values, np.float64)

    def lm_interval(self, field: str, strategy: str, lm: str) -> Interval:
        """Return the mean of an LM's ``rho`` or ``t_mean_s`` over seeds with its interval."""
        values = self.lm_values(field, strategy, lm)
        if field != "rho":
            return mean_interval(values)
        runs = [run.figures for run in self.finished(strategy).values() if run.figures]
        return share_interval(values, sum(r.per_lm[lm].arrivals for r in runs if lm in r.per_lm))

    def by_epoch(self, strategy: str, setting: Setting | None = None) -> list[Interval]:
        """Return the objective of the requests born in each epoch, mean over seeds."""
        runs = [r.figures.per_epoch for r in self.finished(strategy, setting).values() if r.figures]
        return [
            mean_interval([run[epoch].objective for run in runs if epoch < len(run)])
            for epoch in range(max(len(run) for run in runs))
        ]

    def paired(
        self, measure: str, one: str, other: str, setting: Setting | None = None
    ) -> tuple[Floats, Floats]:
        """Return the measure of two strategies on the seeds that both have finished."""
        of = MEASURE[measure].of
        runs, others = self.finished(one, setting), self.finished(other, setting)
        pairs = [
            (of(a), of(b))
            for seed in runs
            if seed in others and (a := runs[seed].figures) and (b := others[seed].figures)
        ]
        values = np.array(pairs, np.float64).reshape(-1, 2)
        return values[:, 0], values[:, 1]

    def bound(self, strategy: str, setting: Setting | None = None) -> float:
        """Return the mean bound at the strategy's success rates; NaN where runs have none."""
        runs = self.finished(strategy, setting).values()
        bounds = [run.figures.bound for run in runs if run.figures and run.figures.bound]
        return float(np.mean(bounds)) if bounds else nan

    def is_diagnostic(self, strategy: str) -> bool:
        """Return True where the strategy sees what no contestant can: shown, never "best"."""
        recipe = STRATEGIES.get(self.own_name(strategy))
        return recipe is not None and recipe.diagnostic

    def contestants(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Return the strategies with a finished run on the setting, without the diagnostics."""
        return tuple(s for s in self.present(setting) if not self.is_diagnostic(s))

    def order(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Return the strategies by ascending mean objective, diagnostics among them."""
        mean = {s: self.interval("objective", s, setting).mean for s in self.present(setting)}
        return tuple(sorted(mean, key=lambda s: mean[s]))

    def ranking(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Return the contestants by ascending mean objective."""
        return tuple(s for s in self.order(setting) if not self.is_diagnostic(s))

    def reference(self) -> str | None:
        """Return the paper's baseline with the lowest mean objective; without any, the best
        strategy."""
        ranking = self.ranking()
        baselines = [s for s in ranking if s in PAPER_BASELINES]
        return next(iter(baselines or ranking), None)

    def experiment(self, strategy: str) -> Mapping[str, Any]:
        """Return the experiment of the strategy's first finished run; empty without one."""
        return self.experiments.get(strategy, {})

    def own_name(self, strategy: str) -> str:
        """Return the name that a labelled strategy has in `edgelm list`."""
        return str(self.experiment(strategy).get("strategy", strategy))

    def family(self, strategy: str) -> str:
        """Return the strategy's own name if its label was made of it, else its label."""
        own = self.own_name(strategy)
        return own if strategy.startswith(f"{own} (") else strategy

    def mode(self, strategy: str) -> str:
        """Return the mode of the strategy's agents (agents.parameters.MODES)."""
        mode = self._parameters(strategy).get("mode")
        return mode if mode in MODES else APPLY

    def incumbent(self, strategy: str) -> str:
        """Return the strategy that decides where the agents do not; empty where they do."""
        if self.mode(strategy) == APPLY:
            return ""
        return str(self._parameters(strategy).get("incumbent", ""))

    def refusal(self, strategy: str) -> str:
        """Return ``allowed`` or ``never`` for a strategy that can refuse requests, else nothing."""
        kind = (
            STRATEGIES[own].parameters if (own := self.own_name(strategy)) in STRATEGIES else None
        )
        if kind is None or "refusal" not in {field.name for field in fields(kind)}:
            return ""
        return str(self._parameters(strategy).get("refusal", ALLOWED))

    def advises(self, strategy: str) -> bool:
        """Return True where the agents only advise."""
        return self.mode(strategy) == ADVISE

    def reasoning(self, strategy: str) -> Reasoning | None:
        """Return the reasoner that answered the strategy's agents; None if it has none, none was
        asked, or no run is finished."""
        if self.mode(strategy) == OFF:
            return None
        cells = (runs for (_, name), runs in self.cells.items() if name == strategy)
        found = (run.figures.reasoner for runs in cells for run in runs.values() if run.figures)
        return next((reasoning for reasoning in found if reasoning), None)

    def agents(self) -> tuple[str, ...]:
        """Return the strategies with agents and a finished run on the nominal setting."""
        return tuple(s for s in self.present() if self.reasoning(s))

    def reasoners(
        self, strategies: Iterable[str], *, in_short: bool = False
    ) -> list[ReasonerGroup]:
        """Group the strategies with agents, asked or not, by mode and reasoner. In short all
        optimisers are one."""
        groups: dict[tuple[str, str, str, bool], list[str]] = {}
        for strategy in strategies:
            reasoning, mode = self.reasoning(strategy), self.mode(strategy)
            if not reasoning and mode != OFF:
                continue
            optimiser = reasoning is not None and reasoning.is_language_model is False
            label = "" if reasoning is None or (in_short and optimiser) else reasoning.label
            key = mode, self.incumbent(strategy), label, optimiser
            groups.setdefault(key, []).append(strategy)
        return [
            ReasonerGroup(self._variants(names), names[0], *key) for key, names in groups.items()
        ]

    def lms(self) -> tuple[str, ...]:
        """Return the LM names in the order of the testbed."""
        for strategy in self.present():
            for run in self.finished(strategy).values():
                if run.figures:
                    return tuple(run.figures.per_lm)
        return ()

    def most_seeds(self) -> int:
        """Return the number of finished seeds where it is largest."""
        return max((len(runs) for runs in self.cells.values()), default=0)

    def shown_seed(self) -> int | None:
        """Return the lowest seed that most strategies have finished: drawn where one must do."""
        seeds = [seed for s in self.present() for seed in self.finished(s)]
        return min(set(seeds), key=lambda seed: (-seeds.count(seed), seed)) if seeds else None

    def loads(self) -> tuple[Setting, ...]:
        """Return the settings that differ from the nominal one by load alone, itself included,
        ascending."""
        rest = _without(self.nominal, "load")
        found = [s for s in self.settings if _without(s, "load") == rest and self.present(s)]
        return tuple(sorted(found, key=lambda s: float(s.value("load") or nan)))

    @cached_property
    def records(self) -> Records:
        """Records of the nominal setting's runs, read once."""
        runs = [run for s in self.present() for run in self.finished(s).values()]
        agents = frozenset(self.agents())
        found = read_records(runs, agents, self.constants.slot_s, self.constants.epoch_slots)
        self.problems.extend(found.problems)
        return found

    @cached_property
    def occupancies(self) -> Occupancies:
        """Backlogs and pods of the shown seed."""
        seed, found = self.shown_seed(), {}
        for strategy in self.present():
            run = self.finished(strategy).get(-1 if seed is None else seed)
            if run is None:
                words = f"{strategy} has no run with seed {seed}: not in figures over nodes"
                self.problems.append(words)
                continue
            try:
                found[strategy] = read_occupancy(run)
            except InputError as error:
                self.problems.append(str(error))
        return Occupancies(seed, found)

    def _parameters(self, strategy: str) -> Mapping[str, Any]:
        found = self.experiment(strategy).get("parameters")
        return found if isinstance(found, dict) else {}

    def _variants(self, strategies: Iterable[str]) -> Mapping[str, int]:
        return Counter(map(self.family, strategies))


def analyse(campaign: Campaign) -> Data:
    """Order strategies and settings and choose the nominal one among settings with a finished run:
    the usual rules and a profile as it is before others, the load closest to 1, else what the grid
    names first."""
    names = dict.fromkeys(run.strategy for run in campaign.runs)
    first = {run.strategy: run for run in reversed(campaign.finished)}
    experiments = {label: run.experiment for label, run in first.items()}

    def place(label: str) -> tuple[int, str]:
        """Sort a variant after what it is one of."""
        name = experiments.get(label, {}).get("strategy", label)
        return KNOWN_ORDER.index(name) if name in KNOWN_ORDER else len(KNOWN_ORDER), label

    settings = tuple(dict.fromkeys(run.setting for run in campaign.runs))
    finished = {run.setting for run in campaign.finished}
    candidates = [s for s in settings if s in finished] or list(settings) or [Setting(())]
    axes = dict.fromkeys(axis for setting in settings for axis, _ in setting.axes)
    profiles = {str(setting.value("profile")) for setting in settings}
    nominal = min(candidates, key=lambda s: _distance(s, profiles))
    return Data(
        campaign=campaign,
        strategies=tuple(sorted(names, key=place)),
        settings=settings,
        nominal=nominal,
        varying=tuple(a for a in axes if len({s.value(a) for s in settings}) > 1),
        constants=_constants(campaign, nominal),
        cells=_cells(campaign),
        experiments=experiments,
    )


def _cells(campaign: Campaign) -> dict[tuple[Setting, str], dict[int, Run]]:
    cells: dict[tuple[Setting, str], dict[int, Run]] = {}
    for run in sorted(campaign.finished, key=lambda run: run.seed):
        cells.setdefault((run.setting, run.strategy), {})[run.seed] = run
    return cells


def _constants(campaign: Campaign, nominal: Setting) -> Constants:
    for run in campaign.finished:
        if run.setting == nominal:
            known = run.experiment
            return Constants(**{f: known[f] for f in Constants.__slots__ if f in known})
    return Constants()


def _distance(setting: Setting, profiles: set[str]) -> tuple[bool, float]:
    """Return the distance from the nominal setting, which has the usual rules and deciders that
    know the profile. A scaled profile's name begins with the profile's own."""
    profile, load = str(setting.value("profile")), setting.value("load")
    scaled = any(profile.startswith(f"{other}-") for other in profiles)
    other = any(setting.value(axis) is not None for axis in ("rules", "plans_on"))
    return scaled or other, abs(float(load) - 1) if isinstance(load, int | float) else 0.0


def _without(setting: Setting, axis: str) -> tuple[tuple[str, object], ...]:
    return tuple((name, value) for name, value in setting.axes if name != axis)


def _number(value: float | None) -> float:
    return nan if value is None else value
