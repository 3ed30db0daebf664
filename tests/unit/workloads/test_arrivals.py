"""Arrival processes against their closed forms. Seeds are fixed; bounds are 4 standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from controller.domain.errors import InputError
from controller.domain.requests import Requests
from controller.workloads.arrivals import draw_chain
from controller.workloads.processes import (
    Bursty,
    Diurnal,
    Paper,
    Phase,
    Phases,
    Poisson,
    Process,
)
from controller.workloads.spec import WorkloadFile, generate

PROCESSES = {
    "paper": Paper(),
    "uniform": Paper(arrivals="uniform"),
    "poisson": Poisson(requests_per_slot=0.9),
    "bursty": Bursty(
        calm_requests_per_slot=0.5, burst_requests_per_slot=3, calm_slots=12, burst_slots=4
    ),
    "cluster": Bursty(
        calm_requests_per_slot=0.5,
        burst_requests_per_slot=3,
        calm_slots=12,
        burst_slots=4,
        scope="cluster",
    ),
    "diurnal": Diurnal(requests_per_slot=0.9, period_slots=80),
    "phases": Phases(phases=(Phase(epochs=1), Phase(epochs=1, load=0.4)), inner=Paper()),
}


def draw(process: Process, scenario, slots, seed=1, load=1.0) -> Requests:
    workload = WorkloadFile(name="test", summary="test", process=process)
    return generate(workload, scenario, slots, np.random.default_rng(seed), load)


def columns(requests: Requests) -> dict[str, np.ndarray]:
    fixed = {name: getattr(requests, name) for name in Requests.__slots__ if name != "sizes"}
    return {**fixed, **requests.sizes}


def counts(requests: Requests, slots: int, nodes: int) -> np.ndarray:
    """Requests per (slot, node)."""
    cell = requests.slot * nodes + requests.origin
    return np.bincount(cell, minlength=slots * nodes).reshape(slots, nodes)


def assert_mean(sample, expected, deviation):
    error = deviation / np.sqrt(np.size(sample))
    assert abs(np.mean(sample) - expected) < 4 * error


@pytest.mark.parametrize("name", PROCESSES)
def test_same_seed_same_requests_and_another_seed_others(name, scenario):
    first, again, other = (draw(PROCESSES[name], scenario, 60, seed) for seed in (1, 1, 2))
    for column, values in columns(first).items():
        assert values.tobytes() == columns(again)[column].tobytes()
    assert first.prompts.tolist() != other.prompts.tolist()


@pytest.mark.parametrize("name", PROCESSES)
def test_a_longer_run_begins_with_the_requests_of_a_shorter_one(name, scenario):
    short, long = (draw(PROCESSES[name], scenario, slots) for slots in (150, 400))
    assert len(short) > 500
    for column, values in columns(short).items():
        assert np.array_equal(values, columns(long)[column][: len(short)])


@pytest.mark.parametrize("name", PROCESSES)
def test_load_multiplies_requests_and_keeps_prompts(name, scenario):
    base, light, heavy = (draw(PROCESSES[name], scenario, 2500, load=x) for x in (1, 0.3, 2.5))
    for requests, load in ((light, 0.3), (heavy, 2.5)):
        assert len(requests) == pytest.approx(load * len(base), rel=0.06)
        assert requests.prompts.mean() == pytest.approx(base.prompts.mean(), rel=0.03)
    assert len(draw(PROCESSES[name], scenario, 50, load=0)) == 0


def test_paper_draws_each_k_equally_often_for_every_lm_node_and_slot(scenario):
    slots, nodes, lms = 3000, 6, 4
    requests = draw(Paper(), scenario, slots)
    cells = slots * nodes * lms
    each = np.bincount(requests.prompts, minlength=9)
    assert each[0] == 0
    none = cells - len(requests)
    chi_square = float((((np.array([none, *each[1:]]) - cells / 9) ** 2) / (cells / 9)).sum())
    assert chi_square < 26.1  # 99.9 % quantile with 8 degrees of freedom
    key = np.stack([requests.slot, requests.origin, requests.lm], axis=1)
    assert len(np.unique(key, axis=0)) == len(requests)  # |Q_nt| <= I
    assert np.array_equal(requests.born_s, requests.slot * 30.0)


def test_paper_times_are_uniform_if_asked_for(scenario):
    requests = draw(Paper(arrivals="uniform"), scenario, 1000)
    within = requests.born_s / 30.0 - requests.slot
    assert_mean(within, 0.5, np.sqrt(1 / 12))
    assert_mean(within**2, 1 / 3, np.sqrt(1 / 5 - 1 / 9))
    at_start = draw(Paper(), scenario, 1000)
    assert np.bincount(requests.prompts).tolist() == np.bincount(at_start.prompts).tolist()


def test_a_heavier_load_of_the_paper_keeps_the_requests_of_a_lighter_one(scenario):
    def rows(requests):
        return list(zip(requests.slot, requests.origin, requests.lm, requests.prompts, strict=True))

    light, heavy = (draw(Paper(), scenario, 100, load=x) for x in (0.7, 1.6))
    rest = rows(heavy)
    for row in rows(light):
        rest.remove(row)
    assert len(rest) == len(heavy) - len(light)


def test_poisson_counts_have_mean_and_variance_of_the_rate(make_scenario):
    scenario = make_scenario(nodes=10, lms=("LM1", "LM2"))
    requests = draw(Poisson(requests_per_slot={"LM2": 0.0, "LM1": 1.7}), scenario, 4000)
    assert set(requests.lm.tolist()) == {0}
    per_slot = counts(requests, 4000, 10)
    assert_mean(per_slot, 1.7, np.sqrt(1.7))
    squared = (per_slot - 1.7) ** 2
    assert_mean(squared, 1.7, np.sqrt(1.7 + 2 * 1.7**2))  # fourth central moment less variance^2
    assert_mean(requests.prompts, 4.5, np.sqrt(63 / 12))
    assert set(requests.prompts.tolist()) == set(range(1, 9))


def test_rates_by_name_do_not_depend_on_their_order(scenario):
    rates = {"LM1": 0.1, "LM2": 0.4, "LM3": 0.8, "LM4": 1.6}
    flipped = dict(reversed(rates.items()))
    one, other = (draw(Poisson(requests_per_slot=r), scenario, 100) for r in (rates, flipped))
    assert np.array_equal(one.born_s, other.born_s)
    assert np.array_equal(one.prompts, other.prompts)
    per_lm = np.bincount(one.lm)
    assert np.all(np.diff(per_lm) > 0)


@pytest.mark.parametrize("scope", ["node", "cluster"])
def test_bursty_counts_have_the_mean_and_variance_of_an_mmpp(scope, make_scenario):
    calm, burst, calm_slots, burst_slots = 0.5, 4.0, 9.0, 3.0
    process = Bursty(
        calm_requests_per_slot=calm,
        burst_requests_per_slot=burst,
        calm_slots=calm_slots,
        burst_slots=burst_slots,
        scope=scope,
    )
    nodes, slots = (40, 2000) if scope == "node" else (1, 80_000)
    per_slot = counts(draw(process, make_scenario(nodes, ("LM1",)), slots), slots, nodes)
    share = burst_slots / (calm_slots + burst_slots)
    mean = calm + (burst - calm) * share
    spread = (burst - calm) ** 2 * share * (1 - share)
    memory = 1 / (1 / calm_slots + 1 / burst_slots)  # correlation time of the chain
    average_error = np.sqrt((mean + 2 * spread * memory) / (nodes * slots))
    assert abs(per_slot.mean() - mean) < 4 * average_error
    variance = mean + 2 * spread * memory**2 * (1 / memory - 1 + np.exp(-1 / memory))
    assert per_slot.var() == pytest.approx(variance, rel=0.06)
    lag = (per_slot[1:] - mean) * (per_slot[:-1] - mean)
    covariance = spread * memory**2 * (np.exp(-1 / memory) - 1) ** 2
    assert lag.mean() == pytest.approx(covariance, rel=0.08)


def test_a_cluster_bursts_together_and_nodes_apart(make_scenario):
    shared = {"calm_slots": 20, "burst_slots": 20}
    rates = {"calm_requests_per_slot": 0, "burst_requests_per_slot": 6}
    scenario = make_scenario(nodes=2, lms=("LM1", "LM2"))
    for scope, together in (("cluster", True), ("node", False)):
        requests = draw(Bursty(**shared, **rates, scope=scope), scenario, 3000)
        by_node = counts(requests, 3000, 2).astype(float)
        correlation = np.corrcoef(by_node.T)[0, 1]
        assert (correlation > 0.7) if together else (abs(correlation) < 0.3)
        lm_counts = [np.bincount(requests.slot[requests.lm == i], minlength=3000) for i in (0, 1)]
        assert np.corrcoef(lm_counts)[0, 1] > 0.4  # all LMs of a node share its state


def test_the_chain_has_exponential_sojourns_from_its_stationary_state():
    process = Bursty(
        calm_requests_per_slot=1, burst_requests_per_slot=2, calm_slots=30, burst_slots=10
    )
    firsts = [draw_chain(process, 1, np.random.default_rng(seed))[0] for seed in range(2000)]
    assert_mean(firsts, 0.25, np.sqrt(0.25 * 0.75))
    first, switches = draw_chain(process, 100_000, np.random.default_rng(3))
    assert switches[-1] > 100_000
    sojourns = np.diff(np.append(0.0, switches))
    for state, mean in ((0, 30.0), (1, 10.0)):
        mine = sojourns[(np.arange(len(sojourns)) + first) % 2 == state]
        assert_mean(mine, mean, mean)
        assert_mean(mine > mean, np.exp(-1), np.sqrt(np.exp(-1) * (1 - np.exp(-1))))


def test_diurnal_counts_follow_the_integral_of_the_rate(scenario):
    period, amplitude, rate, shift, slots = 100, 0.9, 2.0, 15.0, 4000
    process = Diurnal(
        requests_per_slot=rate, period_slots=period, amplitude=amplitude, shift_slots=shift
    )
    requests = draw(process, scenario, slots)
    edges = np.linspace(0, period, 21)
    seen, _ = np.histogram((requests.born_s / 30.0) % period, edges)
    swing = -period / (2 * np.pi) * np.cos(2 * np.pi * (edges - shift) / period)
    expected = np.diff(edges + amplitude * swing) * rate * 6 * 4 * slots / period
    assert np.all(np.abs(seen - expected) < 4 * np.sqrt(expected))
    assert seen.max() > 10 * seen.min()


def test_phases_change_the_mix_by_epoch(scenario):
    first = Phase(epochs=2, weights={"LM1": 0.0, "LM4": 3.0})
    second = Phase(epochs=1, load=0.5)
    inner = Poisson(requests_per_slot=1.0)
    per_epoch = {}
    for after in ("hold", "repeat"):
        process = Phases(phases=(first, second), inner=inner, after=after)
        requests = draw(process, scenario, 6 * scenario.epoch_slots)
        per_epoch[after] = np.array(
            [np.bincount(requests.lm[requests.slot // 50 == e], minlength=4) for e in range(6)]
        )
    busy, calm = np.array([0.0, 1, 1, 3]) * 300, np.full(4, 150.0)
    for after, pattern in (
        ("hold", [busy, busy, calm, calm, calm, calm]),
        ("repeat", [busy, busy, calm, busy, busy, calm]),
    ):
        deviation = np.abs(per_epoch[after] - np.array(pattern))
        assert np.all(deviation <= 4.5 * np.sqrt(np.array(pattern)))


def test_phases_that_do_nothing_change_nothing(scenario):
    plain = draw(Paper(), scenario, 120)
    phased = draw(Phases(phases=(Phase(epochs=1),), inner=Paper()), scenario, 120)
    assert np.array_equal(plain.prompts, phased.prompts)
    assert np.array_equal(plain.slot, phased.slot)


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Poisson(requests_per_slot={"LM1": 1, "LM9": 1}), "LM9.*it has LM1, LM2, LM3, LM4"),
        (Poisson(requests_per_slot={"LM1": 1}), "no number for LM2, LM3, LM4"),
        (
            Phases(phases=(Phase(epochs=1, weights={"XX": 2}),), inner=Paper()),
            "weights: no such LM on testbed small .got 'XX'.",
        ),
    ],
)
def test_lms_must_be_those_of_the_testbed(process, message, scenario):
    with pytest.raises(InputError, match=message):
        draw(process, scenario, 10)
