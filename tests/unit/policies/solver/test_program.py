"""The mixed-integer program against hand-solved cases and brute force on tiny testbeds.

What holds exactly: HiGHS ends within GAP of the optimum of the *linear* objective, so a plan's
linear cost is at most that of any other point over (1 - GAP). The chords of a convex function lie
above it, and on a testbed of one GPU the estimate of who shares it is no smaller than the truth:
so the plan's true cost is below its linear cost. Both together: true cost of the plan
<= linear cost of any point / (1 - GAP).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controller.domain.capacity import feasible
from controller.domain.decisions import Demand
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU
from controller.policies.solver.allocation import (
    LOADS,
    MAX_LOAD,
    SHORTAGE,
    TURNS,
    Allocation,
    burst,
    congestion,
    cost,
    enumerate_allocations,
)
from controller.policies.solver.node import find_kinds
from controller.policies.solver.program import GAP, POD_PRICE, Plan, Program
from tests.reference.worlds import Model, node, world
from tests.unit.policies.states import shipped

Floats = NDArray[np.float64]
SLOT_S, LOSS = 10.0, 0.1


def linear_cost(
    allocation: list[Allocation], flow: Floats, demand: Demand, gpus: int, loss: float
) -> float:
    """The program's objective at one point, written out: flows (N, I) of requests a slot."""
    total = 0.0
    for n, a in enumerate(allocation):
        total += POD_PRICE * a.active.sum()
        if flow[n, ~a.active].any():
            return np.inf
        for lms in a.servers():
            service_s = demand.prompts * a.prompt_s
            load = sum(flow[n, i] * service_s[i] for i in lms) / SLOT_S
            load /= 1 - loss if len(lms) > 1 else 1
            if load > MAX_LOAD + 1e-9:
                return np.inf
            total += np.interp(load, LOADS, congestion(LOADS))
            for i in lms:
                most = MAX_LOAD * SLOT_S / service_s[i]
                knots = np.append(TURNS[most > TURNS], most)
                total += np.interp(flow[n, i], knots, burst(knots, service_s[i], SLOT_S))
                total += flow[n, i] * service_s[i] / SLOT_S
                for j in lms:
                    if j != i:
                        there = min(1.0, demand.requests[j] * service_s[j] / SLOT_S / gpus)
                        total += flow[n, i] * min(service_s[i], service_s[j]) * there / SLOT_S
    short = np.maximum(0.0, demand.requests - flow.sum(axis=0))
    worst = (short / demand.requests).max()
    return float(total + SHORTAGE * short.sum() + SHORTAGE * demand.requests.sum() * worst)


def true_cost(plan: Plan, demand: Demand, loss: float = LOSS) -> float:
    pairs = zip(plan.allocation, plan.requests, strict=True)
    return sum(cost(a, requests, demand.prompts, SLOT_S, loss) for a, requests in pairs)


def cheapest(scenario: Scenario, demand: Demand, steps: int) -> float:
    """Least linear cost over every combination of allocations and a grid of splits, all served."""
    by_node = [found or [] for rows, found in enumerate_allocations(scenario) for _ in rows]
    gpus = sum(n.gpus for n in scenario.testbed.nodes)
    shares = [np.array(s) for s in splits(len(by_node), steps)]
    best = np.inf
    for allocation in product(*by_node):
        for columns in product(shares, repeat=len(demand.requests)):
            flow = np.column_stack(columns) * demand.requests
            best = min(best, linear_cost(list(allocation), flow, demand, gpus, LOSS))
    return best


def splits(parts: int, steps: int) -> list[tuple[float, ...]]:
    whole = product(range(steps + 1), repeat=parts)
    return [tuple(k / steps for k in share) for share in whole if sum(share) == steps]


def solve(scenario: Scenario, demand: Demand) -> Plan:
    program = Program(scenario)
    up = np.ones(len(scenario.testbed.nodes), np.bool_)
    return program.solve(demand, up, program.nothing())


