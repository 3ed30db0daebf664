"""Live nodes over the real API server and scheduler, with a kubelet of clockwork.

Time is set by hand, as in :mod:`tests.contract.live_pods`. Pods are real objects that the real
scheduler places; when the profile says that one is ready, or has ended, this kubelet reports it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, POD_STARTING
from controller.testbed.kubernetes.access import Call, Missing
from controller.testbed.kubernetes.pod import RUN, status_of
from controller.testbed.kubernetes.pods import ClusterPods
from controller.testbed.kubernetes.resize import STRATEGIC
from controller.testbed.kubernetes.runs import RunObjects
from controller.testbed.node.pods import Start, Stop
from controller.testbed.node.runtime import PodNews, RunOnNode
from tests.contract.live_pods import SPEED, LivePods
from tests.kubernetes.ground import values
from tests.kubernetes.loop import ClusterLoop

NAMESPACE = "clockwork"  # whose pods kwok leaves alone: tests/kubernetes/kwok.yaml
NEWS_S = 30.0
_runs = itertools.count()


def node_name(row: int) -> str:
    return f"clockwork-{row}"


class ClockworkCluster(LivePods):
    """A testbed of live nodes on a cluster."""

    def __init__(
        self,
        cluster: ClusterLoop,
        scenario: Scenario,
        requests: Requests,
        outages: Sequence[tuple[int, float, float]] = (),
    ) -> None:
        nodes = [
            replace(one, name=node_name(row)) for row, one in enumerate(scenario.testbed.nodes)
        ]
        testbed = replace(scenario.testbed, nodes=tuple(nodes))
        super().__init__(replace(scenario, testbed=testbed), requests, outages)
        self._cluster = cluster
        self._root = Path(tempfile.mkdtemp())
        self.run_id = f"clock{next(_runs)}.1"
        self._objects = RunObjects(cluster.api, NAMESPACE)
        cluster.run(self._objects.begin(self.run_id))
        self._news: list[queue.SimpleQueue[tuple[int, PodNews]]] = [
            queue.SimpleQueue() for _ in nodes
        ]
        self._runtimes = [self._runtime(row) for row in range(len(nodes))]
        for one in self._runtimes:
            assert cluster.run(one.prepare()) == {}

    def close(self) -> None:
        async def ending() -> None:
            for one in self._runtimes:
                await one.close()
            await self._cluster.api.call(
                Call("deletecollection", "pods", NAMESPACE), {"gracePeriodSeconds": 0},
                query={"labelSelector": f"{RUN}={self.run_id}"},
            )  # fmt: skip
            await self._objects.end(self.run_id)

        self._cluster.run(ending())

    def _runtime(self, row: int) -> ClusterPods:
        def engine(start: Start, folder: Path) -> list[str]:
            return ["--engine", "emulated", "--model", str(folder / "times.json")]

        news = self._news[row]
        run = RunOnNode(
            None, self.run_id, self.scenario, row, self._root / str(row), SPEED, engine,  # type: ignore[arg-type]
            lambda lm, what: news.put((lm, what)),
        )  # fmt: skip
        return ClusterPods(run, self._cluster.api, values(self._root, NAMESPACE))

    def _carry_out(self, row: int) -> None:
        for command in self.pods[row].take():
            lm, runtime = command.lm, self._runtimes[row]
            profile = self.scenario.profile.lms[self.scenario.testbed.lm_names[lm]]
            if isinstance(command, Start):
                self._cluster.call(runtime.start, command)
                self._until_known(row, lm, lambda pod: status_of(pod).placed)
                left_s = profile.start_gpu_s if command.mode == GPU else profile.start_cpu_s
            else:
                assert isinstance(command, Stop)
                self._cluster.call(runtime.stop, lm)
                self._until_known(row, lm, lambda pod: status_of(pod).ends)
                left_s = profile.stop_s
                self._due = [one for one in self._due if one[1:] != (row, lm)]
                heapq.heapify(self._due)
            heapq.heappush(self._due, (self.now_s + left_s, row, lm))

    def _advance(self, time_s: float) -> None:
        while self._due and self._due[0][0] <= time_s:
            self.now_s, row, lm = heapq.heappop(self._due)
            pods = self.pods[row]
            name = self._runtimes[row]._maker.name_of(lm)
            if pods.pods[lm].state == POD_STARTING:
                self._cluster.run(report_ready(self._cluster, NAMESPACE, name))
                assert self._news[row].get(timeout=NEWS_S) == (lm, PodNews.READY)
                pods.ready(lm)
            else:
                self._cluster.run(report_end(self._cluster, NAMESPACE, name))
                # Its server stops before it ends, and the node need not hear of both.
                while (heard := self._news[row].get(timeout=NEWS_S)) == (lm, PodNews.LOST):
                    pass
                assert heard == (lm, PodNews.GONE)
                pods.gone(lm)
            self._carry_out(row)
        self.now_s = max(self.now_s, time_s)

    def _until_known(self, row: int, lm: int, good: Any) -> None:
        runtime, end_s = self._runtimes[row], time.monotonic() + NEWS_S
        name = runtime._maker.name_of(lm)
        while (pod := runtime._watched.objects.get(name)) is None or not good(pod):
            assert time.monotonic() < end_s, (name, pod, runtime.reasons())
            time.sleep(0.01)


async def report_ready(cluster: ClusterLoop, namespace: str, name: str) -> None:
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [
            {"type": one, "status": "True"} for one in ("Initialized", "ContainersReady", "Ready")
        ],
    }
    call = Call("patch", "pods/status", namespace, name)
    await cluster.api.call(call, {"status": status}, kind=STRATEGIC)


async def report_end(cluster: ClusterLoop, namespace: str, name: str) -> None:
    with contextlib.suppress(Missing):
        await cluster.api.call(Call("delete", "pods", namespace, name), {"gracePeriodSeconds": 0})
