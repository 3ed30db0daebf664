"""One run's planner, epoch by epoch: prompt, reply, policy and the figures of its epoch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, Final

import numpy as np

from controller.domain.decisions import PLANNER
from controller.report.analysis.alignment import Movements, drifts, movements, sent_prompts
from controller.report.analysis.data import Constants
from controller.report.analysis.decision_counts import RunCounts
from controller.report.analysis.policies import Policy, policies_of
from controller.report.analysis.reading import reading
from controller.results.folder import TRANSCRIPT
from controller.results.run import EpochFigures, Run

LONG: Final = 12_000  # characters of one text that the page shows
ROUNDING: Final = 0.005
NODES: Final = 40  # rows of a table of shares
_OBSERVATION: Final = re.compile(r"<observation>(.*)</observation>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a function, with its result."""

    name: str
    arguments: str
    result: str


@dataclass(frozen=True, slots=True)
class Round:
    """One call of a decision. ``problems``: why its reply could not be used."""

    outcome: str
    problems: str
    reply: str
    tools: tuple[ToolUse, ...]
    took_s: float
    tokens_in: int | None  # None: unknown
    tokens_out: int | None
    attempts: int


@dataclass(frozen=True, slots=True)
class PlannerEpoch:
    """One decision of the planner. ``seen``: its prompt in sentences, ``observation``: the numbers;
    both are empty without a transcript, or when it was not asked. ``forecast``: (LM, requests a
    slot, prompts a request). ``drift``: NaN without requests. ``outcomes``: of tiers with
    agents."""

    epoch: int
    policy: Policy
    changed: bool  # other shares or roles than before
    seen: str
    observation: str
    forecast: tuple[tuple[str, str, str], ...]
    rounds: tuple[Round, ...]
    figures: EpochFigures | None  # None in the drain
    drift: float
    outcomes: Mapping[str, Mapping[str, int]]

    @property
    def notable(self) -> bool:
        """Unusual: shown first where not all fit."""
        return self.policy.outcome != "ok" or self.changed or not self.rounds

    @property
    def has_drift(self) -> bool:
        return not isnan(self.drift)

    @property
    def lms(self) -> tuple[str, ...]:
        return tuple(self.policy.shares)

    @property
    def nodes(self) -> list[str]:
        """Nodes that are shown: with a role first if there are many."""
        roles = self.policy.roles
        return sorted(roles, key=lambda node: not roles[node])[:NODES] if self.hidden else [*roles]

    @property
    def hidden(self) -> int:
        """Nodes that are not shown."""
        return max(0, len(self.policy.roles) - NODES)


def planner_epochs(run: Run, constants: Constants, counts: RunCounts) -> list[PlannerEpoch]:
    """Return all decisions of the planner, or of the incumbent that it advises.

    Raises:
        InputError: a file of the run cannot be read.
    """
    run = replace(run)  # its tables are dropped with it
    with reading(run, "decisions.jsonl"):
        policies = policies_of(run.policies)
    with reading(run, "slots.parquet"):
        drift = _drift(movements(run.requests, run.slots, constants.slot_s), policies)
    with reading(run, TRANSCRIPT):
        calls = _calls_by_slot(run.transcript if TRANSCRIPT in run.files else [])
        texts = [(*_seen(of), _forecast(of), tuple(_rounds(of)))
                 for of in (calls.get(policy.slot, []) for policy in policies)]  # fmt: skip
    figures = run.figures.per_epoch if run.figures else []
    found: list[PlannerEpoch] = []
    for policy, moved, before, (seen, observation, forecast, rounds) in zip(
        policies, drift, [None, *policies], texts, strict=False
    ):
        epoch = policy.slot // constants.epoch_slots
        found.append(
            PlannerEpoch(
                epoch=epoch,
                policy=policy,
                changed=before is not None and _differ(policy, before),
                seen=seen,
                observation=observation,
                forecast=forecast,
                rounds=rounds,
                figures=figures[epoch] if epoch < len(figures) else None,
                drift=moved,
                outcomes={
                    tier: dict(outcomes)
                    for tier, outcomes in counts.outcomes_by_epoch[epoch].items()
                    if outcomes and counts.tiers[tier].is_agent
                },
            )
        )
    return found


