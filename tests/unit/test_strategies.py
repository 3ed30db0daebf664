"""Strategies by name: what there is, what may be set, who sees what."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controller import strategies
from controller.domain.decisions import InForce
from controller.domain.errors import InputError
from controller.domain.randomness import Streams
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import OFF
from controller.loop import Strategy, run
from controller.policies.lyapunov import LyapunovParameters
from controller.policies.solver.parameters import SolverParameters
from controller.twin.cluster import Twin
from controller.workloads.spec import generate, load_workload
from tests.unit.policies.states import decide, idle, open_policy, shipped

SLOTS = 6
ALL = sorted(strategies.STRATEGIES)
# Agents need a reasoner: tests/integration/test_agents.py runs them.
WITHOUT_AGENTS = [name for name in ALL if not strategies.STRATEGIES[name].has_agents]


class Silence:
    """A journal that keeps nothing."""

    def planned(self, *seen: object) -> None: ...

    def scheduled(self, *seen: object) -> None: ...

    def deployed(self, *seen: object) -> None: ...

    def observed(self, *seen: object) -> None: ...


class Foresight:
    """Prompts of each slot, and who has asked for which."""

    def __init__(self, arrivals: Requests) -> None:
        self.asked: list[int] = []
        self._arrivals = arrivals

    def __call__(self, slot: int) -> NDArray[np.int64]:
        self.asked.append(slot)
        return self._arrivals.born_in(slot, 6, 4)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return shipped()


@pytest.fixture(scope="module")
def arrivals(scenario: Scenario) -> Requests:
    return generate(load_workload("paper"), scenario, SLOTS, np.random.default_rng(0), 0.5)


def finished(scenario: Scenario, arrivals: Requests, strategy: Strategy) -> Any:
    """The records of a run on the twin."""
    twin = Twin(scenario, arrivals)
    asyncio.run(run(scenario, twin, twin, twin, strategy, Silence(), SLOTS))
    return twin.records


def build(name: str, scenario: Scenario, **parameters: float) -> Strategy:
    return strategies.build(name, scenario, Streams(1), parameters)


def test_contestants_in_the_order_of_reports() -> None:
    names = strategies.names()
    shipped = ["RR", "RL", "AL", "RF", "LL", "VTC-GPU", "SOLVER", "MAL", "MA"]
    assert [name for name in names if name in shipped] == shipped  # a new one stands anywhere
    assert "ORACLE" not in names


def test_agents_without_a_reasoner_are_refused(scenario: Scenario) -> None:
    with pytest.raises(InputError, match="needs a reasoner"):
        build("MA", scenario)


def test_agents_that_are_off_are_their_incumbent(scenario: Scenario, arrivals: Requests) -> None:
    off = strategies.build("MA", scenario, Streams(1), {"mode": "off", "incumbent": "RL"})
    assert finished(scenario, arrivals, off).tobytes() == (
        finished(scenario, arrivals, build("RL", scenario)).tobytes()
    )


@pytest.mark.parametrize("wrong", [{"mode": "on"}, {"incumbent": "MA"}, {"incumbent": "ORACLE"}])
def test_choices_are_listed(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match="choose one of"):
        strategies.resolved_parameters("MA", wrong)


def test_a_diagnostic_is_no_contestant_but_can_be_named() -> None:
    assert "ORACLE" not in strategies.names()
    assert strategies.recipe("ORACLE").diagnostic


def test_every_recipe_names_parts_that_exist() -> None:
    for recipe in strategies.STRATEGIES.values():
        assert recipe.planner in strategies.PLANNERS
        assert recipe.scheduler in strategies.SCHEDULERS
        assert recipe.deployer in strategies.DEPLOYERS
        assert recipe.title


def test_an_unknown_name_lists_the_choices(scenario: Scenario) -> None:
    with pytest.raises(
        InputError, match=r"got 'FASTEST'.*RR, .*RL, .*AL, .*RF, .*LL, .*VTC-GPU, .*SOLVER"
    ):
        build("FASTEST", scenario)


# Parameters


def test_defaults_are_filled_in() -> None:
    assert strategies.resolved_parameters("RR", {}) == {}
    rl = strategies.resolved_parameters("RL", {"v": 2.5})
    assert rl["v"] == 2.5
    assert rl["kappa"] == LyapunovParameters().kappa
    solver = strategies.resolved_parameters("SOLVER", {})
    assert solver["refuse_above"] == SolverParameters().refuse_above


@pytest.mark.parametrize("name", ALL)
def test_resolving_again_changes_nothing(name: str) -> None:
    once = strategies.resolved_parameters(name, {})
    assert strategies.resolved_parameters(name, once) == once


def test_a_number_is_the_same_experiment_however_it_is_written() -> None:
    """experiment.json is canonical JSON, where 1 and 1.0 would be two runs."""
    whole, broken = (strategies.resolved_parameters("RL", {"v": v}) for v in (1, 1.0))
    assert json.dumps(whole) == json.dumps(broken)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, "1", True, None, [1.0]])
def test_values_that_are_no_parameters(value: object) -> None:
    with pytest.raises(InputError, match=r"kappa.*number of 0 or more"):
        strategies.resolved_parameters("RL", {"kappa": value})


def test_an_unknown_parameter_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"strategy RL: speed: is not a parameter.*kappa.*p2, v"):
        strategies.resolved_parameters("RL", {"speed": 1.0})
    with pytest.raises(InputError, match="it has none"):
        strategies.resolved_parameters("VTC-GPU", {"kappa": 1.0})


def test_parameters_reach_the_parts(scenario: Scenario) -> None:
    """With v = 0 nothing has a price: every backlogged LM is started. With a huge one, none."""
    state = idle(scenario, backlog=np.full((6, 4), 3))
    counts = []
    for v in (0.0, 1e6):
        deployer = build("RL", scenario, v=v).deployer
        deployment = decide(deployer.deploy(state, InForce(open_policy(scenario))))
        counts.append((deployment.mode != OFF).sum())
    assert counts == [22, 0]  # 5 nodes x 4 LMs and the two text LMs on VM2


# Runs


@pytest.mark.parametrize("name", ["RR", "RL", "AL", "RF", "LL", "VTC-GPU", "SOLVER"])
def test_same_seed_same_run(name: str, scenario: Scenario, arrivals: Requests) -> None:
    one, two = (finished(scenario, arrivals, build(name, scenario)) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert (one["returned_s"] <= one["deadline_s"]).any()


@pytest.mark.parametrize("name", [n for n in WITHOUT_AGENTS if n != "LL"])
def test_non_local_strategies_never_send_images_to_vm2(
    name: str, scenario: Scenario, arrivals: Requests
) -> None:
    """Section VI: "for all Non-local Processing, requests for LM3 and LM4 are never routed to
    VM2"."""
    strategy = strategies.build(name, scenario, Streams(1), {}, Foresight(arrivals))
    records = finished(scenario, arrivals, strategy)
    assert (records["destination"][records["lm"] >= 2] != 0).all()


