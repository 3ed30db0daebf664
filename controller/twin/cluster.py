"""The twin behind the ports: a clock, a cluster and its nodes in one object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, RoutingPlan
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState, Telemetry
from controller.twin import kernel
from controller.twin.layout import REFUSED, Records
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
        self._tables = compile_tables(scenario, outages)
        self._memory = empty_memory(scenario, requests)
        self._now_s = 0.0
        self._dispatched = 0  # requests whose slot has been routed
        self._set_payload()
        testbed = scenario.testbed
        shape = len(testbed.nodes), len(testbed.lms)
        self._rows = np.arange(shape[0])
        self._busy_s = np.zeros(shape)
        self._arrived_prompts = self._arrived_requests = np.zeros(shape, np.int64)
        self._slot_starts = np.searchsorted(requests.slot, np.arange(self.slots + 2))

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
        return float(self._memory.nodes["gpu_busy_s"].sum())

    # Clock

    def now(self) -> float:
        return self._now_s

    async def sleep_until(self, time_s: float) -> None:
        kernel.advance_all(self._memory, self._tables, time_s)
        self._now_s = time_s
        self._busy_s = self._memory.pods["busy_s"].copy()
        self._memory.pods["busy_s"] = 0.0

    # Cluster and Node

    async def observe(self) -> ClusterState:
        pods, nodes = self._memory.pods, self._memory.nodes
        slot = round(self._now_s / self.scenario.slot_s) - 1
        return ClusterState(
            time_s=self._now_s,
            slot=slot,
            rows=self._rows,
            up=nodes["up"] == 1,
            backlog=pods["backlog"].copy(),
            mode=pods["mode"].copy(),
            cores=pods["cores"].copy(),
            vgpus=pods["vgpus"].copy(),
            pod=pods["state"].copy(),
            want_mode=pods["want_mode"].copy(),
            want_cores=pods["want_cores"].copy(),
            want_vgpus=pods["want_vgpus"].copy(),
            free_cores=nodes["free_cores"].copy(),
            free_ram_gb=nodes["free_ram_gb"].copy(),
            free_vgpus=self._memory.cards["free_slices"].sum(axis=1),
            arrived_prompts=self._arrived_prompts,
            arrived_requests=self._arrived_requests,
            busy_s=self._busy_s,
        )

    async def telemetry(self, first_slot: int) -> Telemetry:
        since_s = first_slot * self.scenario.slot_s
        lms = len(self.scenario.testbed.lms)
        closed = self._memory.closed[: self._memory.counters[0]]
        table = self._memory.requests
        failure = table["failure"][closed]
        known_s = np.where(failure > 0, table["deadline_s"][closed], table["returned_s"][closed])
        known_s = np.where(failure == REFUSED, table["born_s"][closed], known_s)
        window = closed[(known_s > since_s) & (known_s <= self._now_s)]
        lm, failed = table["lm"][window], table["failure"][window] > 0
        latency_s = np.where(failed, 0.0, table["returned_s"][window] - table["born_s"][window])
        born = slice(*np.searchsorted(self.requests.born_s, (since_s, self._now_s)))
        return Telemetry(
            first_slot=first_slot,
            last_slot=round(self._now_s / self.scenario.slot_s) - 1,
            arrived_requests=np.bincount(self.requests.lm[born], minlength=lms),
            arrived_prompts=np.bincount(
                self.requests.lm[born], self.requests.prompts[born], minlength=lms
            ).astype(np.int64),
            succeeded=np.bincount(lm[~failed], minlength=lms),
            failed=np.bincount(lm[failed], minlength=lms),
            latency_sum_s=np.bincount(lm, latency_s, minlength=lms).astype(np.float64),
        )

    async def route(self, plan: RoutingPlan, thought_s: float) -> None:
        slot = round(self._now_s / self.scenario.slot_s)
        if slot >= self.slots:
            self._arrived_prompts = np.zeros_like(self._arrived_prompts)
            self._arrived_requests = np.zeros_like(self._arrived_requests)
            return
        first, last = int(self._slot_starts[slot]), int(self._slot_starts[slot + 1])
        born = self.records[first:last]
        origin, lm = born["origin"], born["lm"]
        self._count_arrivals(origin, lm, born["prompts"])
        born["destination"] = plan.destination[origin, lm]
        in_force_s = self._now_s + thought_s + self.scenario.testbed.network.control_s
        born["sent_s"] = np.maximum(born["born_s"], in_force_s)
        self._time_transfers(first, last)
        kernel.dispatch(self._memory, self._tables, first, last)
        self._dispatched = last

    async def settled(self) -> bool:
        table = self.records[: self._dispatched]
        return int(self._memory.counters[0]) == len(table) and not bool(
            np.any((table["failure"] == 0) & (table["returned_s"] > self._now_s))
        )

    async def deploy(self, deployment: Deployment, thought_s: Floats) -> NDArray[np.bool_]:
        voided = np.zeros(deployment.mode.shape, np.bool_)
        slot = round(self._now_s / self.scenario.slot_s)
        in_force_s = self._now_s + thought_s + self.scenario.testbed.network.control_s
        at_s = np.minimum(in_force_s, (slot + 1) * self.scenario.slot_s)
        kernel.deploy_all(
            self._memory,
            self._tables,
            at_s,
            deployment.mode,
            deployment.cores,
            deployment.vgpus,
            voided,
        )
        return voided

    def _set_payload(self) -> None:
        """Times of every transfer, by (same site or not): filled in at dispatch."""
        testbed = self.scenario.testbed
        sites = np.array([node.site for node in testbed.nodes])
        same_site = sites[:, None] == sites[None, :]
        network = testbed.network
        self._latency_s = np.where(same_site, network.site_latency_s, network.metro_latency_s)
        gbps = np.where(same_site, network.site_bandwidth_gbps, network.metro_bandwidth_gbps)
        self._byte_s = 8e-9 / gbps
        np.fill_diagonal(self._latency_s, 0.0)
        np.fill_diagonal(self._byte_s, 0.0)

    def _time_transfers(self, first: int, last: int) -> None:
        born = self.records[first:last]
        way = born["origin"], np.maximum(born["destination"], 0)
        latency_s, byte_s = self._latency_s[way], self._byte_s[way]
        born["uplink_s"] = latency_s + byte_s * self.requests.uplink_bytes[first:last]
        born["downlink_s"] = latency_s + byte_s * self.requests.downlink_bytes[first:last]

    def _count_arrivals(
        self, origin: NDArray[np.int64], lm: NDArray[np.int64], prompts: NDArray[np.int64]
    ) -> None:
        shape = self._arrived_prompts.shape
        cell = origin * shape[1] + lm
        count = np.bincount(cell, prompts, minlength=shape[0] * shape[1])
        self._arrived_prompts = count.astype(np.int64).reshape(shape)
        self._arrived_requests = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
