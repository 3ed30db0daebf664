"""Pods of a node: what is wanted, what is held, and what follows.

The rules are those of docs/twin.md, "Pods". It knows no process: whoever runs pods carries out what
:meth:`Pods.take` returns and reports back by ``ready`` and ``gone``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment
from controller.domain.pending import SLACK, blocks, is_void, needs_more
from controller.domain.scenario import Scenario
from controller.domain.state import (
    CPU,
    GPU,
    OFF,
    POD_OFF,
    POD_PENDING,
    POD_READY,
    POD_STARTING,
    POD_STOPPING,
)

HOLDING: Final = (POD_STARTING, POD_READY, POD_STOPPING)

Wish = tuple[int, float, int]  # mode, cores, vGPUs
NOTHING: Final[Wish] = (OFF, 0.0, 0)


@dataclass(slots=True)
class Pod:
    """The pod of one LM. ``slices``: vGPUs on each of the node's physical GPUs."""

    wish: Wish = NOTHING
    held: Wish = NOTHING
    state: int = POD_OFF
    slices: list[int] = field(default_factory=list)
    submitted: bool = False  # while pending: at a cluster that has no room for it
    resized_from: float | None = None  # cores, while a resize is under way

    @property
    def gpus(self) -> list[int]:
        return [gpu for gpu, held in enumerate(self.slices) if held]


