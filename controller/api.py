"""Run campaigns and single runs from Python, in notebooks and scripts.

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

from controller.campaigns.experiment import EPOCHS
from controller.campaigns.faults import Faults
from controller.campaigns.file import CampaignFile, ProfileEntry, StrategyEntry
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
    epochs: int = EPOCHS,
    load: float = 1.0,
    faults: Faults | None = None,
    parameters: Mapping[str, Any] | None = None,
    reasoner: str | Mapping[str, Any] = "reference",
    approver: Approver | Confirm | None = None,
    **constants: Any,
) -> Run:
    """Make one run on the twin, in this process and without a folder.

    Use it to look at a single run; :func:`run_campaign` compares strategies and survives a crash.
    It also works where an event loop is running, as in a notebook.

    Args:
        strategy: name, or an entry of a campaign file.
        testbed, profile, workload: shipped names or files.
        seed: of arrivals, outages and the strategy.
        load: factor on the workload's own load.
        parameters: the strategy's, if it is given by name: ``{"mode": "approve"}``.
        reasoner: behind the agents: reference, openai, faulty:SPEC, or a reasoner's fields.
        approver: confirms macro-policies of agents in mode approve: a function from a text to True
            or False, or a :class:`controller.agents.approval.Approver`.
        constants: ``slot_s``, ``epoch_slots``, ``tau_s``, ``lam``.

    Returns:
        The run, with its files in memory.

    Raises:
        InputError: a name does not exist, or things do not fit together.
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
    grid = resolve_grid(parse(CampaignFile, "simulate", content), Path("simulate"))
    return run_in_memory(grid.cells[0].label, run_once(grid, approver))


def run_campaign(
    campaign: str | Path = "paper",
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    **changes: Any,
) -> Campaign:
    """Run a campaign or resume it, as ``edgelm run`` does. In a script, call it under
    ``if __name__ == "__main__":``, since it starts processes.

    Args:
        campaign: shipped name or file.
        out: folder of the results, ``results/NAME`` if not given.
        jobs: number of runs at once.
        progress: shows how far the campaign is; nothing is shown without.
        changes: axes that replace the campaign's, as in a campaign file: ``loads=(0.5, 1.0)``.

    Raises:
        InputError: the campaign is wrong, or ``out`` holds something else.
        Permanent: the disk is full.
    """
    from controller.bootstrap.twin import twin_engine
    from controller.campaigns.approvals import needs_person
    from controller.campaigns.grid import resolve
    from controller.campaigns.runner import run_grid

    grid = resolve(campaign, changes)
    if progress is None and needs_person(grid):
        raise InputError(
            "run_campaign", "needs somebody to approve policies", field="mode", value="approve",
            remedy="give a progress whose confirm() asks, or simulate() an approver",
        )  # fmt: skip
    root = Path(out) if out is not None else Path("results") / grid.campaign.name
    run_grid(grid, root, twin_engine(), jobs, progress or Silence())
    return load_campaign(root)


def load_campaign(folder: str | Path) -> Campaign:
    """Return the campaign in a folder, finished or not, whatever version of the model made it.

    Files are compared with their digests when they are read. A damaged run has a ``problem`` and
    no figures; ``notes`` says what is unchecked.

    Raises:
        InputError: the folder holds no campaign, or one of a format that cannot be read.
    """
    return read_campaign(Path(folder))