def tiny(cpu_s: float, gpu_s: float, image_s: float, nodes: int) -> Scenario:
    """LM 0 on either device, LM 1 on the one GPU there is; the second node has CPUs only."""
    models = [
        Model(cpu=Curve((2.0, 8.0), (3 * cpu_s, cpu_s)), gpu=Curve((1.0,), (gpu_s,))),
        Model(gpu=Curve((1.0,), (image_s,)), gpu_only=True),
    ]
    machines = [node(cores=8, gpus=1), node(cores=8)][:nodes]
    return world(machines, models, switch_loss=LOSS, slot_s=SLOT_S)


demands = st.builds(
    lambda a, b, p, q: Demand(np.array([a, b]), np.array([p, q])),
    st.floats(0.05, 1.2),
    st.floats(0.05, 1.2),
    st.floats(1, 2),
    st.floats(1, 2),
)


@given(st.floats(1, 4), st.floats(0.3, 2), st.floats(0.5, 3), st.sampled_from([1, 1, 2]), demands)
@settings(max_examples=30, deadline=None)
def test_no_allocation_is_better_than_the_plan(
    cpu_s: float, gpu_s: float, image_s: float, nodes: int, demand: Demand
) -> None:
    scenario = tiny(cpu_s, gpu_s, image_s, nodes)
    plan = solve(scenario, demand)
    linear = linear_cost(list(plan.allocation), plan.requests, demand, 1, LOSS)
    best = cheapest(scenario, demand, steps=4 if nodes > 1 else 1)
    assert linear <= best / (1 - GAP) + 1e-6
    if np.isfinite(best):  # demand can be met: then the plan meets it, as far as GAP sees
        short = demand.requests - plan.requests.sum(axis=0)
        assert (short >= -1e-6).all()
        assert SHORTAGE * short.sum() <= best * GAP / (1 - GAP) + 1e-6
        assert true_cost(plan, demand) <= best / (1 - GAP) + 1e-6


def test_one_pod_that_can_only_be_the_gpus() -> None:
    """Hand-solved: one LM, GPU 1 s against 5 s on CPUs, 2 requests a slot of 10 s: the GPU."""
    models = [Model(cpu=Curve((8.0,), (5.0,)), gpu=Curve((1.0,), (1.0,)))]
    scenario = world([node(gpus=1)], models, slot_s=SLOT_S)
    demand = Demand(np.array([2.0]), np.array([1.0]))
    plan = solve(scenario, demand)
    assert plan.requests.tolist() == [[pytest.approx(2.0)]]
    assert plan.allocation[0].prompt_s.tolist() == [1.0]
    # service 0.2, turns 1 s / 10 s, congestion's chord at 0.2 of [0, 0.4]
    expected = 0.2 + 0.1 + 0.5 * congestion(np.array(0.4))
    assert linear_cost(list(plan.allocation), plan.requests, demand, 1, 0.0) == pytest.approx(
        expected + POD_PRICE
    )


def test_equal_nodes_share_a_flow_equally() -> None:
    """6 requests of 2 s a slot of 10 s need two of three CPU nodes; three wait least."""
    scenario = world([node()] * 3, [Model(cpu=Curve((1.0,), (2.0,)))], slot_s=SLOT_S)
    plan = solve(scenario, Demand(np.array([6.0]), np.array([1.0])))
    assert plan.requests[:, 0].tolist() == [pytest.approx(2.0)] * 3


