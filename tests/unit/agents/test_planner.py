"""The planning agent over replies that are written down: what it is told, what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from controller.agents.advice import AdvisedPlanner
from controller.agents.approval import ApprovedPlanner
from controller.agents.cases import cluster_key
from controller.agents.chat import Completion, ToolCall
from controller.agents.guard import GuardedPlanner
from controller.agents.memory import CaseMemory
from controller.agents.planner import PlannerAgent
from controller.agents.views import cluster_context, policy_json
from controller.agents.what_if import NAME, TRIAL_S
from controller.domain.decisions import Call, Decision, InForce, MacroPolicy
from controller.domain.state import ClusterState, Telemetry
from controller.ports import Planner
from tests.unit.agents.epochs import EPOCH, LEFT, RIGHT, THIRDS, before, cluster, holds, outcomes
from tests.unit.agents.scripted import PROMPTS, Scripted, context, fails, observed, says
from tests.unit.agents.stores import fresh_store

LATE_S = 10.5  # of slots of 10 s
LOAD = {"requests_per_slot": 2.0, "prompts_per_request": 1.5}
BASELINE = "Random policies reach 0.5."
LAST = "The epoch that ended: "
BEST = "What did well before under a comparable load:\n- "
UP, DOWN = (True, True, True), (True, True, False)


def reply(policy: MacroPolicy, reason: str = "balance") -> dict[str, Any]:
    told = policy_json(cluster(), policy)
    told["routing"] = {
        lm: {node: shares.get(node, 0.0) for node in ("VM1", "VM2", "VM3")}
        for lm, shares in told["routing"].items()
    }
    return {"reason": reason, **told, "forecast": {"LM1": LOAD, "LM2": LOAD}}


GOOD = says(reply(LEFT))


@dataclass
class Always:
    """A planner of one policy."""

    policy: MacroPolicy

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]:
        del state, telemetry
        return Decision(self.policy, (Call(99.0),))


@dataclass
class Person:
    """Answers in turn."""

    answers: list[bool]

    async def approve(self, *asked: object) -> bool:
        return self.answers.pop(0)


@dataclass
class Twin:
    """What the twin is asked."""

    baselines: int = 0
    tried: list[tuple[MacroPolicy, ClusterState]] = field(default_factory=list)

    async def baseline(self) -> str:
        self.baselines += 1
        return BASELINE

    async def rehearse(self, policy: MacroPolicy, state: ClusterState) -> Mapping[str, Any]:
        self.tried.append((policy, state))
        return {"objective": 0.25}


class Played:
    """A planning agent under the guard, which undoes nothing, as in a strategy; the fallback says
    THIRDS. ``mode`` wraps the agent."""

    def __init__(self, *replies: Completion, mode: Any = None, trials: int = 0) -> None:
        self.lines, self.twin = list(replies), Twin()
        self.script = Scripted(lambda _: self.lines.pop(0))
        scenario, self.in_force = cluster(), None
        memory = CaseMemory(fresh_store(), cluster_key(scenario), 10_000, "run")
        agent: Planner = PlannerAgent(
            scenario, self.script.step(scenario.slot_s), PROMPTS, memory,
            Always(THIRDS), self.twin.baseline, self.twin.rehearse, trials,
        )  # fmt: skip
        planner = mode(agent) if mode else agent
        self.planner = GuardedPlanner(planner, scenario, 0.0, memory=memory)
        self.slot = 0

    def decide(self, up: Sequence[bool] = UP, **seen: Any) -> Decision[MacroPolicy]:
        slot, self.slot = self.slot, self.slot + EPOCH
        if not slot:
            seen = dict.fromkeys(("requests", "prompts", "succeeded"), (0, 0))
        plan = self.planner.plan(before(slot, up), outcomes(slot, **seen), self.in_force)
        decision = asyncio.run(plan)
        self.in_force = holds(decision, self.in_force, slot)
        return decision

    def told(self, turn: int = -1) -> Any:
        return observed(self.script.asks[turn])

    def message(self, turn: int = -1) -> str:
        return str(self.script.asks[turn].messages[1]["content"])


# One decision


def test_at_the_first_there_is_nothing_to_tell_but_the_problem() -> None:
    played = Played(GOOD)
    played.decide(DOWN)
    (ask,) = played.script.asks
    assert (ask.slot, ask.tier, ask.node, ask.name) == (0, "planner", "", "macro_policy")
    assert context(ask) == cluster_context(cluster(), "planner")
    assert played.told() == {"slot": 0, "nodes_down": ["VM3"], "demand": None, "policy": None}
    assert f"Epoch 0 begins.\n{BASELINE}\nNothing has been observed yet.\n" in played.message()


def test_a_good_reply_is_the_policy_and_its_reason_the_detail() -> None:
    played = Played(says(reply(LEFT, "keep\n it   left")))
    decision = played.decide()
    assert np.array_equal(decision.value.routing, LEFT.routing)
    assert np.array_equal(decision.value.roles, LEFT.roles)
    assert decision.value.demand is not None
    assert decision.value.demand.requests.tolist() == [2.0, 2.0]
    assert decision.calls == (Call(1.0, "ok", "keep it left", 100, 10, 0.5),)


def test_a_reason_cannot_paint_on_a_terminal() -> None:
    played = Played(says(reply(LEFT, "all as before\x1b[8m" + "x" * 10_000)))
    (call,) = played.decide().calls
    assert call.detail.isprintable()
    assert len(call.detail) < 1000


def test_shares_off_role_are_sent_back_and_repaired() -> None:
    off_role = {**reply(LEFT), "roles": {"VM1": ["LM1"], "VM2": ["LM2"], "VM3": []}}
    played = Played(says(off_role), GOOD)
    (call,) = played.decide().calls
    assert (call.outcome, call.took_s) == ("repaired", 2.0)
    assert "LM2 has a share on VM1, whose role lacks it" in str(played.script.asks[1].messages[-1])


def test_a_second_bad_reply_leaves_it_to_the_fallback() -> None:
    played = Played(says(reply(RIGHT)), says(reply(RIGHT)))
    decision = played.decide(DOWN)
    assert decision.value is THIRDS
    (call,) = decision.calls
    assert (call.outcome, call.took_s) == ("fallback", 2.0)
    assert "LM1 has a share on VM3, which is down" in call.detail


# Epochs


def test_what_was_observed_and_what_is_in_force_is_told() -> None:
    played = Played(GOOD, GOOD)
    first = played.decide().value
    played.decide(requests=(8, 4), prompts=(24, 4))
    told = played.told()
    assert told["policy"] == policy_json(cluster(), first)
    assert told["demand"] == {
        "LM1": {"requests_per_slot": 2.0, "prompts_per_request": 3.0},
        "LM2": {"requests_per_slot": 1.0, "prompts_per_request": 1.0},
    }
    assert (told["nodes_down"], told["nodes_down_when_decided"]) == ([], [])


def test_the_baseline_is_measured_once_and_told_every_time() -> None:
    played = Played(GOOD, GOOD, GOOD)
    for _ in range(3):
        played.decide()
        assert BASELINE in played.message()
    assert played.twin.baselines == 1


def test_past_cases_are_told_in_sentences() -> None:
    """The worse of two policies ended last; the better one is a precedent."""
    played = Played(GOOD, says(reply(RIGHT)), GOOD)
    played.decide()
    played.decide(latency_s=10.0)
    played.decide(latency_s=90.0)
    assert BEST not in played.message(0)
    said = played.message()
    assert f"Epoch 2 begins.\n{BASELINE}\n{LAST}" in said
    last, best = (said.split(start)[1].split("\n")[0] for start in (LAST, BEST))
    assert "VM3" in last
    assert "VM3" not in best


# Nodes that were down when the policy in force was decided


def test_nodes_down_when_the_fallbacks_policy_was_decided() -> None:
    """The agent's own policy was made with VM3 up, the fallback's without it."""
    played = Played(GOOD, fails(), GOOD)
    played.decide(UP)
    played.decide(DOWN)
    played.decide(UP)
    assert played.told()["policy"] == policy_json(cluster(), THIRDS)
    assert played.told()["nodes_down_when_decided"] == ["VM3"]


def test_a_late_policy_was_not_decided() -> None:
    played = Played(GOOD, says(reply(LEFT), took_s=LATE_S), GOOD)
    played.decide(UP)
    played.decide(DOWN)
    played.decide(UP)
    assert played.told()["nodes_down_when_decided"] == []


def test_a_policy_that_was_not_approved_was_not_decided() -> None:
    def approved(agent: Planner) -> Planner:
        return ApprovedPlanner(agent, Person([True, False]), Always(THIRDS), slot_s=10.0)

    other = says({**reply(THIRDS), "routing": {
        lm: {"VM1": 0.5, "VM2": 0.5, "VM3": 0.0} for lm in ("LM1", "LM2")
    }})  # fmt: skip
    played = Played(GOOD, other, GOOD, mode=approved)
    first = played.decide(UP).value
    played.decide(DOWN)
    played.decide(UP)
    assert played.told()["policy"] == policy_json(cluster(), first)
    assert played.told()["nodes_down_when_decided"] == []


def test_in_advise_it_is_the_incumbents_policy_that_was_decided() -> None:
    """The advice was made in both epochs, the incumbent's policy in the first."""

    def advised(agent: Planner) -> Planner:
        return AdvisedPlanner(Always(RIGHT), agent, cluster().testbed)

    played = Played(GOOD, GOOD, GOOD, mode=advised)
    for up in (DOWN, UP, UP):
        played.decide(up)
    assert played.told()["policy"] == policy_json(cluster(), RIGHT)
    assert played.told()["nodes_down_when_decided"] == ["VM3"]


