"""The scheduling agent over replies that are written down: one shard, many shards, what is late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from controller.agents.chat import Ask, Completion
from controller.agents.replies import ELSEWHERE_WORD, REFUSE_WORD
from controller.agents.scheduler import SHARD_NODES, SchedulerAgent, split
from controller.agents.views import cluster_context, pod_json, policy_json
from controller.domain.decisions import (
    REFUSE,
    Call,
    Decision,
    Demand,
    InForce,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.errors import Permanent
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.policies.intent import PlannedScheduler
from tests.reference.worlds import Model, node, world
from tests.unit.agents.epochs import LEFT, cluster
from tests.unit.agents.epochs import policy as shares
from tests.unit.agents.scripted import PROMPTS, Broken, Scripted, context, fails, observed, says
from tests.unit.policies.states import idle, open_policy

Ints = NDArray[np.int64]

LATE_S = 10.5  # of slots of 10 s
HOME = ["VM1", "VM2", "VM3"]
HALVES = shares([0.5, 0.5, 0], [0.5, 0.5, 0])
VIEWED = {"slot", "policy", "drift", "nodes_down", "expected_prompts", "pods"}


@dataclass
class Planned:
    """A fallback that sends every request to one node and keeps what is in force."""

    to: int = 1
    asked: int = 0
    seen: list[InForce] = field(default_factory=list)

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        self.asked += 1
        self.seen.append(in_force)
        return Decision(RoutingPlan(np.full(state.backlog.shape, self.to)), (Call(99.0),))


def plan(*columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """A reply for VM1 to VM3: destinations by LM."""
    return {
        f"LM{i}": dict(zip(HOME, column, strict=True)) for i, column in enumerate(columns, start=1)
    }


GOOD = plan(["VM1"] * 3, ["VM1", "VM2", REFUSE_WORD])
OFF_ROLE = plan(["VM2"] * 3, ["VM3"] * 3)


class Played:
    """An agent of the small cluster that is answered these things in turn, a decision each."""

    def __init__(self, *replies: Completion, fallback: Any = None) -> None:
        self.scenario, lines = cluster(), list(replies)
        self.script = Scripted(lambda _: lines.pop(0))
        self.fallback = fallback or Planned()
        step = self.script.step(self.scenario.slot_s)
        self.agent = SchedulerAgent(self.scenario, step, PROMPTS, self.fallback)
        self.slot = -1
        self.plan: RoutingPlan | None = None  # in force

    def decide(self, policy: MacroPolicy = LEFT, **state: Any) -> Decision[RoutingPlan]:
        seen = idle(self.scenario, slot=self.slot, **state)
        in_force = InForce(policy, 0, self.plan, self.slot)
        self.slot += 1
        decision = asyncio.run(self.agent.schedule(seen, in_force))
        if self.plan is None or not decision.calls[0].outlasts(self.scenario.slot_s):
            self.plan = decision.value
        return decision


def test_what_the_model_is_told() -> None:
    played, policy = Played(says(GOOD)), replace(LEFT, demand=Demand(np.ones(2), np.full(2, 6.0)))
    state = idle(played.scenario, backlog=[[3, 0], [0, 0], [0, 0]])
    played.decide(policy, backlog=state.backlog, up=[True, True, False])
    (ask,) = played.script.asks
    assert (ask.slot, ask.tier, ask.node, ask.name) == (0, "scheduler", "", "routing_plan")
    assert context(ask) == {**cluster_context(played.scenario, "scheduler"), "shard": False}
    told = observed(ask)
    assert set(told) == VIEWED
    assert told["policy"] == policy_json(played.scenario, policy)
    assert told["drift"] == {"LM1": 0.0, "LM2": 0.0}
    assert told["nodes_down"] == ["VM3"]
    assert told["expected_prompts"] == {name: {"LM1": 2.0, "LM2": 2.0} for name in HOME}
    assert told["pods"]["VM1"] == pod_json(state, 0, ["LM1", "LM2"])


def test_a_good_reply_is_the_plan() -> None:
    played = Played(says(GOOD))
    decision = played.decide()
    assert decision.value.destination.tolist() == [[0, 0], [0, 1], [0, REFUSE]]
    assert decision.calls == (Call(1.0, "ok", "", 100, 10, 0.5, drift=0.0),)
    assert played.fallback.asked == 0


def test_a_plan_off_role_is_sent_back_and_then_left_to_the_fallback() -> None:
    played = Played(says(OFF_ROLE), says(GOOD), says(OFF_ROLE), says(OFF_ROLE))
    repaired, given_up = played.decide(), played.decide()
    assert "LM1 from VM1 to VM2: off-role" in str(played.script.asks[1].messages[-1]["content"])
    assert repaired.calls[0].outcome == "repaired"
    assert repaired.value.destination.tolist() == [[0, 0], [0, 1], [0, REFUSE]]
    assert given_up.calls[0].outcome == "fallback"
    assert "off-role" in given_up.calls[0].detail
    assert np.all(given_up.value.destination == 1)
    assert given_up.calls[0].took_s == 2.0


def test_the_drift_is_that_of_the_plans_in_force() -> None:
    """Half of the split each. VM1 gets all of slot 0. The plan of slot 1, all to VM2, is late, so
    VM1 gets that slot's, too: the model is told 0.5 in slot 2, and so is whoever reads on."""
    all_to = [says(plan([name] * 3, [name] * 3)) for name in ("VM1", "VM2", "VM1")]
    played = Played(all_to[0], replace(all_to[1], took_s=LATE_S), all_to[2])
    came = {"arrived_prompts": np.full((3, 2), 4), "arrived_requests": np.ones((3, 2))}
    played.decide(HALVES)
    played.decide(HALVES, **came)
    decision = played.decide(HALVES, **came)
    assert observed(played.script.asks[-1])["drift"] == {"LM1": 0.5, "LM2": 0.5}
    assert decision.calls[0].drift == 0.5


