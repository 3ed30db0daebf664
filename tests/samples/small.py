"""A small experiment on the shipped testbed, for tests that need a real run."""

from functools import cache
from pathlib import Path
from typing import Any

from controller import strategies
from controller.bootstrap.twin import simulate
from controller.campaigns.experiment import Experiment
from controller.campaigns.file import CampaignFile
from controller.campaigns.grid import Grid, resolve_grid
from controller.inputs.catalog import load_profile, load_testbed
from controller.results.writing import Outcome
from controller.workloads.spec import load_workload


def small_experiment(**changes: Any) -> Experiment:
    """RF for one epoch of ten slots."""
    content: dict[str, Any] = {
        "testbed": load_testbed("paper"),
        "profile": load_profile("a5000"),
        "workload": load_workload("paper"),
        "strategy": "RF",
        "seed": 1,
        "epochs": 1,
        "epoch_slots": 10,
    }
    content |= changes
    content.setdefault("parameters", strategies.resolved_parameters(content["strategy"], {}))
    return Experiment(**content)


@cache
def small_outcome() -> Outcome:
    return simulate(small_experiment(epochs=2))


def small_campaign(**changes: Any) -> CampaignFile:
    content = {"name": "small", "summary": "A test's.", "strategies": ("RF", "LL"), "seeds": 2}
    return CampaignFile(**{**content, "epochs": 1, "epoch_slots": 10, **changes})


def small_grid(**changes: Any) -> Grid:
    return resolve_grid(small_campaign(**changes), Path("small"))
