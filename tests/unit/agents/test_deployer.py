"""The deployment agents over replies that are written down, all nodes of a slot at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from controller.agents.chat import Ask, Completion
from controller.agents.deployer import DeployerAgent, hardware
from controller.agents.views import deployer_observation, node_context
from controller.domain.decisions import Call, Decision, Deployment, InForce, MacroPolicy
from controller.domain.errors import Permanent
from controller.domain.state import CPU, OFF, POD_PENDING, ClusterState
from controller.policies.intent import PlannedDeployer
from tests.reference.worlds import ABSENT, on_cpu, on_gpu
from tests.unit.agents.rules import cluster
from tests.unit.agents.scripted import PROMPTS, Broken, Scripted, context, fails, observed, says
from tests.unit.policies.states import idle, open_policy, rows_of, running

WORLD = cluster()
NODES = WORLD.testbed.node_names
POLICY = open_policy(WORLD)
NOTHING = [ABSENT, ABSENT, ABSENT]
PENDING = "A pod is pending or stopping: pods may only stay as they are or stop.\n"


@dataclass
class Kept:
    """A fallback that wants one core for every LM, and counts."""

    asked: list[ClusterState] = field(default_factory=list)

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del in_force
        self.asked.append(state)
        shape = state.want_mode.shape
        pods = Deployment(np.full(shape, CPU), np.ones(shape), np.zeros(shape, np.int64))
        return Decision(pods, (Call(99.0),) * len(shape))


def pod(mode: str = "off", cores: float = 0.0, vgpus: int = 0) -> dict[str, Any]:
    return {"mode": mode, "cores": cores, "vgpus": vgpus}


def pods(ask: Ask, **wanted: dict[str, Any]) -> dict[str, Any]:
    """A reply for whatever LMs the node can host."""
    return {lm: wanted.get(lm, pod()) for lm in ask.schema["properties"]}


def some(ask: Ask) -> Completion:
    """Two cores for lm1 everywhere, and lm0 on the GPU where there is one."""
    lm0 = {"lm0": pod("gpu", vgpus=1)} if ask.node == "big" else {}
    return says(pods(ask, lm1=pod("cpu", 2.0), **lm0))


class Played:
    """Agents of the small cluster that answer by node."""

    def __init__(self, reply: Callable[[Ask], Completion], fallback: Any = None) -> None:
        self.script, self.fallback = Scripted(reply), fallback or Kept()
        step = self.script.step(WORLD.slot_s)
        self.agent = DeployerAgent(WORLD, step, PROMPTS, self.fallback)

    def decide(
        self, state: ClusterState | None = None, policy: MacroPolicy = POLICY
    ) -> Decision[Deployment]:
        return asyncio.run(self.agent.deploy(state or idle(WORLD), InForce(policy)))


def test_every_node_is_asked_about_itself() -> None:
    played, state = Played(some), idle(WORLD, slot=6, backlog=[[1, 0, 0], [0, 2, 0], [0, 0, 3]])
    played.decide(state)
    assert [ask.node for ask in played.script.asks] == list(NODES)
    for n, ask in enumerate(played.script.asks):
        assert (ask.slot, ask.tier, ask.name) == (7, "deployer", "deployment")
        assert context(ask) == node_context(WORLD, n)
        assert observed(ask) == deployer_observation(WORLD, state, n, POLICY)
        hosted = [
            lm for lm, can in zip(WORLD.testbed.lm_names, WORLD.hosts()[n], strict=True) if can
        ]
        assert list(ask.schema["properties"]) == hosted
        assert PENDING not in str(ask.messages)


def test_the_replies_are_the_deployment_row_by_row() -> None:
    played = Played(some)
    decision = played.decide()
    wanted = running(WORLD, [[on_gpu(), on_cpu(2.0), ABSENT], *[[ABSENT, on_cpu(2.0), ABSENT]] * 2])
    assert decision.value.mode.tolist() == wanted.mode.tolist()
    assert decision.value.cores.tolist() == wanted.cores.tolist()
    assert decision.value.vgpus.tolist() == wanted.vgpus.tolist()
    assert decision.calls == (Call(1.0, "ok", "", 100, 10, 0.5),) * 3
    assert played.fallback.asked == []


def test_a_controller_of_some_nodes_asks_for_these_alone() -> None:
    """In their own roles: "mid" is the only node that has one, and the first row."""
    roles = POLICY.roles & np.array([[False], [True], [False]])
    played = Played(lambda ask: some(ask) if ask.node == "mid" else says(pods(ask)))
    decision = played.decide(rows_of(idle(WORLD), [1, 2]), replace(POLICY, roles=roles))
    assert [ask.node for ask in played.script.asks] == ["mid", "small"]
    assert decision.value.mode.tolist() == [[OFF, CPU, OFF], [OFF] * 3]
    assert [call.outcome for call in decision.calls] == ["ok", "ok"]


def test_a_node_that_fails_falls_back_alone() -> None:
    played = Played(lambda ask: fails() if ask.node == "mid" else some(ask))
    decision = played.decide()
    assert decision.value.mode[1].tolist() == [CPU] * 3
    assert decision.value.cores[:, 1].tolist() == [2.0, 1.0, 2.0]
    assert [call.outcome for call in decision.calls] == ["ok", "fallback", "ok"]
    assert [call.detail for call in decision.calls] == ["", "HTTP 500: down", ""]
    assert [call.took_s for call in decision.calls] == [1.0] * 3
    assert len(played.fallback.asked) == 1


def test_a_node_that_is_late_says_so() -> None:
    late = replace(fails(late=True), took_s=10.5)
    calls = Played(lambda ask: late if ask.node == "big" else some(ask)).decide().calls
    assert [(call.outcome, call.took_s) for call in calls] == [
        ("late", 10.5), ("ok", 1.0), ("ok", 1.0),
    ]  # fmt: skip


def test_an_lm_off_role_is_not_started_and_the_reply_is_sent_back() -> None:
    """The policy gives lm1 to "mid" alone: the others' first replies start it, too."""
    roles = POLICY.roles.copy()
    roles[:, 1] = [False, True, False]

    def reply(ask: Ask) -> Completion:
        return some(ask) if ask.round == 0 else says(pods(ask))

    played = Played(reply)
    decision = played.decide(policy=replace(POLICY, roles=roles))
    assert [call.outcome for call in decision.calls] == ["repaired", "ok", "repaired"]
    assert [call.took_s for call in decision.calls] == [2.0, 1.0, 2.0]
    assert decision.value.mode[:, 1].tolist() == [OFF, CPU, OFF]
    again = [str(ask.messages[-1]["content"]) for ask in played.script.asks if ask.round == 1]
    assert ["lm1 is off-role" in said for said in again] == [True, True]


