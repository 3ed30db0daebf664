"""What the reference reasoner replies is what SOLVER decides, said in the agents' own schema."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from controller.agents.views import cluster_context, node_context
from controller.domain.decisions import OK
from controller.domain.pending import blocks
from controller.domain.state import GPU
from controller.reference_model.answers import answer
from controller.reference_model.reading import UnreadablePromptError, block
from tests.unit.policies.states import shipped
from tests.unit.reference_model.duets import Asked, Both, messages, play

EPOCHS, EPOCH_SLOTS = 2, 8


@pytest.fixture(scope="module")
def played() -> tuple[Both, Asked]:
    return play(EPOCHS, EPOCH_SLOTS)


@pytest.fixture(scope="module")
def both(played: tuple[Both, Asked]) -> Both:
    return played[0]


def test_every_reply_is_taken_at_once(both: Both) -> None:
    calls = [
        call
        for duet in (both.plans, both.routes, both.pods)
        for _, d, _ in duet
        for call in d.calls
    ]
    assert len(calls) >= EPOCHS + EPOCHS * EPOCH_SLOTS * 7
    assert {call.outcome for call in calls} == {OK}


def test_every_reply_satisfies_the_strict_schema_that_was_sent(
    played: tuple[Both, Asked],
) -> None:
    tiers = set()
    for ask, reply in played[1]:
        jsonschema.Draft202012Validator(ask.schema).validate(reply)
        tiers.add(ask.tier)
    assert tiers == {"planner", "scheduler", "deployer"}


def test_it_plans_as_solver_does() -> None:
    """A load that the first plan did not expect, so that the second is solved anew."""
    plans = play(EPOCHS, EPOCH_SLOTS, load=2.5)[0].plans
    for _, mine, theirs in plans:
        assert np.array_equal(mine.value.roles, theirs.value.roles)
        assert np.allclose(mine.value.routing, theirs.value.routing, atol=1e-3)
        assert np.allclose(mine.value.demand.requests, theirs.value.demand.requests, atol=1e-3)
        assert np.allclose(mine.value.demand.prompts, theirs.value.demand.prompts, atol=1e-3)
    first, second = (mine.value for _, mine, _ in plans[:2])
    assert not np.array_equal(first.roles, second.roles)
    assert not np.allclose(first.demand.requests, second.demand.requests)


def test_it_routes_as_solver_does(both: Both) -> None:
    assert len({mine.value.destination.tobytes() for _, mine, _ in both.routes}) > 1
    for _, mine, theirs in both.routes:
        assert np.array_equal(mine.value.destination, theirs.value.destination)


def test_it_deploys_as_solver_does(both: Both) -> None:
    on_gpu = 0
    for state, mine, theirs in both.pods:
        free = np.logical_not(blocks(state.pod).any(axis=1))
        assert np.array_equal(mine.value.mode[free], theirs.value.mode[free])
        assert np.array_equal(mine.value.cores[free], theirs.value.cores[free])
        held = theirs.value.mode == GPU
        assert np.array_equal((mine.value.vgpus * held)[free], (theirs.value.vgpus * held)[free])
        on_gpu += int(held.sum())
    assert on_gpu > 0


def test_a_blocked_node_is_told_to_stay_or_to_stop(played: tuple[Both, Asked]) -> None:
    """Anything else would be voided by the Pending rule."""
    changed = 0
    for ask, free in played[1]:
        if ask.tier != "deployer":
            continue
        seen = json.loads(block(ask.messages, "observation") or "")
        wanted = {lm: seen["pods"].get(lm, {}).get("wanted", "off") for lm in free}
        context = json.loads(block(ask.messages, "context") or "")
        reply = answer(messages(context, {**seen, "blocked": True}))
        assert all(pod["mode"] in ("off", wanted[lm]) for lm, pod in reply.items())
        changed += reply != free
    assert changed > 0  # some would have started pods


PAPER = shipped()
CONTEXT = cluster_context(PAPER, "scheduler")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([{"role": "user", "content": "Hello!"}], "no <context> block"),
        (messages(CONTEXT, {})[:1], "no <observation> block"),
        (messages(CONTEXT, []), "<observation> block is no JSON object"),
        (messages(CONTEXT, {"slot": 0}), "observation lacks something.*expected_prompts"),
        (messages({**CONTEXT, "agent": "mayor"}, {}), "no such agent: 'mayor'"),
        (messages({"agent": "planner"}, {}), "context lacks something.*nodes"),
        (messages({**CONTEXT, "nodes": 7}, {}), "context lacks something"),
        (messages({**CONTEXT, "nodes": [7]}, {}), "context lacks something"),
        (messages({**CONTEXT, "lms": []}, {}), "context lacks something"),
        (messages(node_context(PAPER, 0), {"role": 5}), "observation lacks something"),
        (
            [{"role": "user", "content": "<context>{</context><observation>{}</observation>"}],
            "<context> block is not JSON",
        ),
    ],
)
def test_what_is_no_agents_prompt_is_said_to_be_none(
    said: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(UnreadablePromptError, match=problem):
        answer(said)


def test_it_reads_the_first_observation_again_after_a_repair(played: tuple[Both, Asked]) -> None:
    ask, reply = next(pair for pair in played[1] if pair[0].tier == "planner")
    more = [
        *ask.messages,
        {"role": "assistant", "content": json.dumps(reply)},
        {"role": "user", "content": "The shares of LM1 sum to 3, not 1."},
    ]
    assert answer(more) == reply


def test_it_plans_although_nobody_knows_who_was_up_when_the_policy_was_decided(
    played: tuple[Both, Asked],
) -> None:
    """As after a restart of the agent, or when the guard has brought a policy back."""
    ask, _ = [pair for pair in played[1] if pair[0].tier == "planner"][-1]
    observation = json.loads(block(ask.messages, "observation") or "")
    assert observation["policy"] is not None
    del observation["nodes_down_when_decided"]
    context = json.loads(block(ask.messages, "context") or "")
    reply = answer(messages(context, observation))
    jsonschema.Draft202012Validator(ask.schema).validate(reply)
