"""One run's planner, epoch by epoch: what it saw, what it said, how, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final

import numpy as np

from controller.agents.lines import Call, Text, read_lines
from controller.report.alignment import drifts, read_movements, sent_prompts
from controller.report.conduct import Conduct
from controller.report.policies import Policy, read_policies
from controller.report.study import Constants
from controller.results.run import EpochFigures, Run

LONG: Final = 12_000  # characters of one text that the page shows
ROUNDING: Final = 0.005
NODES: Final = 40  # rows of a table of shares
_OBSERVATION: Final = re.compile(r"<observation>(.*)</observation>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A function that was called, with what it answered."""

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
    tokens_in: int
    tokens_out: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Planning:
    """One decision of the planner. ``seen`` is what it was told in sentences, ``observation`` the
    numbers; both are empty without a transcript, or when it was not asked. ``forecast``: (LM,
    requests a slot, prompts a request). ``drift`` is NaN without requests."""

    epoch: int
    policy: Policy
    changed: bool  # other shares or roles than before
    seen: str
    observation: str
    forecast: tuple[tuple[str, str, str], ...]
    rounds: tuple[Round, ...]
    figures: EpochFigures | None  # None in the drain
    drift: float
    outcomes: Mapping[str, Mapping[str, int]]  # of tiers with agents
    incumbent: str  # decided, where the planner only advised

    @property
    def notable(self) -> bool:
        """Not what was to be expected: worth a place where not all fit."""
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


def read_planning(
    run: Run, constants: Constants, conduct: Conduct, incumbent: str = ""
) -> list[Planning]:
    """All decisions of the planner, or of the ``incumbent`` that it advises.

    Raises:
        OSError, ValueError, LookupError, polars.exceptions.PolarsError, InputError: a file of the
            run cannot be read.
    """
    policies = read_policies(run.folder)
    asked = _read_asked(run.folder / "transcript.jsonl")
    drift = _drift(run.folder, constants.slot_s, policies)
    figures = run.figures.per_epoch if run.figures else []
    found: list[Planning] = []
    before: Policy | None = None
    for policy, moved in zip(policies, drift, strict=True):
        calls, epoch = asked.get(policy.slot, []), policy.slot // constants.epoch_slots
        seen, observation = _seen(calls)
        found.append(
            Planning(
                epoch=epoch,
                policy=policy,
                changed=before is not None and _differ(policy, before),
                seen=seen,
                observation=observation,
                forecast=_forecast(calls),
                rounds=tuple(_rounds(calls)),
                figures=figures[epoch] if epoch < len(figures) else None,
                drift=moved,
                outcomes={
                    tier: dict(counts)
                    for tier, counts in conduct.outcomes_by_epoch[epoch].items()
                    if counts and conduct.tiers[tier].is_agent
                },
                incumbent=incumbent,
            )
        )
        before = policy
    return found


def _differ(one: Policy, other: Policy) -> bool:
    """Other roles, or a share that differs by more than rounding does."""
    return one.roles != other.roles or any(
        abs(shares.get(node, 0.0) - other.shares[lm].get(node, 0.0)) > ROUNDING
        for lm, shares in one.shares.items()
        for node in shares.keys() | other.shares[lm].keys()
    )


def _drift(folder: Path, slot_s: float, policies: Sequence[Policy]) -> list[float]:
    """Of every policy, mean over LMs by prompts."""
    moves = read_movements(folder, slot_s)
    prompts = sent_prompts(moves, policies).sum(axis=1)
    total = prompts.sum(axis=1)
    moved = np.nan_to_num(drifts(moves, policies)) * prompts
    mean = np.divide(moved.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
    return [float(value) for value in mean]


def _read_asked(path: Path) -> dict[int, list[dict[str, Any]]]:
    """Slot -> the planner's calls by round; empty without a transcript."""
    asked: dict[int, list[dict[str, Any]]] = {}
    texts: dict[str, str] = {}
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for text, line in read_lines(text for text in lines if _is_planners(text)):
                if isinstance(line, Text):
                    texts[line.sha256] = line.content
                elif isinstance(line, Call):
                    asked.setdefault(line.slot, []).append(json.loads(text))
    for calls in asked.values():
        calls.sort(key=lambda call: call["round"])
        for call in calls:
            call["messages"] = [_spelt(message, texts) for message in call["messages"]]
    return asked


def _is_planners(text: str) -> bool:
    """Most lines are the lower tiers' and need not be parsed."""
    return not text.startswith('{"kind":"call"') or '"tier":"planner"' in text[:80]


def _spelt(message: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    content = message.get("content") or ""
    named = content.get("sha256") if isinstance(content, dict) else None
    return {**message, "content": texts.get(named, "") if named else content}


def _seen(calls: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """What the first message to the planner says: sentences, and the observation laid out."""
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
    """Of a reply that is a policy. A model may have said anything."""
    try:
        said = json.loads(calls[-1]["reply"]["content"])["forecast"]
        return tuple(
            (str(lm), f"{float(of['requests_per_slot']):.3g}",
             f"{float(of['prompts_per_request']):.3g}")
            for lm, of in said.items()
        )  # fmt: skip
    except (IndexError, LookupError, TypeError, ValueError, AttributeError):
        return ()


def _laid_out(text: str) -> str:
    """JSON with line breaks; any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def shortened(text: str) -> str:
    if len(text) <= LONG:
        return text
    return f"{text[:LONG]}\n… {len(text) - LONG:,} characters more in transcript.jsonl"
