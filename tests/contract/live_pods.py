"""Live nodes with pods of clockwork: everything of a node but its processes and their time.

Nodes, pods and disks are those of the testbed; a pod is ready when the profile says so, and the
machine's clock is set by hand. Nobody serves: what needs LM servers is tested with real ones.
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, Orders, Stamp
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, ClusterState, join_rows
from controller.testbed.clock import WallClock
from controller.testbed.node.disk import NodeDisk
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.pods import Pods, Start
from controller.testbed.node.port import LiveNode
from controller.testbed.node.settings import NodeSettings

SPEED = 100.0  # a wait for orders that never come is short


class LivePods:
    """A testbed of live nodes."""

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        outages: Sequence[tuple[int, float, float]] = (),
    ) -> None:
        assert not len(requests), "nobody serves here"
        assert not outages, "nothing breaks here"
        self.scenario = scenario
        self.now_s = 0.0
        self.clock = WallClock(0.0, SPEED, lambda: self.now_s / SPEED)
        self._folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self._folder, True)
        self._due: list[tuple[float, int, int]] = []  # when a pod is ready or gone: row, LM
        self.pods = [Pods(scenario, row) for row in range(len(scenario.testbed.nodes))]
        self.nodes = [self._node(row) for row in range(len(self.pods))]

    def _node(self, row: int) -> LiveNode:
        testbed = self.scenario.testbed
        name = testbed.node_names[row]
        machine = NodeMachine(NodeSettings(name, testbed.lm_names, slot_s=self.scenario.slot_s))
        disk = NodeDisk(self._folder / f"{row}.sqlite")
        return LiveNode(
            self.scenario, row, self.clock, machine, self.pods[row], disk,
            lambda: self._carry_out(row), lambda state: None, lambda lm, gpus: gpus,
        )  # fmt: skip

    def _carry_out(self, row: int) -> None:
        for command in self.pods[row].take():
            profile = self.scenario.profile.lms[self.scenario.testbed.lm_names[command.lm]]
            if isinstance(command, Start):
                left_s = profile.start_gpu_s if command.mode == GPU else profile.start_cpu_s
            else:
                left_s = profile.stop_s
                # A pod that is stopped while it starts does not become ready any more.
                self._due = [one for one in self._due if one[1:] != (row, command.lm)]
                heapq.heapify(self._due)
            heapq.heappush(self._due, (self.now_s + left_s, row, command.lm))

    def _advance(self, time_s: float) -> None:
        while self._due and self._due[0][0] <= time_s:
            self.now_s, row, lm = heapq.heappop(self._due)
            pods = self.pods[row]
            (pods.ready if pods.pods[lm].state == 2 else pods.gone)(lm)
            self._carry_out(row)
        self.now_s = max(self.now_s, time_s)

    # The testbed

    async def sleep_until(self, time_s: float) -> None:
        self._advance(time_s)
        for node in self.nodes:
            await node.observe()

    async def announce(self, orders: Orders, thought_s: float) -> None:
        del thought_s
        for node in self.nodes:
            node.order(orders)

    async def observe(self) -> ClusterState:
        return await self.node(np.arange(len(self.nodes))).observe()

    async def orders(self) -> Orders | None:
        return await self.nodes[0].orders()

    async def deployed(self) -> Stamp:
        return await self.node(np.arange(len(self.nodes))).deployed()

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        return await self.node(np.arange(len(self.nodes))).deploy(stamp, deployment, thought_s)

    def node(self, rows: NDArray[np.int64]) -> LiveRows:
        return LiveRows(self, rows)


class LiveRows:
    """Some of the nodes as one."""

    def __init__(self, testbed: LivePods, rows: NDArray[np.int64]) -> None:
        self._testbed, self._rows = testbed, rows
        self._nodes = [testbed.nodes[row] for row in rows.tolist()]

    async def observe(self) -> ClusterState:
        return join_rows([await node.observe() for node in self._nodes])

    async def orders(self) -> Orders | None:
        return await self._nodes[0].orders()

    async def deployed(self) -> Stamp:
        return max([await node.deployed() for node in self._nodes])

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Let the thought pass, then command: on a testbed, time does so by itself."""
        voided = np.zeros(deployment.mode.shape, np.bool_)
        slot_s = self._testbed.scenario.slot_s
        boundary_s = self._testbed.now_s // slot_s * slot_s
        for k in np.argsort(thought_s, kind="stable").tolist():
            self._testbed._advance(boundary_s + min(float(thought_s[k]), slot_s - 1e-3))
            one = Deployment(
                deployment.mode[k : k + 1], deployment.cores[k : k + 1], deployment.vgpus[k : k + 1]
            )
            voided[k] = (await self._nodes[k].deploy(stamp, one, thought_s[k : k + 1]))[0]
        return voided
