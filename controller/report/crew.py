"""Runs with a plan, read once: how their agents decided, and whether the run followed the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.report.alignment import Alignment, align, read_movements
from controller.report.conduct import Conduct, read_conduct
from controller.report.policies import has_intent, read_policies
from controller.report.study import Study
from controller.results.run import Run


@dataclass(frozen=True, slots=True)
class Crew:
    """Of the nominal setting, by strategy and seed: ``conducts`` of strategies with agents,
    ``alignments`` of those with a policy of any making."""

    conducts: Mapping[str, Mapping[int, Conduct]]
    alignments: Mapping[str, Mapping[int, Alignment]]
    problems: tuple[str, ...]


def read_crew(study: Study) -> Crew:
    """Read the files; a run that cannot be read is a problem of its own."""
    import polars as pl

    conducts: dict[str, dict[int, Conduct]] = {}
    alignments: dict[str, dict[int, Alignment]] = {}
    problems = []
    for strategy in study.present():
        for seed, run in study.finished(strategy).items():
            try:
                if study.reasoning(strategy):
                    advised = study.mandate(strategy).advises
                    found = read_conduct(run.folder, study.constants, advised=advised)
                    conducts.setdefault(strategy, {})[seed] = found
                if alignment := _align(study, run):
                    alignments.setdefault(strategy, {})[seed] = alignment
            except (OSError, ValueError, LookupError, pl.exceptions.PolarsError) as error:
                problems.append(_reason(run, error))
    return Crew(conducts, alignments, tuple(problems))


def _align(study: Study, run: Run) -> Alignment | None:
    policies = read_policies(run.folder)
    if not has_intent(policies):
        return None
    return align(read_movements(run.folder, study.constants.slot_s), policies)


def _reason(run: Run, error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0] or type(error).__name__
    return f"runs/{run.id} cannot be read in full, so tables of decisions lack it: {first_line}"[
        :200
    ]
