"""A campaign file resolved: every cell of the grid is an experiment, checked before any runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from controller import strategies
from controller.agents.parameters import ADVISE, APPROVE, OFF
from controller.campaigns.experiment import Experiment, Target, trace_of, with_trace_at
from controller.campaigns.faults import Faults
from controller.campaigns.file import (
    ALL,
    FIELDS,
    OWN,
    SEEDS,
    SEEDS_OF_AGENTS,
    Axes,
    CampaignFile,
    ProfileEntry,
    StrategyEntry,
    load_campaign_file,
    override,
)
from controller.campaigns.reasoner import Reasoner, short_names
from controller.campaigns.rules import RuleSet
from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.inputs.catalog import check_together, load_profile, load_testbed, locate
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile
from controller.workloads.spec import (
    WorkloadFile,
    find_trace,
    generate,
    load_workload,
    most_requests,
)

MAX_ROWS: Final = 50_000_000  # of slots.parquet: 600 nodes and 4 LMs for 20,000 slots
MAX_REQUESTS: Final = 50_000_000  # some ten gigabytes
MAX_OUTAGES: Final = 1_000_000
MAX_RUNS: Final = 100_000  # of a grid, each a folder


@dataclass(frozen=True)
class Cell:
    """One run of the grid. ``label`` is the strategy's name in figures."""

    experiment: Experiment
    label: str

    @cached_property
    def run_id(self) -> str:
        return self.experiment.run_id

    def axes(self) -> dict[str, Any]:
        """Return its place in the grid by names, as in campaign.json."""
        one = self.experiment
        return {
            "strategy": self.label,
            "seed": one.seed,
            "testbed": one.testbed.name,
            "profile": one.profile.name,
            "workload": one.workload.name,
            **{field: _name_of(getattr(one, field)) for field in FIELDS.values()},
            "plans_on": one.plans_on.name if one.plans_on else None,
            "epochs": one.epochs,
            "reasoner": one.reasoner.label() if one.reasoner else None,
            "target": one.target,
        }

    def title(self) -> str:
        """Return a few words for progress."""
        one = self.experiment
        places = [f"seed {one.seed}", f"load {one.load:g}", one.profile.name, one.workload.name]
        faults = [f"faults {one.faults.name}"] if one.faults != Faults() else []
        rules = [] if one.rules.is_usual else [f"rules {one.rules.name}"]
        beliefs = [f"planned on {one.plans_on.name}"] if one.plans_on else []
        return ", ".join([self.label, *places, *faults, *rules, *beliefs])


@dataclass(frozen=True, slots=True)
class Grid:
    """All runs of a campaign in the order of the file, each once."""

    campaign: CampaignFile
    cells: tuple[Cell, ...]
    traces: Mapping[str, Path]  # sha256 -> request file


