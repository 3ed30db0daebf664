"""The twin against queueing theory: closed forms within 99.9 % confidence intervals.

Seeds are fixed, so a test either always passes or never does. Each figure is the mean over
independent replications, whose spread gives the interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.twin.layout import Records
from tests.reference.cases import Case
from tests.reference.model import Slot
from tests.reference.playback import play
from tests.reference.worlds import Model, node, on_cpu, on_gpu, slot, world

Floats = NDArray[np.float64]
Sample = Callable[[np.random.Generator, int], Floats]

REPLICATIONS = 20
WARM_UP = 0.1  # of the requests, while the queue fills


def exponential(rng: np.random.Generator, size: int) -> Floats:
    return rng.exponential(1.0, size)


def constant(rng: np.random.Generator, size: int) -> Floats:
    return np.ones(size)


def of_two_kinds(rng: np.random.Generator, size: int) -> Floats:
    """Mean 1: most are short, every fifth is long."""
    return np.where(rng.random(size) < 0.2, 3.4, 0.4)


def interval(values: list[float]) -> tuple[float, float]:
    """99.9 % confidence interval of the mean."""
    mean, half = np.mean(values), stats.t.ppf(0.9995, len(values) - 1) * stats.sem(values)
    return float(mean - half), float(mean + half)


def assert_mean(values: list[float], expected: float, precision: float = 0.12) -> None:
    """The expected value is inside an interval that is narrow enough to say something."""
    low, high = interval(values)
    assert low <= expected <= high, f"{expected} is not in [{low}, {high}]"
    assert high - low <= 2 * precision * expected, f"[{low}, {high}] is too wide"


def single(rng: np.random.Generator, size: int) -> object:
    return 0


def arrivals(
    scenario: Scenario, rng: np.random.Generator, size: int, rate: float, work: Floats, lm: object
) -> Requests:
    """A Poisson stream of single prompts at node 0."""
    born_s = np.cumsum(rng.exponential(1 / rate, size))
    zero = np.zeros(size)
    return Requests(
        lm=np.broadcast_to(np.asarray(lm, np.int64), size).copy(),
        origin=np.zeros(size, np.int64),
        prompts=np.ones(size, np.int64),
        slot=(born_s // scenario.slot_s).astype(np.int64),
        born_s=born_s,
        work=work,
        uplink_bytes=zero,
        downlink_bytes=zero,
    )


def runs(
    scenario: Scenario,
    commands: Slot,
    service: Sample,
    rate: float,
    *,
    label: Callable[[np.random.Generator, int], object] = single,
    size: int = 10_000,
) -> list[Records]:
    """The records after the warm-up of independent runs."""
    kept = []
    for seed in range(REPLICATIONS):
        rng = np.random.default_rng(seed)
        asks = arrivals(scenario, rng, size, rate, service(rng, size), label(rng, size))
        records = play(Case(scenario, asks, (commands,), ())).twin.records
        assert (records["failure"] == 0).all()
        kept.append(records[int(WARM_UP * size) :])
    return kept


def waiting_s(records: Records) -> float:
    return float((records["started_s"] - records["arrived_s"]).mean())


def sojourn_s(records: Records) -> float:
    return float((records["finished_s"] - records["arrived_s"]).mean())


def slowdown(records: Records) -> float:
    return float(((records["finished_s"] - records["arrived_s"]) / records["work"]).mean())


ONE_SERVER = world([node()], [Model()], slot_s=1000.0)
SERVE = slot([[on_cpu(1)]])


@pytest.mark.parametrize("load", [0.4, 0.7])
def test_waiting_in_an_m_m_1_queue(load: float) -> None:
    """E W = rho / (mu - lambda), and P(W > t) = rho exp(-(mu - lambda) t), with mu = 1 (M/M/1)."""
    seen = runs(ONE_SERVER, SERVE, exponential, load)
    assert_mean([waiting_s(r) for r in seen], load / (1 - load))
    for t_s in (0.0, 2.0):
        longer = [float((r["started_s"] - r["arrived_s"] > t_s).mean()) for r in seen]
        assert_mean(longer, load * np.exp(-(1 - load) * t_s))


@pytest.mark.parametrize("load", [0.4, 0.7])
def test_waiting_in_an_m_d_1_queue(load: float) -> None:
    """E W = rho / (2 mu (1 - rho)): half of M/M/1's (Pollaczek-Khinchine)."""
    seen = runs(ONE_SERVER, SERVE, constant, load)
    assert_mean([waiting_s(r) for r in seen], load / (2 * (1 - load)))


