"""The twin asked "what if": delays worked by hand, closed forms, and who sees what."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from controller.domain.decisions import Decision, Demand, InForce, MacroPolicy
from controller.domain.profile import Curve
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import POD_STARTING, ClusterState, Telemetry
from controller.inputs.catalog import load_testbed
from controller.loop import Strategy, run
from controller.policies.intent import PlannedScheduler
from controller.policies.solver.deployer import SolverDeployer
from controller.policies.solver.parameters import SolverParameters
from controller.policies.solver.planner import SolverPlanner
from controller.rehearsal import Rehearsed, rehearse, rehearse_random
from controller.results.journal import RunJournal
from controller.twin.cluster import Twin
from controller.workloads.spec import generate, load_workload
from tests.reference.worlds import ABSENT, Ask, Model, node, on_cpu, requests, world
from tests.unit.policies.states import decide, idle, running, shipped, telemetry

CORE = Curve((1.0,), (1.0,))  # a second a prompt on one core
ONE = node(cores=1.0)
PAPER = Demand(np.full(4, 6 * 8 / 9), np.full(4, 4.5))  # the paper's workload at load 1


def ask(
    scenario: Scenario,
    state: ClusterState,
    demand: Demand,
    policy: MacroPolicy | None = None,
    slots: int = 20,
    seed: int = 0,
) -> Rehearsed:
    """By default, every LM is meant for all its hosts alike."""
    hosts = scenario.hosts()
    plan = policy or MacroPolicy(hosts / hosts.sum(axis=0), hosts)
    return asyncio.run(rehearse(scenario, plan, state, demand, slots=slots, seed=seed))


def load(requests: float, prompts: float = 1.0) -> Demand:
    return Demand(np.array([requests]), np.array([prompts]))


def mean_s(rehearsed: Rehearsed) -> float:
    assert rehearsed.t_mean_s is not None
    return rehearsed.t_mean_s


# The arrivals are those of the forecast


def test_requests_a_slot_have_a_poisson_number() -> None:
    """n requests of 1 s that come together take 1 to n seconds, (n + 1) n / 2 in all: with n of
    mean 3, (9 + 2 * 3) / 2 seconds for 3 requests. 900 requests, 4 sigma."""
    scenario = world([ONE], [Model(cpu=CORE, gpu=None)])
    state = running(scenario, [[on_cpu(1)]])
    assert mean_s(ask(scenario, state, load(3.0), slots=300)) == pytest.approx(2.5, abs=0.3)


@pytest.mark.parametrize("prompts", [1.0, 1.7, 2.5])
def test_requests_have_the_mean_size_that_was_forecast(prompts: float) -> None:
    """20 nodes that each take one origin, and hardly ever two requests at once. 400 requests."""
    scenario = world([ONE] * 20, [Model(cpu=CORE, gpu=None)])
    state = running(scenario, [[on_cpu(1)]] * 20)
    rehearsed = ask(scenario, state, load(0.4, prompts), slots=1000)
    assert mean_s(rehearsed) == pytest.approx(prompts, abs=0.2)


def test_an_lm_without_demand_has_no_figures() -> None:
    scenario = world([ONE], [Model(cpu=CORE, gpu=None)] * 2)
    demand = Demand(np.array([2.0, 0.0]), np.ones(2))
    rehearsed = ask(scenario, running(scenario, [[on_cpu(1), ABSENT]]), demand)
    assert rehearsed.per_lm[0][0] == 1.0
    assert rehearsed.per_lm[1] == (None, None)
    nothing = ask(scenario, idle(scenario), Demand(np.zeros(2), np.ones(2)))
    assert (nothing.success_rate, nothing.t_mean_s) == (None, None)


# They come to the present state


def test_requests_wait_for_the_backlog() -> None:
    """40 prompts of a second each are ahead: everyone is 40 s later, and no one counts them."""
    scenario = world([ONE], [Model(cpu=CORE, gpu=None)])
    state = running(scenario, [[on_cpu(1)]])
    free = ask(scenario, state, load(5.0), slots=1)
    queued = ask(scenario, replace(state, backlog=np.array([[40]])), load(5.0), slots=1)
    assert mean_s(queued) - mean_s(free) == pytest.approx(40.0, abs=1e-6)
    assert queued.success_rate == 1.0


def test_a_backlog_of_another_lm_is_not_ahead() -> None:
    scenario = world([node(cores=2.0)], [Model(cpu=CORE, gpu=None)] * 2)
    state = running(scenario, [[on_cpu(1), on_cpu(1)]])
    demand = Demand(np.array([5.0, 0.0]), np.ones(2))
    free = ask(scenario, state, demand, slots=1)
    assert ask(scenario, replace(state, backlog=np.array([[0, 40]])), demand, slots=1) == free


def test_pods_that_are_wanted_already_need_not_start() -> None:
    """6 s to start. Wanted and starting count as ready."""
    scenario = world([ONE], [Model(cpu=CORE, gpu=None, start_s=6.0)])
    ready = running(scenario, [[on_cpu(1)]])
    starting = replace(ready, pod=np.array([[POD_STARTING]]))
    warm, soon, cold = (
        ask(scenario, s, load(5.0), slots=1) for s in (ready, starting, idle(scenario))
    )
    assert warm == soon
    assert mean_s(cold) - mean_s(warm) == pytest.approx(6.0)


def test_starts_of_several_slots_are_over_before_the_policy_takes_over() -> None:
    scenario = world([ONE], [Model(cpu=CORE, gpu=None, start_s=35.0)])  # slots of 10 s
    quick = world([ONE], [Model(cpu=CORE, gpu=None)])
    figures = [ask(s, running(s, [[on_cpu(1)]]), load(5.0), slots=1) for s in (scenario, quick)]
    assert mean_s(figures[0]) == pytest.approx(mean_s(figures[1]))


def test_nodes_that_are_down_stay_down() -> None:
    """Node 0 is all that the policy uses. With it down, nothing is served, and the run ends when
    all deadlines have passed; with the other one down, all is."""
    scenario = world([ONE] * 2, [Model(cpu=CORE, gpu=None)], tau_s=40.0)
    roles = np.array([[True], [False]])
    policy = MacroPolicy(roles.astype(np.float64), roles)
    state = running(scenario, [[on_cpu(1)], [ABSENT]], backlog=[[3], [0]])
    lost = ask(scenario, replace(state, up=np.array([False, True])), load(2.0), policy)
    assert (lost.success_rate, lost.t_norm, lost.t_mean_s) == (0.0, 1.0, None)
    assert (
        ask(scenario, replace(state, up=np.array([True, False])), load(2.0), policy).success_rate
        == 1.0
    )


# A policy is judged by its own merit


def paper_policy(scenario: Scenario) -> MacroPolicy:
    planner = SolverPlanner(scenario, SolverParameters())
    seen = telemetry(PAPER.requests.tolist(), PAPER.prompts.tolist())
    return decide(planner.plan(idle(scenario), seen, None))


def test_a_good_policy_beats_a_bad_split_and_bad_roles() -> None:
    """The bad ones serve the two slow LMs on a single node each, by routing or by roles."""
    scenario = shipped()
    state, good = idle(scenario), paper_policy(scenario)
    lopsided = good.routing.copy()
    lopsided[:, 1] = np.arange(6) == 0
    lopsided[:, 3] = np.arange(6) == 1
    split = replace(good, routing=lopsided)
    narrow = replace(split, roles=good.roles & (lopsided > 0))
    for seed in range(3):
        best, *others = (
            ask(scenario, state, PAPER, policy, seed=seed) for policy in (good, split, narrow)
        )
        assert best.success_rate == 1.0
        assert all(other.objective > 2 * best.objective for other in others)


def test_a_backlog_makes_the_same_policy_worse() -> None:
    scenario = shipped()
    policy, state = paper_policy(scenario), idle(scenario)
    queued = replace(state, backlog=np.where(policy.roles, 40, 0))
    free, loaded = (ask(scenario, s, PAPER, policy) for s in (state, queued))
    assert loaded.objective > free.objective
    assert mean_s(loaded) > mean_s(free) + 5


def test_a_policy_without_a_forecast_is_given_the_one_it_is_tried_on() -> None:
    """Deployers split cores by what they expect, so it matters."""
    scenario = shipped()
    policy = paper_policy(scenario)
    assert policy.demand is not None
    bare = replace(policy, demand=None)
    given = replace(policy, demand=PAPER)
    first, second = (ask(scenario, idle(scenario), PAPER, p) for p in (bare, given))
    assert first == second


def test_figures_repeat_with_the_seed() -> None:
    scenario = shipped()
    policy, state = paper_policy(scenario), idle(scenario)
    first, same, other = (ask(scenario, state, PAPER, policy, seed=s) for s in (3, 3, 4))
    assert first == same
    assert first != other


# Nobody sees the future


class Curious:
    """A planner that rehearses its one policy each time it is asked."""

    def __init__(self, scenario: Scenario, policy: MacroPolicy) -> None:
        self.figures: list[Rehearsed] = []
        self._scenario, self._policy = scenario, policy

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del telemetry
        self.figures.append(
            await rehearse(self._scenario, self._policy, state, load(2.0), slots=4, seed=0)
        )
        return Decision(self._policy)


def test_figures_follow_from_the_past_alone() -> None:
    """Asked while a run is under way, before slots 0, 4 and 8 of 10 s. Two runs that part at 41 s
    are told the same at first, and others then."""
    scenario = world([ONE] * 2, [Model(cpu=CORE, gpu=None)])
    hosts = scenario.hosts()
    policy = MacroPolicy(hosts / 2, hosts)

    def told(later: list[Ask]) -> list[Rehearsed]:
        arrivals = requests(scenario, [Ask(0.0, prompts=30), Ask(31.0, prompts=25), *later])
        twin, curious = Twin(scenario, arrivals), Curious(scenario, policy)
        scheduler = PlannedScheduler(scenario, np.random.default_rng(0))
        strategy = Strategy(curious, scheduler, SolverDeployer(scenario))
        asyncio.run(run(scenario, twin, twin, twin, strategy, RunJournal(), 9))
        return curious.figures

    calm, rush = told([Ask(81.0)]), told([Ask(41.0, prompts=500), Ask(81.0)])
    assert calm[:2] == rush[:2]
    assert calm[0] != calm[1]  # a backlog has built up
    assert rush[2].objective > calm[2].objective


# Random policies


def stretch(scenario: Scenario, slots: int = 20) -> Requests:
    return generate(load_workload("paper"), scenario, slots, np.random.default_rng(11))


def random_figures(policies: int, seed: int = 0) -> Rehearsed:
    scenario = shipped()
    rng = np.random.default_rng(seed)
    return asyncio.run(rehearse_random(scenario, stretch(scenario), rng, policies))


def test_the_baseline_is_the_mean_over_policies() -> None:
    scenario = shipped()
    rng = np.random.default_rng(0)

    async def one_by_one() -> list[Rehearsed]:
        return [await rehearse_random(scenario, stretch(scenario), rng, 1) for _ in range(3)]

    single, mean = asyncio.run(one_by_one()), random_figures(3)
    assert len({run.objective for run in single}) == 3
    assert mean.objective == pytest.approx(np.mean([run.objective for run in single]))
    assert mean.t_mean_s == pytest.approx(np.mean([mean_s(run) for run in single]))
    rho = [[lm[0] for lm in run.per_lm] for run in single]
    assert [lm[0] for lm in mean.per_lm] == pytest.approx(np.mean(rho, axis=0).tolist())


def test_the_baseline_repeats_with_the_seed() -> None:
    assert random_figures(2, seed=1) == random_figures(2, seed=1)
    assert random_figures(2, seed=1) != random_figures(2, seed=2)


def test_a_plan_made_for_the_load_beats_the_baseline() -> None:
    scenario = shipped()
    planned = ask(scenario, idle(scenario), PAPER, paper_policy(scenario))
    assert random_figures(8).objective > 2 * planned.objective


def test_it_knows_other_testbeds() -> None:
    """Whatever testbed is shipped, with a profile for its hardware."""
    scenario = shipped("campus", "t4")
    assert len(scenario.testbed.nodes) == len(load_testbed("campus").to_domain().nodes)
    rehearsed = asyncio.run(
        rehearse_random(scenario, stretch(scenario, 5), np.random.default_rng(0), 2)
    )
    assert 0 < rehearsed.objective < 1