def _differ(one: Policy, other: Policy) -> bool:
    """Return True for other roles, or a share that differs by more than rounding does."""
    return one.roles != other.roles or any(
        abs(shares.get(node, 0.0) - other.shares[lm].get(node, 0.0)) > ROUNDING
        for lm, shares in one.shares.items()
        for node in shares.keys() | other.shares[lm].keys()
    )


def _drift(moves: Movements, policies: Sequence[Policy]) -> list[float]:
    """Return every policy's drift, mean over LMs by prompts."""
    prompts = sent_prompts(moves, policies).sum(axis=1)
    total = prompts.sum(axis=1)
    moved = np.nan_to_num(drifts(moves, policies)) * prompts
    mean = np.divide(moved.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
    return [float(value) for value in mean]


def _calls_by_slot(transcript: Iterable[Mapping[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return slot -> the planner's calls by round, with every text in its place."""
    texts: dict[str, str] = {}
    calls: dict[int, list[dict[str, Any]]] = {}
    for line in transcript:
        if line["kind"] == "text":
            texts[line["sha256"]] = line["content"]
        elif line["kind"] == "call" and line["tier"] == PLANNER:
            messages = [_with_text(message, texts) for message in line["messages"]]
            calls.setdefault(line["slot"], []).append({**line, "messages": messages})
    for of_slot in calls.values():
        of_slot.sort(key=lambda call: call["round"])
    return calls


def _with_text(message: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    content = message.get("content") or ""
    named = content.get("sha256") if isinstance(content, dict) else None
    return {**message, "content": texts.get(named, "") if named else content}


def _seen(calls: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the first message to the planner: sentences, and the observation laid out."""
    messages = calls[0]["messages"] if calls else []
    text = next((m["content"] for m in messages if m["role"] == "user"), "")
    found = _OBSERVATION.search(text)
    observation = _laid_out(found[1]) if found else ""
    return shortened(_OBSERVATION.sub("", text).strip()), shortened(observation)


def _rounds(calls: Sequence[Mapping[str, Any]]) -> Iterator[Round]:
    for k, call in enumerate(calls):
        after = calls[k + 1]["messages"] if k + 1 < len(calls) else []
        results = {m.get("tool_call_id"): m["content"] for m in after if m["role"] == "tool"}
        reply = call["reply"]
        yield Round(
            outcome=call["outcome"],
            problems=shortened(call.get("detail") or reply["error"]),
            reply=shortened(_laid_out(reply["content"] or reply["refusal"])),
            tools=tuple(
                ToolUse(
                    one["name"],
                    shortened(_laid_out(one["arguments"])),
                    shortened(_laid_out(results.get(one["id"], ""))),
                )
                for one in reply.get("tool_calls", ())
            ),
            took_s=call["took_s"],
            tokens_in=call["tokens_in"],
            tokens_out=call["tokens_out"],
            attempts=call["attempts"],
        )


def _forecast(calls: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    """Return the forecast of a reply that is a policy. A model may reply anything."""
    try:
        forecast = json.loads(calls[-1]["reply"]["content"])["forecast"]
        return tuple(
            (str(lm), f"{float(of['requests_per_slot']):.3g}",
             f"{float(of['prompts_per_request']):.3g}")
            for lm, of in forecast.items()
        )  # fmt: skip
    except (IndexError, LookupError, TypeError, ValueError, AttributeError):
        return ()


def _laid_out(text: str) -> str:
    """Return JSON with line breaks; any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def shortened(text: str) -> str:
    if len(text) <= LONG:
        return text
    return f"{text[:LONG]}\n… {len(text) - LONG:,} characters more in transcript.jsonl"
