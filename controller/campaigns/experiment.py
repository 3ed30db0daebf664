"""An experiment: everything that decides a run's results, resolved, and the id that follows from
it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from controller.campaigns.faults import Faults
from controller.campaigns.reasoner import Reasoner
from controller.campaigns.rules import RuleSet
from controller.domain.errors import InputError
from controller.domain.scenario import EPOCH_SLOTS, LAM, SLOT_S, TAU_S, Scenario
from controller.inputs.fields import Count, NonNegative, Positive, Record, Share
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile
from controller.results.folder import run_id_of
from controller.workloads.processes import TraceFile
from controller.workloads.spec import WorkloadFile

# Raised whenever the same experiment would give other results: the twin, a strategy, a workload
# generator or a figure has changed. Old folders are then refused, not mixed with new runs.
MODEL_VERSION: Final = 3

EPOCHS: Final = 30

Target = Literal["twin", "emulated", "live"]  # a simulation, emulated engines, real ones


class Experiment(Record):
    """One run's content, not its names: two experiments are the same iff these fields are."""

    model_version: int = MODEL_VERSION  # of the model that runs it
    target: Target = "twin"
    testbed: TestbedFile
    profile: ProfileFile
    workload: WorkloadFile  # a trace is named by its digest
    strategy: str
    parameters: dict[str, JsonValue]
    reasoner: Reasoner | None = None  # of strategies with agents
    seed: Annotated[int, Field(ge=0)]
    epochs: Count = EPOCHS
    slot_s: Positive = SLOT_S
    epoch_slots: Count = EPOCH_SLOTS
    lam: Share = LAM
    tau_s: Positive = TAU_S
    load: NonNegative = 1.0
    faults: Faults = Faults()
    rules: RuleSet = RuleSet()  # of the twin, where the paper leaves them open
    plans_on: ProfileFile | None = None  # that deciders believe; None: the run's own

    @model_validator(mode="after")
    def _can_be_played(self) -> Self:
        if self.target != "twin" and not self.rules.is_usual:
            raise ValueError(
                f"rules {self.rules.name!r} are the twin's alone, not of target {self.target}; "
                "leave rules out"
            )
        return self

    def canonical_json(self) -> str:
        """Return the content of experiment.json, whose SHA-256 names the run: keys sorted, no
        spaces. The usual rules and deciders that know the profile are left out, as they were
        before there was a choice."""
        usual = {"rules": self.rules.is_usual, "plans_on": self.plans_on is None}
        return json.dumps(
            self.model_dump(mode="json", exclude={name for name, so in usual.items() if so}),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    @cached_property
    def run_id(self) -> str:
        """First 12 hex digits of the canonical JSON's SHA-256."""
        return run_id_of(self.canonical_json().encode())

    def changed(self, **fields: Any) -> Experiment:
        """Return another experiment, with an id of its own.

        ``model_copy`` would keep the id of this one, which is cached.
        """
        same = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**same, **fields})

    @property
    def slots(self) -> int:
        """Number of slots in which requests are born."""
        return self.epochs * self.epoch_slots

    def scenario(self) -> Scenario:
        """Return the static context of the run."""
        return Scenario(
            testbed=self.testbed.to_domain(with_control=self.rules.origins == "all"),
            profile=self.profile.to_domain(),
            slot_s=self.slot_s,
            epoch_slots=self.epoch_slots,
            tau_s=self.tau_s,
            lam=self.lam,
            rules=self.rules.to_domain(),
        )

    def believed(self) -> Scenario:
        """Return the static context that every decider of the run knows beforehand, which may have
        another profile than the run."""
        scenario = self.scenario()
        if self.plans_on is None:
            return scenario
        return replace(scenario, profile=self.plans_on.to_domain())


def load_experiment(text: str | bytes, source: str) -> Experiment:
    """Parse experiment.json, for a run that is to be made again.

    Raises:
        InputError: it is no experiment, or one of another version of the model.
    """
    from controller.inputs.catalog import parse

    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise InputError(source, f"is not JSON: {error}") from error
    version = data.get("model_version") if isinstance(data, dict) else None
    if version != MODEL_VERSION:
        raise InputError(
            source,
            f"was made by another version of the model; this program has version {MODEL_VERSION}",
            field="model_version",
            value=version,
            remedy="use the edgelm that made it, or run the campaign again into a new folder",
        )
    return parse(Experiment, source, data)


def trace_of(workload: WorkloadFile) -> TraceFile | None:
    """Return the trace that a workload plays, if it plays one."""
    return workload.process if isinstance(workload.process, TraceFile) else None


def with_trace_at(workload: WorkloadFile, file: str) -> WorkloadFile:
    """Return the workload with its trace read from ``file``; the digest stays."""
    trace = trace_of(workload)
    if trace is None:
        return workload
    moved = trace.model_copy(update={"file": file})
    return workload.model_copy(update={"process": moved})
