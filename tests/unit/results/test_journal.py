import json
from typing import Any

import numpy as np

from controller.domain.decisions import (
    FALLBACK,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.testbed import Lm, Network, Node, Testbed
from controller.results.journal import DecisionLines, Entry, RunJournal
from tests.samples.small import small_outcome

TESTBED = Testbed(
    "two",
    (Node("left", "a", "C", 8, 16), Node('r"ight', "a", "C", 8, 16, 1, "G", 24, 2)),
    (Lm("text", "", "", "t", 1, 1), Lm("image", "", "", "t", 1, 1, True)),
    Network(1, 0, 1, 0),
)


def parse(entries: list[Entry]) -> list[dict[str, Any]]:
    lines = DecisionLines(TESTBED)
    return [json.loads(line) for entry in entries for line in lines.of(entry)]


def test_a_policy_names_shares_and_roles() -> None:
    policy = MacroPolicy(
        np.array([[0.25, 0.0], [0.75, 1.0]]), np.array([[True, False], [True, True]])
    )
    journal = RunJournal()
    journal.planned(0, Decision(policy, (Call(2.5),)))
    assert parse(journal.entries) == [
        {
            "slot": 0,
            "tier": "planner",
            "node": None,
            "decided": {
                "routing": {"text": {"left": 0.25, 'r"ight': 0.75}, "image": {'r"ight': 1.0}},
                "roles": {"left": ["text"], 'r"ight': ["text", "image"]},
            },
            "took_s": 2.5,
            "outcome": "ok",
        }
    ]


def test_a_plan_names_destinations_and_refusals() -> None:
    journal = RunJournal()
    call = Call(0.1, FALLBACK, "no reply", 10, 3, 0.002)
    for _ in range(2):
        journal.scheduled(7, Decision(RoutingPlan(np.array([[0, -1], [0, 1]])), (call,)))
    first, second = parse(journal.entries)
    assert first == second
    assert first["decided"] == {
        "text": {"left": "left", 'r"ight': "left"},
        "image": {"left": None, 'r"ight': 'r"ight'},
    }
    assert (first["outcome"], first["detail"]) == ("fallback", "no reply")
    assert (first["tokens_in"], first["tokens_out"], first["cost_usd"]) == (10, 3, 0.002)


def test_deployers_have_a_line_each_and_say_what_was_void() -> None:
    deployment = Deployment(
        np.array([[1, 0], [1, 2]]), np.array([[4.0, 0.0], [2.0, 1.0]]), np.array([[0, 0], [0, 2]])
    )
    calls = (Call(), Call(0.5, FALLBACK))
    voided = np.array([[True, False], [False, True]])
    entry = Entry(3, "deployer", deployment, calls, np.array([0, 1]), voided)
    left, right = parse([entry])
    assert (left["node"], left["decided"]) == ("left", {"text": {"mode": "cpu", "cores": 4.0}})
    assert (left["outcome"], left["void"]) == ("void", ["text"])
    assert right["decided"]["image"] == {"mode": "gpu", "cores": 1.0, "vgpus": 2}
    assert (right["outcome"], right["void"]) == ("fallback", ["image"])


def test_a_run_reports_every_decision_and_every_slot() -> None:
    outcome = small_outcome()
    journal, slots = outcome.journal, outcome.usage.slots
    tiers = [entry.tier for entry in journal.entries]
    assert tiers.count("scheduler") == tiers.count("deployer") == slots
    assert tiers.count("planner") == -(-slots // outcome.scenario.epoch_slots)
    assert [state.slot for state in journal.states] == list(range(slots))