def test_requests_that_come_together_are_spread_at_the_right_point() -> None:
    """One LM, 1 s on node 0's GPU, 2 s on node 1's CPUs, 5 requests a slot of 10 s. One more
    request from 0.5, 1, 2, 4 on costs on the GPU, in service and turns,
    0.1 (1 + [0.375, 0.75, 2.5, 5.5]), on the CPUs twice that; congestion adds 0.023 and 0.047. So
    the first two go to the GPU (0.198), the third to the CPUs (0.322), the rest to the GPU (0.373),
    before the CPUs take another (0.397)."""
    model = Model(cpu=Curve((8.0,), (2.0,)), gpu=Curve((1.0,), (1.0,)))
    scenario = world([node(cores=1, gpus=1, slices=1), node(cores=8)], [model], slot_s=SLOT_S)
    plan = solve(scenario, Demand(np.array([5.0]), np.array([1.0])))
    assert plan.requests[:, 0].tolist() == [pytest.approx(4.0), pytest.approx(1.0)]


def test_being_held_up_on_a_shared_gpu_can_decide_for_the_cpus() -> None:
    """LM 0: 4 requests of 0.5 s on the GPU or 0.71 s on CPUs; LM 1: 1 of 4 s on the GPU. Shared, a
    load of 0.6: service 0.6, turns 0.3 + 0.1, congestion 0.357, and they hold each other up for
    4 * 0.5 * 0.4 + 1 * 0.5 * 0.2 s in 10: 1.447. Apart: 0.4 + 0.284, 0.1 + 0.426, 0.093 + 0.066:
    1.370, less than 0.95 of that; without holding up, sharing would be cheaper (1.357)."""
    models = [
        Model(cpu=Curve((8.0,), (0.71,)), gpu=Curve((1.0,), (0.5,))),
        Model(gpu=Curve((1.0,), (4.0,)), gpu_only=True),
    ]
    scenario = world([node(cores=8, gpus=1)], models, slot_s=SLOT_S)
    plan = solve(scenario, Demand(np.array([4.0, 1.0]), np.ones(2)))
    assert plan.allocation[0].mode.tolist() == [CPU, GPU]


def test_a_shortage_is_shared_by_the_lms() -> None:
    """A GPU, 6 requests of 1 s and 6 of 2 s a slot of 10 s: the short ones alone would be served
    most, but every LM gets the same share."""
    models = [Model(gpu=Curve((1.0,), (s,)), gpu_only=True) for s in (1.0, 2.0)]
    scenario = world([node(gpus=1)], models, slot_s=SLOT_S)
    served = solve(scenario, Demand(np.array([6.0, 6.0]), np.ones(2))).requests.sum(axis=0)
    assert served == pytest.approx([MAX_LOAD * SLOT_S / 3] * 2, rel=0.01)


# highest_load


def highest_load(scenario: Scenario, *prompts: float, up: list[bool] | None = None) -> float:
    alive = np.array(up or [True] * len(scenario.testbed.nodes))
    return Program(scenario).highest_load(np.array(prompts), alive)


def test_highest_load_of_one_pod() -> None:
    """0.95 of a slot of 10 s, at 2 s a prompt and 1.5 prompts a request."""
    scenario = world([node()], [Model(cpu=Curve((1.0,), (2.0,)))], slot_s=SLOT_S)
    assert highest_load(scenario, 1.5) == pytest.approx(0.95 * 10 / 3)


def test_highest_load_divides_a_gpu_in_time_and_saves_the_switching() -> None:
    """1 s and 3 s on one GPU, equally many: 0.95 * 10 / 4, without the loss of sharing it."""
    models = [Model(gpu=Curve((1.0,), (s,)), gpu_only=True) for s in (1.0, 3.0)]
    scenario = world([node(gpus=1)], models, switch_loss=LOSS, slot_s=SLOT_S)
    assert highest_load(scenario, 1.0, 1.0) == pytest.approx(0.95 * 10 / 4)


def test_highest_load_counts_the_nodes_that_are_up() -> None:
    scenario = world([node()] * 3, [Model()], slot_s=SLOT_S)
    assert highest_load(scenario, 1.0) == pytest.approx(3 * 9.5)
    assert highest_load(scenario, 1.0, up=[True, False, True]) == pytest.approx(2 * 9.5)
    assert highest_load(scenario, 1.0, up=[False] * 3) == 0.0


# Plans of the shipped testbeds


