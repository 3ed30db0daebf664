"""Schedulers without refusals, RR's draws and RF's slices."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from controller import strategies
from controller.bootstrap.twin import simulate
from controller.domain.decisions import REFUSE, Call, Decision, RoutingPlan
from controller.domain.requests import REFUSED
from controller.domain.state import CPU
from controller.policies.activation import FullDeployer, FullParameters
from controller.policies.admission import UnrefusingScheduler
from tests.samples.small import small_experiment


class Fixed:
    """Scheduler of one plan."""

    def __init__(self, destination: list[list[int]]) -> None:
        self._plan = RoutingPlan(np.array(destination))

    async def schedule(self, *_: object) -> Decision[RoutingPlan]:
        return Decision(self._plan, (Call(took_s=1.5),))


def test_what_one_scheduler_refuses_goes_where_the_other_says() -> None:
    scheduler = UnrefusingScheduler(Fixed([[REFUSE, 1], [0, REFUSE]]), Fixed([[4, 5], [6, 7]]))
    made = asyncio.run(scheduler.schedule(None, None))  # type: ignore[arg-type]
    assert made.value.destination.tolist() == [[4, 1], [0, 7]]
    assert made.calls[0].took_s == 1.5


@pytest.mark.parametrize(("refusal", "some"), [("allowed", True), ("never", False)])
def test_solver_refuses_past_saturation_only_if_it_may(refusal: str, some: bool) -> None:
    parameters = strategies.resolved_parameters("SOLVER", {"refusal": refusal})
    one = small_experiment(
        strategy="SOLVER", parameters=parameters, load=3.0, epochs=1, epoch_slots=20
    )
    assert bool((simulate(one).table.failure == REFUSED).any()) is some


def test_a_later_parameter_at_its_default_leaves_a_run_its_id() -> None:
    assert "refusal" not in strategies.resolved_parameters("SOLVER", {"refusal": "allowed"})
    assert strategies.resolved_parameters("RR", {}) == {}
    assert strategies.resolved_parameters("RR", {"redraw_slots": 10}) == {"redraw_slots": 10.0}


def test_rr_keeps_its_pods_between_draws() -> None:
    starts = {
        every: simulate(
            small_experiment(
                strategy="RR", parameters={"redraw_slots": every}, epochs=1, epoch_slots=20
            )
        ).usage.pod_starts
        for every in (1.0, 10.0)
    }
    assert 0 < starts[10.0] < starts[1.0] / 2


def test_rf_fills_idle_slices_if_it_is_to() -> None:
    scenario = small_experiment().scenario()
    left, filled = (
        FullDeployer(scenario, FullParameters(idle_slices=how))._full for how in ("leave", "fill")
    )
    assert (filled.mode == CPU).sum() < (left.mode == CPU).sum()
    assert ((filled.mode != 0).sum(axis=1) == (left.mode != 0).sum(axis=1)).all()


def test_the_control_node_is_an_origin_that_serves_nothing() -> None:
    from controller.campaigns.rules import RuleSet

    one = small_experiment(strategy="RL", rules=RuleSet(name="seven", origins="all"))
    made = simulate(one)
    control = len(made.scenario.testbed.nodes) - 1
    assert control == 6
    assert (made.table.origin == control).any()
    assert not (made.table.destination == control).any()
