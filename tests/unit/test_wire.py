"""What crosses a wire comes out as it went in, bit for bit, and names that nobody knows do not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from controller import wire
from controller.domain.decisions import (
    REFUSE,
    Demand,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    RoutingPlan,
    Stamp,
)
from controller.domain.errors import InvalidDecision
from controller.domain.state import CPU, GPU, OFF, UNKNOWN, ClusterState, join_rows, take_rows
from tests.unit.policies.states import idle, shipped, telemetry

SCENARIO = shipped()
TESTBED = SCENARIO.testbed
SHAPE = len(TESTBED.nodes), len(TESTBED.lms)
amounts = st.floats(0.0, 1e6, allow_nan=False)


def crossed(content: Any) -> Any:
    return json.loads(json.dumps(content, allow_nan=False))


@st.composite
def policies(draw: st.DrawFn) -> MacroPolicy:
    def of_lms() -> Any:
        return draw(arrays(np.float64, SHAPE[1], elements=amounts))

    return MacroPolicy(
        routing=draw(arrays(np.float64, SHAPE, elements=st.floats(0.0, 1.0))) + 0.0,
        roles=draw(arrays(np.bool_, SHAPE)),
        demand=Demand(of_lms(), of_lms()) if draw(st.booleans()) else None,
        served=of_lms() if draw(st.booleans()) else None,
    )


plans = arrays(np.int64, SHAPE, elements=st.integers(REFUSE, SHAPE[0] - 1)).map(RoutingPlan)


@settings(max_examples=50, deadline=None)
@given(policies(), plans | st.none(), st.integers(0, 99), st.booleans())
def test_orders_come_out_as_they_went_in(
    policy: MacroPolicy, plan: RoutingPlan | None, slot: int, final: bool
) -> None:
    orders = Orders(Stamp(slot, 1), InForce(policy, slot, plan, slot - 1), final)
    sent = crossed(wire.orders_to_wire(TESTBED, orders))
    assert wire.orders_from_wire(TESTBED, sent) == orders


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_deployments_come_out_as_they_went_in(data: st.DataObject) -> None:
    mode = data.draw(arrays(np.int64, SHAPE, elements=st.sampled_from([OFF, CPU, GPU])))
    cores = data.draw(arrays(np.float64, SHAPE, elements=amounts))
    made = Deployment(mode, np.where(mode == OFF, 0.0, cores), np.where(mode == GPU, 2, 0))
    rows = np.array([1, 4])
    mine = Deployment(made.mode[rows], made.cores[rows], made.vgpus[rows])
    sent = crossed(wire.deployment_to_wire(TESTBED, rows, mine))
    assert set(sent) == {TESTBED.node_names[1], TESTBED.node_names[4]}
    assert wire.deployment_from_wire(TESTBED, rows, sent) == mine


def state() -> ClusterState:
    """A state in which every field of every pod is a number of its own."""
    rng = np.random.default_rng(0)
    return idle(
        SCENARIO,
        slot=7,
        heard_s=rng.random(SHAPE[0]) * 240,
        up=rng.random(SHAPE[0]) > 0.5,
        want_slot=np.arange(SHAPE[0]),
        backlog=rng.integers(0, 99, SHAPE),
        mode=rng.integers(0, 3, SHAPE),
        cores=rng.random(SHAPE),
        vgpus=rng.integers(0, 3, SHAPE),
        cards=rng.integers(UNKNOWN, 8, SHAPE),
        pod=rng.integers(0, 5, SHAPE),
        want_mode=rng.integers(0, 3, SHAPE),
        want_cores=rng.random(SHAPE),
        want_vgpus=rng.integers(0, 3, SHAPE),
        arrived_prompts=rng.integers(0, 99, SHAPE),
        arrived_requests=rng.integers(0, 9, SHAPE),
        busy_s=rng.random(SHAPE) * 30,
    )


def same(one: ClusterState, other: ClusterState) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and np.asarray(getattr(one, name)).dtype == np.asarray(getattr(other, name)).dtype
        for name in ClusterState.__slots__
    )


@pytest.mark.parametrize("rows", [range(6), [3], [0, 5]])
def test_states_come_out_as_they_went_in(rows: list[int]) -> None:
    part = take_rows(state(), np.array(rows))
    assert same(wire.state_from_wire(TESTBED, crossed(wire.state_to_wire(TESTBED, part))), part)


def test_every_field_of_a_state_crosses() -> None:
    """A new field that the wire forgets would be missed here."""
    assert same(
        wire.state_from_wire(TESTBED, crossed(wire.state_to_wire(TESTBED, state()))), state()
    )


def test_rows_join_to_the_whole_whatever_order_they_come_in() -> None:
    parts = [take_rows(state(), np.array([n])) for n in (4, 0, 5, 2, 1, 3)]
    assert same(join_rows(parts), state())


def test_gpus_that_nobody_told_are_null_and_none_is_an_empty_list() -> None:
    assert [wire.gpus_of(mask) for mask in (UNKNOWN, 0, 1, 6)] == [None, [], [0], [1, 2]]


def test_telemetry_comes_out_as_it_went_in() -> None:
    seen = telemetry([0.5, 1.5, 2.0, 0.0], [1.0, 2.0, 3.0, 1.0])
    back = wire.telemetry_from_wire(TESTBED, crossed(wire.telemetry_to_wire(TESTBED, seen)))
    for name in type(seen).__slots__:
        assert np.array_equal(getattr(back, name), getattr(seen, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w["policy"]["routing"].pop("LM2"), "LM2 has no entry"),
        (lambda w: w["policy"]["routing"].update(LM9={}), "'LM9' is no LM of the testbed"),
        (lambda w: w["policy"]["roles"].update(vm99=[]), "'vm99' is no node of the testbed"),
        (lambda w: w["policy"]["routing"]["LM1"].update(vm99=1.0), "'vm99' is no node"),
        (lambda w: w["plan"]["LM1"].update(vm2="vm99"), "'vm99' is no node"),
        (lambda w: w["plan"]["LM1"].pop("vm2"), "vm2 has no entry"),
    ],
)
def test_unknown_names_are_refused_and_the_choices_named(change: Any, message: str) -> None:
    policy = MacroPolicy(np.full(SHAPE, 1 / SHAPE[0]), np.ones(SHAPE, np.bool_))
    orders = Orders(Stamp(0), InForce(policy, 0, RoutingPlan(np.zeros(SHAPE, np.int64)), 0))
    sent = crossed(wire.orders_to_wire(TESTBED, orders))
    change(sent)
    with pytest.raises(InvalidDecision, match=message):
        wire.orders_from_wire(TESTBED, sent)


def put(*path: Any) -> Any:
    """A change that puts the last of ``path`` where the others lead."""

    def change(sent: Any) -> None:
        *way, last, value = path
        for step in way:
            sent = sent[step]
        sent[last] = value

    return change


def refused(read: Any, sent: Any, change: Any, *given: Any) -> None:
    sent = crossed(sent)
    read(TESTBED, *given, sent)
    change(sent)
    with pytest.raises(InvalidDecision):
        read(TESTBED, *given, sent)


ODD = [None, "7", True, [1], {}, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize("value", [*ODD, -2], ids=lambda value: str(value)[:9])
@pytest.mark.parametrize(
    "path",
    [
        ("slot",),
        ("sequence",),
        ("policy_slot",),
        ("plan_slot",),
        ("policy", "routing", "LM1", "vm2"),
        ("policy", "demand", "prompts", "LM1"),
        ("policy", "served", "LM1"),
        ("policy", "roles", "vm2", 0),
        ("plan", "LM1"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_orders_with_a_value_that_cannot_be_are_refused(path: Any, value: Any) -> None:
    some = np.ones(SHAPE[1])
    policy = MacroPolicy(np.full(SHAPE, 0.5), np.ones(SHAPE, np.bool_), Demand(some, some), some)
    orders = Orders(Stamp(0), InForce(policy, 0, RoutingPlan(np.zeros(SHAPE, np.int64)), 0))
    refused(wire.orders_from_wire, wire.orders_to_wire(TESTBED, orders), put(*path, value))


@pytest.mark.parametrize(
    "change",
    [
        put("final", "false"),
        put("final", 0),
        put("slot", 1.5),
        put("policy", None),
        put("policy", "demand", {}),
        put("policy", "roles", "vm2", ["LM9"]),
        lambda sent: sent.pop("final"),
        lambda sent: sent.pop("sequence"),
    ],
)
def test_orders_of_another_shape_are_refused(change: Any) -> None:
    policy = MacroPolicy(np.full(SHAPE, 0.5), np.ones(SHAPE, np.bool_))
    sent = wire.orders_to_wire(TESTBED, Orders(Stamp(0), InForce(policy)))
    refused(wire.orders_from_wire, sent, change)


@pytest.mark.parametrize(
    "change",
    [
        *(put("vm2", "LM1", name, value) for name in ("cores", "vgpus") for value in [*ODD, -1]),
        put("vm2", "LM1", "vgpus", 1.5),
        put("vm2", "LM1", "mode", "tpu"),
        put("vm2", "LM1", None),
        put("vm2", ["LM1"]),
        lambda sent: sent["vm2"]["LM1"].pop("vgpus"),
        lambda sent: sent["vm2"]["LM1"].pop("cores"),
        lambda sent: sent.pop("vm2"),
    ],
)
def test_deployments_that_cannot_have_been_sent_are_refused(change: Any) -> None:
    rows = np.array([TESTBED.node_names.index("vm2")])
    mode = np.full((1, SHAPE[1]), GPU)
    sent = wire.deployment_to_wire(TESTBED, rows, Deployment(mode, mode + 0.5, mode))
    refused(wire.deployment_from_wire, sent, change, rows)


@pytest.mark.parametrize(
    "value", [v for v in ODD if v is not True], ids=lambda value: str(value)[:9]
)
@pytest.mark.parametrize("rows", [range(6), [1]])
def test_states_with_a_value_that_cannot_be_are_refused(rows: list[int], value: Any) -> None:
    sent = wire.state_to_wire(TESTBED, take_rows(state(), np.array(rows)))
    node = TESTBED.node_names[1]
    pod = ("nodes", node, "pods", "LM1")
    for path in (
        ("time_s",), ("slot",), ("nodes", node, "up"), ("nodes", node, "heard_s"),
        ("nodes", node, "want_slot"), (*pod, "backlog"), (*pod, "busy_s"), (*pod, "mode"),
    ):  # fmt: skip
        refused(wire.state_from_wire, sent, put(*path, value))


def test_a_state_with_a_gpu_that_no_machine_has_is_refused() -> None:
    sent = wire.state_to_wire(TESTBED, state())
    for gpu in (-1, 63, 10**12):
        path = ("nodes", TESTBED.node_names[1], "pods", "LM1", "cards")
        refused(wire.state_from_wire, sent, put(*path, [gpu]))


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:9])
def test_telemetry_with_a_value_that_cannot_be_is_refused(value: Any) -> None:
    sent = wire.telemetry_to_wire(TESTBED, telemetry([0.5, 1.5, 2.0, 0.0]))
    for path in (("first_slot",), ("lms", "LM1", "failed"), ("lms", "LM1", "latency_sum_s")):
        refused(wire.telemetry_from_wire, sent, put(*path, value))
