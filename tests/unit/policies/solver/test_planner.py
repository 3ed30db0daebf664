"""When SOLVER plans, when it keeps its plan, and what its policies say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.decisions import Decision, InForce, MacroPolicy
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import Telemetry
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.planner import SolverPlanner, forecast
from controller.policies.solver.program import Program
from tests.reference.worlds import Model, node, world
from tests.unit.policies.states import NOTHING_SEEN, decision_of, idle, shipped, telemetry

PAPER = shipped()
PARAMETERS = SolverParameters()
SEEN = telemetry([3.0] * 4, [4.5] * 4)


def planner(scenario: Scenario = PAPER, **changes: float) -> SolverPlanner:
    return SolverPlanner(scenario, replace(PARAMETERS, **changes))


def plan(
    one: SolverPlanner, seen: Telemetry, scenario: Scenario = PAPER, **changes: object
) -> MacroPolicy:
    return decision(one, seen, scenario, **changes).value


def decision(
    one: SolverPlanner, seen: Telemetry, scenario: Scenario = PAPER, **changes: object
) -> Decision[MacroPolicy]:
    """The planner asked while its own last decision is in force."""
    in_force = None if one._made is None else InForce(one._made.policy)
    return decision_of(one.plan(idle(scenario, **changes), seen, in_force))


def scaled(factor: float) -> Telemetry:
    return telemetry([3.0 * factor] * 4, [4.5] * 4)


def test_a_policy_is_a_plan_in_shares_and_roles() -> None:
    policy = plan(planner(), SEEN)
    assert policy.routing.sum(axis=0) == pytest.approx(np.ones(4))
    assert (policy.routing >= 0).all()
    assert not policy.routing[~policy.roles].any()  # nothing is meant for where it may not run
    assert policy.demand is not None
    assert policy.demand.requests.tolist() == [3.0] * 4
    assert policy.demand.prompts.tolist() == [4.5] * 4
    assert policy.served == pytest.approx(np.ones(4), rel=0.01)
    assert (policy.roles <= PAPER.hosts()).all()
    assert policy.roles.any(axis=0).all()


@given(st.lists(st.floats(0, 6), min_size=4, max_size=4), st.integers(0, 63))
@settings(max_examples=15, deadline=None)
def test_any_demand_on_any_nodes_gets_a_sound_policy(rates: list[float], mask: int) -> None:
    """Overload, LMs that do not arrive, nodes that are down, all of them."""
    up = [bool(mask >> n & 1) for n in range(6)]
    policy = plan(planner(), telemetry(rates, [4.5] * 4), up=up)
    assert policy.routing.sum(axis=0) == pytest.approx(np.ones(4))
    assert np.isfinite(policy.routing).all()
    assert (policy.roles <= PAPER.hosts()).all()
    if policy.served is not None:
        assert ((policy.served >= 0) & (policy.served <= 1)).all()
        for i in np.flatnonzero(policy.served > 0):
            assert not policy.routing[~np.array(up), i].any()


# Before anything was seen


def test_the_first_plan_is_for_equal_loads_near_the_limit() -> None:
    policy = plan(planner(), NOTHING_SEEN)
    highest = Program(PAPER).highest_load(np.ones(4), np.ones(6, np.bool_))
    assert policy.demand is not None
    assert policy.demand.requests == pytest.approx(np.full(4, 0.9 * highest))
    assert policy.served is None  # a guess says nothing of saturation
    assert policy.roles.any(axis=0).all()


def test_a_guess_that_comes_true_is_kept() -> None:
    one = planner()
    guess = plan(one, NOTHING_SEEN)
    assert guess.demand is not None
    assert plan(one, telemetry(guess.demand.requests.tolist())) is guess


def test_replanning_depends_on_nothing_but_what_it_is_given() -> None:
    up = np.ones(6, np.bool_)
    seen = forecast(telemetry([4.0, 4.0, 2.0, 2.0], [4.5] * 4))
    held = planner().replan(seen, up, None)
    changed = forecast(telemetry([1.0, 6.0, 2.0, 2.0], [4.5] * 4))
    used, fresh = planner(), planner()
    used.replan(changed, up, used.replan(seen, up, None))
    a, b = (one.replan(changed, up, held).policy for one in (used, fresh))
    assert np.array_equal(a.routing, b.routing)
    assert np.array_equal(a.roles, b.roles)


def test_an_lm_that_did_not_arrive_keeps_a_pod() -> None:
    policy = plan(planner(), telemetry([3.0, 3.0, 3.0, 0.0], [4.5] * 4))
    assert policy.demand is not None
    assert policy.demand.requests[3] == pytest.approx(0.09)  # 1 % of all
    assert policy.roles[:, 3].any()


# Hysteresis


@pytest.mark.parametrize("factor", [0.8, 0.97, 1.0, 1.03, 1.2])
def test_small_changes_of_demand_change_nothing(factor: float) -> None:
    """Of 3 * 4.5 prompts a slot over 50 slots, three standard deviations are 25 %."""
    one = planner()
    policy = plan(one, SEEN)
    assert plan(one, scaled(factor)) is policy


def test_large_changes_are_planned_for() -> None:
    one = planner()
    policy = plan(one, SEEN)
    fresh = plan(one, scaled(0.5))
    assert fresh is not policy
    assert fresh.demand is not None
    assert fresh.demand.requests.tolist() == [1.5] * 4
    assert plan(one, scaled(0.5)) is fresh


def test_small_steps_add_up() -> None:
    """The change is against what the plan was made for, not against the last epoch."""
    one = planner()
    policy = plan(one, SEEN)
    assert plan(one, scaled(1.2)) is policy
    assert plan(one, scaled(1.35)) is not policy


def test_an_epoch_without_arrivals_keeps_the_plan() -> None:
    one = planner()
    policy = plan(one, SEEN)
    assert plan(one, telemetry([0.0] * 4)) is policy


def test_planning_costs_time_keeping_does_not() -> None:
    one = planner(planning_s=7.0, decision_s=0.5)
    assert [call.took_s for call in decision(one, SEEN).calls] == [7.0]
    assert [call.took_s for call in decision(one, SEEN).calls] == [0.5]


def two_rivals(start_s: float, epoch_slots: int) -> Scenario:
    """One slice, two LMs that need it: only one can be served at a time."""
    models = [Model(gpu_only=True, start_s=start_s)] * 2
    scenario = world([node(gpus=1, slices=1)], models)
    return replace(scenario, epoch_slots=epoch_slots)


def roles_over(scenario: Scenario, *rates: list[float]) -> list[list[bool]]:
    one = SolverPlanner(scenario, PARAMETERS)
    return [plan(one, telemetry(rate), scenario).roles[0].tolist() for rate in rates]


def test_roles_change_where_that_pays_for_the_start_ups() -> None:
    """The slice follows the load: what a plan does not serve at all counts, too."""
    scenario = two_rivals(start_s=5.0, epoch_slots=50)
    first, second, third = [2.0, 0.1], [0.1, 2.0], [2.0, 0.1]
    roles = roles_over(scenario, first, second, third)
    assert roles == [[True, False], [False, True], [True, False]]


def split_or_not(start_s: float) -> Scenario:
    """LM 0 on 4 cores or on the GPU, a little faster there; LM 1 on the GPU only."""
    models = [
        Model(cpu=Curve((4.0,), (2.0,)), gpu=Curve((1.0,), (1.8,)), start_s=start_s),
        Model(gpu_only=True, start_s=start_s),
    ]
    return world([node(cores=4, gpus=1, slices=1), node(cores=4, gpus=1, slices=1)], models)


@pytest.mark.parametrize(("start_s", "kept"), [(0.0, False), (1e5, True)])
def test_a_small_gain_does_not_pay_for_long_start_ups(start_s: float, kept: bool) -> None:
    """From LM 1 heavy, a slice each, to LM 0 heavy: better with pods moved, but not for 1e5 s."""
    scenario = split_or_not(start_s)
    roles = roles_over(scenario, [0.2, 6.0], [3.0, 0.5])
    assert (roles[0] == roles[1]) == kept


# Nodes that go and come


def test_a_lost_node_is_planned_around_and_taken_back() -> None:
    one = planner()
    before = plan(one, SEEN)
    up = np.arange(6) != 5
    without = plan(one, SEEN, up=up)
    assert not without.routing[5].any()
    assert without.routing.sum(axis=0) == pytest.approx(np.ones(4))
    assert np.array_equal(without.roles[5], before.roles[5])  # for when it is back
    again = plan(one, SEEN)
    assert again.routing[5].any()


def test_all_nodes_down() -> None:
    policy = plan(planner(), SEEN, up=[False] * 6)
    assert policy.routing.sum(axis=0) == pytest.approx(np.ones(4))
    assert not policy.roles.any()


# Saturation


def test_served_says_what_share_has_a_place() -> None:
    """One CPU of 1 s a prompt, 10 s slots: 9.5 requests of 20."""
    scenario = world([node()], [Model(gpu=None)])
    policy = plan(SolverPlanner(scenario, PARAMETERS), telemetry([20.0]), scenario)
    assert policy.served == pytest.approx([0.475])


def test_decisions_repeat_themselves() -> None:
    """Same inputs, same outputs, history included."""
    history = (NOTHING_SEEN, SEEN, scaled(0.6))
    one, two = planner(), planner()
    for seen in history:
        a, b = plan(one, seen), plan(two, seen)
        assert np.array_equal(a.routing, b.routing)
        assert np.array_equal(a.roles, b.roles)
