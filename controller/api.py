"""edgelm from Python, for notebooks and scripts.

from controller import api

run = api.simulate("RF", epochs=5)
run.summary["objective"]
run.requests            # polars.DataFrame, a row per request

campaign = api.run_campaign("paper", "results/paper", strategies=("RF", "SOLVER"))
campaign.table          # polars.DataFrame, a row per run
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.domain.errors import InputError
from controller.experiments.campaign import CampaignFile, Overrides, ProfileEntry, StrategyEntry
from controller.experiments.faults import Faults
from controller.experiments.manifest import DONE, read_manifest
from controller.experiments.progress import Progress, Silence
from controller.inputs.documents import parse

if TYPE_CHECKING:
    import polars as pl

    from controller.agents.approval import Approver
    from controller.experiments.approvals import Confirm

__all__ = ["Campaign", "Run", "StrategyEntry", "load_campaign", "run_campaign", "simulate"]


@dataclass(frozen=True)
class Run:
    """A finished run: its experiment, its figures, its records."""

    experiment: Mapping[str, Any]
    summary: Mapping[str, Any]
    _files: Mapping[str, bytes | Path]

    @cached_property
    def requests(self) -> pl.DataFrame:
        """requests.parquet: a row per request."""
        return self._frame("requests.parquet")

    @cached_property
    def slots(self) -> pl.DataFrame:
        """slots.parquet: a row per slot, node and LM."""
        return self._frame("slots.parquet")

    @cached_property
    def decisions(self) -> list[dict[str, Any]]:
        """decisions.jsonl, an object per decision."""
        return [json.loads(line) for line in self._content("decisions.jsonl").splitlines()]

    def _frame(self, name: str) -> pl.DataFrame:
        import polars as pl

        return pl.read_parquet(self._content(name))

    def _content(self, name: str) -> bytes:
        file = self._files[name]
        return file if isinstance(file, bytes) else file.read_bytes()


@dataclass(frozen=True)
class Campaign:
    """A campaign's folder. ``entries``: the runs of campaign.json, each with its state."""

    folder: Path
    name: str
    entries: Sequence[Mapping[str, Any]]

    @property
    def complete(self) -> bool:
        return all(entry["state"] == DONE for entry in self.entries)

    @property
    def failed(self) -> dict[str, str]:
        """Errors by run id."""
        return {entry["id"]: entry["error"] for entry in self.entries if entry.get("error")}

    def runs(self) -> Iterator[tuple[Mapping[str, Any], Run]]:
        """(entry, run) of every finished run."""
        for entry in self.entries:
            if entry["state"] == DONE:
                yield entry, _stored_run(self.folder / "runs" / entry["id"])

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row per finished run: its place in the grid and the figures of its summary."""
        import polars as pl

        return pl.DataFrame(
            [
                {**entry, **{k: v for k, v in run.summary.items() if _is_figure(v)}}
                for entry, run in self.runs()
            ],
            infer_schema_length=None,
        )


def simulate(
    strategy: str | StrategyEntry = "RF",
    *,
    testbed: str = "paper",
    profile: str | ProfileEntry = "a5000",
    workload: str = "paper",
    seed: int = 0,
    epochs: int = 30,
    load: float = 1.0,
    faults: Faults | None = None,
    parameters: Mapping[str, Any] | None = None,
    reasoner: str | Mapping[str, Any] = "reference",
    approver: Approver | Confirm | None = None,
    **constants: Any,
) -> Run:
    """One run on the twin, in this process and without a folder.

    Args:
        strategy: name, or an entry of a campaign file.
        parameters: the strategy's, if given by name: ``{"mode": "approve"}``.
        testbed, profile, workload: shipped names or files.
        reasoner: who answers agents: reference, openai, faulty:SPEC, or a reasoner's fields.
        approver: confirms macro-policies of agents in mode approve: a function from a text to True
            or False, or an object as :class:`controller.agents.approval.Approver`.
        constants: ``slot_s``, ``epoch_slots``, ``tau_s``, ``lam``.

    Raises:
        InputError: something named does not exist or does not fit the rest.
    """
    from controller.bootstrap import resolve_file, run_once

    content = {
        "name": "simulate",
        "summary": "One run.",
        "strategies": ({"name": strategy, "parameters": parameters} if parameters else strategy,),
        "seeds": (seed,),
        "epochs": epochs,
        "testbeds": (testbed,),
        "profiles": (profile,),
        "workloads": (workload,),
        "loads": (load,),
        "faults": (faults or Faults(),),
        "reasoners": (reasoner,),
        **constants,
    }
    files = run_once(resolve_file(parse(CampaignFile, "simulate", content)), approver)
    experiment, summary = (json.loads(files[f"{name}.json"]) for name in ("experiment", "summary"))
    return Run(experiment, summary, files)


def run_campaign(
    campaign: str | Path = "paper",
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    **changes: Any,
) -> Campaign:
    """Run a campaign, or what is left of it, as ``edgelm run`` does. In a script, call it under
    ``if __name__ == "__main__":``, since it starts processes.

    Args:
        campaign: shipped name or file.
        out: its folder, ``results/NAME`` if not given.
        jobs: runs at once.
        changes: fields of :class:`controller.experiments.campaign.Overrides`.

    Raises:
        InputError: the campaign is wrong, or ``out`` cannot take it.
        Permanent: the disk is full.
    """
    from controller.bootstrap import resolve, twin_engine
    from controller.experiments.approvals import needs_person
    from controller.experiments.runner import run_grid

    grid = resolve(campaign, Overrides(**changes))
    if progress is None and needs_person(grid):
        raise InputError(
            "run_campaign", "needs somebody to approve policies", field="mode", value="approve",
            remedy="give a progress whose confirm() asks, or simulate() an approver",
        )  # fmt: skip
    root = Path(out) if out is not None else Path("results") / grid.campaign.name
    run_grid(grid, root, twin_engine(), jobs, progress or Silence())
    return load_campaign(root)


def load_campaign(folder: str | Path) -> Campaign:
    """A campaign's folder, finished or not.

    Raises:
        InputError: it is none, or of another version.
    """
    root = Path(folder)
    manifest = read_manifest(root)
    return Campaign(root, manifest["name"], manifest["runs"])


def _stored_run(folder: Path) -> Run:
    experiment, summary = (
        json.loads((folder / f"{name}.json").read_bytes()) for name in ("experiment", "summary")
    )
    names = ("requests.parquet", "slots.parquet", "decisions.jsonl")
    return Run(experiment, summary, {name: folder / name for name in names})


def _is_figure(value: object) -> bool:
    return value is None or isinstance(value, int | float | str)
