"""Mode advise: the incumbent's decisions are applied, the adviser's are noted beside them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from controller.agents.advice import AdvisedDeployer, AdvisedPlanner, AdvisedScheduler
from controller.domain.decisions import (
    FALLBACK,
    OK,
    REFUSE,
    Advice,
    Call,
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.errors import EdgelmError, Permanent, Transient
from controller.domain.state import CPU, GPU, OFF
from tests.unit.agents.epochs import LEFT, THIRDS, before, cluster, outcomes, policy

TESTBED = cluster().testbed
MINE = Call(1.0)
ADVICE = Call(9.0, FALLBACK, "thought", 100, 10, 0.5)
LOCAL = RoutingPlan(np.array([[0, 0], [1, 1], [2, 2]]))


@dataclass
class Says:
    """Any tier that always decides the same."""

    decision: Decision[Any] | None
    error: EdgelmError = field(default_factory=lambda: Transient("nobody there"))

    async def plan(self, *seen: object) -> Decision[Any]:
        await asyncio.sleep(0)
        if self.decision is None:
            raise self.error
        return self.decision

    schedule = deploy = plan


def planned(advised: Says, call: Call = MINE) -> Decision[MacroPolicy]:
    planner = AdvisedPlanner(Says(Decision(LEFT, (call,))), advised, TESTBED)
    return asyncio.run(planner.plan(before(4), outcomes(4), None))


def test_the_incumbents_policy_is_applied_in_its_own_time() -> None:
    decision = planned(Says(Decision(THIRDS, (ADVICE,))))
    assert decision.value is LEFT
    (call,) = decision.calls
    assert (call.took_s, call.outcome) == (1.0, "ok")
    assert (call.tokens_in, call.tokens_out, call.cost_usd) == (100, 10, 0.5)


def test_where_policies_differ_is_noted() -> None:
    advised = Decision(policy([0, 1, 0], [0.5, 0.5, 0]), (Call(),))
    decision = planned(Says(advised), Call(detail="mine"))
    (call,) = decision.calls
    assert call.detail == "mine"
    assert call.advice == Advice(OK, ("LM1 VM1->VM2 (100% of it)", "-LM1 on VM1", "+LM1 on VM2"))


def test_agreement_is_noted_with_the_advisers_outcome() -> None:
    decision = planned(Says(Decision(LEFT, (ADVICE,))))
    assert decision.calls[0].advice == Advice(FALLBACK)


def test_a_transcript_that_does_not_fit_ends_an_advised_run_too() -> None:
    with pytest.raises(Permanent, match="ends here"):
        planned(Says(None, Permanent("the transcript ends here")))


def test_an_adviser_that_fails_disturbs_nothing() -> None:
    decision = planned(Says(None))
    assert decision.value is LEFT
    assert decision.calls[0] == Call(1.0, advice=Advice(FALLBACK, fault="nobody there"))


@pytest.mark.parametrize(
    ("mine", "cost_usd"),
    [
        (Call(), 0.5),
        (Call(tokens_in=1, cost_usd=0.25), 0.75),
        (Call(tokens_in=1), None),
    ],
)
def test_a_cost_is_known_if_that_of_all_tokens_is(mine: Call, cost_usd: float | None) -> None:
    decision = planned(Says(Decision(LEFT, (ADVICE,))), mine)
    assert decision.calls[0].cost_usd == cost_usd


def test_where_routing_plans_differ_is_noted() -> None:
    advised = LOCAL.destination.copy()
    advised[1, 0], advised[2, 1] = 0, REFUSE
    adviser = Says(Decision(RoutingPlan(advised)))
    scheduler = AdvisedScheduler(Says(Decision(LOCAL)), adviser, TESTBED)
    decision = asyncio.run(scheduler.schedule(before(4), InForce(LEFT)))
    assert decision.value is LOCAL
    assert decision.calls[0].advice == Advice(
        OK, ("LM1 of VM2 VM2->VM1", "LM2 of VM3 VM3->refused")
    )


def test_deployments_are_compared_row_by_row() -> None:
    mine = Deployment(
        np.array([[CPU, OFF], [OFF, OFF], [GPU, OFF]]),
        np.array([[4.0, 0], [0, 0], [0, 0]]),
        np.array([[0, 0], [0, 0], [1, 0]]),
    )
    advised = Deployment(
        np.array([[CPU, OFF], [OFF, CPU], [GPU, OFF]]),
        np.array([[8.0, 0], [0, 2.0], [0, 0]]),
        mine.vgpus,
    )
    calls = (Call(0.1), Call(0.2), Call(0.3))
    deployer = AdvisedDeployer(
        Says(Decision(mine, calls)), Says(Decision(advised, (ADVICE,) * 3)), TESTBED
    )
    decision = asyncio.run(deployer.deploy(before(4), InForce(LEFT)))
    assert decision.value is mine
    assert [call.took_s for call in decision.calls] == [0.1, 0.2, 0.3]
    assert [call.tokens_in for call in decision.calls] == [100] * 3
    assert [call.advice for call in decision.calls] == [
        Advice(FALLBACK, ("LM1 cpu 4 cores->cpu 8 cores",)),
        Advice(FALLBACK, ("LM2 off->cpu 2 cores",)),
        Advice(FALLBACK),
    ]
