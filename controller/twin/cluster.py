"""The twin behind the ports: a clock, a cluster and its nodes in one object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, RoutingPlan
from controller.domain.requests import REFUSED, Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.twin import kernel
from controller.twin.layout import Records
from controller.twin.tables import Outages, compile_tables, empty_memory

Floats = NDArray[np.float64]


class Twin:
    """Virtual time: implements Clock, Cluster and Node for all nodes at once.

    Args:
        scenario: testbed, profile, constants.
        requests: every arrival of the run; shown to no one before it is born.
        outages: (node row, down_s, up_s), known to no one beforehand.
    """

    def __init__(self, scenario: Scenario, requests: Requests, outages: Outages = ()) -> None:
        self.scenario = scenario
        self.requests = requests
        self._memory = empty_memory(scenario, requests)
        self._world = tuple(self._memory), tuple(compile_tables(scenario, outages))
        self._now_s = 0.0
        self._dispatched = 0  # requests whose slot has been routed
        self._slot_starts = np.searchsorted(requests.slot, np.arange(self.slots + 2)).tolist()
        self._rows = np.arange(len(scenario.testbed.nodes))
        shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        self._state = self._snapshot(np.zeros((9, *shape), np.int64), np.zeros((3, *shape)))

    @property
    def slots(self) -> int:
        """Slots in which requests are born."""
        return int(self.requests.slot[-1]) + 1 if len(self.requests) else 0

    @property
    def records(self) -> Records:
        """One record per request (:data:`controller.twin.layout.REQUEST`)."""
        return self._memory.requests

    @property
    def pod_starts(self) -> int:
        return int(self._memory.pods["starts"].sum())

    @property
    def gpu_busy_s(self) -> float:
        """Time with a busy slice, summed over physical GPUs."""
        return float(self._memory.cards["busy_s"].sum())

    # Clock

    def now(self) -> float:
        return self._now_s

    async def sleep_until(self, time_s: float) -> None:
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
        # Nothing is known later than tau after its birth; a slot more, for rounding.
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

    async def route(self, plan: RoutingPlan, thought_s: float) -> None:
        slot = self._state.slot + 1
        if slot >= self.slots:
            return
        first, last = self._slot_starts[slot : slot + 2]
        ready_s = self._now_s + thought_s + self.scenario.testbed.network.control_s
        destination = np.ascontiguousarray(plan.destination, np.int64)
        kernel.dispatch(self._world, first, last, destination, ready_s)
        self._dispatched = last

    async def settled(self) -> bool:
        if self._memory.nodes["closed"].sum() < self._dispatched:
            return False
        table = self.records[: self._dispatched]
        return not np.any((table["failure"] == 0) & (table["returned_s"] > self._now_s))

    async def deploy(self, deployment: Deployment, thought_s: Floats) -> NDArray[np.bool_]:
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

    def _snapshot(self, ints: NDArray[np.int64], floats: Floats) -> ClusterState:
        """The state at a slot boundary, from what :func:`kernel.note` wrote of the pods."""
        nodes = self._memory.nodes.copy()
        state, mode, vgpus, cards, want_mode, want_vgpus, backlog, requests, prompts = ints
        cores, want_cores, busy_s = floats
        return ClusterState(
            time_s=self._now_s,
            slot=round(self._now_s / self.scenario.slot_s) - 1,
            rows=self._rows,
            up=nodes["up"],
            backlog=backlog,
            mode=mode,
            cores=cores,
            vgpus=vgpus,
            cards=cards,
            pod=state,
            want_mode=want_mode,
            want_cores=want_cores,
            want_vgpus=want_vgpus,
            free_cores=nodes["free_cores"],
            free_ram_gb=nodes["free_ram_gb"],
            free_vgpus=nodes["free_slices"],
            arrived_prompts=prompts,
            arrived_requests=requests,
            busy_s=busy_s,
        )