def test_two_bad_replies_leave_the_pods_as_they_are() -> None:
    greedy = Played(lambda ask: says(pods(ask, lm1=pod("cpu", 99.0))), PlannedDeployer(WORLD))
    state = running(WORLD, [[ABSENT, on_cpu(k), ABSENT] for k in (1.0, 2.0, 3.0)])
    decision = greedy.decide(state)
    assert [call.outcome for call in decision.calls] == ["fallback"] * 3
    assert decision.value.cores[:, 1].tolist() == [1.0, 2.0, 3.0]


def test_a_node_whose_pods_wait_is_told_and_held_to_it() -> None:
    state = idle(WORLD)
    state.pod[1, 1] = POD_PENDING
    played = Played(some)
    decision = played.decide(state)
    assert [call.outcome for call in decision.calls] == ["ok", "fallback", "ok"]
    told = [str(ask.messages[1]["content"]) for ask in played.script.asks if ask.round == 0]
    assert [said.startswith(PENDING) for said in told] == [False, True, False]


def test_when_one_question_cannot_be_put_the_others_stop_and_its_error_is_told() -> None:
    broken = Broken("mid")
    agent = DeployerAgent(WORLD, broken.step(WORLD.slot_s), PROMPTS, Kept())

    async def play() -> None:
        with pytest.raises(Permanent, match="nobody to ask"):
            await agent.deploy(idle(WORLD), InForce(POLICY))
        assert sorted(broken.stopped) == ["big", "small"]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("gpus", "profile"),
    [(0, "cpu_only"), (1, "one_gpu"), (2, "several_gpus"), (8, "several_gpus")],
)
def test_profiles_of_hardware(gpus: int, profile: str) -> None:
    assert hardware(gpus) == profile
