"""The templates of prompts: what they ask of their views, and what they say in small worlds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError, meta, nodes

from controller.agents.chat import Ask, Completion
from controller.agents.class_scheduler import ClassSchedulerAgent
from controller.agents.classes import LARGE
from controller.agents.deployer import DeployerAgent
from controller.agents.prompts import Prompts, _environment, to_json
from controller.agents.scheduler import SchedulerAgent
from controller.agents.step import Step
from controller.agents.views import (
    DeployerView,
    PlannerView,
    RepairView,
    SchedulerView,
    SystemView,
    cluster_context,
    node_context,
)
from controller.domain.decisions import Decision, InForce, RoutingPlan
from controller.domain.scenario import Scenario
from controller.domain.state import POD_PENDING, ClusterState
from controller.inputs.catalog import template_dir
from controller.policies.intent import PlannedDeployer
from tests.unit.agents.rules import MARK, cluster, marked
from tests.unit.agents.scripted import Unrecorded
from tests.unit.policies.states import idle, open_policy, shipped

FOLDER = template_dir() / "prompts"
PROMPTS = Prompts(FOLDER)
ENVIRONMENT = _environment(FOLDER)
WORLD = cluster()


VIEWS: dict[str, type] = {
    "planner/system.j2": SystemView,
    "planner/classes.j2": SystemView,
    "planner/user.j2": PlannerView,
    "scheduler/system.j2": SystemView,
    "scheduler/classes.j2": SystemView,
    "scheduler/user.j2": SchedulerView,
    "deployer/cpu_only.j2": SystemView,
    "deployer/one_gpu.j2": SystemView,
    "deployer/several_gpus.j2": SystemView,
    "deployer/user.j2": DeployerView,
    "repair.j2": RepairView,
}
KNOWN = SystemView(cluster_context(WORLD, "planner"))
NO_CASES = PlannerView(
    observation={"slot": 0, "demand": None},
    epoch=0,
    baseline="Random policies reach 0.5.",
    last="",
    best=[],
    worst=[],
    nearest=[],
    what_if=0,
)


def parsed(name: str) -> Iterator[nodes.Template]:
    """A template and all that it includes."""
    tree = ENVIRONMENT.parse((FOLDER / name).read_text(encoding="utf-8"))
    yield tree
    for other in meta.find_referenced_templates(tree):
        assert other is not None, f"{name} includes what cannot be known beforehand"
        yield from parsed(other)


def path_of(node: nodes.Node) -> list[str]:
    """``view.context.lambda`` as a list; empty for anything else."""
    if isinstance(node, nodes.Name):
        return [node.name]
    above = path_of(node.node) if isinstance(node, nodes.Getattr) else []
    return [*above, node.attr] if above and isinstance(node, nodes.Getattr) else []


@pytest.mark.parametrize("name", VIEWS)
def test_every_variable_is_a_field_of_the_view(name: str) -> None:
    known, used = {field.name for field in fields(VIEWS[name])}, set()
    for tree in parsed(name):
        assert meta.find_undeclared_variables(tree) <= {"view"}
        for found in tree.find_all(nodes.Getattr):
            path = path_of(found)
            if path[:1] == ["view"]:
                used.add(path[1])
    assert used
    assert used <= known


def test_every_template_is_some_agents_or_part_of_one() -> None:
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.j2")}
    parts = {name for name in found if name.rsplit("/", 1)[-1].startswith("_")}
    assert found - parts == set(VIEWS)
    included = {
        other
        for name in VIEWS
        for tree in parsed(name)
        for other in meta.find_referenced_templates(tree)
    }
    assert included == parts


def test_a_missing_field_is_an_error() -> None:
    bare = dict.fromkeys(("slot_s", "epoch_slots", "deadline_s"), 1)
    with pytest.raises(UndefinedError, match="lambda"):
        PROMPTS.render("planner/system.j2", SystemView(bare))


def test_the_first_epochs_message() -> None:
    assert PROMPTS.render("planner/user.j2", NO_CASES) == (
        "Epoch 0 begins.\nRandom policies reach 0.5.\nNothing has been observed yet.\n"
        '<observation>{"slot":0,"demand":null}</observation>'
    )


def test_a_later_epochs_message() -> None:
    view = replace(
        NO_CASES, epoch=3, last="It went well.", best=["Case A.", "Case B."], worst=["Case C."],
        nearest=["Case D."], what_if=2, observation={"slot": 12},
    )  # fmt: skip
    assert PROMPTS.render("planner/user.j2", view) == (
        "Epoch 3 begins.\nRandom policies reach 0.5.\nThe epoch that ended: It went well.\n"
        "What did well before under a comparable load:\n- Case A.\n- Case B.\n"
        "What did badly:\n- Case C.\nUnder the most similar load:\n- Case D.\n"
        "Before you answer you may call try_policy up to 2 times: it rehearses a candidate in a "
        "simulation of the cluster from its present state.\n"
        '<observation>{"slot":12}</observation>'
    )


def test_the_repair_message() -> None:
    assert PROMPTS.render("repair.j2", RepairView("a; b")) == (
        "Your reply cannot be used: a; b.\n"
        "Reply again with the whole corrected JSON object and nothing else."
    )


def test_the_planners_system_message_holds_the_problem_and_the_context() -> None:
    said = PROMPTS.render("planner/system.j2", KNOWN)
    assert "slots of 10.0 s; an epoch is 4 slots." in said
    assert "lambda = 0.5." in said
    assert said.count("<context>") == 1
    assert f"<context>{to_json(KNOWN.context)}</context>" in said
    assert said.endswith("Reply with one JSON object of the given schema and nothing else.")


class Listener:
    """A reasoner that says nothing and keeps what it was asked."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    async def complete(self, ask: Ask) -> Completion:
        self.asks.append(ask)
        return Completion(error="not listening to you")


