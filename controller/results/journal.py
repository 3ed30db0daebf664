"""The journal of a run: what the loop reports every slot, and its lines in decisions.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller import wire
from controller.domain.decisions import (
    DEPLOYER,
    LATE,
    OK,
    PLANNER,
    SCHEDULER,
    VOID,
    Advice,
    Bounded,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
    Undone,
)
from controller.domain.state import ClusterState
from controller.domain.testbed import Testbed

Ints = NDArray[np.int64]

# Fields of a line if known.
_NOTES: Final = ("drift", "undone", "bounded", "shared", "approval", "advice", "fault")


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One decision of a tier in a slot; ``calls`` as in Decision."""

    slot: int
    tier: str
    value: MacroPolicy | RoutingPlan | Deployment | None  # None: nothing was decided
    calls: tuple[Call, ...]
    # Deployers only: nodes decided on (n,), and what the Pending rule voided (n, I).
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    voided: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 0), np.bool_))


@dataclass(frozen=True, slots=True)
class Made:
    """A decision as summaries count it."""

    tier: str
    outcome: str
    took_s: float
    tokens_in: int | None  # None: unknown
    tokens_out: int | None
    cost_usd: float | None
    guarded: bool = False  # the guard changed it


class RunJournal:
    """A journal in memory. It is called every slot, so it only keeps references."""

    def __init__(self) -> None:
        self.states: list[ClusterState] = []
        self.entries: list[Entry] = []

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None:
        self.entries.append(Entry(slot, PLANNER, decision.value, decision.calls))

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None:
        self.entries.append(Entry(slot, SCHEDULER, decision.value, decision.calls))

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None:
        value, calls = decision.value, decision.calls
        self.entries.append(Entry(slot, DEPLOYER, value, calls, state.rows, voided))

    def missed(self, slot: int, tier: str, rows: Ints, fault: str) -> None:
        calls = (Call(outcome=LATE, fault=fault),) * max(1, len(rows))
        self.entries.append(Entry(slot, tier, None, calls, rows, np.zeros((len(calls), 0), bool)))

    def observed(self, state: ClusterState) -> None:
        self.states.append(state)

    def made(self) -> Iterator[Made]:
        """Yield every decision as summaries count it."""
        return made_of(self.entries)


def made_of(entries: Iterable[Entry]) -> Iterator[Made]:
    """Yield the decisions of entries as summaries count them."""
    for entry in entries:
        for k, call in enumerate(entry.calls):
            result = outcome(call, bool(entry.voided[k].any()))
            tokens = call.tokens_in, call.tokens_out
            guarded = call.undone is not None or call.bounded is not None
            yield Made(entry.tier, result, call.took_s, *tokens, call.cost_usd, guarded)


def outcome(call: Call, voided: bool) -> str:
    """Return the outcome of a decision: the decider's own, or void if the Pending rule stopped some
    of it."""
    return VOID if voided and call.outcome == OK else call.outcome


class DecisionLines:
    """The writer of decisions.jsonl. Equal decisions are formatted once."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._nodes, self._lms = testbed.node_names, testbed.lm_names
        self._known: dict[Any, str] = {}

    def of(self, entry: Entry) -> Iterator[str]:
        """Yield one line for planner and scheduler, one per node for the deployers."""
        if entry.value is None:
            nodes = [self._nodes[row] for row in entry.rows.tolist()] or [None]
            for node, call in zip(nodes, entry.calls, strict=True):
                yield _line(entry, node, "null", call, [])
            return
        if isinstance(entry.value, Deployment):
            yield from self._deployments(entry, entry.value)
            return
        (call,) = entry.calls
        if isinstance(entry.value, MacroPolicy):
            decided = _dump(wire.intent_to_wire(self._testbed, entry.value))
        else:
            decided = self._routing(entry.value)
        yield _line(entry, None, decided, call, [])

    def _routing(self, plan: RoutingPlan) -> str:
        key = plan.destination.tobytes()
        if key not in self._known:
            self._known[key] = _dump(wire.plan_to_wire(self._testbed, plan))
        return self._known[key]

    def _deployments(self, entry: Entry, deployment: Deployment) -> Iterator[str]:
        any_void = bool(entry.voided.any())
        for k, row in enumerate(entry.rows.tolist()):
            pods = deployment.mode[k], deployment.cores[k], deployment.vgpus[k]
            key = tuple(column.tobytes() for column in pods)
            if key not in self._known:
                self._known[key] = _dump(wire.pods_to_wire(self._testbed, *pods))
            void = [self._lms[i] for i in np.flatnonzero(entry.voided[k])] if any_void else []
            yield _line(entry, self._nodes[row], self._known[key], entry.calls[k], void)


def _line(entry: Entry, node: str | None, decided: str, call: Call, void: list[str]) -> str:
    line = (
        f'{{"slot":{entry.slot},"tier":"{entry.tier}","node":{_dump(node)},"decided":{decided},'
        f'"took_s":{_dump(call.took_s)},"outcome":"{outcome(call, bool(void))}"'
    )
    if void:
        line += f',"void":{_dump(void)}'
    if call.detail:
        line += f',"detail":{_dump(call.detail)}'
    for name in _NOTES:
        value = getattr(call, name)
        if value is not None and value != "":
            plain = asdict(value) if isinstance(value, Undone | Bounded | Advice) else value
            line += f',"{name}":{_dump(plain)}'
    if call.asked:
        line += (
            f',"tokens_in":{_dump(call.tokens_in)},"tokens_out":{_dump(call.tokens_out)}'
            f',"cost_usd":{_dump(call.cost_usd)}'
        )
    return line + "}\n"


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
