"""Decisions and a transcript of invented agents, beside a sample campaign's records.

The planner's replies: epoch 0 is plain, epoch 1 is repaired and tries a tool first, epoch 2 falls
back. Its words are hostile: they must come out as words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.results.folder import run_id_of

REASONER = {"kind": "reference", "label": "reference (optimiser, not a language model)",
            "models": {}, "is_language_model": False}  # fmt: skip
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
REASON = f"Because {HOSTILE} &amp; so."
SYSTEM = "You plan."
OUTCOMES = ("ok", "repaired", "fallback")


def write_agents(
    run: Path, epochs: int, epoch_slots: int, nodes: Sequence[str], lms: Sequence[str]
) -> None:
    """Replace the run's decisions and add its transcript."""
    policy = sample_policy(nodes, lms)
    lines: list[dict[str, Any]] = []
    for slot in range(epochs * epoch_slots + 5):
        if slot % epoch_slots == 0:
            outcome = OUTCOMES[slot // epoch_slots % 3]
            detail = "no reply: it hung up" if outcome == "fallback" else REASON
            lines.append(_line(slot, "planner", None, policy, outcome, detail, 1000, 100))
        plan = {lm: dict.fromkeys(nodes, nodes[0]) for lm in lms}
        lines.append(_line(slot, "scheduler", None, plan, "ok", "drift 0.10", 500, 50))
        lines += [_line(slot, "deployer", node, {}, "ok", "", 200, 20) for node in nodes]
    _write(run / "decisions.jsonl", lines)
    calls = [_call for slot in range(0, epochs * epoch_slots + 5, epoch_slots)
             for _call in _calls(slot, OUTCOMES[slot // epoch_slots % 3], policy)]  # fmt: skip
    text = {"kind": "text", "sha256": _sha256(SYSTEM), "content": SYSTEM}
    _write(run / "transcript.jsonl", [{"kind": "head", "format": 1}, text, *calls])


def give_mandate(run: Path, mode: str, incumbent: str = "SOLVER") -> Path:
    """Say that the run's agents had this mode: another experiment, so another id. Under advise
    every other decision differs, and of the deployers' advice half is a fallback's. Return the
    run's new folder."""
    path = run / "experiment.json"
    experiment = json.loads(path.read_text())
    parameters = {"mode": mode, "incumbent": incumbent}
    path.write_text(json.dumps({**experiment, "parameters": parameters}))
    manifest, run_id = run.parents[1] / "campaign.json", run_id_of(path.read_bytes())
    manifest.write_text(manifest.read_text().replace(run.name, run_id))
    run = run.rename(run.with_name(run_id))
    if mode == "advise":
        path = run / "decisions.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for k, line in enumerate(lines):
            who = "advice (fallback)" if line["tier"] == "deployer" and k % 2 else "advice"
            noted = f"{who} differs in 2: LM1 a->b; +LM2 on a" if k % 2 else f"{who}: same"
            line |= {"outcome": "ok", "took_s": 0.25, "detail": noted}
        _write(path, lines)
    return run


def sample_policy(nodes: Sequence[str], lms: Sequence[str]) -> dict[str, Any]:
    """The last node serves all of every LM but the first, which is split over two nodes."""
    shares = {lm: {nodes[-1]: 1.0} for lm in lms}
    shares[lms[0]] = {nodes[0]: 0.25, nodes[-1]: 0.75}
    roles = {node: [] for node in nodes} | {nodes[0]: [lms[0]], nodes[-1]: list(lms)}
    return {"routing": shares, "roles": roles}


def _line(
    slot: int, tier: str, node: str | None, decided: dict[str, Any], outcome: str, detail: str,
    tokens_in: int, tokens_out: int,
) -> dict[str, Any]:  # fmt: skip
    return {"slot": slot, "tier": tier, "node": node, "decided": decided, "took_s": 2.0,
            "outcome": outcome, "detail": detail, "tokens_in": tokens_in,
            "tokens_out": tokens_out, "cost_usd": 0.0}  # fmt: skip


def _calls(slot: int, outcome: str, policy: dict[str, Any]) -> list[dict[str, Any]]:
    observation = json.dumps({"slot": slot, "note": HOSTILE})
    asked = [
        {"role": "system", "content": {"sha256": _sha256(SYSTEM)}},
        {"role": "user", "content": f"Epoch begins. {HOSTILE}\n"
                                    f"<observation>{observation}</observation>"},
    ]  # fmt: skip
    forecast = {lm: {"requests_per_slot": 2.5, "prompts_per_request": 4}
                for lm in policy["routing"]}  # fmt: skip
    good = json.dumps({"reason": REASON, "forecast": forecast, **policy})
    if outcome == "ok":
        return [_call(slot, 0, asked, good, "ok")]
    if outcome == "fallback":
        return [_call(slot, 0, asked, "", "fallback", error="it hung up")]
    use = {"id": "t1", "name": "try_policy", "arguments": json.dumps({"try": HOSTILE})}
    told = [*asked, {"role": "assistant", "content": None},
            {"role": "tool", "tool_call_id": "t1", "content": '{"objective":0.5}'}]  # fmt: skip
    bad = f"I will not. {HOSTILE}"
    last = [*told, {"role": "assistant", "content": bad}, {"role": "user", "content": "Again."}]
    return [
        _call(slot, 0, asked, "", "tool", tools=[use]),
        _call(slot, 1, told, bad, "invalid", detail="the reply holds no JSON object"),
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


def _write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    text = [json.dumps(line, separators=(",", ":")) + "\n" for line in lines]
    path.write_text("".join(text), "utf-8")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