def resolve(
    name_or_path: str | Path,
    changes: Mapping[str, Any] | None = None,
    mode: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Grid:
    """Return the grid of a campaign, a shipped name or a file.

    Args:
        changes, options: axes that replace the campaign's, see :func:`file.override`.
        mode: replaces that of strategies with agents.

    Raises:
        InputError: the campaign, or something that it names, is wrong.
    """
    campaign, path = load_campaign_file(name_or_path)
    return resolve_grid(override(campaign, changes or {}, options), path, mode)


def resolve_grid(campaign: CampaignFile, path: Path, mode: str | None = None) -> Grid:
    """Read everything that the campaign names and check that it goes together.

    Args:
        path: the campaign's file; what it names may lie beside it.
        mode: replaces that of strategies with agents.

    Raises:
        InputError: something named does not exist, is malformed, or does not fit the rest.
    """
    runs = sum(_count(axes) for axes in campaign.products())
    if runs > MAX_RUNS:
        raise InputError(
            str(path),
            f"is a grid of about {runs:,} runs, but at most {MAX_RUNS:,} are possible",
            remedy="give fewer values on its axes, or divide it into several campaigns",
        )
    shelf = Shelf(path)
    cells: dict[str, Cell] = {}
    for axes in campaign.products():
        for cell in _cells(campaign, axes, shelf, mode):
            cells.setdefault(cell.run_id, cell)
    _refuse_ambiguity(str(path), tuple(cells.values()))
    return Grid(campaign, tuple(cells.values()), dict(shelf.traces))


def _count(axes: Axes) -> int:
    """Return the number of runs of a product, ``all`` taken for one strategy."""
    counts = {axis: getattr(axes, axis) for axis in Axes.model_fields if axis != "epochs"}
    seeds = counts.pop("seeds")
    return (SEEDS if seeds is None else len(seeds)) * prod(map(len, counts.values()))


def retargeted(grid: Grid, target: Target) -> Grid:
    """Return the grid with every run on another target: on emulated engines, or on real ones."""
    cells = (Cell(cell.experiment.changed(target=target), cell.label) for cell in grid.cells)
    return replace(grid, cells=tuple(cells))


@dataclass
class Shelf:
    """The files that a campaign names; each is read and each combination checked once."""

    campaign: Path
    traces: dict[str, Path] = field(default_factory=dict)
    _testbeds: dict[str, TestbedFile] = field(default_factory=dict)
    _profiles: dict[tuple[Any, ...], ProfileFile] = field(default_factory=dict)
    _workloads: dict[str, WorkloadFile] = field(default_factory=dict)
    _checked: set[tuple[Any, ...]] = field(default_factory=set)

    def testbed(self, reference: str) -> TestbedFile:
        if reference not in self._testbeds:
            self._testbeds[reference] = load_testbed(self._path(reference))
        return self._testbeds[reference]

    def profile(self, entry: ProfileEntry) -> ProfileFile:
        key = (entry.name, entry.parallel_share, *sorted(entry.scale.items()))
        if key not in self._profiles:
            profile = load_profile(self._path(entry.name))
            if entry.parallel_share is not None:
                profile = profile.with_parallel_share(entry.parallel_share)
            self._profiles[key] = profile.scaled(entry.scale) if entry.scale else profile
        return self._profiles[key]

    def workload(self, reference: str) -> WorkloadFile:
        """Return a workload. Its trace is named by content, since where the file lies is no part
        of a run."""
        if reference not in self._workloads:
            workload = load_workload(self._path(reference))
            trace = trace_of(workload)
            if trace is not None:
                path = find_trace(trace.file)
                self.traces[trace.sha256] = path
                workload = with_trace_at(workload, path.name)
            self._workloads[reference] = workload
        return self._workloads[reference]

    def check(self, testbed: str, entry: ProfileEntry, workload: str, faults: Faults) -> None:
        """Raise InputError unless these go together."""
        profile = self.profile(entry)
        key = (testbed, profile.name, workload, faults.name)
        if key in self._checked:
            return
        machine, arrivals = self.testbed(testbed), self.workload(workload)
        named = (("testbeds", testbed), ("profiles", entry.name))
        files = (str(locate(kind, self._path(reference))) for kind, reference in named)
        check_together(machine, profile, ", ".join(files))
        scenario = Scenario(machine.to_domain(), profile.to_domain())
        faults.check(scenario.testbed, str(self.campaign))
        trace = trace_of(arrivals)
        if trace is not None:
            arrivals = with_trace_at(arrivals, str(self.traces[trace.sha256]))
        generate(arrivals, scenario, 1, np.random.default_rng(0), 1.0)
        self._checked.add(key)

    def check_strategy(self, testbed: str, entry: ProfileEntry, one: _Contestant) -> None:
        """Raise InputError unless a strategy can work on a testbed."""
        profile = self.profile(entry)
        key = (testbed, profile.name, one.name, *sorted(one.parameters.items()))
        if key not in self._checked:
            scenario = Scenario(self.testbed(testbed).to_domain(), profile.to_domain())
            strategies.check(one.name, scenario, one.parameters)
            self._checked.add(key)

    def check_size(
        self,
        testbed: str,
        workload: str,
        setting: Mapping[str, Any],
        campaign: CampaignFile,
        epochs: int,
    ) -> None:
        """Raise InputError if a run would have more rows, requests or outages than memory holds."""
        machines, slots = self.testbed(testbed).to_domain(), epochs * campaign.epoch_slots
        rows = slots * len(machines.nodes) * len(machines.lms)
        process = self.workload(workload).process
        requests = most_requests(process, machines, slots) * setting["load"]
        random = setting["faults"].random
        hours = slots * campaign.slot_s / 3600 * len(machines.nodes)
        outages = hours * random.per_node_hour if random else 0.0
        for what, count, most in (
            ("rows of slots, nodes and LMs", rows, MAX_ROWS),
            ("requests", requests, MAX_REQUESTS),
            ("outages", outages, MAX_OUTAGES),
        ):
            if count > most:
                raise InputError(
                    str(self.campaign),
                    f"a run would have about {count:.2g} {what}, but at most {most:,} are possible",
                    field="epochs",
                    value=epochs,
                    remedy="give fewer epochs, or shorter ones, or a lower rate",
                )

    def _path(self, reference: str) -> str | Path:
        """Return a file from the campaign file's folder, or the reference as a shipped name."""
        beside = self.campaign.parent / reference
        is_file = "/" in reference or reference.endswith((".yaml", ".yml", ".json"))
        return beside if is_file and beside.is_file() else reference


def _cells(campaign: CampaignFile, axes: Axes, shelf: Shelf, mode: str | None) -> Iterator[Cell]:
    contestants = [
        contestant
        for entry in _entries(axes)
        for contestant in _contestants(entry, axes.reasoners, mode)
    ]
    places = product(axes.testbeds, axes.profiles, axes.plans_on, axes.workloads, axes.settings())
    for testbed, entry, belief, workload, setting in places:
        shelf.check_size(testbed, workload, setting, campaign, axes.epochs)
        shelf.check(testbed, entry, workload, setting["faults"])
        if belief.name != OWN:
            shelf.check(testbed, belief, workload, setting["faults"])
        for one in contestants:
            shelf.check_strategy(testbed, entry if belief.name == OWN else belief, one)
        for one, seed in _seeded(contestants, axes.seeds):
            experiment = Experiment(
                testbed=shelf.testbed(testbed),
                profile=shelf.profile(entry),
                workload=shelf.workload(workload),
                strategy=one.name,
                parameters=one.parameters,
                reasoner=one.reasoner,
                plans_on=None if belief.name == OWN else shelf.profile(belief),
                seed=seed,
                epochs=axes.epochs,
                slot_s=campaign.slot_s,
                epoch_slots=campaign.epoch_slots,
                lam=campaign.lam,
                tau_s=campaign.tau_s,
                **setting,
            )
            yield Cell(experiment, one.label)


def _seeded(
    contestants: Sequence[_Contestant], seeds: Sequence[int] | None
) -> Iterator[tuple[_Contestant, int]]:
    """Yield every contestant with every seed, or with as many as its calls allow if the campaign
    gives none."""
    for one in contestants:
        usual = range(SEEDS_OF_AGENTS if one.reasoner else SEEDS)
        yield from ((one, seed) for seed in (usual if seeds is None else seeds))


def _name_of(value: Any) -> Any:
    """Return a value on an axis as figures name it, None for the usual rules."""
    if isinstance(value, RuleSet):
        return None if value.is_usual else value.name
    return value.name if isinstance(value, Faults) else value


def _entries(axes: Axes) -> Iterator[StrategyEntry]:
    for entry in axes.strategies:
        if entry.name == ALL:
            yield from (StrategyEntry(name=name) for name in strategies.names())
        else:
            yield entry


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A strategy with its parameters and, if it has agents, the reasoner that answers them."""

    name: str
    label: str
    parameters: dict[str, Any]
    reasoner: Reasoner | None


def _contestants(
    entry: StrategyEntry, reasoners: Sequence[Reasoner], mode: str | None
) -> Iterator[_Contestant]:
    """Yield the entry once for each reasoner. The label names the reasoner where there are several,
    and who decides where agents do not decide alone."""
    label, parameters = entry.label or entry.name, entry.parameters
    if not strategies.recipe(entry.name).has_agents:
        yield _Contestant(
            entry.name, label, strategies.resolved_parameters(entry.name, parameters), None
        )
        return
    parameters = strategies.resolved_parameters(
        entry.name, {**parameters, **({"mode": mode} if mode else {})}
    )
    label = entry.label or f"{entry.name}{_deciders(parameters)}"
    if parameters["mode"] == OFF:
        yield _Contestant(entry.name, label, parameters, None)
        return
    for reasoner, name in zip(reasoners, short_names(reasoners), strict=True):
        which = f"{label} ({name})" if len(reasoners) > 1 else label
        yield _Contestant(entry.name, which, parameters, reasoner)


def _deciders(parameters: Mapping[str, Any]) -> str:
    mode, incumbent = parameters["mode"], parameters["incumbent"]
    if mode in (OFF, ADVISE):
        return f" ({mode}: {incumbent} decides)"
    return f" ({mode})" if mode == APPROVE else ""


def _refuse_ambiguity(source: str, cells: tuple[Cell, ...]) -> None:
    """Raise if a name stands for two things: figures tell runs apart by names."""
    places: dict[tuple[Any, ...], str] = {}
    for cell in cells:
        place = tuple(cell.axes().values())
        if places.setdefault(place, cell.run_id) != cell.run_id:
            raise InputError(
                source,
                "two different runs have the same names",
                value=cell.title(),
                remedy="give testbeds, profiles, workloads, faults and strategies (label) that "
                "differ different names",
            )
