"""The Lyapunov deployer against Eq. 15-19 written out in plain loops."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.decisions import InForce
from controller.domain.scenario import Scenario
from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STOPPING,
    ClusterState,
)
from controller.policies.lyapunov import LyapunovDeployer, LyapunovParameters
from controller.policies.patterns import fixed_share
from tests.reference.worlds import Model, node, world
from tests.unit.policies.states import (
    decide,
    idle,
    open_policy,
    rows_of,
    shipped,
    with_cores_on_gpu,
)

PAPER = LyapunovParameters()
MODALITIES = ("text-to-text", "text-to-text", "image-to-text", "text-to-image")


def tiny(modalities: tuple[str, ...] = MODALITIES) -> Scenario:
    """One node, one GPU of two slices, the paper's four LMs by memory; the large text LM has three
    times the RAM of the small one."""
    models = [
        Model(ram_gb=3, vram_gb=2),
        Model(ram_gb=9, vram_gb=5),
        Model(ram_gb=2.5, vram_gb=4, gpu_only=True),
        Model(ram_gb=3.5, vram_gb=6, gpu_only=True),
    ]
    scenario = with_cores_on_gpu(world([node(cores=16, ram_gb=17, gpus=1, slices=2)], models), 1.0)
    lms = zip(scenario.testbed.lms, modalities, strict=True)
    named = tuple(replace(lm, modality=modality) for lm, modality in lms)
    return replace(scenario, testbed=replace(scenario.testbed, lms=named))


TINY = tiny()
OPEN = InForce(open_policy(TINY))
ALPHA_GPU = (1.0, 1.2, 1.5, 1.5)  # section VI


def score(
    mode: tuple[int, ...], state: ClusterState, p: LyapunovParameters, smooth: bool = True
) -> float:
    """Eq. 15 of one action on TINY's node."""
    machine = TINY.testbed.nodes[0]
    f = lambda eta: (1 + eta) / 2 if smooth else eta  # noqa: E731
    q = state.backlog[0].tolist()
    eta_cpu = float(state.free_cores[0]) / machine.cores
    eta_mem = float(state.free_ram_gb[0]) / machine.ram_gb
    eta_gpu = float(state.free_vgpus[0]) / machine.vgpus
    drift = 0.0
    for i in range(4):  # Eq. 16
        if mode[i] == CPU:
            drift += q[i] * p.alpha_cpu * f(eta_cpu) * f(eta_mem)
        if mode[i] == GPU:
            drift += q[i] * ALPHA_GPU[i] * f(eta_gpu)
    images = (q[2] + q[3]) / sum(q) if sum(q) else 0.0
    price = p.p0 + p.p1 * (1 - eta_gpu) + p.p2 * images  # Eq. 18
    gpu_cost = price * sum(m == GPU for m in mode)  # Eq. 17
    churn = 0.0  # Eq. 19
    for i in range(4):
        if (mode[i] != OFF) != (state.want_mode[0, i] != OFF):
            churn += p.lambda_churn * (1 + p.kappa * q[i])
    return drift - p.v * (gpu_cost + churn)


def actions() -> list[tuple[int, ...]]:
    """Eq. 1 on TINY's node by plain loops."""
    machine, lms, share = TINY.testbed.nodes[0], TINY.testbed.lms, fixed_share(TINY, 0)
    found = []
    for mode in product((OFF, CPU, GPU), repeat=4):
        on = [i for i in range(4) if mode[i] != OFF]
        if (
            not any(mode[i] == CPU and lms[i].gpu_only for i in on)
            and sum(m == GPU for m in mode) <= machine.vgpus
            and sum(share if mode[i] == CPU else 1.0 for i in on) <= machine.cores
            and sum(lms[i].ram_gb for i in on) <= machine.ram_gb
            and sum(lms[i].vram_gb for i in on if mode[i] == GPU) <= machine.vram_gb
        ):
            found.append(mode)
    return found


ACTIONS = actions()


def test_ram_makes_the_difference_on_the_tiny_node() -> None:
    """All four need 18 GB of 17: the test world has a binding constraint besides slices."""
    assert (CPU, CPU, GPU, GPU) not in ACTIONS
    assert (CPU, OFF, GPU, GPU) in ACTIONS
    assert len(ACTIONS) > 20


states = st.builds(
    lambda backlog, wanted, cores, ram_gb, vgpus, pod: idle(
        TINY,
        backlog=[backlog],
        want_mode=[wanted],
        free_cores=[cores],
        free_ram_gb=[ram_gb],
        free_vgpus=[vgpus],
        pod=[pod],
    ),
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
    st.sampled_from(ACTIONS),
    st.floats(0, 16),
    st.floats(0, 17),
    st.integers(0, 2),
    st.lists(
        st.sampled_from([POD_OFF, POD_READY, POD_PENDING, POD_STOPPING]), min_size=4, max_size=4
    ),
)
parameters = st.builds(
    LyapunovParameters,
    lambda_churn=st.floats(0, 2),
    kappa=st.floats(0, 2),
    p0=st.floats(0, 5),
    p1=st.floats(0, 5),
    p2=st.floats(0, 5),
    v=st.floats(0, 5),
)


