"""A campaign file resolved: every cell of the grid as an experiment, checked before any runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from controller import strategies
from controller.agents.parameters import ADVISE, APPROVE, OFF
from controller.campaigns.experiment import Experiment, trace_of, with_trace_at
from controller.campaigns.faults import Faults
from controller.campaigns.file import (
    ALL,
    CampaignFile,
    Overrides,
    Part,
    ProfileEntry,
    StrategyEntry,
    load_campaign_file,
    override,
)
from controller.campaigns.reasoner import Reasoner
from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.inputs.catalog import check_feasible, load_profile, load_testbed
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile
from controller.workloads.spec import WorkloadFile, find_trace, generate, load_workload


@dataclass(frozen=True)
class Cell:
    """One run of the grid. ``label`` is the strategy's name in figures."""

    experiment: Experiment
    label: str

    @cached_property
    def run_id(self) -> str:
        return self.experiment.run_id

    def axes(self) -> dict[str, Any]:
        """Its place in the grid by names, as campaign.json says it."""
        one = self.experiment
        return {
            "strategy": self.label,
            "seed": one.seed,
            "testbed": one.testbed.name,
            "profile": one.profile.name,
            "workload": one.workload.name,
            "load": one.load,
            "faults": one.faults.name,
            "epochs": one.epochs,
            "reasoner": one.reasoner.label() if one.reasoner else None,
        }

    def title(self) -> str:
        """A few words for progress."""
        one = self.experiment
        places = [f"seed {one.seed}", f"load {one.load:g}", one.profile.name, one.workload.name]
        faults = [f"faults {one.faults.name}"] if one.faults != Faults() else []
        return ", ".join([self.label, *places, *faults])


@dataclass(frozen=True, slots=True)
class Grid:
    """All runs of a campaign in the order of the file, each once."""

    campaign: CampaignFile
    cells: tuple[Cell, ...]
    traces: Mapping[str, Path]  # sha256 -> request file


def resolve(
    name_or_path: str | Path, changes: Overrides | None = None, mode: str | None = None
) -> Grid:
    """Return the grid of a campaign, a shipped name or a file, with ``changes`` applied.

    ``mode`` replaces that of strategies with agents.

    Raises:
        InputError: the campaign, or something that it names, is wrong.
    """
    campaign, beside = load_campaign_file(name_or_path)
    return resolve_grid(override(campaign, changes or Overrides()), beside, mode)


def resolve_grid(campaign: CampaignFile, folder: Path, mode: str | None = None) -> Grid:
    """Read everything that the campaign names and check that it goes together. ``mode`` replaces
    that of strategies with agents.

    Raises:
        InputError: something named does not exist, is malformed, or does not fit the rest.
    """
    shelf = Shelf(folder)
    cells: dict[str, Cell] = {}
    for part in campaign.products():
        for cell in _cells(campaign, part, shelf, mode):
            cells.setdefault(cell.run_id, cell)
    _refuse_ambiguity(tuple(cells.values()))
    return Grid(campaign, tuple(cells.values()), dict(shelf.traces))


