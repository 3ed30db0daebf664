"""Each node's best allocation for its role, and how it gets there."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.capacity import feasible, landing
from controller.domain.decisions import Demand, Deployment, InForce, MacroPolicy
from controller.domain.profile import Curve
from controller.domain.randomness import Streams
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_READY, ClusterState
from controller.loop import run
from controller.policies.solver.allocation import cost, enumerate_allocations
from controller.policies.solver.deployer import SolverDeployer
from controller.strategies import build
from controller.twin.cluster import Twin
from tests.reference.worlds import ABSENT, Ask, Model, Pod, node, on_cpu, on_gpu, requests, world
from tests.unit.policies.states import decide, idle, rows_of, running, shipped


def policy_of(
    scenario: Scenario, roles: list[list[bool]], demand: list[float] | None = None
) -> MacroPolicy:
    """Requests of one prompt, shared by all nodes alike."""
    shape = np.array(roles).shape
    wanted = None if demand is None else Demand(np.array(demand), np.ones(shape[1]))
    return MacroPolicy(np.full(shape, 1 / shape[0]), np.array(roles), wanted)


def deploy(scenario: Scenario, policy: MacroPolicy, state: ClusterState) -> Deployment:
    return decide(SolverDeployer(scenario).deploy(state, InForce(policy)))


# Roles


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_cheapest_allocation_of_the_role(seed: int) -> None:
    """By trying out all: active is what the role says, and no other such allocation costs less."""
    scenario, rng = shipped(), np.random.default_rng(seed)
    hosts = scenario.hosts()
    roles = hosts & (rng.random(hosts.shape) < 0.7)
    routing = rng.random(hosts.shape)
    demand = Demand(rng.uniform(0.1, 8, 4), rng.uniform(1, 6, 4))
    policy = MacroPolicy(routing / routing.sum(axis=0), roles, demand)
    chosen = deploy(scenario, policy, idle(scenario))
    loss = scenario.profile.switch_loss
    for rows, found in enumerate_allocations(scenario):
        assert found is not None
        for n in rows:
            mine = policy.routing[n] * demand.requests
            costs = {
                (a.mode.tobytes(), a.cores.tobytes()): cost(
                    a, mine, demand.prompts, scenario.slot_s, loss
                )
                for a in found
                if a.active.tolist() == roles[n].tolist()
            }
            key = chosen.mode[n].tobytes(), chosen.cores[n].tobytes()
            assert costs[key] == min(costs.values())
            assert feasible(scenario, n, chosen.mode[n], chosen.cores[n], chosen.vgpus[n])


def test_a_role_that_does_not_fit_is_filled_as_far_as_it_goes() -> None:
    """Two LMs of 6 GB on a node of 10 GB: the one with more requests runs."""
    scenario = world([node(ram_gb=10)], [Model(ram_gb=6)] * 2)
    chosen = deploy(scenario, policy_of(scenario, [[True, True]], [0.5, 2.0]), idle(scenario))
    assert chosen.mode.tolist() == [[OFF, CPU]]


def test_a_policy_without_a_demand_will_do() -> None:
    scenario = shipped()
    chosen = deploy(scenario, policy_of(scenario, scenario.hosts().tolist()), idle(scenario))
    assert np.array_equal(chosen.mode != OFF, scenario.hosts())


def test_queues_change_nothing_while_the_policy_holds() -> None:
    scenario = shipped()
    deployer = SolverDeployer(scenario)
    policy = policy_of(scenario, scenario.hosts().tolist(), [5.0] * 4)
    first = decide(deployer.deploy(idle(scenario), InForce(policy)))
    later = idle(scenario, backlog=np.random.default_rng(0).integers(0, 99, (6, 4)))
    assert np.array_equal(decide(deployer.deploy(later, InForce(policy))).mode, first.mode)
    none = policy_of(scenario, np.zeros((6, 4), bool).tolist(), [5.0] * 4)
    assert not decide(deployer.deploy(idle(scenario), InForce(none))).mode.any()


def test_a_nodes_own_service_decides_as_the_twin_does() -> None:
    scenario = shipped()
    policy = policy_of(scenario, scenario.hosts().tolist(), [5.0, 3.0, 4.0, 4.0])
    together = deploy(scenario, policy, idle(scenario))
    for n in range(6):
        alone = deploy(scenario, policy, rows_of(idle(scenario), [n]))
        assert np.array_equal(alone.mode[0], together.mode[n])
        assert np.array_equal(alone.cores[0], together.cores[n])


# Drain


def drained(backlog: list[list[int]]) -> list[list[int]]:
    """Node 0 runs LM 0 and is to run LM 1 instead; node 1 likewise."""
    scenario = world([node()] * 2, [Model(gpu=None)] * 2)
    policy = policy_of(scenario, [[False, True]] * 2, [1.0, 1.0])
    state = running(scenario, [[on_cpu(8), ABSENT]] * 2, backlog=backlog)
    modes: list[list[int]] = deploy(scenario, policy, state).mode.tolist()
    return modes


def test_a_pod_with_a_backlog_is_not_switched_off() -> None:
    """Requests do not move: the node stays as it is, whole, until they are done. What waits for a
    pod that is to come holds up nothing."""
    assert drained([[1, 0], [0, 0]]) == [[CPU, OFF], [OFF, CPU]]
    assert drained([[0, 0], [0, 7]]) == [[OFF, CPU], [OFF, CPU]]


def test_a_pod_that_only_changes_its_device_does_not_wait() -> None:
    """Its queue goes on on the other device."""
    scenario = world([node(gpus=1)], [Model(cpu=Curve((8.0,), (9.0,)), gpu=Curve((1.0,), (1.0,)))])
    state = running(scenario, [[on_cpu(8)]], backlog=[[5]])
    chosen = deploy(scenario, policy_of(scenario, [[True]], [3.0]), state)
    assert chosen.mode.tolist() == [[GPU]]


# GPUs


def two_gpus() -> tuple[Scenario, MacroPolicy]:
    """Four GPU LMs on two GPUs of two slices: they land 0, 1, 0, 1."""
    scenario = world([node(gpus=2, slices=2)], [Model(gpu_only=True)] * 4)
    return scenario, policy_of(scenario, [[True] * 4], [1.0] * 4)


ALL = [[on_gpu()] * 4]


def test_pods_that_landed_as_expected_stay() -> None:
    scenario, policy = two_gpus()
    state = running(scenario, ALL, backlog=[[3] * 4])
    assert state.cards.tolist() == [[1, 2, 1, 2]]
    assert deploy(scenario, policy, state).mode.tolist() == [[GPU] * 4]


def test_the_name_of_a_gpu_does_not_matter() -> None:
    scenario, policy = two_gpus()
    state = running(scenario, ALL, cards=[[2, 1, 2, 1]])
    assert deploy(scenario, policy, state).mode.tolist() == [[GPU] * 4]


@pytest.mark.parametrize("cards", [[1, 1, 2, 2], [1, 2, 2, 1]])
def test_pods_in_other_company_are_all_stopped_and_then_started_together(
    cards: list[int],
) -> None:
    scenario, policy = two_gpus()
    deployer = SolverDeployer(scenario)
    astray = running(scenario, ALL, cards=[cards])
    stopped = decide(deployer.deploy(astray, InForce(policy)))
    assert stopped.mode.tolist() == [[OFF] * 4]
    assert not stopped.vgpus.any()
    assert decide(deployer.deploy(idle(scenario), InForce(policy))).mode.tolist() == [[GPU] * 4]


def test_a_pod_that_joins_others_makes_them_all_start_again() -> None:
    """LM 0 would land on the emptier GPU, not where the plan counts on it."""
    scenario, policy = two_gpus()
    joined = running(scenario, [[ABSENT, on_gpu(), on_gpu(), on_gpu()]])
    assert deploy(scenario, policy, joined).mode.tolist() == [[OFF] * 4]


@pytest.mark.parametrize("pods", [ALL, [[ABSENT, on_gpu(), on_gpu(), on_gpu()]]])
def test_unknown_gpus_are_no_reason_to_stop_pods(pods: list[list[Pod]]) -> None:
    """A restart would not make them known: pods would start and stop for ever."""
    scenario, policy = two_gpus()
    cards = [[-1 if pod[0] == GPU else 0 for pod in pods[0]]]
    state = running(scenario, pods, cards=cards)
    assert deploy(scenario, policy, state).mode.tolist() == [[GPU] * 4]


def test_on_a_single_gpu_there_is_only_one_company() -> None:
    scenario = world([node(gpus=1, slices=4)], [Model(gpu_only=True)] * 4)
    policy = policy_of(scenario, [[True] * 4], [1.0] * 4)
    state = running(scenario, [[ABSENT, on_gpu(), on_gpu(), on_gpu()]])
    assert deploy(scenario, policy, state).mode.tolist() == [[GPU] * 4]


def test_cpu_pods_stay_while_gpu_pods_regroup() -> None:
    models = [*[Model(gpu_only=True)] * 4, Model(gpu=None)]
    scenario = world([node(gpus=2, slices=2)], models)
    policy = policy_of(scenario, [[True] * 5], [1.0] * 5)
    state = running(scenario, [[*ALL[0], on_cpu(8)]], cards=[[1, 1, 2, 2, 0]])
    assert deploy(scenario, policy, state).mode.tolist() == [[OFF, OFF, OFF, OFF, CPU]]


class States:
    """A journal that keeps what it sees."""

    def __init__(self) -> None:
        self.states: list[ClusterState] = []

    def planned(self, *seen: object) -> None: ...

    def scheduled(self, *seen: object) -> None: ...

    def deployed(self, *seen: object) -> None: ...

    def observed(self, state: ClusterState) -> None:
        self.states.append(state)


@pytest.mark.parametrize(("testbed", "profile"), [("paper", "a5000"), ("campus", "t4")])
def test_on_the_twin_pods_come_up_where_the_plan_counts_on_them(testbed: str, profile: str) -> None:
    """Load moves from text to images and back between epochs of 4 slots; in the end every pod that
    is wanted is ready, in the company planned for."""
    scenario = replace(shipped(testbed, profile), epoch_slots=4, tau_s=120.0)
    asks = [
        Ask(t * 30.0 + 1, lm=lm, origin=n, prompts=2)
        for t in range(16)
        for n in range(len(scenario.testbed.nodes))
        for lm in ((0, 1, 1) if t // 4 % 2 else (2, 3, 2))
    ]
    twin, journal = Twin(scenario, requests(scenario, asks)), States()
    strategy = build("SOLVER", scenario, Streams(0), {})
    asyncio.run(run(scenario, twin, twin, twin, strategy, journal, twin.slots))
    last = journal.states[-1]
    assert last.want_mode.any()
    assert np.array_equal(last.pod == POD_READY, last.want_mode != OFF)
    for n, cards in enumerate(last.cards):
        gpu = landing(scenario, n, last.want_mode[n])
        wanted = last.want_mode[n] == GPU
        shared = (cards[:, None] & cards) != 0
        assert np.array_equal(shared[wanted][:, wanted], (gpu[:, None] == gpu)[wanted][:, wanted])
