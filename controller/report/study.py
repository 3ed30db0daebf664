"""What a campaign's runs can be asked: a measure by strategy and seed, on one setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.agents.parameters import OFF
from controller.report.mandates import Mandate, read_mandates
from controller.results.campaign import Campaign
from controller.results.run import Reasoning, Run, Setting, Summary
from controller.results.statistics import Interval, mean_interval

Floats = NDArray[np.float64]

# Of the paper's; MAL is not among them: how it fares depends on who reasons.
PAPER_BASELINES: Final = ("RR", "RL", "AL", "LL", "RF")
KNOWN_ORDER: Final = (*PAPER_BASELINES, "DRL", "VTC-GPU", "SOLVER", "MAL", "MA", "ORACLE")
DIAGNOSTICS: Final = ("ORACLE",)  # are told what no contestant can know: shown, never "best"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run. ``better`` is "low", "high" or "" where neither is."""

    key: str
    title: str
    unit: str
    better: str
    digits: int
    of: Callable[[Summary], float]


MEASURES: Final = (
    Measure("objective", "Objective", "", "low", 4, lambda s: s.objective),
    Measure("t_mean_s", "Mean latency", "s", "low", 1, lambda s: _number(s.t_mean_s)),
    Measure("f_norm", "Fairness F_norm", "", "high", 3, lambda s: s.f_norm),
    Measure("success_rate", "Success rate", "", "high", 3, lambda s: _number(s.success_rate)),
    Measure("bound_ratio", "Ratio to bound", "", "low", 2, lambda s: bound_ratio(s)),
    Measure("pod_starts", "Pod starts", "", "", 0, lambda s: float(s.pod_starts)),
    Measure("gpu_utilisation", "GPU use", "", "", 2, lambda s: _number(s.gpu_utilisation)),
)
MEASURE: Final = {measure.key: measure for measure in MEASURES}


def bound_ratio(summary: Summary) -> float:
    """Objective over the bound at the same success rate; NaN without a positive bound."""
    return summary.objective / summary.bound if summary.bound else nan


@dataclass(frozen=True, slots=True)
class Constants:
    """Of the problem, as the nominal setting's runs have them."""

    tau_s: float = 900.0
    lam: float = 0.5
    slot_s: float = 30.0
    epoch_slots: int = 50