@dataclass(frozen=True, slots=True)
class Start:
    """Run a pod with these resources."""

    lm: int
    mode: int
    cores: float
    vgpus: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """End a pod."""

    lm: int


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a running pod other cores."""

    lm: int
    cores: float


Command = Start | Stop | Resize


class Pods:
    """The pods of the node ``row``, by LM.

    Args:
        resizes: change the cores of a ready pod in place, where nothing else changes.
    """

    def __init__(self, scenario: Scenario, row: int, *, resizes: bool = False) -> None:
        self._resizes = resizes
        self._scenario, self._row = scenario, row
        self._node = scenario.testbed.nodes[row]
        self._lms = scenario.testbed.lms
        self.pods = [Pod(slices=[0] * self._node.gpus) for _ in self._lms]
        self.starts = 0
        self._commands: list[Command] = []

    def take(self) -> list[Command]:
        """Return what is to be carried out, in this order, and forget it."""
        commands, self._commands = self._commands, []
        return commands

    def deploy(self, wanted: Deployment) -> NDArray[np.bool_]:
        """Apply the desired pods (1, I); return (1, I) True where the Pending rule voids a
        change."""
        blocked = any(blocks(pod.state) for pod in self.pods)
        voided = np.zeros((1, len(self.pods)), np.bool_)
        for i, pod in enumerate(self.pods):
            wish = _wish(wanted, i)
            if wish == pod.wish:
                continue
            mode, cores, vgpus = wish
            if is_void(blocked, needs_more(pod.state, pod.held[1], pod.held[2], *wish)):
                voided[0, i] = True
                continue
            pod.wish = (mode, cores, vgpus)
            if self._can_resize(pod):
                pod.resized_from, pod.held = pod.held[1], pod.wish
                self._commands.append(Resize(i, cores))
            elif pod.state in (POD_STARTING, POD_READY):
                self._stop(i)
            elif pod.state == POD_PENDING and mode == OFF:
                if pod.submitted:
                    self._stop(i)
                else:
                    pod.state = POD_OFF
            elif pod.state == POD_OFF:
                pod.state = POD_PENDING
        self._start_pending()
        return voided

    def adopt(self, wishes: Iterable[Wish], running: dict[int, Start]) -> None:
        """Take up the wishes of a former process and the pods that it left running.

        A pod whose resources are not the wished ones is stopped, as the former process would have.
        """
        for i, (pod, wish) in enumerate(zip(self.pods, wishes, strict=True)):
            pod.wish = wish
            if i in running:
                found = running[i]
                pod.held = (found.mode, found.cores, found.vgpus)
                pod.slices = _spread(found, self._node.gpus)
                pod.state = POD_STARTING
                if pod.held != wish:
                    self._stop(i)
            elif wish[0] != OFF:
                pod.state = POD_PENDING
        self._start_pending()

    def ready(self, lm: int) -> None:
        """Note that a starting pod serves."""
        if self.pods[lm].state == POD_STARTING:
            self.pods[lm].state = POD_READY

    def lost(self, lm: int) -> None:
        """Note that a pod serves no longer, and comes back by itself."""
        if self.pods[lm].state == POD_READY:
            self.pods[lm].state = POD_STARTING

    def waiting(self, lm: int) -> None:
        """Note that the cluster has no room for a pod: it holds nothing, and blocks as any pending
        one."""
        pod = self.pods[lm]
        if pod.state == POD_STARTING:
            pod.state, pod.submitted = POD_PENDING, True
            pod.held, pod.slices = NOTHING, [0] * self._node.gpus

    def placed(self, lm: int) -> None:
        """Note that a pod that was waiting has its place: it holds what is wanted."""
        pod = self.pods[lm]
        if pod.state == POD_PENDING and pod.submitted:
            self._hold(lm)

    def resized(self, lm: int) -> None:
        """Note that a pod has the cores that it holds."""
        self.pods[lm].resized_from = None

    def not_resized(self, lm: int) -> None:
        """Note that a pod has its cores of before: it is stopped, and starts with the others."""
        pod = self.pods[lm]
        if pod.resized_from is None:
            return
        mode, _, vgpus = pod.held
        pod.held, pod.resized_from = (mode, pod.resized_from, vgpus), None
        if pod.state in (POD_STARTING, POD_READY):
            self._stop(lm)

    def gone(self, lm: int) -> None:
        """Note that a pod has ended: the resources of a stopped one are free; one that died unasked
        holds them and starts again."""
        pod = self.pods[lm]
        pod.resized_from = None
        if pod.state == POD_PENDING and pod.submitted:
            self._hold(lm)
        if pod.state in (POD_STARTING, POD_READY):
            pod.state = POD_STARTING
            self._commands.append(self._start(lm))
        elif pod.state == POD_STOPPING:
            pod.held, pod.slices = NOTHING, [0] * self._node.gpus
            pod.state = POD_OFF if pod.wish[0] == OFF else POD_PENDING
            self._start_pending()

    def stop_all(self) -> None:
        """Wish for nothing."""
        nothing = np.zeros((1, len(self.pods)), np.int64)
        self.deploy(Deployment(nothing, nothing.astype(np.float64), nothing))

    def free(self) -> tuple[float, float, int]:
        """Return free cores, GB of RAM and vGPUs."""
        holding = [(pod, lm) for pod, lm in self._pairs() if pod.state in HOLDING]
        return (
            self._node.cores - sum(pod.held[1] for pod, _ in holding),
            self._node.ram_gb - sum(lm.ram_gb for _, lm in holding),
            self._node.vgpus - sum(pod.held[2] for pod, _ in holding),
        )

    def _pairs(self) -> Iterable[tuple[Pod, Any]]:
        return zip(self.pods, self._lms, strict=True)

    def _start_pending(self) -> None:
        """Start every pending pod whose resources are free, in LM order."""
        for i, (pod, lm) in enumerate(self._pairs()):
            if pod.state != POD_PENDING or pod.submitted:
                continue
            mode, cores, vgpus = pod.wish
            free_cores, free_ram_gb, _ = self.free()
            if cores > free_cores + SLACK or lm.ram_gb > free_ram_gb + SLACK:
                continue
            if mode == CPU and (cores <= 0 or not self._scenario.on_cpu(self._row, i)):
                continue
            if mode == GPU:
                if not self._scenario.on_gpu(self._row, i):
                    continue
                slices = self._place(lm.vram_gb, vgpus)
                if slices is None:
                    continue
                pod.slices = slices
            pod.held, pod.state = pod.wish, POD_STARTING
            self.starts += 1
            self._commands.append(self._start(i))

    def _can_resize(self, pod: Pod) -> bool:
        """Return True if nothing but cores changes, and there is room for them."""
        (mode, cores, _), (held_mode, held_cores, _) = pod.wish, pod.held
        return (
            self._resizes
            and pod.state == POD_READY
            and pod.resized_from is None
            and mode == held_mode == CPU
            and 0 < cores <= held_cores + self.free()[0] + SLACK
        )

    def _hold(self, lm: int) -> None:
        """Let a pod that was waiting at the cluster hold what is wanted."""
        pod = self.pods[lm]
        pod.held, pod.state, pod.submitted = pod.wish, POD_STARTING, False
        mode, _, vgpus = pod.wish
        if mode == GPU:
            # The cluster has found the slices; on which GPUs is a guess until they are seen.
            guess = self._place(self._lms[lm].vram_gb, vgpus)
            even = Start(lm, *pod.wish, tuple(range(self._node.gpus)))
            pod.slices = guess or _spread(even, self._node.gpus)

    def _stop(self, lm: int) -> None:
        pod = self.pods[lm]
        pod.state, pod.submitted = POD_STOPPING, False
        self._commands.append(Stop(lm))

    def _start(self, lm: int) -> Start:
        pod = self.pods[lm]
        return Start(lm, *pod.held, tuple(pod.gpus))

    def _place(self, vram_gb: float, vgpus: int) -> list[int] | None:
        """Return the slices of a pod per GPU, on the GPUs with most free slices; None if they or
        their memory are lacking."""
        free = [self._node.vgpus_per_gpu] * self._node.gpus
        free_gb = [self._node.vram_gb] * self._node.gpus
        for pod, lm in self._pairs():
            for gpu in pod.gpus:
                free[gpu] -= pod.slices[gpu]
                free_gb[gpu] -= lm.vram_gb / len(pod.gpus)
        spanned = min(vgpus, sum(one > 0 for one in free))
        if spanned == 0:
            return None
        taken = [0] * len(free)
        for number in range(vgpus):
            fresh = number < spanned  # first one slice on each GPU, then the rest on those
            fit = [
                gpu
                for gpu, room in enumerate(free)
                if room > taken[gpu]
                and (taken[gpu] == 0) == fresh
                and (not fresh or free_gb[gpu] >= vram_gb / spanned - SLACK)
            ]
            if not fit:
                return None
            best = max(fit, key=lambda gpu: (free[gpu] - taken[gpu], -gpu))
            taken[best] += 1
        return taken


def _wish(wanted: Deployment, i: int) -> Wish:
    mode = int(wanted.mode[0, i])
    return (
        mode,
        float(wanted.cores[0, i]) if mode != OFF else 0.0,
        int(wanted.vgpus[0, i]) if mode == GPU else 0,
    )


def _spread(found: Start, gpus: int) -> list[int]:
    """Return slices per GPU of a pod that was found running: evenly over its GPUs."""
    slices = [0] * gpus
    for number in range(found.vgpus):
        slices[found.gpus[number % len(found.gpus)]] += 1
    return slices
