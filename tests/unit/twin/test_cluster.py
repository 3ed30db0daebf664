"""The twin behind its ports."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_array_equal

from controller.domain.decisions import RoutingPlan, Stamp
from controller.domain.requests import Requests
from controller.domain.state import ClusterState, Telemetry
from controller.twin.cluster import Twin
from tests.reference.cases import Case, cases
from tests.reference.playback import orders
from tests.reference.worlds import Ask, Model, node, on_cpu, requests, slot, world


async def telemetry_of_every_slot(case: Case, extra: int) -> tuple[Twin, list[Telemetry]]:
    """Outcomes slot by slot, ``extra`` slots longer than there are births."""
    twin = Twin(case.scenario, case.requests, case.outages)
    known = []
    for t in range(twin.slots + extra):
        commands = case.script[min(t, len(case.script) - 1)]
        await twin.announce(orders(t, commands.plan), commands.route_thought_s)
        await twin.deploy(Stamp(t), commands.deployment, commands.deploy_thought_s)
        await twin.sleep_until((t + 1) * case.scenario.slot_s)
        known.append(await twin.telemetry(t))
    return twin, known


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_every_outcome_becomes_known_once(case: Case) -> None:
    extra = int(case.scenario.tau_s / case.scenario.slot_s) + 2
    twin, known = asyncio.run(telemetry_of_every_slot(case, extra))
    lm, failure = twin.records["lm"], twin.records["failure"]
    lms = len(case.scenario.testbed.lms)
    none = np.zeros(lms, np.int64)
    succeeded = sum((t.succeeded for t in known), none)
    assert_array_equal(succeeded, np.bincount(lm[failure == 0], minlength=lms))
    failed = sum((t.failed for t in known), none)
    assert_array_equal(failed, np.bincount(lm[failure > 0], minlength=lms))
    arrived = sum((t.arrived_requests for t in known), none)
    assert_array_equal(arrived, np.bincount(lm, minlength=lms))
    prompts = sum((t.arrived_prompts for t in known), none)
    assert_array_equal(prompts, np.bincount(lm, case.requests.prompts, minlength=lms))
    latency_s = (twin.records["returned_s"] - twin.records["born_s"])[failure == 0]
    total_s = sum(float(t.latency_sum_s.sum()) for t in known)
    assert total_s == pytest.approx(float(latency_s.sum()))


def two_births() -> tuple[Twin, RoutingPlan]:
    scenario = world([node()], [Model()])
    asks = requests(scenario, [Ask(0.0, prompts=3), Ask(12.0, prompts=2)])
    return Twin(scenario, asks), slot([[on_cpu(1)]]).plan


def test_births_are_seen_when_their_slot_has_ended() -> None:
    """Deployers, who decide after the requests have been routed, once saw them before."""
    twin, plan = two_births()

    async def seen() -> list[ClusterState]:
        states = []
        for t in (1, 2, 3):
            await twin.announce(orders(t - 1, plan), 0.0)
            states.append(await twin.observe())
            await twin.sleep_until(10.0 * t)
        return [*states, await twin.observe()]

    states = asyncio.run(seen())
    assert [s.arrived_prompts[0, 0] for s in states] == [0, 3, 2, 0]
    assert [s.arrived_requests[0, 0] for s in states] == [0, 1, 1, 0]
    assert [s.slot for s in states] == [-1, 0, 1, 2]


def test_a_state_once_observed_does_not_change() -> None:
    twin, plan = two_births()

    async def seen() -> tuple[ClusterState, int]:
        before = await twin.observe()
        await twin.announce(orders(0, plan), 0.0)
        await twin.deploy(Stamp(0), slot([[on_cpu(1)]]).deployment, np.zeros(1))
        await twin.sleep_until(10.0)
        return before, int((await twin.observe()).pod[0, 0])

    before, after = asyncio.run(seen())
    assert (before.pod[0, 0], before.want_mode[0, 0], before.time_s, after) == (0, 0, 0.0, 3)


def test_a_refusal_is_known_in_the_slot_of_its_birth() -> None:
    """Those born on a boundary once fell between two windows."""
    scenario = world([node()], [Model()])
    twin = Twin(scenario, requests(scenario, [Ask(0.0), Ask(10.0), Ask(13.0)]))
    refusal = RoutingPlan(np.array([[-1]]))

    async def failed() -> list[int]:
        counts = []
        for t in range(3):
            await twin.announce(orders(t, refusal), 0.0)
            await twin.sleep_until(10.0 * (t + 1))
            counts.append(int((await twin.telemetry(t)).failed[0]))
        return [*counts, int((await twin.telemetry(0)).failed[0])]

    assert asyncio.run(failed()) == [1, 2, 0, 3]


def test_a_run_without_requests_is_settled() -> None:
    scenario = world([node()], [Model()])
    empty = np.zeros(0, np.int64)
    nothing = np.zeros(0)
    twin = Twin(scenario, Requests(empty, empty, empty, empty, nothing, nothing, nothing, nothing))
    assert twin.slots == 0
    assert asyncio.run(twin.settled())
    assert_array_equal(asyncio.run(twin.telemetry(0)).failed, [0])


def test_settled_waits_for_results_on_their_way() -> None:
    twin, plan = two_births()

    async def settled() -> list[bool]:
        answers = []
        for t in range(2):
            await twin.announce(orders(t, plan), 0.0)
            await twin.deploy(Stamp(t), slot([[on_cpu(1)]]).deployment, np.zeros(1))
            answers.append(await twin.settled())
            await twin.sleep_until(10.0 * (t + 1))
        return [*answers, await twin.settled()]

    assert asyncio.run(settled()) == [False, False, True]


def test_plans_and_deployments_may_be_of_any_integer_type_and_order() -> None:
    """Anything else than 64 bits in C order would be compiled anew, or read wrongly."""
    twin, plan = two_births()
    wishes = slot([[on_cpu(1)]]).deployment
    odd = type(wishes)(wishes.mode.astype(np.int8), wishes.cores.astype(np.float32), wishes.vgpus.T)

    async def go() -> int:
        narrow = RoutingPlan(plan.destination.astype(np.int32).T)
        await twin.announce(orders(0, narrow), 0.0)
        await twin.deploy(Stamp(0), odd, np.zeros(1))
        await twin.sleep_until(10.0)
        return int((await twin.observe()).pod[0, 0])

    assert asyncio.run(go()) == 3