@given(states, st.one_of(st.just(PAPER), parameters))
@settings(max_examples=200, deadline=None)
def test_the_choice_has_the_highest_score_of_all_feasible_actions(
    state: ClusterState, p: LyapunovParameters
) -> None:
    chosen = decide(LyapunovDeployer(TINY, p).deploy(state, OPEN))
    mode = tuple(chosen.mode[0].tolist())
    allowed = ACTIONS
    if {POD_PENDING, POD_STOPPING} & set(state.pod[0].tolist()):
        wanted = state.want_mode[0].tolist()
        allowed = [a for a in ACTIONS if all(a[i] in (wanted[i], OFF) for i in range(4))]
    assert mode in allowed
    assert score(mode, state, p) >= max(score(a, state, p) for a in allowed) - 1e-9
    share = fixed_share(TINY, 0)
    assert chosen.cores[0].tolist() == [{OFF: 0.0, CPU: share, GPU: 1.0}[m] for m in mode]
    assert chosen.vgpus[0].tolist() == [int(m == GPU) for m in mode]


@given(states)
@settings(max_examples=50, deadline=None)
def test_an_lm_of_another_modality_than_text_counts_as_an_image_lm(state: ClusterState) -> None:
    other = tiny(("text-to-text", "text-to-text", "audio-to-text", "text-to-video"))
    chosen, again = (
        decide(LyapunovDeployer(scenario, PAPER).deploy(state, OPEN)) for scenario in (TINY, other)
    )
    assert np.array_equal(chosen.mode, again.mode)


def choose(p: LyapunovParameters = PAPER, **changes: object) -> list[int]:
    deployer = LyapunovDeployer(TINY, p)
    mode: list[int] = decide(deployer.deploy(idle(TINY, **changes), OPEN)).mode[0].tolist()
    return mode


def test_an_idle_node_changes_nothing() -> None:
    """Every flip costs 0.08, every GPU pod at least 0.1 of shadow price, and nothing is gained."""
    assert choose() == [OFF, OFF, OFF, OFF]
    assert choose(want_mode=[[CPU, OFF, OFF, OFF]]) == [CPU, OFF, OFF, OFF]


def test_an_idle_gpu_pod_is_let_go_when_its_price_exceeds_the_churn() -> None:
    """Keeping LM3 costs p0 = 0.1, dropping it 0.08; at p0 = 0.05 it stays."""
    held = [[OFF, OFF, GPU, OFF]]
    assert choose(want_mode=held) == [OFF, OFF, OFF, OFF]
    assert choose(replace(PAPER, p0=0.05), want_mode=held) == [OFF, OFF, GPU, OFF]


def test_kappa_makes_a_switch_dearer_with_the_queue() -> None:
    """One LM1 prompt, no headroom in cores and RAM: on CPU it gains 1 * 0.5 * 0.5 and costs
    0.08 (1 + kappa). That pays up to kappa = 2.125."""
    full = {"backlog": [[1, 0, 0, 0]], "free_cores": [0.0], "free_ram_gb": [0.0]}
    dear = replace(PAPER, p0=100.0)  # no GPU
    assert choose(replace(dear, kappa=2.1), **full) == [CPU, OFF, OFF, OFF]
    assert choose(replace(dear, kappa=2.2), **full) == [OFF, OFF, OFF, OFF]


def test_images_raise_the_price_of_gpus_for_all() -> None:
    """10 prompts of LM1 gain 10 * 1 * f(1) on either device when all is free, so the GPU's price
    decides for the CPU; with p0 = p1 = p2 = 0 both score the same and the first, CPU, is taken.
    Weighted up by alpha, the GPU wins until p2 outweighs it."""
    loud = replace(PAPER, alpha_gpu_text=1.1, p0=0.0, p1=0.0)
    assert choose(PAPER, backlog=[[10, 0, 0, 0]])[0] == CPU
    assert choose(loud, backlog=[[10, 0, 0, 0]])[0] == GPU
    images = {"backlog": [[10, 0, 10, 0]]}  # phi = 1/2; LM3 gains 15 for a price of p2 / 2
    assert choose(replace(loud, p2=1.9), **images) == [GPU, OFF, GPU, OFF]
    assert choose(replace(loud, p2=2.1), **images) == [CPU, OFF, GPU, OFF]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lambda_churn", 0.08), ("kappa", 0.76), ("p1", 0.25), ("p2", 0.37), ("alpha_cpu", 1.0),
        ("alpha_gpu_text", 1.0), ("alpha_gpu_large_text", 1.2), ("alpha_gpu_image", 1.5),
    ],
)  # fmt: skip
def test_parameters_are_the_papers(field: str, value: float) -> None:
    assert getattr(PAPER, field) == value


def test_each_row_is_decided_on_by_itself() -> None:
    """A node's own service, which sees one row, decides as the twin does for all rows."""
    scenario = shipped()
    rng = np.random.default_rng(0)
    shape = len(scenario.testbed.nodes), 4
    state = idle(scenario, backlog=rng.integers(0, 30, shape))
    deployer, policy = LyapunovDeployer(scenario, PAPER), open_policy(scenario)
    whole = decide(deployer.deploy(state, InForce(policy)))
    assert (whole.mode != OFF).any()
    for n in range(shape[0]):
        one = decide(deployer.deploy(rows_of(state, [n]), InForce(policy)))
        assert np.array_equal(one.mode[0], whole.mode[n])
        assert np.array_equal(one.cores[0], whole.cores[n])
    backwards = decide(deployer.deploy(rows_of(state, range(shape[0])[::-1]), InForce(policy)))
    assert np.array_equal(backwards.mode, whole.mode[::-1])
