"""The outcome of a run, and the files made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.domain.requests import Requests, RequestTable
from controller.domain.scenario import Scenario
from controller.results.folder import (
    DECISIONS,
    EXPERIMENT,
    REQUESTS,
    SLOTS,
    SUMMARY,
    TRANSCRIPT,
)
from controller.results.journal import RunJournal
from controller.results.spool import MergedJournal
from controller.results.summary import Usage, summarise, summary_json
from controller.results.tables import decisions_jsonl, requests_parquet, slots_parquet


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A run that is over. ``wall_s``: real time it took, without the writing of its files."""

    scenario: Scenario
    requests: Requests
    table: RequestTable
    journal: RunJournal | MergedJournal
    usage: Usage
    wall_s: float
    code: str = ""  # digest of the code that decided
    target: str = "twin"  # what it ran on: twin, emulated or live
    reasoner: Mapping[str, Any] | None = None  # who answered a run's agents
    transcript: str | None = None  # of a run with agents
    # What only some targets have to tell, such as how far a workload's player lagged behind.
    further: Mapping[str, Any] = field(default_factory=dict)


def run_summary(outcome: Outcome) -> dict[str, Any]:
    """Return summary.json as an object."""
    return {
        **summarise(
            outcome.scenario,
            outcome.requests,
            outcome.table,
            outcome.journal.made(),
            outcome.usage,
        ),
        "code": outcome.code,
        "target": outcome.target,
        "reasoner": outcome.reasoner,
        "wall_s": round(outcome.wall_s, 3),
        **outcome.further,
    }


def run_files(experiment: str, outcome: Outcome) -> dict[str, bytes]:
    """Return the files of a run's folder by name. All but ``code`` and ``wall_s`` follow from
    ``experiment``, the canonical JSON that names the run."""
    testbed, journal = outcome.scenario.testbed, outcome.journal
    transcript = outcome.transcript
    if isinstance(journal, MergedJournal):
        lines = journal.lines
    else:
        lines = decisions_jsonl(journal.entries, testbed)
    return {
        EXPERIMENT: experiment.encode(),
        REQUESTS: requests_parquet(outcome.table, testbed),
        SLOTS: slots_parquet(journal.states, testbed),
        DECISIONS: lines,
        **({} if transcript is None else {TRANSCRIPT: transcript.encode()}),
        SUMMARY: summary_json(run_summary(outcome)),
    }