@dataclass
class Shelf:
    """Files read so far; each is read and each pair checked once."""

    folder: Path
    traces: dict[str, Path] = field(default_factory=dict)
    _testbeds: dict[str, TestbedFile] = field(default_factory=dict)
    _profiles: dict[tuple[Any, ...], ProfileFile] = field(default_factory=dict)
    _workloads: dict[str, WorkloadFile] = field(default_factory=dict)
    _checked: set[tuple[str, ...]] = field(default_factory=set)

    def testbed(self, reference: str) -> TestbedFile:
        if reference not in self._testbeds:
            self._testbeds[reference] = load_testbed(self._path(reference))
        return self._testbeds[reference]

    def profile(self, entry: ProfileEntry) -> ProfileFile:
        key = (entry.name, *sorted(entry.scale.items()))
        if key not in self._profiles:
            profile = load_profile(self._path(entry.name))
            self._profiles[key] = profile.scaled(entry.scale) if entry.scale else profile
        return self._profiles[key]

    def workload(self, reference: str) -> WorkloadFile:
        """The workload; its trace by content, since where it lies is no part of a run."""
        if reference not in self._workloads:
            workload = load_workload(self._path(reference))
            trace = trace_of(workload)
            if trace is not None:
                path = find_trace(trace.file)
                self.traces[trace.sha256] = path
                workload = with_trace_at(workload, path.name)
            self._workloads[reference] = workload
        return self._workloads[reference]

    def check(self, testbed: str, profile: ProfileFile, workload: str, faults: Faults) -> None:
        """Raise InputError unless these go together."""
        key = (testbed, profile.name, workload, faults.name)
        if key in self._checked:
            return
        machine, arrivals = self.testbed(testbed), self.workload(workload)
        check_feasible(machine, profile)
        scenario = Scenario(machine.to_domain(), profile.to_domain())
        faults.check(scenario.testbed, "campaign")
        trace = trace_of(arrivals)
        if trace is not None:
            arrivals = with_trace_at(arrivals, str(self.traces[trace.sha256]))
        generate(arrivals, scenario, 1, np.random.default_rng(0), 1.0)
        self._checked.add(key)

    def _path(self, reference: str) -> str | Path:
        """References to files start from the campaign file's folder, names are shipped ones."""
        beside = self.folder / reference
        is_file = "/" in reference or reference.endswith((".yaml", ".yml", ".json"))
        return beside if is_file and beside.is_file() else reference


def _cells(campaign: CampaignFile, part: Part, shelf: Shelf, mode: str | None) -> Iterator[Cell]:
    contestants = [
        contestant
        for entry in _entries(part)
        for contestant in _contestants(entry, part.reasoners or (), mode)
    ]
    settings = product(
        part.testbeds or (),
        part.profiles or (),
        part.workloads or (),
        part.loads or (),
        part.faults or (),
    )
    for testbed, entry, workload, load, faults in settings:
        profile = shelf.profile(entry)
        shelf.check(testbed, profile, workload, faults)
        for one, seed in product(contestants, part.seeds or ()):
            experiment = Experiment(
                testbed=shelf.testbed(testbed),
                profile=profile,
                workload=shelf.workload(workload),
                strategy=one.name,
                parameters=one.parameters,
                reasoner=one.reasoner,
                seed=seed,
                epochs=part.epochs or campaign.epochs,
                slot_s=campaign.slot_s,
                epoch_slots=campaign.epoch_slots,
                lam=campaign.lam,
                tau_s=campaign.tau_s,
                load=load,
                faults=faults,
            )
            yield Cell(experiment, one.label)


def _entries(part: Part) -> Iterator[StrategyEntry]:
    for entry in part.strategies or ():
        if entry.name == ALL:
            yield from (StrategyEntry(name=name) for name in strategies.names())
        else:
            yield entry


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A strategy as it takes part: with its parameters and, if it has agents, who answers them."""

    name: str
    label: str
    parameters: dict[str, Any]
    reasoner: Reasoner | None


def _contestants(
    entry: StrategyEntry, reasoners: Sequence[Reasoner], mode: str | None
) -> Iterator[_Contestant]:
    """The entry once for each reasoner. Where there are several, its label tells which; and where
    agents do not decide alone, who does."""
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
    for reasoner in reasoners:
        which = f"{label} ({reasoner.short()})" if len(reasoners) > 1 else label
        yield _Contestant(entry.name, which, parameters, reasoner)


def _deciders(parameters: Mapping[str, Any]) -> str:
    mode, incumbent = parameters["mode"], parameters["incumbent"]
    if mode in (OFF, ADVISE):
        return f" ({mode}: {incumbent} decides)"
    return f" ({mode})" if mode == APPROVE else ""


def _refuse_ambiguity(cells: tuple[Cell, ...]) -> None:
    """Figures tell runs apart by names, so no name may stand for two things."""
    places: dict[tuple[Any, ...], str] = {}
    for cell in cells:
        place = tuple(cell.axes().values())
        if places.setdefault(place, cell.run_id) != cell.run_id:
            raise InputError(
                "campaign",
                "two different runs have the same names",
                value=cell.title(),
                remedy="give testbeds, profiles, workloads, faults and strategies (label) that "
                "differ different names",
            )
