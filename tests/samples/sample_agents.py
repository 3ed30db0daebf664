"""Decisions and a transcript of invented agents, beside a sample campaign's records.

The planner's replies: epoch 0 is plain, epoch 1 is repaired and tries a tool first, epoch 2 falls
back. Its words are hostile: they must come out as words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from controller.domain.decisions import (
    APPROVED,
    DEPLOYER,
    PLANNER,
    SCHEDULER,
    Advice,
    Call,
    Deployment,
    MacroPolicy,
    RoutingPlan,
    Undone,
)
from controller.domain.scenario import Scenario
from controller.results.journal import Entry

REASONER = {"kind": "reference", "label": "reference (optimiser, not a language model)",
            "models": {}, "is_language_model": False}  # fmt: skip
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
REASON = f"Because {HOSTILE} &amp; so."
SYSTEM = "You plan."
OUTCOMES = ("ok", "repaired", "fallback")


def entries(scenario: Scenario, epochs: int, drain: int, mode: str) -> list[Entry]:
    """Decisions of all tiers. Under advise every other one differs, and of the deployers' advice
    half is a fallback's; a person approves the first policy; the second epoch's was undone."""
    policy, nodes = sample_policy(scenario), len(scenario.testbed.nodes)
    shape = nodes, len(scenario.testbed.lms)
    plan = RoutingPlan(np.zeros(shape, int))
    pods = Deployment(np.zeros(shape, int), np.zeros(shape), np.zeros(shape, int))
    found: list[Entry] = []
    for slot in range(epochs * scenario.epoch_slots + drain):
        if slot % scenario.epoch_slots == 0:
            outcome = OUTCOMES[slot // scenario.epoch_slots % 3]
            detail = "no reply: it hung up" if outcome == "fallback" else REASON
            undone = Undone(0.3, 0.2, 0.25, 0) if slot == scenario.epoch_slots else None
            approval = APPROVED if mode == "approve" and not slot else ""
            call = _decision(outcome, detail, 1000, 100)
            call = replace(call, undone=undone, approval=approval)
            found.append(Entry(slot, PLANNER, policy, (call,)))
        call = replace(_decision("ok", "", 500, 50), drift=0.1)
        found.append(Entry(slot, SCHEDULER, plan, (call,)))
        calls = (_decision("ok", "", 200, 20),) * nodes
        voided = np.zeros(shape, bool)
        found.append(Entry(slot, DEPLOYER, pods, calls, np.arange(nodes), voided))
    return [_advised(entry, k) for k, entry in enumerate(found)] if mode == "advise" else found


def _advised(entry: Entry, k: int) -> Entry:
    """Say that something else decided in a quarter of a second."""
    calls = []
    for n, call in enumerate(entry.calls):
        differs = (k + n) % 2
        outcome = "fallback" if entry.tier == DEPLOYER and differs else "ok"
        advice = Advice(outcome, ("LM1 a->b", "+LM2 on a") if differs else ())
        detail = "advice: differs" if differs else "advice: same"
        call = replace(call, took_s=0.25, outcome="ok", detail=detail, undone=None, advice=advice)
        calls.append(call)
    return replace(entry, calls=tuple(calls))


def transcript(scenario: Scenario, epochs: int) -> str:
    """The planner's calls."""
    slots = range(0, epochs * scenario.epoch_slots + 5, scenario.epoch_slots)
    names = scenario.testbed.lm_names
    calls = [
        call
        for slot in slots
        for call in _calls(slot, OUTCOMES[slot // scenario.epoch_slots % 3], names)
    ]
    text = {"kind": "text", "sha256": _sha256(SYSTEM), "content": SYSTEM}
    lines = [{"kind": "head", "format": 1}, text, *calls]
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def sample_policy(scenario: Scenario) -> MacroPolicy:
    """The last node serves all of every LM but the first, which is split over two nodes."""
    shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
    routing, roles = np.zeros(shape), np.zeros(shape, bool)
    routing[-1], roles[-1] = 1.0, True
    routing[0, 0], routing[-1, 0], roles[0, 0] = 0.25, 0.75, True
    return MacroPolicy(routing, roles)


def _decision(outcome: str, detail: str, tokens_in: int, tokens_out: int) -> Call:
    return Call(2.0, outcome, detail, tokens_in, tokens_out, 0.0)


def _calls(slot: int, outcome: str, lms: Sequence[str]) -> list[dict[str, Any]]:
    observation = json.dumps({"slot": slot, "note": HOSTILE})
    asked = [
        {"role": "system", "content": {"sha256": _sha256(SYSTEM)}},
        {"role": "user", "content": f"Epoch begins. {HOSTILE}\n"
                                    f"<observation>{observation}</observation>"},
    ]  # fmt: skip
    forecast = {lm: {"requests_per_slot": 2.5, "prompts_per_request": 4}
                for lm in lms}  # fmt: skip
    good = json.dumps({"reason": REASON, "forecast": forecast})
    if outcome == "ok":
        return [_call(slot, 0, asked, good, "ok")]
    if outcome == "fallback":
        return [_call(slot, 0, asked, "", "fallback", error="it hung up")]
    use = {"id": "t1", "name": "try_policy", "arguments": json.dumps({"try": HOSTILE})}
    answer = {"role": "tool", "tool_call_id": "t1", "content": '{"objective":0.5}'}
    with_tool = [*asked, {"role": "assistant", "content": None}, answer]
    bad = f"I will not. {HOSTILE}"
    last = [
        *with_tool,
        {"role": "assistant", "content": bad},
        {"role": "user", "content": "Again."},
    ]
    return [
        _call(slot, 0, asked, "", "tool", tools=[use]),
        _call(slot, 1, with_tool, bad, "invalid", detail="the reply holds no JSON object"),
        _call(slot, 2, last, good, "repaired"),
    ]


def _call(
    slot: int, turn: int, messages: list[dict[str, Any]], content: str, outcome: str,
    error: str = "", detail: str = "", tools: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:  # fmt: skip
    reply = {"content": content, "finish": "stop", "refusal": "", "model": "invented",
             "error": error, "late": False, "tool_calls": list(tools)}  # fmt: skip
    return {"kind": "call", "slot": slot, "tier": "planner", "node": None, "round": turn,
            "asked": "0" * 16, "schema": "macro_policy", "messages": messages, "reply": reply,
            "took_s": 1.0, "tokens_in": 500, "tokens_cached": 0, "tokens_out": 50,
            "cost_usd": 0.0, "attempts": 1, "outcome": outcome, "detail": detail}  # fmt: skip


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
