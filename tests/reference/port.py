"""The reference model behind the ports, one slot boundary after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, Orders, Stamp
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState
from tests.reference.agenda import OBSERVE
from tests.reference.model import Model

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Reference:
    """Clock, announcements and nodes of the model.

    The model has one time for all nodes, and a command returns when it is in force. So commands of
    one slot must be given in the order in which they come into force.
    """

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        outages: Sequence[tuple[int, float, float]] = (),
    ) -> None:
        self.scenario, self.requests = scenario, requests
        self.model = Model(scenario, requests, outages)
        rows = len(scenario.testbed.nodes)
        self._ended = 0  # slots
        self._orders: Orders | None = None
        self._newest: list[Stamp | None] = [None] * rows
        self._heard_s = np.zeros(rows)
        self.model.observe()
        self._state = self._seen()

    # Clock

    def now(self) -> float:
        """The last boundary: commands are given there, even if the model is already beyond."""
        return self._ended * self.scenario.slot_s

    async def sleep_until(self, time_s: float) -> None:
        """Go on to a boundary."""
        agenda = self.model.agenda
        while self.now() < time_s:
            self._ended += 1
            agenda.run(until=agenda.at(max(agenda.now, self.now()), OBSERVE))
            self.model.observe()
            self._state = self._seen()

    # Cluster and Node

    async def observe(self) -> ClusterState:
        return self._state

    async def orders(self) -> Orders | None:
        return self._orders

    async def announce(self, orders: Orders, thought_s: float) -> None:
        if self._orders is None or orders.stamp > self._orders.stamp:
            self._orders = orders
            plan = orders.in_force.plan
            if plan is not None:
                self.model.route(orders.stamp.slot, plan, thought_s)

    async def deployed(self) -> Stamp:
        return await self.node(self._state.rows).deployed()

    async def deploy(self, stamp: Stamp, deployment: Deployment, thought_s: Floats) -> Bools:
        return await self.node(self._state.rows).deploy(stamp, deployment, thought_s)

    def node(self, rows: Ints) -> ReferenceNode:
        """Some of the nodes."""
        return ReferenceNode(self, rows)

    def deploy_on(
        self, rows: Ints, stamp: Stamp, deployment: Deployment, thought_s: Floats
    ) -> Bools:
        """Command nodes, each unless it has had this command or a newer one; see what was void."""
        void = np.zeros(deployment.mode.shape, np.bool_)
        agenda, control_s = self.model.agenda, self.scenario.testbed.network.control_s
        begun = []
        for k, n in enumerate(rows.tolist()):
            newest = self._newest[n]
            if newest is not None and stamp <= newest:
                continue
            self._newest[n] = stamp
            in_force_s = self.now() + float(thought_s[k]) + control_s
            at_s = max(agenda.now, min(in_force_s, self.now() + self.scenario.slot_s))
            begun.append(agenda.process(self.model.command(n, at_s, deployment, k, void)))
        agenda.run(until=agenda.all_of(begun))
        return void

    def _seen(self) -> ClusterState:
        """The state as the slot ended."""
        model, slot = self.model, self._ended - 1
        specs, lms = self.scenario.testbed.nodes, self.scenario.testbed.lms
        held_cores = model.table(lambda pod: pod.held[1])
        held_slices = model.table(lambda pod: pod.held[2])
        held_ram_gb = model.table(lambda pod: lms[pod.lm].ram_gb if pod.holds else 0.0)
        up = np.array([node.up for node in model.nodes])
        self._heard_s = np.where(up, self.now(), self._heard_s)
        born = model.born[slot] if slot >= 0 else []
        requests, prompts = np.zeros((2, len(specs), len(lms)), np.int64)
        for job in born:
            requests[job.origin, job.lm] += 1
            prompts[job.origin, job.lm] += job.prompts
        return ClusterState(
            time_s=self.now(),
            slot=slot,
            rows=np.arange(len(specs)),
            up=up,
            heard_s=self._heard_s,
            backlog=model.outcome.backlogs[-1],
            mode=model.table(lambda pod: pod.held[0]),
            cores=held_cores,
            vgpus=held_slices,
            cards=model.outcome.cards[-1],
            pod=model.outcome.states[-1],
            want_mode=model.table(lambda pod: pod.wish[0]),
            want_cores=model.table(lambda pod: pod.wish[1]),
            want_vgpus=model.table(lambda pod: pod.wish[2]),
            want_slot=np.array([-1 if stamp is None else stamp.slot for stamp in self._newest]),
            free_cores=np.array([spec.cores for spec in specs]) - held_cores.sum(axis=1),
            free_ram_gb=np.array([spec.ram_gb for spec in specs]) - held_ram_gb.sum(axis=1),
            free_vgpus=np.array([spec.vgpus for spec in specs]) - held_slices.sum(axis=1),
            arrived_prompts=prompts,
            arrived_requests=requests,
            busy_s=model.outcome.busy_s[-1],
        )


class ReferenceNode:
    """Some nodes of the model, as the process that controls them sees them."""

    def __init__(self, reference: Reference, rows: Ints) -> None:
        self._reference, self._rows = reference, rows

    async def observe(self) -> ClusterState:
        state = await self._reference.observe()
        mine: dict[str, Any] = {
            one.name: getattr(state, one.name)[self._rows]
            for one in fields(state)
            if isinstance(getattr(state, one.name), np.ndarray)
        }
        return replace(state, **mine)

    async def orders(self) -> Orders | None:
        return await self._reference.orders()

    async def deployed(self) -> Stamp:
        return max(self._reference._newest[row] or Stamp(-1) for row in self._rows.tolist())

    async def deploy(self, stamp: Stamp, deployment: Deployment, thought_s: Floats) -> Bools:
        return self._reference.deploy_on(self._rows, stamp, deployment, thought_s)
