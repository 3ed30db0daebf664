"""The seams. Each Protocol has a twin and a testbed side, or several strategies, behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Decision, Deployment, MacroPolicy, RoutingPlan
from controller.domain.state import ClusterState, Telemetry


class Clock(Protocol):
    """Seconds since the run began. The twin is its own clock: sleeping runs its events."""

    def now(self) -> float: ...

    async def sleep_until(self, time_s: float) -> None:
        """Return when ``now() >= time_s``."""


class Cluster(Protocol):
    """What planner and scheduler see and command."""

    async def observe(self) -> ClusterState:
        """State of all nodes at the last slot boundary."""

    async def telemetry(self, first_slot: int) -> Telemetry:
        """Outcomes that became known from slot ``first_slot`` until now."""

    async def route(self, plan: RoutingPlan, thought_s: float) -> None:
        """Dispatch the requests born in the slot that begins now. They wait ``thought_s``, the
        time the decision took; on wall time it has passed already."""

    async def settled(self) -> bool:
        """Every request born so far has returned or failed."""


class Node(Protocol):
    """What a deployer sees and commands: one node on the testbed, all rows in the twin."""

    async def observe(self) -> ClusterState:
        """State at the last slot boundary; rows are the nodes under control."""

    async def deploy(
        self, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Make the desired pods so, after the slot's requests were routed. Idempotent.
        ``thought_s`` (n,) as in :meth:`Cluster.route`.

        Returns:
            (n, I) True where the Pending rule voided a change (section V-D).
        """


class Planner(Protocol):
    """Once an epoch: Eq. 12-13."""

    async def plan(self, state: ClusterState, telemetry: Telemetry) -> Decision[MacroPolicy]: ...


class Scheduler(Protocol):
    """Once a slot: where requests go."""

    async def schedule(self, state: ClusterState, policy: MacroPolicy) -> Decision[RoutingPlan]: ...


class Deployer(Protocol):
    """Once a slot: which LMs run, on what. Rows of the state are decided on independently."""

    async def deploy(self, state: ClusterState, policy: MacroPolicy) -> Decision[Deployment]: ...


class Journal(Protocol):
    """Where a run's decisions and slot states go. Never sees prompt or result contents."""

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None: ...

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None: ...

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None: ...

    def observed(self, state: ClusterState) -> None:
        """A slot has ended in this state."""


class Store(Protocol):
    """Documents by collection: JSON objects under a string key.

    One writer process, any number of readers; a write that has returned survives a crash. A field
    is a dotted path, ``"pod.state"``; fields hold scalars where they are filtered, sorted or
    indexed, and a missing field counts as None. Safe to call from several threads.

    Raises:
        InputError: a collection, key, field or document that no implementation could keep.
        Permanent: the store cannot be read or written (a full disk, a lost connection).
    """

    def put(self, collection: str, key: str, document: Mapping[str, Any]) -> None:
        """Insert or replace the document under ``key``."""

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """:meth:`put` for each (key, document), in order and much faster than one by one. A crash
        in the middle keeps the first of them, maybe none."""

    def insert(self, collection: str, key: str, document: Mapping[str, Any]) -> bool:
        """Put unless ``key`` is taken; False if it was. Of several that try, one gets True."""

    def swap(
        self,
        collection: str,
        key: str,
        expected: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bool:
        """Compare and set: replace the document under ``key`` if its fields equal ``expected``;
        False if they do not or there is none."""

    def get(self, collection: str, key: str) -> dict[str, Any] | None: ...

    def find(
        self,
        collection: str,
        where: Mapping[str, Any] | None = None,
        *,
        within: Mapping[str, tuple[float, float]] | None = None,
        sort: Sequence[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Documents whose fields equal ``where`` and are numbers in the half-open intervals
        [low, high) of ``within``, sorted by (field, 1 or -1) pairs, then by key. Missing fields
        sort lowest."""

    def delete(self, collection: str, key: str) -> bool:
        """Remove; False if there was none."""

    def index(self, collection: str, field: str) -> None:
        """Declare that ``field`` is often filtered or sorted by. Idempotent; results are the same
        without it."""

    def close(self) -> None:
        """Let another writer in. Idempotent."""
