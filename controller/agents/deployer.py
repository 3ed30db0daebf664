"""The deployment agents: once a slot, each node's pods (section IV-B 2), all nodes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.agents.checks import check_pods
from controller.agents.classes import LARGE
from controller.agents.prompts import Prompts
from controller.agents.replies import Format, deployer_format
from controller.agents.step import Answer, Question, Step
from controller.agents.together import together
from controller.agents.views import (
    DIGITS,
    DeployerView,
    SystemView,
    deployer_observation,
    node_context,
)
from controller.domain.decisions import FALLBACK, Decision, Deployment, InForce, MacroPolicy
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.ports import Deployer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Pods = tuple[Ints, Floats, Ints]


class DeployerAgent:
    """One agent per row of the state, each seeing its own node only; a row falls back to
    ``fallback``'s pods."""

    def __init__(
        self, scenario: Scenario, step: Step, prompts: Prompts, fallback: Deployer
    ) -> None:
        self._scenario = scenario
        self._step = step
        self._prompts = prompts
        self._fallback = fallback
        self._hosts = scenario.hosts()
        self._static: dict[int, tuple[Format, str]] = {}

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        policy = in_force.policy
        first = self._alike(state, policy)
        asked = sorted(set(first))
        found = await together(self._ask(state, row, policy) for row in asked)
        by_row = dict(zip(asked, found, strict=True))
        answers = [
            by_row[row] if one == row else self._shared(by_row[one], state, row, one, policy)
            for row, one in enumerate(first)
        ]
        pods = [answer.value for answer in answers]
        if None in pods:
            other = (await self._fallback.deploy(state, in_force)).value
            kept = zip(other.mode, other.cores, other.vgpus, strict=True)
            pods = [mine or theirs for mine, theirs in zip(pods, kept, strict=True)]
        mode, cores, vgpus = (np.array(column) for column in zip(*pods, strict=True))
        return Decision(Deployment(mode, cores, vgpus), tuple(answer.call for answer in answers))

    def _alike(self, state: ClusterState, policy: MacroPolicy) -> list[int]:
        """Return by row the first row whose call it shares: in a large cluster nodes of equal
        hardware in equal states, up to the length of their queues, have one call."""
        rows = range(len(state.rows))
        if len(rows) <= LARGE:
            return list(rows)
        seen: dict[tuple[Any, ...], int] = {}
        return [seen.setdefault(self._situation(state, row, policy), row) for row in rows]

    def _situation(self, state: ClusterState, row: int, policy: MacroPolicy) -> tuple[Any, ...]:
        n = int(state.rows[row])
        arrays = (
            policy.roles[n], np.round(policy.routing[n], DIGITS), state.backlog[row] > 0,
            state.want_mode[row], state.want_cores[row], state.want_vgpus[row], state.mode[row],
            state.pod[row], state.cards[row],
        )  # fmt: skip
        _, system = self._of_node(n)
        free = (float(state.free_cores[row]), float(state.free_ram_gb[row]))
        return (system, int(state.free_vgpus[row]), *free, *(one.tobytes() for one in arrays))

    def _shared(
        self, answer: Answer[Pods], state: ClusterState, row: int, one: int, policy: MacroPolicy
    ) -> Answer[Pods]:
        """Return the answer of row ``one`` for another row, checked again and free of charge."""
        node = self._scenario.testbed.nodes[int(state.rows[one])].name
        call = replace(answer.call, tokens_in=0, tokens_out=0, cost_usd=0.0, shared=node)
        if answer.value is None:
            return Answer(None, call)
        try:
            return Answer(self._check(state, row, policy, answer.reply), call, answer.reply)
        except InvalidDecision as error:
            return Answer(None, replace(call, outcome=FALLBACK, detail=str(error)))

    async def _ask(self, state: ClusterState, row: int, policy: MacroPolicy) -> Answer[Pods]:
        n = int(state.rows[row])
        form, system = self._of_node(n)
        observation = deployer_observation(self._scenario, state, row, policy)
        view = DeployerView(observation, observation["blocked"])
        return await self._step.decide(
            Question(
                slot=state.slot + 1,
                tier="deployer",
                node=self._scenario.testbed.nodes[n].name,
                messages=[
                    {"role": "system", "content": system},
                    {"role": "user", "content": self._prompts.render("deployer/user.j2", view)},
                ],
                format=form,
                check=partial(self._check, state, row, policy),
            )
        )

    def _check(
        self, state: ClusterState, row: int, policy: MacroPolicy, reply: Mapping[str, Any]
    ) -> Pods:
        role = policy.roles[int(state.rows[row])]
        return check_pods(self._scenario, reply, state, row, role)

    def _of_node(self, n: int) -> tuple[Format, str]:
        """Reply format and system prompt of a node, by its hardware profile."""
        if n not in self._static:
            testbed = self._scenario.testbed
            lms = [lm for lm, can in zip(testbed.lm_names, self._hosts[n], strict=True) if can]
            view = SystemView(node_context(self._scenario, n))
            template = f"deployer/{hardware(testbed.nodes[n].gpus)}.j2"
            self._static[n] = deployer_format(lms), self._prompts.render(template, view)
        return self._static[n]


def hardware(gpus: int) -> str:
    """Return the hardware profile that a node's prompt is specialised for (section V-D)."""
    return ("cpu_only", "one_gpu")[gpus] if gpus < 2 else "several_gpus"
