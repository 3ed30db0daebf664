"""The bound: worked examples, edges, and that no strategy, seed, load or testbed goes under it."""

from __future__ import annotations

import numpy as np
import pytest

from controller import api, strategies
from controller.bootstrap.twin import draw_requests, simulate
from controller.campaigns.experiment import Experiment
from controller.domain import metrics
from controller.domain.profile import Batching, Curve, LmProfile, Profile, Prompt, Size
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.testbed import Lm, Network, Node, Testbed
from controller.inputs.catalog import load_profile, load_testbed
from controller.results import bound as bounds
from controller.results.bound import highest_feasible_load, lower_bound
from controller.workloads.spec import load_workload


def lm_profile(gpu_s: float) -> LmProfile:
    return LmProfile(
        reference=Prompt(output_tokens=1),
        work_model=Size(fixed=1.0),
        cpu={},
        gpu={"G": Curve((1.0,), (gpu_s,))},
        cpu_batching=Batching(),
        gpu_batching=Batching(),
        start_cpu_s=0.0,
        start_gpu_s=0.0,
        stop_s=1.0,
        resident_ram_gb=1.0,
        resident_vram_gb=1.0,
        uplink_bytes=Size(),
        downlink_bytes=Size(),
    )


def one_gpu(*gpu_s: float) -> Scenario:
    """One node with one GPU of as many slices as there are LMs."""
    lms = tuple(Lm(f"L{i}", "", "", "text-to-text", 1.0, 1.0, True) for i in range(len(gpu_s)))
    node = Node("n", "s", "C", 16.0, 64.0, 1, "G", 24.0, len(gpu_s))
    network = Network(100.0, 0.0, 100.0, 0.0)
    profile = Profile("p", {f"L{i}": lm_profile(s) for i, s in enumerate(gpu_s)}, 0.0)
    return Scenario(Testbed("t", (node,), lms, network), profile)


def arrivals(lm: list[int], prompts: list[int]) -> Requests:
    """One request a slot, at its start."""
    slots = np.arange(len(lm))
    ones = np.ones(len(lm))
    return Requests(
        np.array(lm), np.zeros_like(slots), np.array(prompts), slots, slots * 30.0, ones, ones, ones
    )


def test_one_lm_on_one_gpu_is_its_mean_service_time():
    found = lower_bound(one_gpu(3.0), arrivals([0, 0], [2, 6]), 1.0)
    assert found.t_mean_s == pytest.approx(12.0)
    assert found.objective == pytest.approx(0.5 * 12.0 / 900, rel=1e-5)


def test_at_half_the_successes_the_smaller_request_is_served():
    found = lower_bound(one_gpu(3.0), arrivals([0, 0], [2, 6]), 0.5)
    assert found.t_mean_s == pytest.approx(6.0)


def test_serving_one_lm_alone_costs_all_fairness():
    """Half the successes of two LMs: either both at 1/2 (4.5 s, fair) or the fast one alone (1 s,
    F_norm 0): the bound weighs both and may mix them, so it is at most the fair one's."""
    scenario = one_gpu(1.0, 8.0)
    found = lower_bound(scenario, arrivals([0, 1] * 10, [1] * 20), 0.5)
    fair = 0.5 * 4.5 / 900
    assert 0.5 * 1.0 / 900 < found.objective <= fair * (1 + 1e-9)


def test_no_success_at_all_is_the_worst_objective():
    scenario = one_gpu(1.0, 1.0)
    found = lower_bound(scenario, arrivals([0, 1], [1, 1]), 0.0)
    assert found.objective == metrics.objective(1.0, 0.0)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(ValueError, match="success rate"):
        lower_bound(one_gpu(1.0), arrivals([0], [1]), rate)


def test_a_gpu_busy_half_the_time_could_take_twice_the_load():
    assert highest_feasible_load(one_gpu(3.0), arrivals([0] * 8, [5] * 8)) == pytest.approx(2.0)


def test_coarser_bins_lower_the_bound(monkeypatch):
    rng = np.random.default_rng(0)
    requests = arrivals([0] * 200, rng.integers(1, 60, 200).tolist())
    fine = lower_bound(one_gpu(0.4), requests, 1.0).objective
    monkeypatch.setattr(bounds, "BINS", 4)
    coarse = lower_bound(one_gpu(0.4), requests, 1.0).objective
    assert coarse < fine


def outcome(strategy: str, **given):
    """(objective, bound) of a run on the twin."""
    fields = {
        "testbed": load_testbed(given.pop("testbed", "paper")),
        "profile": load_profile(given.pop("profile", "a5000")),
        "workload": load_workload(given.pop("workload", "paper")),
        "strategy": strategy,
        "parameters": strategies.resolved_parameters(strategy, {}),
        "seed": given.pop("seed", 0),
        "epochs": 2,
        "epoch_slots": 15,
        **given,
    }
    experiment = Experiment(**fields)
    scenario = experiment.scenario()
    requests = draw_requests(experiment, scenario)
    table = simulate(experiment).table
    success = table.success
    latency_s = table.latency_s[success]
    lms = len(scenario.testbed.lms)
    rates = metrics.service_rates(
        np.bincount(requests.lm[success], minlength=lms), np.bincount(requests.lm, minlength=lms)
    )
    reached = metrics.objective(
        metrics.normalised_latency(latency_s, scenario.tau_s),
        metrics.normalised_jain(rates),
        scenario.lam,
    )
    return reached, lower_bound(scenario, requests, float(success.mean())).objective


@pytest.mark.parametrize(
    "strategy", [name for name, parts in strategies.STRATEGIES.items() if not parts.has_agents]
)
@pytest.mark.parametrize("load", [0.1, 0.5, 1.0, 2.0])
def test_no_strategy_goes_under_it(strategy, load):
    for seed in (0, 1):
        reached, least = outcome(strategy, load=load, seed=seed)
        assert 0 < least <= reached


@pytest.mark.parametrize("strategy", ["MAL", "MA"])
def test_agents_do_not_either(strategy):
    summary = api.simulate(strategy, epochs=1).summary
    assert 0 < summary["bound"] <= summary["objective"]


@pytest.mark.parametrize("strategy", ["RF", "SOLVER", "ORACLE"])
@pytest.mark.parametrize("workload", ["poisson", "bursty", "azure-servegen"])
def test_no_workload_takes_them_under_it(strategy, workload):
    reached, least = outcome(strategy, workload=workload)
    assert 0 < least <= reached


@pytest.mark.parametrize("strategy", ["RF", "RL", "SOLVER", "ORACLE"])
def test_batches_and_other_hardware_do_not_either(strategy):
    reached, least = outcome(strategy, testbed="campus", profile="t4")
    assert 0 < least <= reached
