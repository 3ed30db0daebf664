"""The pods of a testbed's nodes on a cluster, with nobody to serve: what a run does with pods."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from controller.domain.decisions import Deployment
from controller.domain.scenario import Scenario
from controller.domain.state import OFF, POD_READY
from controller.testbed.kubernetes.access import ClusterApi
from controller.testbed.kubernetes.pod import PodValues
from controller.testbed.kubernetes.pods import ClusterPods
from controller.testbed.node.pods import Pods, Start, Stop, Wish
from controller.testbed.node.runtime import PodNews, RunOnNode


class NodeOnCluster:
    """The pods of one node, wired as in LiveRun."""

    def __init__(
        self,
        api: ClusterApi,
        scenario: Scenario,
        row: int,
        run_id: str,
        values: PodValues,
        *,
        resizes: bool = False,
        speed: float = 20.0,
    ) -> None:
        self.pods = Pods(scenario, row, resizes=resizes)
        self.heard: list[tuple[int, PodNews]] = []
        self.asked_s: list[tuple[str, float]] = []  # pod, when its start was commanded
        folder = values.data / scenario.testbed.node_names[row]

        def engine(start: Start, folder: Path) -> list[str]:
            return ["--engine", "emulated", "--model", str(folder / "times.json")]

        run = RunOnNode(
            None, run_id, scenario, row, folder, speed, engine, self._hear,  # type: ignore[arg-type]
        )  # fmt: skip
        self.runtime = ClusterPods(run, api, values)

    async def open(self, wishes: Sequence[Wish] | None = None) -> dict[int, Start]:
        found = await self.runtime.prepare()
        self.pods.adopt(wishes or [(OFF, 0.0, 0)] * len(self.pods.pods), found)
        for start in found.values():
            self.runtime.adopt(start)
        self.carry_out()
        return found

    def want(self, wishes: Sequence[Wish]) -> list[bool]:
        """Command; return what was void."""
        mode, cores, vgpus = (np.array([one]) for one in zip(*wishes, strict=True))
        void = self.pods.deploy(Deployment(mode, cores.astype(np.float64), vgpus))
        self.carry_out()
        return [bool(one) for one in void[0]]

    def carry_out(self) -> None:
        for command in self.pods.take():
            if isinstance(command, Start):
                name = self.runtime._maker.name_of(command.lm)
                self.asked_s.append((name, time.monotonic()))
                self.runtime.start(command)
            elif isinstance(command, Stop):
                self.runtime.stop(command.lm)
            else:
                self.runtime.resize(command)

    def states(self) -> list[int]:
        return [pod.state for pod in self.pods.pods]

    @property
    def is_settled(self) -> bool:
        """True if everything wished for is ready, and nothing else is there."""
        return all(
            pod.state == (POD_READY if pod.wish[0] != OFF else OFF) for pod in self.pods.pods
        )

    def _hear(self, lm: int, news: PodNews) -> None:
        self.heard.append((lm, news))
        hears = {
            PodNews.WAITING: self.pods.waiting,
            PodNews.PLACED: self.pods.placed,
            PodNews.READY: self.pods.ready,
            PodNews.LOST: self.pods.lost,
            PodNews.GONE: self.pods.gone,
            PodNews.RESIZED: self.pods.resized,
            PodNews.NOT_RESIZED: self.pods.not_resized,
        }
        hears[news](lm)
        self.carry_out()
