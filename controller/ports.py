"""Ports. Each Protocol has a twin and a testbed implementation, or several strategies."""

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
    """Clock of a run, in seconds since it began. The twin is its own clock: sleeping runs its
    events."""

    def now(self) -> float: ...

    async def sleep_until(self, time_s: float) -> None:
        """Return when ``now() >= time_s``."""

    def thought_s(self, since_s: float, declared_s: float) -> float:
        """Return the seconds that a decision begun at ``since_s`` took: ``declared_s`` in virtual
        time, the measured ones in real time."""


class Cluster(Protocol):
    """The cluster as planner and scheduler see and command it.

    Raises:
        Transient: the cluster did not answer; the last orders stay in force.
    """

    async def observe(self) -> ClusterState:
        """Return the state of all nodes at the last slot boundary."""

    async def telemetry(self, first_slot: int) -> Telemetry:
        """Return the outcomes that became known since the start of slot ``first_slot``."""

    async def orders(self) -> Orders | None:
        """Return the newest orders, None before the first. A restarted process continues from
        them."""

    async def announce(self, orders: Orders, thought_s: float) -> None:
        """Send orders to every node, and dispatch the requests born in their slot by their plan.

        Requests wait ``thought_s``, the seconds that the decision took; in real time these have
        passed already. In a slot without orders, requests wait until its end and follow the plan in
        force. Idempotent: orders no newer than the newest are ignored.
        """

    async def settled(self) -> bool:
        """Return True if every request born so far has returned or failed."""


class Node(Protocol):
    """A node as its deployer sees and commands it; in the twin, all nodes at once.

    Raises:
        Transient: the node did not answer; the last deployment stays in force.
    """

    async def observe(self) -> ClusterState:
        """Return the state at the last slot boundary; rows are the nodes under control."""

    async def orders(self) -> Orders | None:
        """Return the newest orders that have reached the node, None before the first."""

    async def deployed(self) -> Stamp:
        """Return the newest stamp of a command to the nodes, also within its slot; ``Stamp(-1)``
        before the first. A restarted process continues from it."""

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Apply the desired pods, after the slot's requests were dispatched.

        ``thought_s`` (n,) as in :meth:`Cluster.announce`. Idempotent: a command no newer than the
        row's newest is ignored.

        Returns:
            (n, I) True where the Pending rule voided a change (section V-D).
        """


class Planner(Protocol):
    """Decider of the macro-policy, once an epoch (Eq. 12-13). ``in_force`` is None before the first
    policy."""

    async def plan(
        self, state: ClusterState, telemetry: Telemetry, in_force: InForce | None
    ) -> Decision[MacroPolicy]: ...


class Scheduler(Protocol):
    """Decider of the requests' destinations, once a slot."""

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]: ...


class Deployer(Protocol):
    """Decider of the LMs that run and their devices, once a slot. Decisions on rows of the state
    are independent."""

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]: ...


class Journal(Protocol):
    """Record of a run's decisions and slot states, without the contents of prompts or results."""

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
        """Record that no decision of a slot is known, so that the last one stays in force.

        ``rows`` are the nodes of a deployer's tier, empty for the others; ``fault`` is the reason.
        After a restart, a decision of the same slot may be on record before or after; then that one
        counts.
        """

    def observed(self, state: ClusterState) -> None:
        """Record the state at the end of a slot."""


class Store(Protocol):
    """Documents by collection: JSON objects under a string key.

    One writer process, any number of readers; a write that has returned survives a crash. A field
    is a dotted path, ``"pod.state"``; fields hold scalars where they are filtered, sorted or
    indexed, and a missing field counts as None. Safe to call from several threads.

    Raises:
        InputError: a collection, key, field or document that is invalid for some implementation.
        Transient: a remote store did not answer in time; a write may have been made. Another try
            with the same key does no harm, but ``insert`` and ``swap`` may then find their own.
        Permanent: the store cannot be read or written (a full disk, refused credentials).
    """

    @property
    def fault(self) -> str | None:
        """Reason why writes wait on this machine; None if none wait."""

    def put(self, collection: str, key: str, document: Mapping[str, Any]) -> None:
        """Insert or replace the document under ``key``."""

    def put_many(self, collection: str, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Put each (key, document) in order, much faster than one by one. After a crash in the
        middle, the store has the first of them, maybe none."""

    def insert(self, collection: str, key: str, document: Mapping[str, Any]) -> bool:
        """Put the document unless ``key`` is taken. Return False if it was; of several concurrent
        callers, one gets True."""

    def swap(
        self,
        collection: str,
        key: str,
        expected: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bool:
        """Replace the document under ``key`` if its fields equal ``expected`` (compare and set).
        Return False if they do not or there is none."""

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
        """Remove the document under ``key``. Return False if there was none."""

    def index(self, collection: str, field: str) -> None:
        """Declare that finds often filter or sort by ``field``. Idempotent; results are the same
        without it."""

    def close(self) -> None:
        """Close the store, so that another writer can open it. Idempotent."""