def test_the_fallback_learns_from_the_plan_that_is_in_force() -> None:
    """The second plan is late, so the first one still holds when the fallback is asked."""
    late = says(plan(["VM1"] * 3, ["VM2"] * 3), took_s=LATE_S)
    played = Played(says(GOOD), late, fails())
    for _ in range(3):
        played.decide()
    (seen,) = played.fallback.seen
    assert seen.plan is not None
    assert seen.plan.destination.tolist() == [[0, 0], [0, 1], [0, REFUSE]]


# Shards


def two_sites(first: int, second: int) -> Scenario:
    """One LM on nodes a0, a1, ... and b0, b1, ..."""
    bare = world([node()] * (first + second), [Model(gpu=None)])
    names = [("a", k) for k in range(first)] + [("b", k) for k in range(second)]
    nodes = tuple(
        replace(one, name=f"{site}{k}", site=site)
        for one, (site, k) in zip(bare.testbed.nodes, names, strict=True)
    )
    return replace(bare, testbed=replace(bare.testbed, nodes=nodes))


SITES = two_sites(6, 12)
NAMES = SITES.testbed.node_names


def everywhere(reply: Mapping[str, str], ask: Ask) -> Completion:
    """Each shard, known by its first origin, sends all of its requests to one place."""
    origins = observed(ask)["pods"]
    return says({"lm0": dict.fromkeys(origins, reply[ask.node])})


def sharded(script: Scripted, fallback: Any, scenario: Scenario = SITES) -> SchedulerAgent:
    return SchedulerAgent(scenario, script.step(scenario.slot_s), PROMPTS, fallback)


def test_large_clusters_are_split_by_site() -> None:
    assert [rows.tolist() for rows in split(SITES, SHARD_NODES)] == [
        list(range(6)), list(range(6, 18)),
    ]  # fmt: skip
    assert [len(rows) for rows in split(two_sites(20, 3), SHARD_NODES)] == [16, 4, 3]
    assert [len(rows) for rows in split(two_sites(10, 6), SHARD_NODES)] == [16]


def test_shards_are_merged_and_elsewhere_is_as_planned() -> None:
    script = Scripted(lambda ask: everywhere({"a0": "a2", "b0": ELSEWHERE_WORD}, ask))
    agent = sharded(script, Planned(to=5))
    decision = asyncio.run(agent.schedule(idle(SITES), InForce(open_policy(SITES))))
    assert decision.value.destination[:, 0].tolist() == [2] * 6 + [5] * 12
    assert decision.calls == (Call(1.0, "ok", "", 200, 20, 1.0, drift=0.0),)
    assert [ask.node for ask in script.asks] == ["a0", "b0"]


def test_a_shards_destinations_are_rows_of_the_whole_cluster() -> None:
    script = Scripted(lambda ask: everywhere({"a0": REFUSE_WORD, "b0": "b3"}, ask))
    fallback = Planned()
    decision = asyncio.run(
        sharded(script, fallback).schedule(idle(SITES), InForce(open_policy(SITES)))
    )
    assert decision.value.destination[:, 0].tolist() == [REFUSE] * 6 + [9] * 12
    assert fallback.asked == 0


def test_a_shard_is_told_its_own_part_and_the_drift_of_all() -> None:
    script = Scripted(lambda ask: everywhere({"a0": "a0", "b0": "b0"}, ask))
    share = np.zeros((18, 1))
    share[[0, 6]] = [[0.25], [0.75]]
    policy = MacroPolicy(share, share > 0)
    asyncio.run(
        sharded(script, Planned()).schedule(idle(SITES, up=[True] * 17 + [False]), InForce(policy))
    )
    routing = [observed(ask)["policy"]["routing"]["lm0"] for ask in script.asks]
    assert routing == [{"a0": 0.25}, {"b0": 0.75}]
    for ask, names, down in zip(script.asks, (NAMES[:6], NAMES[6:]), ([], ["b11"]), strict=True):
        told = observed(ask)
        assert list(told["pods"]) == list(told["expected_prompts"]) == list(names)
        assert list(told["policy"]["roles"]) == list(names)
        assert told["nodes_down"] == down
        assert context(ask)["shard"] is True


