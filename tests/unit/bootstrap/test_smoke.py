"""Smoke prompts: what they consist of, and what their records mean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from controller.bootstrap.smoke import silent_lms, smoke_of
from controller.bootstrap.twin import draw_requests, simulate
from controller.campaigns.experiment import Experiment
from controller.inputs.catalog import load_profile, load_testbed
from controller.workloads.spec import load_workload


@pytest.fixture(scope="module")
def smoke() -> Experiment:
    whole = Experiment(
        testbed=load_testbed("paper"), profile=load_profile("a5000"), target="emulated",
        workload=load_workload("paper"), strategy="RL", parameters={}, seed=0, load=0.2,
    )  # fmt: skip
    return smoke_of(whole)


def test_every_lm_has_single_prompts_within_two_slots(smoke: Experiment) -> None:
    requests = draw_requests(smoke, smoke.scenario())
    assert set(requests.lm.tolist()) == {0, 1, 2, 3}
    assert set(requests.prompts.tolist()) == {1}
    assert smoke.slots == 2


def test_on_the_twin_every_lm_answers(smoke: Experiment) -> None:
    table = simulate(smoke).table
    assert set(np.asarray(table.lm)[np.asarray(table.success)].tolist()) == {0, 1, 2, 3}


def test_an_lm_without_an_answer_is_named_with_its_failures() -> None:
    found = pl.DataFrame(
        {
            "lm": ["LM1", "LM1", "LM2", "LM2", "LM2"],
            "success": [False, True, False, False, False],
            "failure": ["deadline", None, "deadline", "deadline", "engine_error"],
        }
    )
    assert silent_lms(found) == ["LM2: 2 deadline, 1 engine_error"]