def test_waiting_in_an_m_g_1_queue() -> None:
    """E W = lambda E S^2 / (2 (1 - rho)) (Pollaczek-Khinchine)."""
    seen = runs(ONE_SERVER, SERVE, of_two_kinds, 0.6)
    second_moment = 0.2 * 3.4**2 + 0.8 * 0.4**2
    assert_mean([waiting_s(r) for r in seen], 0.6 * second_moment / (2 * 0.4))


# Processor sharing. A pod serves one request at a time, so requests share a GPU only across LMs.
# Dealt out to many LMs in turn they never meet in a queue (each test asserts that nobody waited):
# then the GPU is an M/G/1 queue with processor sharing, exactly, since which pod a request is in
# does not matter to its rate.

PODS = 64


def shared_gpu(
    service: Sample, load: float, switch_loss: float = 0.0, size: int = 4000
) -> list[Records]:
    machine = node(gpus=1, slices=PODS, vram_gb=PODS)
    scenario = world([machine], [Model()] * PODS, switch_loss=switch_loss, slot_s=500.0)
    commands = slot([[on_gpu(1)] * PODS])
    seen = runs(scenario, commands, service, load, label=in_turn, size=size)
    for records in seen:
        assert (records["started_s"] == records["arrived_s"]).all()
    return seen


def in_turn(rng: np.random.Generator, size: int) -> object:
    return np.arange(size) % PODS


@pytest.mark.parametrize("service", [constant, exponential, of_two_kinds])
def test_processor_sharing_depends_on_the_mean_service_only(service: Sample) -> None:
    """E T = E S / (1 - rho), for any distribution of service times (M/G/1-PS)."""
    assert_mean([sojourn_s(r) for r in shared_gpu(service, 0.5)], 1 / (1 - 0.5))


def test_processor_sharing_slows_all_sizes_down_alike() -> None:
    """E[T | S = x] = x / (1 - rho): the mean of T / S is 1 / (1 - rho) among the short, and among
    the long (M/G/1-PS)."""
    seen = shared_gpu(of_two_kinds, 0.5, size=8000)
    assert_mean([slowdown(r[r["work"] < 1]) for r in seen], 1 / (1 - 0.5))
    assert_mean([slowdown(r[r["work"] > 1]) for r in seen], 1 / (1 - 0.5))


def test_processor_sharing_with_a_switching_loss() -> None:
    """Alone at rate 1, together at c = 1 - loss in all: the number of requests has weights 1, rho,
    rho r, rho r^2, ... with r = rho / c, whatever the service times (Cohen's generalised processor
    sharing). So E N = rho / ((1 - r)(1 - r + rho)), and E T = E N / lambda."""
    rho, loss = 0.45, 0.2
    r = rho / (1 - loss)
    seen = shared_gpu(of_two_kinds, rho, switch_loss=loss)
    assert_mean([sojourn_s(records) for records in seen], 1 / ((1 - r) * (1 - r + rho)))


def test_queues_that_share_a_gpu_lose_no_work() -> None:
    """Four LMs, each with a FIFO queue, under one GPU without loss: with exponential times the
    number of requests goes down at rate mu whenever there is one, as in M/M/1, so E T is M/M/1's
    1 / (mu - lambda)."""

    def drawn(rng: np.random.Generator, size: int) -> object:
        return rng.choice(4, size, p=(0.4, 0.3, 0.2, 0.1))

    scenario = world([node(gpus=1, slices=4)], [Model()] * 4, slot_s=1000.0)
    seen = runs(scenario, slot([[on_gpu(1)] * 4]), exponential, 0.7, label=drawn)
    assert_mean([sojourn_s(r) for r in seen], 1 / (1 - 0.7))