def first_fails(ask: Ask) -> Completion:
    return fails() if ask.node == "a0" else says({"lm0": dict.fromkeys(NAMES[6:], "b1")})


def test_a_shard_that_fails_leaves_its_own_origins_to_the_fallback() -> None:
    agent = sharded(Scripted(first_fails), Planned(to=5))
    decision = asyncio.run(agent.schedule(idle(SITES), InForce(open_policy(SITES))))
    assert decision.value.destination[:, 0].tolist() == [5] * 6 + [7] * 12
    (call,) = decision.calls
    assert (call.outcome, call.detail) == ("fallback", "HTTP 500: down")
    assert (call.tokens_in, call.tokens_out) == (100, 10)
    assert call.cost_usd is None  # of a failed call nobody knows it


@pytest.mark.parametrize("cost_usd", [0.5, None])
def test_a_late_shard_makes_the_whole_plan_late(cost_usd: float | None) -> None:
    """It is as late as its last shard."""
    slow, answers = False, {"a0": "a2", "b0": "b1"}

    def reply(ask: Ask) -> Completion:
        late = slow and ask.node == "b0"
        return replace(everywhere(answers, ask), took_s=LATE_S if late else 1.0, cost_usd=cost_usd)

    agent = sharded(Scripted(reply), Planned())
    asyncio.run(agent.schedule(idle(SITES), InForce(open_policy(SITES))))
    slow, answers = True, {"a0": "a1", "b0": "b2"}
    decision = asyncio.run(agent.schedule(idle(SITES, slot=0), InForce(open_policy(SITES))))
    (call,) = decision.calls
    assert (call.took_s, call.tokens_in) == (LATE_S, 200)
    assert call.cost_usd == (1.0 if cost_usd else None)


def test_the_worst_outcome_of_the_shards_is_the_plans() -> None:
    lines = {"a0": [fails(late=True)], "b0": [says("?"), says("?")]}
    script = Scripted(lambda ask: lines[ask.node].pop(0))
    (call,) = asyncio.run(
        sharded(script, Planned()).schedule(idle(SITES), InForce(open_policy(SITES)))
    ).calls
    assert (call.outcome, call.took_s) == ("late", 2.0)


def test_elsewhere_makes_up_for_what_the_shards_keep() -> None:
    """A third each for a0, a1 and b0. Site a keeps its third of the prompts at a0, so all that b
    sends elsewhere must go to a1 and b0: the split comes out as planned, to a request or two."""
    share = np.zeros((18, 1))
    share[[0, 1, 6]] = 1 / 3
    policy, born = MacroPolicy(share, share > 0), np.full((18, 1), 3)
    script = Scripted(lambda ask: everywhere({"a0": "a0", "b0": ELSEWHERE_WORD}, ask))
    agent = sharded(script, PlannedScheduler(SITES, np.random.default_rng(0)))
    came = np.zeros(18)

    async def play() -> None:
        plan = None
        for slot in range(20):
            seen = idle(SITES, slot=slot - 1, arrived_prompts=born * (slot > 0))
            plan = (await agent.schedule(seen, InForce(policy, 0, plan, slot - 1))).value
            np.add.at(came, plan.destination[:, 0], born[:, 0])

    asyncio.run(play())
    assert came[[0, 1, 6]] == pytest.approx([360, 360, 360], abs=20)
    assert observed(script.asks[-1])["drift"]["lm0"] <= 0.02


def test_a_plan_that_nobody_else_made_is_booked_too() -> None:
    """All shards fail: the fallback is on its own, and keeps to the split slot by slot."""
    share = np.zeros((18, 1))
    share[[0, 6]] = [[0.25], [0.75]]
    policy, born = MacroPolicy(share, share > 0), np.full((18, 1), 3)
    script = Scripted(lambda ask: fails())
    agent = sharded(script, PlannedScheduler(SITES, np.random.default_rng(0)))
    plan = None
    for slot in range(20):
        seen = idle(SITES, slot=slot - 1, arrived_prompts=born * (slot > 0))
        plan = asyncio.run(agent.schedule(seen, InForce(policy, 0, plan, slot - 1))).value
    assert observed(script.asks[-1])["drift"]["lm0"] <= 0.01


def test_when_one_call_cannot_be_made_the_others_stop_and_its_error_is_told() -> None:
    broken = Broken("b0")

    async def play() -> None:
        with pytest.raises(Permanent, match="nobody to ask"):
            await sharded(broken, Planned()).schedule(idle(SITES), InForce(open_policy(SITES)))
        assert broken.stopped == ["a0"]

    asyncio.run(play())
