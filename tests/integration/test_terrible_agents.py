"""Agents whose replies are valid and terrible, from a hostile server: how far they can push the
objective above that of fallbacks alone.

In full, over seeds, with EDGELM_TERRIBLE=SEEDS; two kinds in short with EDGELM_WAITS=1. `make e2e`
does both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import pytest

from controller import api
from controller.results.run import Run
from tests.samples.hostile import KINDS, down, script
from tests.unit.agents.servers import Reply, Request, serving
from tests.waiting import waits

SEEDS = int(os.environ.get("EDGELM_TERRIBLE", "0"))
ASKED = (
    "needs minutes: EDGELM_TERRIBLE=2 .venv/bin/pytest tests/integration/test_terrible_agents.py"
)
WORST = 1.1  # times the objective of fallbacks alone


def answered(by: Callable[[Request], Reply], seed: int = 0, **changes: int | float) -> Run:
    """A run of MA whose every call goes to this server."""
    with serving(by) as server:
        models = dict.fromkeys(("planner", "scheduler", "deployer"), "hostile")
        reasoner = {"kind": "url", "url": server.url, "models": models}
        return api.simulate("MA", seed=seed, reasoner=reasoner, **changes)  # type: ignore[arg-type]


def objective(run: Run) -> float:
    assert run.figures is not None
    return run.figures.objective


@cache
def fallbacks(seed: int, epochs: int, epoch_slots: int, tau_s: float) -> float:
    return objective(
        answered(down, seed, epochs=epochs, epoch_slots=epoch_slots, tau_s=tau_s)
    )  # fmt: skip


@waits
@pytest.mark.parametrize("kind", ["refuse", "all"])
def test_terrible_replies_do_not_push_the_objective_above_the_fallbacks(kind: str) -> None:
    run = answered(script(kind), epochs=1, epoch_slots=8, tau_s=300.0)
    assert objective(run) <= WORST * fallbacks(0, 1, 8, 300.0)
    assert any(line.get("bounded") for line in run.decisions)
    assert run.figures is not None
    assert any(tier.guarded for tier in run.figures.decisions.values())


@pytest.mark.skipif(not SEEDS, reason=ASKED)
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.xfail(reason="1.14 on seed 0"))
        if kind == "mixed"
        else kind
        for kind in KINDS
    ],
)
def test_no_kind_pushes_the_objective_above_the_fallbacks(kind: str, seed: int) -> None:
    run = answered(script(kind), seed, epochs=2)
    share = objective(run) / fallbacks(seed, 2, 50, 900.0)
    assert share <= WORST, f"{kind}: {share:.2f} times the objective of fallbacks alone"
