"""The twin behind the ports: a clock, a cluster and its nodes in one object.

:class:`Twin` shows a deployer all nodes at once; :meth:`Twin.node` shows it some of them, as a
process on one node sees its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, Orders, RoutingPlan, Stamp
from controller.domain.requests import REFUSED, Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry, take_rows
from controller.twin import kernel
from controller.twin.layout import Records
from controller.twin.tables import Outages, compile_tables, empty_memory

Floats = NDArray[np.float64]


class Twin:
    """Simulated cluster in virtual time: Clock, Cluster, and Node for all nodes at once.

    Args:
        scenario: testbed, profile, constants.
        requests: every arrival of the run; hidden from deciders before its birth.
        outages: (node row, down_s, up_s); hidden from deciders beforehand.
    """

    def __init__(self, scenario: Scenario, requests: Requests, outages: Outages = ()) -> None:
        self.scenario = scenario
        self.requests = requests
        # Slots in which requests are born.
        self.slots = int(requests.slot[-1]) + 1 if len(requests) else 0
        self._memory = empty_memory(scenario, requests)
        self._world = tuple(self._memory), tuple(compile_tables(scenario, outages))
        self._now_s = 0.0
        self._dispatched = 0  # requests whose slot has been routed
        self._slot_starts = np.searchsorted(requests.slot, np.arange(self.slots + 2)).tolist()
        self._orders: Orders | None = None
        self._rows = np.arange(len(scenario.testbed.nodes))
        self._newest = Stamp(-1)  # of all deployments
        self._stamps = [self._newest] * len(self._rows)  # of each node's newest
        self._want_slot = np.full(len(self._rows), -1)
        self._heard_s = np.zeros(len(self._rows))
        shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        self._state = self._snapshot(np.zeros((9, *shape), np.int64), np.zeros((3, *shape)))

    @property
    def records(self) -> Records:
        """One record per request (:data:`controller.twin.layout.REQUEST`)."""
        return self._memory.requests

    @property
    def pod_starts(self) -> int:
        return int(self._memory.pods["starts"].sum())

    @property
    def gpu_busy_s(self) -> float:
        """Seconds with a busy slice, summed over physical GPUs."""
        return float(self._memory.cards["busy_s"].sum())

    # Clock

    def now(self) -> float:
        return self._now_s

    def thought_s(self, since_s: float, declared_s: float) -> float:
        del since_s
        return declared_s

    async def sleep_until(self, time_s: float) -> None:
        self._dispatch_late(time_s)
        ints = np.empty((9, *self._memory.pods.shape), np.int64)
        floats = np.empty((3, *self._memory.pods.shape))
        kernel.advance_all(self._world, time_s, ints, floats)
        self._now_s = time_s
        self._state = self._snapshot(ints, floats)

    # Cluster and Node

    async def observe(self) -> ClusterState:
        return self._state

    async def telemetry(self, first_slot: int) -> Telemetry:
        now_s, since_s = self._now_s, first_slot * self.scenario.slot_s
        lms = len(self.scenario.testbed.lms)
        # Every outcome is known at most tau after birth; one slot more, for rounding.
        oldest_s = since_s - self.scenario.tau_s - self.scenario.slot_s
        oldest = np.searchsorted(self.requests.born_s, oldest_s)
        table = self.records[oldest : self._dispatched]
        refused, failed = table["failure"] == REFUSED, table["failure"] > 0
        known_s = np.where(failed, table["deadline_s"], table["returned_s"])
        known = (table["closed"] == 1) & (known_s > since_s) & (known_s <= now_s)
        known[refused] = (table["born_s"] >= since_s)[refused]
        lm, failed = table["lm"][known], failed[known]
        latency_s = np.where(failed, 0.0, (table["returned_s"] - table["born_s"])[known])
        born = slice(*np.searchsorted(self.requests.born_s, (since_s, now_s)))
        return Telemetry(
            first_slot=first_slot,
            last_slot=self._state.slot,
            arrived_requests=np.bincount(self.requests.lm[born], minlength=lms),
            arrived_prompts=np.bincount(
                self.requests.lm[born], self.requests.prompts[born], minlength=lms
            ).astype(np.int64),
            succeeded=np.bincount(lm[~failed], minlength=lms),
            failed=np.bincount(lm[failed], minlength=lms),
            latency_sum_s=np.bincount(lm, latency_s, minlength=lms).astype(np.float64),
        )

    async def orders(self) -> Orders | None:
        return self._orders

    async def announce(self, orders: Orders, thought_s: float) -> None:
        if self._orders is not None and orders.stamp <= self._orders.stamp:
            return
        self._orders = orders
        if orders.in_force.plan is not None:
            ready_s = self._now_s + thought_s + self.scenario.testbed.network.control_s
            self._dispatch(orders.stamp.slot, orders.in_force.plan, ready_s)

    def _dispatch(self, slot: int, plan: RoutingPlan, ready_s: float) -> None:
        """Send the requests born up to ``slot`` and not sent yet to their nodes in ``plan``, not
        before ``ready_s``."""
        last = self._slot_starts[min(slot + 1, self.slots)]
        if last > self._dispatched:
            destination = np.ascontiguousarray(plan.destination, np.int64)
            kernel.dispatch(self._world, self._dispatched, last, destination, ready_s)
            self._dispatched = last

    def _dispatch_late(self, time_s: float) -> None:
        """Dispatch by the plan in force, at ``time_s``, the waiting requests of slots that end by
        then without orders."""
        ended = round(time_s / self.scenario.slot_s) - 1
        if self._dispatched < self._slot_starts[min(ended + 1, self.slots)] and self._orders:
            plan = self._orders.in_force.plan
            if plan is not None:
                self._dispatch(ended, plan, time_s)

    async def settled(self) -> bool:
        if self._memory.nodes["closed"].sum() < self._dispatched:
            return False
        table = self.records[: self._dispatched]
        return not np.any((table["failure"] == 0) & (table["returned_s"] > self._now_s))

    async def deployed(self) -> Stamp:
        return self._newest

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: Floats
    ) -> NDArray[np.bool_]:
        return self._deploy(self._rows, stamp, deployment, thought_s)

    def node(self, rows: NDArray[np.int64]) -> TwinNode:
        """Return the nodes ``rows`` as the process that controls them sees them."""
        return TwinNode(self, rows)

    def _deploy(
        self, rows: NDArray[np.int64], stamp: Stamp, deployment: Deployment, thought_s: Floats
    ) -> NDArray[np.bool_]:
        """Deploy on the nodes ``rows``, except those that have this command or a newer one."""
        if rows is self._rows and stamp > self._newest:  # the hot path: all nodes, nothing stale
            self._newest = stamp
            self._want_slot = np.full(len(rows), stamp.slot)
            self._stamps = [stamp] * len(rows)
            return self._command(thought_s, deployment)
        fresh = np.array([self._stamps[row] < stamp for row in rows.tolist()])
        taken, made = rows[fresh], deployment
        self._newest = max(self._newest, stamp)
        self._want_slot = self._want_slot.copy()
        self._want_slot[taken] = stamp.slot
        for row in taken.tolist():
            self._stamps[row] = stamp
        spread = Deployment(
            mode=self._spread(taken, made.mode[fresh]),
            cores=self._spread(taken, made.cores[fresh]),
            vgpus=self._spread(taken, made.vgpus[fresh]),
        )
        return self._command(self._spread(taken, thought_s[fresh]), spread)[rows]

    def _command(self, thought_s: Floats, deployment: Deployment) -> NDArray[np.bool_]:
        """Deploy on every node whose ``thought_s`` is not NaN."""
        voided: NDArray[np.bool_] = kernel.deploy_all(
            self._world,
            self._now_s,
            (self._state.slot + 2) * self.scenario.slot_s,
            np.ascontiguousarray(thought_s, np.float64),
            np.ascontiguousarray(deployment.mode, np.int64),
            np.ascontiguousarray(deployment.cores, np.float64),
            np.ascontiguousarray(deployment.vgpus, np.int64),
        )
        return voided

    def _spread(self, rows: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
        """Return ``values`` (n, ...) of ``rows`` as an array of all nodes. Other nodes get 0, or
        NaN in an array (n,), which the kernel takes for no command."""
        fill = np.nan if values.ndim == 1 else 0
        spread = np.full((len(self._rows), *values.shape[1:]), fill, values.dtype)
        spread[rows] = values
        return spread

    def _snapshot(self, ints: NDArray[np.int64], floats: Floats) -> ClusterState:
        """Return the state at a slot boundary from the pods' columns of :func:`kernel.note`."""
        nodes = self._memory.nodes.copy()
        up = nodes["up"]
        self._heard_s = np.where(up, self._now_s, self._heard_s)
        state, mode, vgpus, cards, want_mode, want_vgpus, backlog, requests, prompts = ints
        cores, want_cores, busy_s = floats
        return ClusterState(
            time_s=self._now_s,
            slot=round(self._now_s / self.scenario.slot_s) - 1,
            rows=self._rows,
            up=up,
            heard_s=self._heard_s,
            backlog=backlog,
            mode=mode,
            cores=cores,
            vgpus=vgpus,
            cards=cards,
            pod=state,
            want_mode=want_mode,
            want_cores=want_cores,
            want_vgpus=want_vgpus,
            want_slot=self._want_slot,
            free_cores=nodes["free_cores"],
            free_ram_gb=nodes["free_ram_gb"],
            free_vgpus=nodes["free_slices"],
            arrived_prompts=prompts,
            arrived_requests=requests,
            busy_s=busy_s,
        )


class TwinNode:
    """Node port of a process that controls some of a twin's nodes."""

    def __init__(self, twin: Twin, rows: NDArray[np.int64]) -> None:
        self._twin = twin
        self._rows = rows

    async def observe(self) -> ClusterState:
        return take_rows(await self._twin.observe(), self._rows)

    async def orders(self) -> Orders | None:
        return await self._twin.orders()

    async def deployed(self) -> Stamp:
        rows: list[int] = self._rows.tolist()
        return max(self._twin._stamps[row] for row in rows)

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: Floats
    ) -> NDArray[np.bool_]:
        return self._twin._deploy(self._rows, stamp, deployment, thought_s)