@pytest.mark.parametrize(("testbed", "profile"), [("paper", "a5000"), ("campus", "t4")])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_plans_are_feasible_and_serve_what_there_is(
    testbed: str, profile: str, share: float
) -> None:
    scenario = shipped(testbed, profile)
    program = Program(scenario)
    up = np.ones(len(scenario.testbed.nodes), np.bool_)
    prompts = np.array([4.5, 4.5, 2.0, 1.0])
    demand = Demand(np.full(4, share * program.highest_load(prompts, up)), prompts)
    plan = program.solve(demand, up, program.nothing())
    for n, a in enumerate(plan.allocation):
        assert feasible(scenario, n, a.mode, a.cores, a.vgpus)
        assert not plan.requests[n, ~a.active].any()
        for lms in a.servers():
            load = (plan.requests[n, lms] * prompts[lms] * a.prompt_s[lms]).sum()
            room = 1 - scenario.profile.switch_loss if len(lms) > 1 else 1
            assert load <= MAX_LOAD * scenario.slot_s * room * (1 + 1e-6)
    assert plan.requests.sum(axis=0) == pytest.approx(demand.requests, rel=0.02)


def test_the_same_question_has_the_same_answer() -> None:
    scenario = shipped()
    demand = Demand(np.array([5.0, 4.0, 6.0, 3.0]), np.array([4.5, 4.0, 5.0, 4.5]))
    one, two = solve(scenario, demand), solve(scenario, demand)
    assert np.array_equal(one.requests, two.requests)
    for a, b in zip(one.allocation, two.allocation, strict=True):
        assert np.array_equal(a.mode, b.mode)
        assert np.array_equal(a.cores, b.cores)


def test_nodes_that_are_down_serve_nothing_and_keep_what_they_have() -> None:
    scenario = shipped()
    program = Program(scenario)
    up = np.array([True, True, False, True, True, True])
    demand = Demand(np.full(4, 3.0), np.full(4, 4.5))
    before = program.solve(demand, np.ones(6, np.bool_), program.nothing())
    after = program.solve(demand, up, list(before.allocation))
    assert after.allocation[2] is before.allocation[2]
    assert not after.requests[2].any()
    assert after.requests.sum(axis=0) == pytest.approx(demand.requests, rel=0.02)


def test_allocations_stay_where_they_are() -> None:
    """The program says how many nodes of a kind take an allocation, not which: nodes that have it
    already keep it, wherever they stand in the testbed."""
    scenario = shipped()
    program = Program(scenario)
    demand, up = Demand(np.full(4, 4.5), np.full(4, 4.5)), np.ones(6, np.bool_)
    first = program.solve(demand, up, program.nothing())
    turned = [first.allocation[n] for n in (0, 4, 3, 2, 1, 5)]
    again = program.solve(demand, up, turned)
    assert all(a is b for a, b in zip(again.allocation, turned, strict=True))


def test_allocations_that_some_nodes_have_are_handed_out_before_new_ones() -> None:
    scenario = shipped()
    program = Program(scenario)
    demand, up = Demand(np.full(4, 4.5), np.full(4, 4.5)), np.ones(6, np.bool_)
    first = program.solve(demand, up, program.nothing()).allocation[1:5]
    kept = {id(a): sum(b is a for b in first) for a in first}
    assert len(kept) > 1  # nodes of this kind differ in the plan
    other = replace(first[0])  # an allocation that the plan has no use for
    for a in first:
        current = [program.nothing()[0], *[other] * 4, program.nothing()[5]]
        current[1 : 1 + kept[id(a)]] = [a] * kept[id(a)]
        again = program.solve(demand, up, current).allocation
        assert all(again[n] is a for n in range(1, 1 + kept[id(a)]))


