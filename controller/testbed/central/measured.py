"""A journal that counts decisions for the controller's metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    LATE,
    PLANNER,
    SCHEDULER,
    Call,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.state import ClusterState
from controller.ports import Journal
from controller.telemetry import names
from controller.telemetry.exposition import Exposition

Ints = NDArray[np.int64]


class MeasuredJournal:
    """Passes everything on to ``journal``."""

    def __init__(self, journal: Journal, measured: Exposition) -> None:
        self._journal, self._measured = journal, measured

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None:
        self._count(PLANNER, decision.calls)
        self._journal.planned(slot, decision)

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None:
        self._measured.set(names.CONTROLLER_SLOT, slot)
        self._count(SCHEDULER, decision.calls)
        self._journal.scheduled(slot, decision)

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None:
        self._journal.deployed(slot, state, decision, voided)

    def missed(self, slot: int, tier: str, rows: Ints, fault: str) -> None:
        self._measured.add(names.DECISIONS, tier=tier, outcome=LATE)
        self._journal.missed(slot, tier, rows, fault)

    def observed(self, state: ClusterState) -> None:
        self._journal.observed(state)

    def _count(self, tier: str, calls: tuple[Call, ...]) -> None:
        for call in calls:
            self._measured.add(names.DECISIONS, tier=tier, outcome=call.outcome)
            self._measured.observe(names.DECISION_SECONDS, call.took_s, tier=tier)