def test_an_agent_that_restarts_does_not_know_who_was_up_then() -> None:
    """It is told what is in force, but not which nodes were up when that was decided."""
    played, other = Played(GOOD), Played(GOOD)
    played.decide(DOWN)
    other.in_force, other.slot = played.in_force, played.slot
    other.decide(UP)
    assert other.told()["policy"] == policy_json(cluster(), played.in_force.policy)
    assert "nodes_down_when_decided" not in other.told()


# The tool


def test_without_trials_there_is_no_tool() -> None:
    played = Played(GOOD)
    played.decide()
    assert played.script.asks[0].tools == ()
    assert "try_policy" not in played.message()


def test_a_candidate_may_be_tried_first() -> None:
    call = ToolCall("call0", NAME, json.dumps(reply(RIGHT)))
    asks = replace(GOOD, content="", finish="tool_calls", tool_calls=(call,))
    played = Played(asks, GOOD, trials=2)
    decision = played.decide()
    assert "call try_policy up to 2 times" in played.message(0)
    assert [tool["function"]["name"] for tool in played.script.asks[0].tools] == [NAME]
    ((tried, state),) = played.twin.tried
    assert np.array_equal(tried.routing, RIGHT.routing)
    assert state.slot == -1
    assert played.script.asks[1].messages[-1]["content"] == '{"objective":0.25}'
    assert np.array_equal(decision.value.routing, LEFT.routing)
    assert decision.calls[0].took_s == 2.0 + TRIAL_S
