"""Inputs of a campaign's runs, in the words of their own files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.report.analysis.data import Data


@dataclass(frozen=True, slots=True)
class Block:
    """A block of numbers with its source."""

    path: str
    source: str
    how: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Names, summaries and sources of the nominal setting; empty where a file says nothing."""

    testbed: str
    testbed_summary: str
    profile: str
    profile_summary: str
    workload: str
    workload_summary: str
    epochs: int
    model_version: str
    blocks: tuple[Block, ...]

    def sources(self) -> dict[str, int]:
        """Count the blocks of numbers by source, most frequent first."""
        return dict(Counter(block.source for block in self.blocks).most_common())


def inputs_of(data: Data) -> Inputs:
    """Read the inputs from experiment.json of the nominal setting's first finished run."""
    experiment = _first_experiment(data)
    testbed, profile = _part(experiment, "testbed"), _part(experiment, "profile")
    workload = _part(experiment, "workload")
    named = data.nominal.value
    return Inputs(
        testbed=str(named("testbed") or "unnamed"),
        testbed_summary=_summary_of_testbed(testbed),
        profile=str(named("profile") or profile.get("name", "unnamed")),
        profile_summary=str(profile.get("summary", "")).strip(),
        workload=str(named("workload") or workload.get("name", "unnamed")),
        workload_summary=str(workload.get("summary", "")).strip(),
        epochs=_epochs(data),
        model_version=str(experiment.get("model_version", "")),
        blocks=(*_blocks("testbed", testbed), *_blocks("profile", profile)),
    )


def _first_experiment(data: Data) -> Mapping[str, Any]:
    for strategy in data.present():
        for run in data.finished(strategy).values():
            return run.experiment
    return {}


def _part(experiment: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = experiment.get(name)
    return part if isinstance(part, dict) else {}


def _summary_of_testbed(testbed: Mapping[str, Any]) -> str:
    variables = testbed.get("all", {}).get("vars", testbed)
    return str(variables.get("edgelm_summary") or variables.get("summary") or "").strip()


def _epochs(data: Data) -> int:
    runs = [run for s in data.present() for run in data.finished(s).values()]
    return max((len(run.figures.per_epoch) for run in runs if run.figures), default=0)


def _blocks(path: str, part: object) -> Iterator[Block]:
    if isinstance(part, dict):
        if isinstance(part.get("source"), str) and "how" in part:
            yield Block(path, part["source"], str(part["how"]).strip())
        else:
            for name, item in part.items():
                yield from _blocks(f"{path}.{name}", item)
