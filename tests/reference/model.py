"""The whole testbed: transfers, deadlines, slots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment, RoutingPlan
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from tests.reference.agenda import ARRIVAL, COMMAND, DEADLINE, OBSERVE, Agenda
from tests.reference.node import Node
from tests.reference.pod import Events, Job, Pod


@dataclass(frozen=True)
class Slot:
    """The commands of one slot."""

    plan: RoutingPlan
    route_thought_s: float
    deployment: Deployment
    deploy_thought_s: NDArray[np.float64]  # (N,), NaN: none


@dataclass
class Outcome:
    """What happened."""

    jobs: list[Job]
    states: list[NDArray[np.int64]] = field(default_factory=list)  # per slot end, (N, I)
    cards: list[NDArray[np.int64]] = field(default_factory=list)  # GPUs of each pod, bit by bit
    backlogs: list[NDArray[np.int64]] = field(default_factory=list)
    busy_s: list[NDArray[np.float64]] = field(default_factory=list)
    voided: list[NDArray[np.bool_]] = field(default_factory=list)  # per slot
    starts: list[int] = field(default_factory=list)  # so far, per slot end


def simulate(
    scenario: Scenario,
    requests: Requests,
    script: Sequence[Slot],
    outages: Sequence[tuple[int, float, float]] = (),
) -> Outcome:
    """Run the script, its last slot over and over, until every request has an outcome."""
    return Model(scenario, requests, outages).run(script)


class Model:
    """The testbed between two commands, and what is seen of it as slots end."""

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        outages: Sequence[tuple[int, float, float]],
    ) -> None:
        self.scenario, self.requests = scenario, requests
        self.agenda = Agenda()
        rows = range(len(scenario.testbed.nodes))
        doors = self._finished, self._expire, self._reject
        self.nodes = [Node(self.agenda, scenario, n, *doors) for n in rows]
        for n, down_s, up_s in sorted(outages):
            self.agenda.process(self.nodes[n].fail(down_s, up_s))
        self.outcome = Outcome([self._job(q) for q in range(len(requests))])
        self.undecided = len(requests)
        self.born: dict[int, list[Job]] = defaultdict(list)
        for job in self.outcome.jobs:
            self.born[int(requests.slot[job.id])].append(job)

    def run(self, script: Sequence[Slot]) -> Outcome:
        """Follow the script until every request has an outcome."""
        self.agenda.run(until=self.agenda.process(self._slots(script)))
        return self.outcome

    def _job(self, q: int) -> Job:
        r = self.requests
        born_s = float(r.born_s[q])
        return Job(
            q,
            int(r.lm[q]),
            int(r.origin[q]),
            int(r.prompts[q]),
            float(r.work[q]),
            born_s,
            born_s + self.scenario.tau_s,
        )

    # Slots

    def _slots(self, script: Sequence[Slot]) -> Events:
        slot_s, slot = self.scenario.slot_s, 0
        last = int(self.requests.slot.max(initial=-1))
        while slot <= last or self.undecided:
            commands = script[min(slot, len(script) - 1)]
            self.route(slot, commands.plan, commands.route_thought_s)
            void = np.zeros(commands.deployment.mode.shape, np.bool_)
            self.outcome.voided.append(void)
            for n, thought_s in enumerate(commands.deploy_thought_s):
                if not np.isnan(thought_s):
                    at_s = min(self.in_force_s(thought_s), (slot + 1) * slot_s)
                    self.agenda.process(self.command(n, at_s, commands.deployment, n, void))
            slot += 1
            yield self.agenda.at(slot * slot_s, OBSERVE)
            self.observe()

    def in_force_s(self, thought_s: float) -> float:
        """When what is decided now is in force."""
        return self.agenda.now + thought_s + self.scenario.testbed.network.control_s

    def route(self, slot: int, plan: RoutingPlan, thought_s: float) -> None:
        """Send the slot's requests where the plan says."""
        for job in self.born[slot]:
            self._send(job, plan, self.in_force_s(thought_s))

    def _send(self, job: Job, plan: RoutingPlan, in_force_s: float) -> None:
        job.destination = int(plan.destination[job.origin, job.lm])
        if job.destination < 0:
            self._close(job, "refused")
            return
        self.agenda.process(self._travel(job, max(job.born_s, in_force_s)))
        self.agenda.process(self._watch(job))

    def command(
        self, n: int, at_s: float, deployment: Deployment, row: int, void: NDArray[np.bool_]
    ) -> Events:
        """Deploy the row on node n at ``at_s``, and note in ``void`` (row by row) what was void."""
        yield self.agenda.at(at_s, COMMAND)
        void[row] = self.nodes[n].deploy(deployment, row)

    def observe(self) -> None:
        """Note what is seen as a slot ends."""
        for node in self.nodes:
            for pod in node.pods:
                pod.book()
        out = self.outcome
        out.starts.append(int(self.table(lambda pod: pod.starts).sum()))
        out.states.append(self.table(lambda pod: pod.state))
        out.cards.append(self.table(lambda pod: sum(1 << g for g in pod.slices)))
        out.backlogs.append(self.table(lambda pod: sum(j.prompts - j.done for j in pod.queue)))
        out.busy_s.append(self.table(lambda pod: pod.busy_s))
        for node in self.nodes:
            for pod in node.pods:
                pod.busy_s = 0.0

    def table(self, value: Callable[[Pod], float]) -> NDArray[Any]:
        """A value of each pod, (N, I)."""
        return np.array([[value(pod) for pod in node.pods] for node in self.nodes])

    # Requests

    def _travel(self, job: Job, ready_s: float) -> Events:
        origin, destination = self.nodes[job.origin], self.nodes[job.destination]
        yield self.agenda.at(ready_s, ARRIVAL + job.id)
        while not origin.up:
            yield origin.recovered
        job.sent_s = self.agenda.now
        job.attempts += job.sent_s < job.deadline_s
        up_s = self._transfer_s(job, float(self.requests.uplink_bytes[job.id]))
        yield self.agenda.after(up_s, ARRIVAL + job.id)
        destination.receive(job)

    def _finished(self, job: Job) -> None:
        job.finished_s = self.agenda.now
        self.agenda.process(self._give_back(job))

    def _give_back(self, job: Job) -> Events:
        origin = self.nodes[job.origin]
        down_s = self._transfer_s(job, float(self.requests.downlink_bytes[job.id]))
        yield self.agenda.after(down_s, ARRIVAL + job.id)
        while not origin.up:
            yield origin.recovered
        job.returned_s = self.agenda.now
        job.downlink_s = job.returned_s - job.finished_s
        if not job.closed:
            self._close(job, job.failure if job.returned_s > job.deadline_s else None)

    def _watch(self, job: Job) -> Events:
        yield self.agenda.at(job.deadline_s, DEADLINE + job.lm)
        if job.closed:
            return
        if job.finished_s == job.finished_s:  # on its way back: fails unless it is there by now
            job.failure = "deadline" if self.nodes[job.origin].up else "lost_node"
            return
        pod = self.nodes[job.destination].pods[job.lm]
        if self.scenario.rules.late == "serve" and job in pod.queue:
            pod.book()  # what it had until now is its own; what follows is nobody's
        elif job in pod.queue:
            pod.abandon(job)
        self._expire(job)

    def _reject(self, job: Job) -> None:
        self._close(job, "not_deployed")

    def _expire(self, job: Job) -> None:
        sent = job.sent_s < job.deadline_s
        holder = self.nodes[job.destination if sent else job.origin]
        pod = self.nodes[job.destination].pods[job.lm]
        arrived, started = job.arrived_s == job.arrived_s, job.started_s == job.started_s
        if not holder.up:
            self._close(job, "lost_node")
        elif arrived and not started and not pod.was_ready(job.arrived_s, job.deadline_s):
            self._close(job, "not_deployed")
        else:
            self._close(job, "deadline")

    def _close(self, job: Job, failure: str | None) -> None:
        assert not job.closed, f"request {job.id} closed twice"
        job.failure, job.closed = failure, True
        self.undecided -= 1

    def _transfer_s(self, job: Job, size_bytes: float) -> float:
        if job.origin == job.destination:
            return 0.0
        here, there = (self.nodes[n].spec.site for n in (job.origin, job.destination))
        network = self.scenario.testbed.network
        if here == there:
            return network.site_latency_s + size_bytes * 8 / (network.site_bandwidth_gbps * 1e9)
        return network.metro_latency_s + size_bytes * 8 / (network.metro_bandwidth_gbps * 1e9)
