"""The seams. Each Protocol has a twin and a testbed side, or several strategies, behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    Decision,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    RoutingPlan,
    Stamp,
)
from controller.domain.state import ClusterState, Telemetry


class Clock(Protocol):
    """Seconds since the run began. The twin is its own clock: sleeping runs its events."""

    def now(self) -> float: ...

    async def sleep_until(self, time_s: float) -> None:
        """Return when ``now() >= time_s``."""

    def thought_s(self, since_s: float, declared_s: float) -> float:
        """Return the seconds that a decision begun at ``since_s`` took: as declared where time is
        virtual, as measured where it passes."""


class Cluster(Protocol):
    """The cluster as planner and scheduler see and command it.

    Raises:
        Transient: the cluster did not answer; the last orders hold.
    """

    async def observe(self) -> ClusterState:
        """Return the state of all nodes at the last slot boundary."""

    async def telemetry(self, first_slot: int) -> Telemetry:
        """Return the outcomes that became known from slot ``first_slot`` until now."""

    async def orders(self) -> Orders | None:
        """Return the newest orders, None before the first: where a restarted process goes on."""

    async def announce(self, orders: Orders, thought_s: float) -> None:
        """Bring orders to every node, and dispatch the requests born in their slot by their plan.

        Requests wait ``thought_s``, the seconds that the decision took; on wall time they have
        passed already. In a slot without orders, requests wait for its end and follow the plan in
        force. Idempotent: orders no newer than the newest are ignored.
        """

    async def settled(self) -> bool:
        """Return True if every request born so far has returned or failed."""


class Node(Protocol):
    """A node as its deployer sees and commands it; in the twin, all nodes at once.

    Raises:
        Transient: the node did not answer; the last deployment holds.
    """

    async def observe(self) -> ClusterState:
        """Return the state at the last slot boundary; rows are the nodes under control."""

    async def orders(self) -> Orders | None:
        """Return the newest orders that have reached the node, None before the first."""

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Make the desired pods so, after the slot's requests were dispatched.

        ``thought_s`` (n,) as in :meth:`Cluster.announce`. Idempotent: a command no newer than the
        row's newest is ignored.

        Returns:
            (n, I) True where the Pending rule voided a change (section V-D).
        """


class Planner(Protocol):
    """Once an epoch: Eq. 12-13. ``in_force`` is None before the first policy."""

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]: ...


class Scheduler(Protocol):
    """Once a slot: where requests go."""

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]: ...


class Deployer(Protocol):
    """Once a slot: which LMs run, on what. Rows of the state are decided on independently."""

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]: ...


class Journal(Protocol):
    """Record of a run's decisions and slot states. Never sees prompt or result contents."""

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None: ...

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None: ...

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None: ...

    def missed(self, slot: int, tier: str, rows: NDArray[np.int64], fault: str) -> None:
        """Record that no decision of a slot is known: what was in force holds.

        ``rows`` are the nodes of a deployer's tier, empty for the others; ``fault`` says why. After
        a restart it may follow a decision of that slot that was recorded: then that one counts.
        """

    def observed(self, state: ClusterState) -> None:
        """Record the state in which a slot has ended."""


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
        """Put each (key, document) in order, much faster than one by one. A crash
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
        """Return documents whose fields equal ``where`` and are numbers in the half-open intervals
        [low, high) of ``within``, sorted by (field, 1 or -1) pairs, then by key. Missing fields
        sort lowest."""

    def delete(self, collection: str, key: str) -> bool:
        """Remove; False if there was none."""

    def index(self, collection: str, field: str) -> None:
        """Declare that ``field`` is often filtered or sorted by. Idempotent; results are the same
        without it."""

    def close(self) -> None:
        """Let another writer in. Idempotent."""