class Home:
    """A scheduler that sends every request to where it was born."""

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        nodes, lms = in_force.policy.routing.shape
        return Decision(RoutingPlan(np.tile(np.arange(nodes)[:, None], lms)))


def slot_prompts(scenario: Scenario, state: ClusterState | None = None) -> list[list[str]]:
    """[system, user] of all that scheduler and deployers ask in a slot."""
    listener = Listener()
    step = Step(listener, Unrecorded(), scenario.slot_s, str)
    policy, seen = open_policy(scenario), state or idle(scenario)
    kind = ClassSchedulerAgent if len(scenario.testbed.nodes) > LARGE else SchedulerAgent
    asyncio.run(kind(scenario, step, PROMPTS, Home()).schedule(seen, InForce(policy)))
    nodes = DeployerAgent(scenario, step, PROMPTS, PlannedDeployer(scenario))
    asyncio.run(nodes.deploy(seen, InForce(policy)))
    return [[str(message["content"]) for message in ask.messages] for ask in listener.asks]


def tagged(text: str, tag: str) -> Any:
    (found,) = re.findall(f"<{tag}>(.*)</{tag}>", text, re.DOTALL)
    return json.loads(found)


@pytest.mark.parametrize("scenario", [WORLD, shipped()])
def test_no_free_text_of_a_file_gets_into_a_prompt(scenario: Scenario) -> None:
    said = slot_prompts(marked(scenario))
    context = SystemView(cluster_context(marked(scenario), "planner"))
    said.append([PROMPTS.render("planner/system.j2", context)])
    assert MARK not in str(said)
    assert said[:-1] == slot_prompts(scenario)


def test_a_slots_prompts_hold_the_views() -> None:
    (system, user), *deployers = slot_prompts(WORLD)
    assert tagged(system, "context") == {**cluster_context(WORLD, "scheduler"), "shard": False}
    assert '"elsewhere"' not in system
    assert set(tagged(user, "observation")["pods"]) == {"big", "mid", "small"}
    for n, (words, deployer_user) in enumerate(deployers):
        assert tagged(words, "context") == node_context(WORLD, n)
        assert tagged(deployer_user, "observation")["node"] == WORLD.testbed.nodes[n].name


def test_a_deployers_prompt_is_of_its_hardware() -> None:
    said = [system for system, _ in slot_prompts(shipped())[1:]]
    kinds = ("This node has no GPU.", "This node has one GPU,", "This node has several GPUs,")
    for node, system in zip(shipped().testbed.nodes, said, strict=True):
        assert [kind in system for kind in kinds] == [k == min(node.gpus, 2) for k in range(3)]


def test_a_blocked_deployer_is_reminded() -> None:
    state = idle(WORLD)
    state.pod[1, 0] = POD_PENDING
    said = [user for _, user in slot_prompts(WORLD, state)[1:]]
    assert ["A pod is pending" in user for user in said] == [False, True, False]


def test_a_large_cluster_is_scheduled_by_class_and_nodes_in_alike_states_share_a_call() -> None:
    small = WORLD.testbed.nodes[1]
    many = [replace(small, name=f"n{k}", site="a") for k in range(LARGE)]
    many.append(replace(WORLD.testbed.nodes[0], name="far", site="b"))
    scenario = replace(WORLD, testbed=replace(WORLD.testbed, nodes=tuple(many)))
    (system, user), *deployers = slot_prompts(scenario)
    assert list(tagged(system, "context")["classes"]) == ["c1", "c2"]
    assert [one["nodes"] for one in tagged(user, "observation")["classes"]["c1"]] == [LARGE]
    assert len(deployers) == 2


def test_rendering_is_the_same_every_time() -> None:
    assert slot_prompts(shipped()) == slot_prompts(shipped())
    hashes = PROMPTS.hashes()
    assert hashes == Prompts(FOLDER).hashes()
    assert hashes["repair.j2"] == hashlib.sha256((FOLDER / "repair.j2").read_bytes()).hexdigest()
    assert list(hashes) == sorted(hashes)
