"""Random, average and local scheduling."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from controller.domain.decisions import InForce
from controller.policies.routing import (
    AverageScheduler,
    LocalScheduler,
    OpenPlanner,
    RandomScheduler,
)
from controller.ports import Scheduler
from tests.unit.policies.states import NOTHING_SEEN, decide, idle, open_policy, shipped

SCENARIO = shipped()
OPEN = InForce(open_policy(SCENARIO))
HOSTS = SCENARIO.hosts()
NODES, LMS = HOSTS.shape
VM2 = 0


def routes(scheduler: Scheduler, slots: int, **changes: object) -> np.ndarray:
    """(slots, N, I) destinations."""
    states = (idle(SCENARIO, slot=t - 1, **changes) for t in range(slots))
    return np.array([decide(scheduler.schedule(s, OPEN)).destination for s in states])


def random(seed: int = 0) -> RandomScheduler:
    return RandomScheduler(SCENARIO, np.random.default_rng(seed))


def test_text_may_go_anywhere_images_to_gpus_only() -> None:
    assert HOSTS.tolist() == [[True, True, False, False]] + [[True] * 4] * 5


def test_open_planner_means_every_host_alike() -> None:
    policy = decide(OpenPlanner(SCENARIO).plan(idle(SCENARIO), NOTHING_SEEN, None))
    assert np.array_equal(policy.roles, HOSTS)
    assert policy.routing[:, 0].tolist() == [1 / 6] * 6
    assert policy.routing[:, 3].tolist() == [0, *[1 / 5] * 5]


@pytest.mark.parametrize("lm", range(LMS))
def test_random_is_uniform_over_the_hosts(lm: int) -> None:
    """Of every origin, and of every pair of origins, which draw independently."""
    seen = routes(random(), 3000)[:, :, lm]
    hosts = np.flatnonzero(HOSTS[:, lm])
    for origin in range(NODES):
        counts = [np.count_nonzero(seen[:, origin] == n) for n in hosts]
        assert sum(counts) == len(seen)
        assert chisquare(counts).pvalue > 1e-3
    pairs = Counter(map(tuple, seen[:, [1, 4]].tolist()))
    counts = [pairs[a, b] for a in hosts for b in hosts]
    assert chisquare(counts).pvalue > 1e-3


def test_random_repeats_itself_per_seed() -> None:
    assert np.array_equal(routes(random(1), 50), routes(random(1), 50))
    assert not np.array_equal(routes(random(1), 50), routes(random(2), 50))


def test_average_gives_every_host_the_same_over_a_cycle() -> None:
    """30 slots are five turns over six hosts and six over five: each origin's requests are spread
    evenly, and so are all of a slot's where hosts are as many as origins."""
    seen = routes(AverageScheduler(SCENARIO), 30)
    for lm in range(LMS):
        hosts = np.flatnonzero(HOSTS[:, lm])
        for origin in range(NODES):
            counts = Counter(seen[:, origin, lm].tolist())
            assert counts == {n: 30 // len(hosts) for n in hosts.tolist()}
    assert (np.sort(seen[:, :, 0], axis=1) == np.arange(NODES)).all()


def test_local_stays_at_home_even_where_it_cannot_run() -> None:
    seen = routes(LocalScheduler(SCENARIO), 3)
    assert (seen == np.arange(NODES)[:, None]).all()


@given(st.lists(st.booleans(), min_size=NODES, max_size=NODES), st.booleans())
@settings(max_examples=50, deadline=None)
def test_nodes_that_are_down_are_avoided(up: list[bool], average: bool) -> None:
    """And an LM whose hosts are all down waits at one of them, never where it cannot run."""
    scheduler = AverageScheduler(SCENARIO) if average else random()
    seen = routes(scheduler, 40, up=up)
    for lm in range(LMS):
        hosts = set(np.flatnonzero(HOSTS[:, lm]).tolist())
        alive = {n for n in hosts if up[n]}
        assert set(seen[:, :, lm].ravel().tolist()) == (alive or hosts)


def test_average_is_fair_over_those_that_are_up() -> None:
    up = [True, True, False, True, False, True]
    seen = routes(AverageScheduler(SCENARIO), 12, up=up)
    assert Counter(seen[:, 0, 0].tolist()) == dict.fromkeys((0, 1, 3, 5), 3)
    assert Counter(seen[:, 0, 3].tolist()) == dict.fromkeys((1, 3, 5), 4)


@pytest.mark.parametrize("scheduler", [random(), AverageScheduler(SCENARIO)])
def test_gpu_only_lms_never_go_to_a_cpu_only_node(scheduler: Scheduler) -> None:
    """Section VI: for all non-local strategies, LM3 and LM4 are never routed to VM2."""
    assert (routes(scheduler, 200)[:, :, 2:] != VM2).all()
