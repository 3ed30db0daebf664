"""The case memory H of Eq. 11: epochs of this run and of earlier ones, in a store.

A run is shown the earlier runs' cases as they were when it first asked, whatever is written
meanwhile: made again, it is shown the same, which resuming and replaying need.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any, Final

from controller.agents.cases import (
    SIMILAR,
    Case,
    alike,
    from_document,
    load_distance,
    sentence,
    to_document,
    worse,
)
from controller.agents.chat import TOKEN_CHARACTERS
from controller.domain.decisions import Demand
from controller.ports import Store

_CASES: Final = "cases"
_SHOWN: Final = "cases_shown"  # by run: keys of the earlier cases it may be shown
_CONSIDERED: Final = 250  # best, and worst, of the earlier cases: a bound on a recall's cost
_TRIED: Final = 8  # per list of a recall
_COMPARABLE: Final = math.log(2.0)  # loads within a factor of two
_NODE_APART: Final = math.log(2.0)  # a node up or down counts as much
_BAD: Final = 0.25  # worse than the best by this margin: a negative precedent


@dataclass(frozen=True, slots=True)
class Precedent:
    """A case, and how many that are much the same it stands for."""

    case: Case
    times: int = 1

    def __str__(self) -> str:
        return sentence(self.case, self.times)

    @property
    def tokens(self) -> int:
        """An estimate of what the sentence costs."""
        return -(-len(str(self)) // TOKEN_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Recall:
    """Precedents of a situation; no case twice, most informative first."""

    best: tuple[Precedent, ...] = ()
    worst: tuple[Precedent, ...] = ()
    nearest: tuple[Precedent, ...] = ()


@dataclass(slots=True)
class _Selection:
    """Precedents picked so far and the tokens that are left."""

    left: int
    lists: tuple[list[Precedent], ...] = field(default_factory=lambda: ([], [], []))

    def offer(self, position: int, precedent: Precedent) -> None:
        taken = chain.from_iterable(self.lists)
        if precedent.tokens <= self.left and not any(
            _much_the_same(precedent.case, other.case) for other in taken
        ):
            self.lists[position].append(precedent)
            self.left -= precedent.tokens


class CaseMemory:
    """Cases under ``testbed_key`` (:func:`controller.agents.cases.cluster_key`) for the run
    ``run``. A ``token_budget`` of 0 recalls nothing, and still records for others."""

    def __init__(self, store: Store, testbed_key: str, token_budget: int, run: str) -> None:
        self._store = store
        self._testbed = testbed_key
        self._budget = token_budget
        self._run = run
        self._earlier: list[Case] | None = None
        self._own: dict[int, Case] = {}

    @property
    def latest(self) -> Case | None:
        """This run's last epoch."""
        return self._own[max(self._own)] if self._own else None

    def record(self, case: Case) -> None:
        """Keep an epoch of this run; again for the same epoch replaces it. An epoch without any
        outcome teaches nothing and is left out."""
        if not case.performance.outcomes:
            return
        if not self._own:
            self._own = self._before(case.ended)
        document = to_document(case) | {"testbed": self._testbed, "run": self._run}
        document["objective"] = case.performance.objective
        document["key"] = key = f"{self._testbed}/{self._run}/{case.ended}"
        self._store.put(_CASES, key, document)
        self._own[case.ended] = case

    def recall(self, demand: Demand, up: Collection[str]) -> Recall:
        """Return the precedents for this load with these nodes up, within the token budget."""
        if self._budget <= 0:
            return Recall()
        if self._earlier is None:
            self._earlier = self._known_at_first()
        cases = [*self._earlier, *self._own.values()]
        load = (demand.requests * demand.prompts).tolist()
        distance = {id(case): _distance(case, load, set(up)) for case in cases}
        near = sorted(cases, key=lambda case: distance[id(case)])
        pool = [case for case in near if distance[id(case)] <= _COMPARABLE] or near
        pool.sort(key=_objective)
        good: list[Case] = []
        bad: list[Case] = []
        for case in pool:
            poor = case.undone or worse(case, pool[0], _BAD)
            (bad if poor else good).append(case)
        # The last epoch is no precedent; it need not be its own nearest.
        return self._select(cases, good, bad[::-1], [c for c in near if c is not self.latest])

    def _select(
        self, cases: list[Case], good: list[Case], bad: list[Case], near: list[Case]
    ) -> Recall:
        """Fill the budget in turns: a good one, a bad one, the nearest, the next good one."""
        selection = _Selection(self._budget)
        lists = [_distinct(some) for some in (good, bad, near)]
        for turn in zip_longest(*lists):
            for position, case in enumerate(turn):
                if case is not None:
                    selection.offer(position, _precedent(case, cases))
        return Recall(*(tuple(some) for some in selection.lists))

    def _before(self, slot: int) -> dict[int, Case]:
        """Return this run's epochs until ``slot`` that an earlier process recorded."""
        found = self._store.find(
            _CASES, {"testbed": self._testbed, "run": self._run}, within={"ended": (0, slot)}
        )
        return {document["ended"]: from_document(document) for document in found}

    def _known_at_first(self) -> list[Case]:
        key = f"{self._testbed}/{self._run}"
        shown = self._store.get(_SHOWN, key)
        if shown is not None:
            documents = [self._store.get(_CASES, case) for case in shown["cases"]]
            return [from_document(document) for document in documents if document is not None]
        found: dict[str, dict[str, Any]] = {}
        for order in (1, -1):
            for document in self._store.find(
                _CASES,
                {"testbed": self._testbed},
                sort=[("objective", order)],
                limit=_CONSIDERED,
            ):
                if document["run"] != self._run:
                    found[document["key"]] = document
        keys = sorted(found)
        self._store.put(_SHOWN, key, {"cases": keys})
        return [from_document(found[case]) for case in keys]


def _distance(case: Case, load: Sequence[float], up: set[str]) -> float:
    return load_distance(case.load, load) + _NODE_APART * len(up ^ set(case.up))


def _much_the_same(one: Case, other: Case) -> bool:
    return (
        one.up == other.up and load_distance(one.load, other.load) <= SIMILAR and alike(one, other)
    )


def _distinct(cases: Sequence[Case]) -> list[Case]:
    """Return the first few that differ from each other."""
    chosen: list[Case] = []
    for case in cases:
        if len(chosen) == _TRIED:
            break
        if not any(_much_the_same(case, other) for other in chosen):
            chosen.append(case)
    return chosen


def _precedent(case: Case, cases: Sequence[Case]) -> Precedent:
    """Return the typical one among those much the same as ``case``, for all of them."""
    group = [other for other in cases if other is case or _much_the_same(case, other)]
    group.sort(key=_objective)
    typical, undone = group[(len(group) - 1) // 2], any(other.undone for other in group)
    return Precedent(replace(typical, undone=undone), len(group))


def _objective(case: Case) -> float:
    return case.performance.objective
