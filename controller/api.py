"""edgelm from Python, for notebooks and scripts.

from controller import api

run = api.simulate("RF", epochs=5)
run.summary["objective"]
run.requests            # polars.DataFrame, a row per request

campaign = api.run_campaign("paper", "results/paper", strategies=("RF", "SOLVER"))
campaign.table          # polars.DataFrame, a row per run
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.campaigns.faults import Faults
from controller.campaigns.file import CampaignFile, Overrides, ProfileEntry, StrategyEntry
from controller.campaigns.progress import Progress, Silence
from controller.domain.errors import InputError
from controller.inputs.documents import parse
from controller.results.campaign import Campaign, read_campaign
from controller.results.run import Run, run_in_memory

if TYPE_CHECKING:
    from controller.agents.approval import Approver
    from controller.campaigns.approvals import Confirm

__all__ = ["Campaign", "Run", "StrategyEntry", "load_campaign", "run_campaign", "simulate"]


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
    from controller.bootstrap.twin import run_once
    from controller.campaigns.grid import resolve_grid

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
    grid = resolve_grid(parse(CampaignFile, "simulate", content), Path())
    return run_in_memory(grid.cells[0].label, run_once(grid, approver))


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
        changes: fields of :class:`controller.campaigns.file.Overrides`.

    Raises:
        InputError: the campaign is wrong, or ``out`` cannot take it.
        Permanent: the disk is full.
    """
    from controller.bootstrap.twin import twin_engine
    from controller.campaigns.approvals import needs_person
    from controller.campaigns.grid import resolve
    from controller.campaigns.runner import run_grid

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
    """Return the campaign in a folder, finished or not.

    Raises:
        InputError: the folder holds no campaign, or one of another version.
    """
    return read_campaign(Path(folder))