def test_sixty_nodes_take_ten_times_the_load() -> None:
    """Nodes of a kind are one variable: ten of each serve ten times the demand."""
    one = shipped()
    nodes = [replace(n, name=f"{n.name}-{k}") for k in range(10) for n in one.testbed.nodes]
    ten = replace(one, testbed=replace(one.testbed, nodes=tuple(nodes)))
    prompts = np.full(4, 4.5)
    assert highest_load(ten, *prompts) == pytest.approx(10 * highest_load(one, *prompts))
    demand = Demand(np.full(4, 45.0), prompts)
    plan = solve(ten, demand)
    assert plan.requests.sum(axis=0) == pytest.approx(demand.requests, rel=0.02)
    assert len(plan.allocation) == 60


# Columns beside enumeration. ``most=0`` enumerates no kind of node.


def cost_with_shortage(plan: Plan, demand: Demand, loss: float = LOSS) -> float:
    short = np.maximum(0.0, demand.requests - plan.requests.sum(axis=0)).sum()
    return SHORTAGE * float(short) + true_cost(plan, demand, loss)


@given(st.integers(0, 2**16), st.integers(2, 4), st.sampled_from([1, 2]))
@settings(max_examples=5, deadline=None)
def test_columns_come_within_the_gap_of_enumeration(seed: int, lms: int, gpus: int) -> None:
    rng = np.random.default_rng(seed)
    models = [
        Model(cpu=Curve((2.0, 8.0), (3 * c, c)), gpu=Curve((1.0,), (g,)))
        for c, g in rng.uniform(0.3, 3, (lms, 2))
    ]
    machines = [node(cores=16, gpus=gpus, slices=2), node(cores=8)]
    scenario = world(machines, models, switch_loss=LOSS, slot_s=SLOT_S)
    demand = Demand(rng.uniform(0.2, 2, lms), rng.uniform(1, 2, lms))
    up = np.ones(2, np.bool_)
    whole, columns = Program(scenario), Program(scenario, most=0)
    best = cost_with_shortage(whole.solve(demand, up, whole.nothing()), demand)
    found = cost_with_shortage(columns.solve(demand, up, columns.nothing()), demand)
    assert found <= best * (1 + 2 * GAP) + 0.05


def test_columns_find_the_highest_load_of_enumeration() -> None:
    scenario, up = shipped(), np.ones(6, np.bool_)
    highest = Program(scenario).highest_load(np.ones(4), up)
    assert Program(scenario, most=0).highest_load(np.ones(4), up) == pytest.approx(highest, 0.01)


@pytest.mark.parametrize(("gpus", "slices"), [(8, 1), (8, 2), (2, 4)])
def test_eight_lms_are_planned_on_big_nodes(gpus: int, slices: int) -> None:
    """All that is asked for is served, and the deployers' allocation of a role runs it."""
    seconds = np.random.default_rng(3).uniform(0.3, 3, (8, 2))
    models = [Model(cpu=Curve((2.0, 8.0), (3 * c, c)), gpu=Curve((1.0,), (g,))) for c, g in seconds]
    machines = [node(cores=64, gpus=gpus, slices=slices)] * 2
    scenario = world(machines, models, switch_loss=LOSS, slot_s=SLOT_S)
    program, up = Program(scenario), np.ones(2, np.bool_)
    assert not any(kind.allocations for kind in find_kinds(scenario))
    load = 0.7 * program.highest_load(np.ones(8), up)
    demand = Demand(np.full(8, load), np.ones(8))
    plan = program.solve(demand, up, program.nothing())
    assert plan.requests.sum(axis=0) == pytest.approx(demand.requests)
    for n, allocation in enumerate(plan.allocation):
        assert feasible(scenario, n, allocation.mode, allocation.cores, allocation.vgpus)
        own = program.best(n, allocation.active, plan.requests[n], demand)
        assert np.array_equal(own.active, allocation.active)
        assert cost(own, plan.requests[n], demand.prompts, SLOT_S, LOSS) <= 1.2 * cost(
            allocation, plan.requests[n], demand.prompts, SLOT_S, LOSS
        )