# Foresight


@pytest.mark.parametrize("name", [n for n in strategies.names() if n in WITHOUT_AGENTS])
def test_no_contestant_ever_gets_foresight(
    name: str, scenario: Scenario, arrivals: Requests
) -> None:
    foresight = Foresight(arrivals)
    strategy = strategies.build(name, scenario, Streams(1), {}, foresight)
    told = finished(scenario, arrivals, strategy)
    assert foresight.asked == []
    assert told.tobytes() == finished(scenario, arrivals, build(name, scenario)).tobytes()


def test_the_oracle_is_told_each_slots_prompts_as_it_begins(
    scenario: Scenario, arrivals: Requests
) -> None:
    foresight = Foresight(arrivals)
    oracle = strategies.build("ORACLE", scenario, Streams(1), {}, foresight)
    told = finished(scenario, arrivals, oracle)
    assert foresight.asked == list(range(len(foresight.asked)))
    assert len(foresight.asked) >= SLOTS
    solver = finished(scenario, arrivals, build("SOLVER", scenario))
    assert not np.array_equal(told["destination"], solver["destination"])


def test_an_oracle_without_foresight_is_the_solver(scenario: Scenario, arrivals: Requests) -> None:
    oracle = finished(scenario, arrivals, build("ORACLE", scenario))
    assert oracle.tobytes() == finished(scenario, arrivals, build("SOLVER", scenario)).tobytes()
