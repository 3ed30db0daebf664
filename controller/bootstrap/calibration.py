"""Calibration of campaigns: reads their runs, draws their requests again, writes the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from controller.bootstrap.twin import draw_requests, reading_kept_trace, simulate
from controller.calibration.files import calibrated_profile, calibrated_testbed
from controller.calibration.fit import Calibration, fit
from controller.calibration.observed import Observed, observe
from controller.calibration.regimes import Comparison, compare, windows
from controller.campaigns.experiment import Experiment, load_experiment
from controller.campaigns.faults import Faults
from controller.domain.errors import InputError, Permanent
from controller.files import replace_file
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile
from controller.results.campaign import read_campaign
from controller.results.folder import EXPERIMENT


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Estimates with the profile and the testbed made of them. ``seen``: the arrivals, as
    (workload and load, seed), of the runs that they are from."""

    found: Calibration
    profile: ProfileFile
    testbed: TestbedFile
    seen: frozenset[tuple[str, int]]


def observed_runs(folder: Path) -> list[tuple[Experiment, Observed]]:
    """Return the finished runs of a campaign with their experiments.

    Raises:
        InputError: it is no campaign, has no finished run, or a run's files do not go together.
    """
    found = []
    for run in read_campaign(folder).finished:
        one = load_experiment(run.content(EXPERIMENT), str(run.folder / EXPERIMENT))
        experiment = reading_kept_trace(one, folder)
        scenario = experiment.scenario()
        requests = draw_requests(experiment, scenario)
        faultless = experiment.faults == Faults()
        found.append(
            (
                experiment,
                observe(run, scenario, requests, experiment.target, faultless=faultless),
            )
        )
    if not found:
        raise InputError(
            str(folder), "has no finished run",
            remedy="finish the campaign: repeat the command that began it",
        )  # fmt: skip
    return found


def calibrate(folders: Sequence[Path]) -> Calibrated:
    """Fit a profile and a testbed to the runs of campaigns.

    Raises:
        InputError: a folder is given twice or is no campaign with finished runs, or runs are of
            several profiles or testbeds, so that there is nothing that one scale could mean.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            "edgelm calibrate", "has a folder twice, whose requests would count twice",
            field="FOLDER", value=", ".join(map(str, folders)), remedy="give each once",
        )  # fmt: skip
    runs = [(folder, one) for folder in folders for one in observed_runs(folder)]
    first = runs[0][1][0]
    for folder, (experiment, observed) in runs:
        for field in ("profile", "testbed"):
            if getattr(experiment, field) != getattr(first, field):
                raise InputError(
                    str(folder), f"run {observed.name} has another {field} than the first run",
                    field=field, value=getattr(experiment, field).name,
                    remedy=f"calibrate runs with {getattr(first, field).name} by themselves",
                )  # fmt: skip
    found = fit([observed for _, (_, observed) in runs])
    return Calibrated(
        found,
        calibrated_profile(first.profile, found),
        calibrated_testbed(first.testbed, found),
        frozenset((_arrivals(one), one.seed) for _, (one, _) in runs),
    )


def check(folders: Sequence[Path], made: Calibrated) -> list[Comparison]:
    """Run every run of ``folders`` again on the calibrated twin; return how far it is from them.

    Raises:
        InputError: a run is not held out, has agents, or is of other nodes.
    """
    found = []
    for folder in folders:
        for experiment, live in observed_runs(folder):
            _check_held_out(folder, experiment, live, made)
            own = experiment.changed(target="twin")
            twin = own.changed(profile=made.profile, testbed=made.testbed)
            found += windows(live, simulate(twin).table, simulate(own).table)
    return compare(found, made.testbed.to_domain().lm_names)


def _arrivals(experiment: Experiment) -> str:
    return f"{experiment.workload.name}, load {experiment.load:g}"


def _check_held_out(
    folder: Path,
    experiment: Experiment,
    live: Observed,
    made: Calibrated,
) -> None:
    where = f"{folder}/runs/{live.name}"
    if (_arrivals(experiment), experiment.seed) in made.seen:
        raise InputError(
            where, "is not held out: the calibration has seen these arrivals", field="seed",
            value=experiment.seed, remedy="give runs with other seeds to --check",
        )  # fmt: skip
    if experiment.reasoner is not None:
        raise InputError(
            where, "has agents, whose replies the twin cannot foresee", field="reasoner",
            value=experiment.reasoner.label(), remedy="check runs of strategies without agents",
        )  # fmt: skip
    if experiment.testbed.all.children != made.testbed.all.children:
        raise InputError(
            where, "has other nodes than the calibration", field="testbed",
            value=experiment.testbed.name, remedy="calibrate and check on one testbed",
        )  # fmt: skip


def write_file(path: Path, content: ProfileFile | TestbedFile) -> None:
    """Write an input file as YAML.

    Raises:
        InputError: its name would not be taken for a YAML file.
        Permanent: it cannot be written.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(str(path), "is no name of a YAML file", remedy="let it end in .yaml")
    text = yaml.safe_dump(
        content.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
    except OSError as error:
        raise Permanent(
            f"{path}: cannot be written: {error.strerror or error}; check path and permissions"
        ) from error
