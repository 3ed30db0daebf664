"""What a run has produced, and the files made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.experiments.experiment import Experiment
from controller.experiments.folder import TRANSCRIPT
from controller.experiments.journal import RunJournal
from controller.experiments.records import (
    RequestTable,
    decisions_jsonl,
    requests_parquet,
    slots_parquet,
)
from controller.experiments.summary import Usage, summarise, summary_json


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A run that is over. ``wall_s``: real time it took, without the records."""

    scenario: Scenario
    requests: Requests
    table: RequestTable
    journal: RunJournal
    usage: Usage
    wall_s: float
    transcript: str | None = None  # of a run with agents


def run_summary(experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """summary.json as an object."""
    return {
        **summarise(
            outcome.scenario,
            outcome.requests,
            outcome.table,
            outcome.journal.entries,
            outcome.usage,
        ),
        "reasoner": experiment.reasoner.described() if experiment.reasoner else None,
        "wall_s": round(outcome.wall_s, 3),
    }


def run_files(experiment: Experiment, outcome: Outcome) -> dict[str, bytes]:
    """Files of a run's folder by name. All but ``wall_s`` follow from the experiment."""
    testbed, journal = outcome.scenario.testbed, outcome.journal
    transcript = outcome.transcript
    return {
        "experiment.json": experiment.canonical_json().encode(),
        "requests.parquet": requests_parquet(outcome.table, testbed),
        "slots.parquet": slots_parquet(journal.states, testbed),
        "decisions.jsonl": decisions_jsonl(journal.entries, testbed),
        **({} if transcript is None else {TRANSCRIPT: transcript.encode()}),
        "summary.json": summary_json(run_summary(experiment, outcome)),
    }