@dataclass(frozen=True, slots=True)
class Study:
    """A campaign with its nominal setting, on which the detailed figures are drawn.

    ``strategies`` are those of the grid, in an order that is the same in every report.
    """

    campaign: Campaign
    strategies: tuple[str, ...]
    settings: tuple[Setting, ...]
    nominal: Setting
    varying: tuple[str, ...]  # axes on which settings differ
    constants: Constants
    cells: Mapping[tuple[Setting, str], Mapping[int, Run]]  # finished runs by ascending seed
    mandates: Mapping[str, Mandate]  # of strategies whose agents did not simply decide

    def finished(self, strategy: str, setting: Setting | None = None) -> Mapping[int, Run]:
        """Seed -> finished run, by ascending seed. The nominal setting if none is given."""
        return self.cells.get((setting or self.nominal, strategy), {})

    def present(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Strategies with a finished run on the setting."""
        return tuple(s for s in self.strategies if self.finished(s, setting))

    def values(self, measure: str, strategy: str, setting: Setting | None = None) -> Floats:
        """The measure of every finished seed, in the order of :meth:`finished`."""
        of = MEASURE[measure].of
        runs = self.finished(strategy, setting).values()
        return np.array([of(run.figures) for run in runs if run.figures], np.float64)

    def interval(self, measure: str, strategy: str, setting: Setting | None = None) -> Interval:
        """Mean over seeds with its 95 % t-interval."""
        return mean_interval(self.values(measure, strategy, setting))

    def lm_values(self, field: str, strategy: str, lm: str) -> Floats:
        """``rho`` or ``t_mean_s`` of an LM for every finished seed of the nominal setting; NaN
        where there is none."""
        runs = self.finished(strategy).values()
        found = [run.figures.per_lm.get(lm) for run in runs if run.figures]
        values = [_number(getattr(one, field)) if one else nan for one in found]
        return np.array(values, np.float64)

    def paired(
        self, measure: str, one: str, other: str, setting: Setting | None = None
    ) -> tuple[Floats, Floats]:
        """The measure of two strategies on the seeds that both have finished."""
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
        """Mean bound at the strategy's success rates; NaN where runs have none."""
        runs = self.finished(strategy, setting).values()
        bounds = [run.figures.bound for run in runs if run.figures and run.figures.bound]
        return float(np.mean(bounds)) if bounds else nan

    def contestants(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Strategies with a finished run on the setting, but the diagnostics."""
        return tuple(s for s in self.present(setting) if s not in DIAGNOSTICS)

    def order(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Strategies by ascending mean objective, diagnostics among them."""
        mean = {s: self.interval("objective", s, setting).mean for s in self.present(setting)}
        return tuple(sorted(mean, key=lambda s: mean[s]))

    def ranking(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Contestants by ascending mean objective."""
        return tuple(s for s in self.order(setting) if s not in DIAGNOSTICS)

    def reference(self) -> str | None:
        """The paper's baseline with the lowest mean objective; without any, the best strategy."""
        ranking = self.ranking()
        baselines = [s for s in ranking if s in PAPER_BASELINES]
        return next(iter(baselines or ranking), None)

    def mandate(self, strategy: str) -> Mandate:
        """What the strategy's agents were there for."""
        return self.mandates.get(strategy, Mandate())

    def reasoning(self, strategy: str) -> Reasoning | None:
        """Who answered the strategy's agents; None if it has none, none was asked, or no run is
        finished."""
        if self.mandate(strategy).mode == OFF:
            return None
        cells = (runs for (_, name), runs in self.cells.items() if name == strategy)
        found = (run.figures.reasoner for runs in cells for run in runs.values() if run.figures)
        return next((reasoning for reasoning in found if reasoning), None)

    def agents(self, setting: Setting | None = None) -> tuple[str, ...]:
        """Strategies with agents and a finished run on the setting."""
        return tuple(s for s in self.present(setting) if self.reasoning(s))

    def lms(self) -> tuple[str, ...]:
        """LM names in the order of the testbed."""
        for strategy in self.present():
            for run in self.finished(strategy).values():
                if run.figures:
                    return tuple(run.figures.per_lm)
        return ()

    def most_seeds(self) -> int:
        """Finished seeds of the strategy and setting that have the most."""
        return max((len(runs) for runs in self.cells.values()), default=0)

    def shown_seed(self) -> int | None:
        """The lowest seed that most strategies have finished: drawn where one run must do."""
        seeds = [seed for s in self.present() for seed in self.finished(s)]
        return min(set(seeds), key=lambda seed: (-seeds.count(seed), seed)) if seeds else None

    def loads(self) -> tuple[Setting, ...]:
        """Settings that differ from the nominal one by load alone, itself included, ascending."""
        rest = _without(self.nominal, "load")
        found = [s for s in self.settings if _without(s, "load") == rest and self.present(s)]
        return tuple(sorted(found, key=lambda s: float(s.value("load") or nan)))


def study_campaign(campaign: Campaign) -> Study:
    """Order strategies and settings and choose the nominal one among settings with a finished run:
    a profile as it is before a scaled one, the load closest to 1, else what the grid names
    first."""
    names = dict.fromkeys(run.strategy for run in campaign.runs)
    settings = tuple(dict.fromkeys(run.setting for run in campaign.runs))
    finished = {run.setting for run in campaign.runs if run.figures}
    candidates = [s for s in settings if s in finished] or list(settings) or [Setting(())]
    axes = dict.fromkeys(axis for setting in settings for axis, _ in setting.axes)
    profiles = {str(setting.value("profile")) for setting in settings}
    nominal = min(candidates, key=lambda s: _distance(s, profiles))
    return Study(
        campaign=campaign,
        strategies=tuple(sorted(names, key=_order)),
        settings=settings,
        nominal=nominal,
        varying=tuple(a for a in axes if len({s.value(a) for s in settings}) > 1),
        constants=_constants(campaign, nominal),
        cells=_cells(campaign),
        mandates=read_mandates(campaign),
    )


def _cells(campaign: Campaign) -> dict[tuple[Setting, str], dict[int, Run]]:
    cells: dict[tuple[Setting, str], dict[int, Run]] = {}
    for run in sorted(campaign.runs, key=lambda run: run.seed):
        if run.figures:
            cells.setdefault((run.setting, run.strategy), {})[run.seed] = run
    return cells


def _constants(campaign: Campaign, nominal: Setting) -> Constants:
    for run in campaign.runs:
        if run.setting == nominal and run.figures:
            known = run.experiment
            fields = {f: known[f] for f in Constants.__slots__ if f in known}
            return Constants(**fields)
    return Constants()


def _order(strategy: str) -> tuple[int, str]:
    """A variant, as "MA (faulty:all=0.2)", comes after what it is one of."""
    name = strategy.split(" (")[0]
    known = KNOWN_ORDER.index(name) if name in KNOWN_ORDER else len(KNOWN_ORDER)
    return known, strategy


def _distance(setting: Setting, profiles: set[str]) -> tuple[bool, float]:
    """From the nominal setting. A scaled profile's name begins with the profile's own."""
    profile, load = str(setting.value("profile")), setting.value("load")
    scaled = any(profile.startswith(f"{other}-") for other in profiles)
    return scaled, abs(float(load) - 1) if isinstance(load, int | float) else 0.0


def _without(setting: Setting, axis: str) -> tuple[tuple[str, object], ...]:
    return tuple((name, value) for name, value in setting.axes if name != axis)


def _number(value: float | None) -> float:
    return nan if value is None else value
