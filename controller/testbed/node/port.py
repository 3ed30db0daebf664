"""A live node behind the Node port of its deployer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller import wire
from controller.domain.decisions import Deployment, Orders, Stamp
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from controller.testbed.clock import WallClock
from controller.testbed.node import events
from controller.testbed.node.disk import NodeDisk
from controller.testbed.node.machine import NodeMachine
from controller.testbed.node.pods import Pod, Pods, Wish
from controller.testbed.node.records import Request

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DEPLOYED: Final = "deployed"  # under this name on disk: the newest command
ORDERS: Final = "orders"


class Busy:
    """Seconds that the server of one LM spent on batches, by slot."""

    def __init__(self) -> None:
        self._since_s: float | None = None  # of the batch that runs
        self._from_s = 0.0  # nothing before is counted again
        self._sum_s = 0.0

    def begin(self, time_s: float) -> None:
        self._since_s = time_s if self._since_s is None else self._since_s

    def end(self, began_s: float, time_s: float) -> None:
        """Count a batch that is over."""
        self._sum_s += max(0.0, time_s - max(began_s, self._from_s))
        self._since_s = None

    def lose(self) -> None:
        """Forget a batch that was cut off."""
        self._since_s = None

    def take(self, time_s: float) -> float:
        """Return the seconds since the last call."""
        if self._since_s is not None:
            self._sum_s += max(0.0, time_s - max(self._since_s, self._from_s))
        total_s, self._sum_s, self._from_s = self._sum_s, 0.0, time_s
        return total_s


class LiveNode:
    """Node port of the process on one node.

    Args:
        row: of the node in the testbed.
        carry_out: called when the pods have new commands.
        observed: told each new state, once a slot.
        gpus_of: returns the physical GPUs of an LM's pod, as :class:`PodRuntime` does.
    """

    def __init__(
        self,
        scenario: Scenario,
        row: int,
        clock: WallClock,
        machine: NodeMachine,
        pods: Pods,
        disk: NodeDisk,
        carry_out: Callable[[], None],
        observed: Callable[[ClusterState], None],
        gpus_of: Callable[[int, Sequence[int]], Sequence[int] | None],
    ) -> None:
        self._scenario, self._row, self._clock = scenario, row, clock
        self._machine, self._pods, self._disk = machine, pods, disk
        self._carry_out, self._observed, self._gpus_of = carry_out, observed, gpus_of
        self._lms = scenario.testbed.lm_names
        self._born: dict[int, Ints] = {}  # slot -> (2, I) requests and prompts
        self._busy = [Busy() for _ in self._lms]
        self._state: ClusterState | None = None
        self._orders = self._kept_orders()
        self._ordered = asyncio.Event()
        self._stamp, self.wishes = self._kept_command()

    # What the executor tells

    def note(self, event: events.Event) -> None:
        """Count births and busy time."""
        match event:
            case events.RequestBorn(request=request) if self._is_new(request):
                i = self._lms.index(request.lm)
                counts = self._born.setdefault(
                    request.slot, np.zeros((2, len(self._lms)), np.int64)
                )
                counts[0, i] += 1
                counts[1, i] += request.prompts
            case events.BatchStarted(time_s=time_s, request_id=key):
                if (busy := self._busy_of(key)) is not None:
                    busy.begin(time_s)
            case events.PromptDone(time_s=time_s, request_id=key, began_s=began_s):
                if (busy := self._busy_of(key)) is not None:
                    busy.end(began_s, time_s)
            case events.PodStateChanged(lm=lm, state=state) if state != "ready":
                self._busy[self._lms.index(lm)].lose()

    def order(self, orders: Orders) -> bool:
        """Take newer orders; return False for those that are not."""
        if self._orders is not None and orders.stamp <= self._orders.stamp:
            return False
        self._orders = orders
        self._ordered.set()
        return True

    async def keep_orders(self) -> None:
        """Write the newest orders durably: a restarted process goes on with them."""
        if self._orders is not None:
            document = json.dumps(wire.orders_to_wire(self._scenario.testbed, self._orders))
            await asyncio.to_thread(self._disk.commit, kept={ORDERS: document})

    @property
    def stamp(self) -> Stamp:
        """The stamp of the newest orders, ``Stamp(-1)`` before the first."""
        return Stamp(-1) if self._orders is None else self._orders.stamp

    def backlogs(self) -> dict[str, int]:
        """Return prompts that wait or are served here, by LM."""
        return {lm: self._backlog(lm) for lm in self._lms}

    # Node

    async def observe(self) -> ClusterState:
        slot = self._clock.ended_slot(self._scenario.slot_s)
        if self._state is None or self._state.slot < slot:
            self._state = self._snapshot(slot)
            self._observed(self._state)
        return self._state

    async def orders(self) -> Orders | None:
        if self._orders is None:
            await self._wait_for_orders()
        return self._orders

    async def deployed(self) -> Stamp:
        return self._stamp

    async def deploy(
        self, stamp: Stamp, deployment: Deployment, thought_s: Floats
    ) -> NDArray[np.bool_]:
        del thought_s  # it has passed
        if stamp <= self._stamp:
            return np.zeros(deployment.mode.shape, np.bool_)
        await self.observe()  # the boundary's state, before the command changes anything
        voided = self._pods.deploy(deployment)
        self._stamp = stamp
        document = {
            "slot": stamp.slot,
            "sequence": stamp.sequence,
            "wishes": [list(pod.wish) for pod in self._pods.pods],
        }
        await asyncio.to_thread(self._disk.commit, kept={DEPLOYED: json.dumps(document)})
        self._carry_out()
        return voided

    # Parts

    async def _wait_for_orders(self) -> None:
        """Wait for the run's first orders to the end of this slot: the planner's first policy is
        what takes longest, and a node without pods for a slot makes up for it slowly."""
        slot_s = self._scenario.slot_s
        left_s = slot_s - self._clock.now() % slot_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s / self._clock.speed):
                await self._ordered.wait()

    def _snapshot(self, slot: int) -> ClusterState:
        """Return the state at the end of ``slot``, the last that is over."""
        end_s = (slot + 1) * self._scenario.slot_s
        pods, held = self._pods.pods, [pod.held for pod in self._pods.pods]
        wishes = [pod.wish for pod in pods]
        free_cores, free_ram_gb, free_vgpus = self._pods.free()
        born = self._born.get(slot, np.zeros((2, len(self._lms)), np.int64))
        self._born = {key: counts for key, counts in self._born.items() if key > slot}
        return ClusterState(
            time_s=end_s,
            slot=slot,
            rows=np.array([self._row]),
            up=np.array([True]),
            heard_s=np.array([end_s]),
            backlog=_row([self._backlog(lm) for lm in self._lms], np.int64),
            mode=_row([mode for mode, _, _ in held], np.int64),
            cores=_row([cores for _, cores, _ in held], np.float64),
            vgpus=_row([vgpus for _, _, vgpus in held], np.int64),
            cards=_row([self._card_mask(lm, pod) for lm, pod in enumerate(pods)], np.int64),
            pod=_row([pod.state for pod in pods], np.int64),
            want_mode=_row([mode for mode, _, _ in wishes], np.int64),
            want_cores=_row([cores for _, cores, _ in wishes], np.float64),
            want_vgpus=_row([vgpus for _, _, vgpus in wishes], np.int64),
            want_slot=np.array([self._stamp.slot]),
            free_cores=np.array([free_cores]),
            free_ram_gb=np.array([free_ram_gb]),
            free_vgpus=np.array([free_vgpus]),
            arrived_prompts=born[1:2],
            arrived_requests=born[0:1],
            busy_s=_row(
                [min(busy.take(end_s), self._scenario.slot_s) for busy in self._busy], np.float64
            ),
        )

    def _card_mask(self, lm: int, pod: Pod) -> int:
        gpus = pod.gpus
        return wire.mask_of(self._gpus_of(lm, gpus) if gpus else gpus)

    def _backlog(self, lm: str) -> int:
        host = self._machine.host
        return sum(len(host.hosted[key].remaining()) for key in host.queues[lm])

    def _is_new(self, request: Request) -> bool:
        known = self._machine.origin
        key = request.request_id
        return request.lm in self._lms and key not in known.open and key not in known.closed

    def _busy_of(self, request_id: int) -> Busy | None:
        one = self._machine.host.hosted.get(request_id)
        return None if one is None else self._busy[self._lms.index(one.request.lm)]

    def _kept_orders(self) -> Orders | None:
        text = self._disk.kept(ORDERS)
        if text is None:
            return None
        return wire.orders_from_wire(self._scenario.testbed, json.loads(text))

    def _kept_command(self) -> tuple[Stamp, list[Wish]]:
        text = self._disk.kept(DEPLOYED)
        if text is None:
            return Stamp(-1), [(0, 0.0, 0)] * len(self._lms)
        document = json.loads(text)
        wishes = [(int(m), float(c), int(v)) for m, c, v in document["wishes"]]
        return Stamp(document["slot"], document["sequence"]), wishes


def _row(values: Sequence[Any], dtype: Any) -> NDArray[Any]:
    return np.array([values], dtype)
