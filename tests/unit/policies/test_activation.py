"""Deployers that look at no queue."""

from collections import Counter

import numpy as np
from scipy.stats import chisquare

from controller.domain.capacity import feasible
from controller.domain.decisions import InForce
from controller.domain.randomness import Streams
from controller.domain.state import CPU, GPU, OFF, POD_PENDING
from controller.policies.activation import FullDeployer, RandomDeployer
from controller.policies.patterns import enumerate_fixed
from tests.reference.worlds import Model, node, on_cpu, on_gpu, world
from tests.unit.policies.states import decide, idle, open_policy, rows_of, running, shipped

SCENARIO = shipped()
OPEN = InForce(open_policy(SCENARIO))


def streams(seed: int) -> list[np.random.Generator]:
    return [Streams(seed).of("deployer", node) for node in SCENARIO.testbed.node_names]


def drawn(seed: int, slots: int, **changes: object) -> np.ndarray:
    """(slots, N, I) modes."""
    deployer = RandomDeployer(SCENARIO, streams(seed))
    state = idle(SCENARIO, **changes)
    return np.array([decide(deployer.deploy(state, OPEN)).mode for _ in range(slots)])


def test_random_draws_every_feasible_pattern_alike() -> None:
    modes = drawn(seed=0, slots=4000)
    for patterns in enumerate_fixed(SCENARIO):
        for n in patterns.rows:
            seen = Counter(map(tuple, modes[:, n].tolist()))
            counts = [seen[tuple(mode)] for mode in patterns.mode.tolist()]
            assert sum(counts) == len(modes)  # and nothing else
            assert chisquare(counts).pvalue > 1e-3


def test_random_nodes_draw_independently() -> None:
    modes = drawn(seed=0, slots=4000)
    both = Counter((tuple(a), tuple(b)) for a, b in modes[:, [1, 2]].tolist())
    patterns = len(enumerate_fixed(SCENARIO)[1])
    counts = [*both.values(), *[0] * (patterns**2 - len(both))]
    assert chisquare(counts).pvalue > 1e-3


def test_random_ignores_queues_and_repeats_itself_per_seed() -> None:
    calm, busy = drawn(3, 20), drawn(3, 20, backlog=np.full((6, 4), 50))
    assert np.array_equal(calm, busy)
    assert not np.array_equal(calm, drawn(4, 20))


def test_random_on_a_blocked_node_keeps_or_stops() -> None:
    pods = [[on_cpu(12), on_cpu(12), (OFF, 0, 0), (OFF, 0, 0)]]
    pods += [[on_cpu(7), on_gpu(), on_gpu(), (OFF, 0, 0)]] * 5
    state = running(SCENARIO, pods)
    state.pod[1, 2] = POD_PENDING
    deployer = RandomDeployer(SCENARIO, streams(0))
    modes = np.array([decide(deployer.deploy(state, OPEN)).mode for _ in range(300)])
    wanted = state.want_mode
    assert {tuple(m) for m in modes[:, 1].tolist()} == {
        (a, b, c, OFF) for a in (OFF, CPU) for b in (OFF, GPU) for c in (OFF, GPU)
    }
    assert ((modes[:, 2] != wanted[2]) & (modes[:, 2] != OFF)).any()  # others are free


def test_full_activation_on_the_papers_testbed() -> None:
    """Section VI: LM1 and LM2 on CPUs, LM3 and LM4 compete for the GPUs; on VM7, too, whose four
    slices could hold all. VM2: 23 cores in two; VM3-6: 15 less 2 beside the GPU in two; VM7: 15
    less 4 in two."""
    chosen = decide(FullDeployer(SCENARIO).deploy(idle(SCENARIO), OPEN))
    assert chosen.mode.tolist() == [[CPU, CPU, OFF, OFF]] + [[CPU, CPU, GPU, GPU]] * 5
    assert chosen.cores.tolist() == [
        [11.5, 11.5, 0, 0],
        *[[6.5, 6.5, 1, 1]] * 4,
        [5.5, 5.5, 1, 1],
    ]
    assert chosen.vgpus.tolist() == [[0, 0, 0, 0]] + [[0, 0, 1, 1]] * 5


def test_full_activation_never_changes() -> None:
    deployer = FullDeployer(SCENARIO)
    first = decide(deployer.deploy(idle(SCENARIO), OPEN))
    later = idle(SCENARIO, backlog=np.full((6, 4), 9), pod=np.full((6, 4), POD_PENDING))
    again = decide(deployer.deploy(later, OPEN))
    own = decide(deployer.deploy(rows_of(later, [5, 0]), OPEN))
    assert np.array_equal(first.mode, again.mode)
    assert np.array_equal(first.mode[[5, 0]], own.mode)
    assert np.array_equal(first.cores[[5, 0]], own.cores)


def test_full_activation_takes_as_many_as_fit() -> None:
    """12 GB of RAM hold the small LM and one of 9 GB, or three of 4 GB: three it is."""
    models = [Model(ram_gb=r) for r in (9, 3, 4, 4, 4)]
    scenario = world([node(ram_gb=12)], models)
    chosen = decide(FullDeployer(scenario).deploy(idle(scenario), OPEN))
    assert (chosen.mode[0] != OFF).sum() == 3
    assert feasible(scenario, 0, chosen.mode[0], chosen.cores[0], chosen.vgpus[0])


def test_more_lms_go_before_more_lms_on_cpus() -> None:
    """12 GB hold one LM on CPUs or two of 6 GB on the GPU."""
    scenario = world(
        [node(ram_gb=12, gpus=1)],
        [Model(ram_gb=12, gpu=None), *[Model(ram_gb=6, gpu_only=True)] * 2],
    )
    chosen = decide(FullDeployer(scenario).deploy(idle(scenario), InForce(open_policy(scenario))))
    assert chosen.mode.tolist() == [[OFF, GPU, GPU]]
