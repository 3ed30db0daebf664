"""The kinds of input files: recognised, described by a schema, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from controller import strategies
from controller.campaigns.experiment import Experiment, load_experiment
from controller.campaigns.file import CampaignFile
from controller.campaigns.grid import resolve
from controller.domain.errors import InputError
from controller.inputs.catalog import (
    KINDS,
    check_together,
    load_profile,
    load_testbed,
    locate,
    names,
    read_yaml,
)
from controller.inputs.cloud import CloudFile, load_cloud
from controller.inputs.hosts import HostsFile, load_hosts
from controller.inputs.prices import PriceFile, load_price_file
from controller.inputs.profile import ProfileFile
from controller.inputs.schema import schema_of
from controller.inputs.testbed import TestbedFile
from controller.workloads.spec import WorkloadFile, load_workload
from controller.workloads.trace import read_trace

REQUESTS: Final = "requests"  # a CSV; its format is in docs/workloads.md

# Field at the top of a file -> kind of the file; the first that is there decides.
MARKS: Final = {
    "all": "testbed",
    "switch_loss": "profile",
    "model_version": "experiment",
    "process": "workload",
    "lms": "profile",
    "strategies": "campaign",
    "models": "prices",
    "summary": "campaign",
    "hosts": "hosts",
    **dict.fromkeys(CloudFile.model_fields, "cloud"),
}

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "testbed": TestbedFile,
    "profile": ProfileFile,
    "workload": WorkloadFile,
    "campaign": CampaignFile,
    "prices": PriceFile,
    "experiment": Experiment,
    "cloud": CloudFile,
    "hosts": HostsFile,
}


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in MODELS:
        choices = ", ".join(MODELS)
        raise InputError(
            "schema", "is unknown", field="kind", value=kind, remedy=f"choose {choices}"
        )
    return schema_of(kind, MODELS[kind])


def catalog() -> dict[str, dict[str, str]]:
    """Return kind -> name -> summary of everything that is shipped."""
    titles = {name: recipe.title for name, recipe in strategies.STRATEGIES.items()}
    shipped = {kind: {name: _summary(kind, name) for name in names(kind)} for kind in KINDS}
    return {"strategies": titles, **shipped}


def check_file(path: Path) -> tuple[str, str]:
    """Check one file by itself; a campaign with all that it names.

    Returns:
        The kind of the file, and a few words on its content.

    Raises:
        InputError: something is wrong; several problems are all named.
    """
    if path.suffix == ".csv":
        return REQUESTS, f"{len(read_trace(path))} requests"
    data = read_yaml(path)
    match kind := _kind(data, path):
        case "testbed":
            testbed = load_testbed(path.absolute()).to_domain()
            return kind, f"{testbed.name}: {len(testbed.nodes)} workers, {len(testbed.lms)} LMs"
        case "profile":
            profile = load_profile(path.absolute())
            return kind, f"{profile.name}: {len(profile.lms)} LMs"
        case "workload":
            workload = load_workload(path.absolute())
            return kind, f"{workload.name}: {workload.process.kind}"
        case "prices":
            return kind, f"{len(load_price_file(path).models)} models"
        case "hosts":
            return kind, f"{len(load_hosts(path).hosts)} machines"
        case "cloud":
            values = load_cloud(path)
            return kind, f"image {values.image}, network {values.network}"
        case "experiment":
            experiment = load_experiment(json.dumps(data), str(path))
            return kind, f"run {experiment.run_id}"
        case _:
            grid = resolve(path.absolute())
            return kind, f"{grid.campaign.name}: {len(grid.cells)} runs"


def check_pair(testbed: Path, profile: Path) -> None:
    """Check that the files of a testbed and of a profile go together, as before a run.

    Raises:
        InputError: they do not; names both files and every problem.
    """
    machine, speeds = load_testbed(testbed.absolute()), load_profile(profile.absolute())
    check_together(machine, speeds, f"{testbed}, {profile}")


def _kind(data: object, path: Path) -> str:
    if isinstance(data, dict):
        for mark, kind in MARKS.items():
            if mark in data:
                return kind
    raise InputError(
        str(path),
        "unknown file type",
        remedy="a testbed has the field 'all', a profile 'lms', a workload 'process', a campaign "
        "'strategies'; `edgelm schema KIND` prints the rest",
    )


def _summary(kind: str, name: str) -> str:
    data: Any = read_yaml(locate(kind, name))
    if kind == "testbeds":
        data = {"summary": data["all"]["vars"]["edgelm_summary"]}
    return " ".join(str(data.get("summary", "")).split())
