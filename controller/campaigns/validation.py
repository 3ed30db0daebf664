"""The kinds of input files: recognised, described by a schema, checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from controller import strategies
from controller.campaigns.experiment import Experiment, load_experiment
from controller.campaigns.facts import FactsFile, load_facts
from controller.campaigns.file import CampaignFile
from controller.campaigns.grid import resolve
from controller.domain.errors import InputError
from controller.domain.words import counted
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
from controller.inputs.cluster import ClusterFile, load_cluster
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
    "facts": "facts",
    "switch_loss": "profile",
    "model_version": "experiment",
    "process": "workload",
    "lms": "profile",
    "strategies": "campaign",
    "models": "prices",
    **dict.fromkeys(CloudFile.model_fields.keys() - ClusterFile.model_fields.keys(), "cloud"),
    **dict.fromkeys(ClusterFile.model_fields, "cluster"),
    "summary": "campaign",
    "hosts": "hosts",
}

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "testbed": TestbedFile,
    "profile": ProfileFile,
    "workload": WorkloadFile,
    "campaign": CampaignFile,
    "prices": PriceFile,
    "cluster": ClusterFile,
    "experiment": Experiment,
    "cloud": CloudFile,
    "hosts": HostsFile,
    "facts": FactsFile,
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
        return REQUESTS, counted(len(read_trace(path)), "request")
    kind = _kind(read_yaml(path), path)
    return kind, CHECKS[kind](path)


def _check_testbed(path: Path) -> str:
    testbed = load_testbed(path.absolute()).to_domain()
    workers, lms = counted(len(testbed.nodes), "worker"), counted(len(testbed.lms), "LM")
    return f"{testbed.name}: {workers}, {lms}"


def _check_profile(path: Path) -> str:
    profile = load_profile(path.absolute())
    return f"{profile.name}: {counted(len(profile.lms), 'LM')}"


def _check_workload(path: Path) -> str:
    workload = load_workload(path.absolute())
    return f"{workload.name}: {workload.process.kind}"


def _check_campaign(path: Path) -> str:
    grid = resolve(path.absolute())
    return f"{grid.campaign.name}: {counted(len(grid.cells), 'run')}"


def _check_experiment(path: Path) -> str:
    return f"run {load_experiment(json.dumps(read_yaml(path)), str(path)).run_id}"


def _check_facts(path: Path) -> str:
    facts, _ = load_facts(path.absolute())
    return f"{facts.name}: {counted(len(facts.facts), 'fact')}"


def _check_cluster(path: Path) -> str:
    cluster = load_cluster(path)
    return f"Kubernetes {cluster.kubernetes}, {cluster.engines} engines"


def _check_cloud(path: Path) -> str:
    cloud = load_cloud(path)
    return f"image {cloud.image}, network {cloud.network}"


# Kind of a file -> its check, which returns a few words on the content.
CHECKS: Final[Mapping[str, Callable[[Path], str]]] = {
    "testbed": _check_testbed,
    "profile": _check_profile,
    "workload": _check_workload,
    "campaign": _check_campaign,
    "experiment": _check_experiment,
    "prices": lambda path: counted(len(load_price_file(path).models), "model"),
    "facts": _check_facts,
    "cluster": _check_cluster,
    "cloud": _check_cloud,
    "hosts": lambda path: counted(len(load_hosts(path).hosts), "machine"),
}


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
                # Both have a network: a range of addresses, or what may reach whom.
                is_range = mark == "network" and isinstance(data[mark], str)
                return "cloud" if is_range else kind
    raise InputError(
        str(path),
        "unknown file type",
        remedy="a testbed has the field 'all', a profile 'lms', a workload 'process', a campaign "
        "'strategies', a cluster file 'registry'; `edgelm schema KIND` prints the rest",
    )


def _summary(kind: str, name: str) -> str:
    data: Any = read_yaml(locate(kind, name))
    if kind == "testbeds":
        data = {"summary": data["all"]["vars"]["edgelm_summary"]}
    return " ".join(str(data.get("summary", "")).split())
