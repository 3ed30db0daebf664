"""A node: what it has, who holds it, and whether it is up."""

from __future__ import annotations

from collections.abc import Callable

import simpy

from controller.domain.decisions import Deployment
from controller.domain.profile import LmProfile
from controller.domain.scenario import Scenario
from tests.reference.agenda import ARRIVAL, POWER, Agenda
from tests.reference.pod import CPU, GPU, OFF, PENDING, STOPPED, STOPPING, Events, Job, Pod, Wish

SLACK = 1e-9  # for sums of cores and gigabytes


class Node:
    """One row of the testbed."""

    def __init__(
        self,
        agenda: Agenda,
        scenario: Scenario,
        row: int,
        finish: Callable[[Job], None],
        expire: Callable[[Job], None],
        reject: Callable[[Job], None],
    ) -> None:
        self.agenda = agenda
        self.scenario = scenario
        self.spec = scenario.testbed.nodes[row]
        self.finish, self.expire, self.reject = finish, expire, reject
        self.up = True
        self.recovered = simpy.Event(agenda)
        self.door: list[Job] = []  # came while the node was down
        self.pods = [Pod(self, i) for i in range(len(scenario.testbed.lms))]

    def profile(self, lm: int) -> LmProfile:
        return self.scenario.profile.lms[self.scenario.testbed.lms[lm].name]

    # Power

    def fail(self, down_s: float, up_s: float) -> Events:
        """An outage."""
        yield self.agenda.at(down_s, POWER)
        self.up = False
        for pod in self.pods:
            if pod.holds:
                pod.vanish()
        yield self.agenda.at(up_s, POWER)
        self.up = True
        self.start_pending()
        self.recovered.succeed()
        self.recovered = simpy.Event(self.agenda)
        yield self.agenda.after(0.0, ARRIVAL - 1)
        waiting, self.door = self.door, []
        for job in waiting:
            self.receive(job)

    def receive(self, job: Job) -> None:
        """A request has come over the network."""
        if not self.up:
            self.door.append(job)
        elif not job.closed:
            job.arrived_s = self.agenda.now
            job.uplink_s = job.arrived_s - job.sent_s
            pod = self.pods[job.lm]
            if self.scenario.rules.inactive == "fail" and pod.wish[0] == OFF:
                self.reject(job)
            else:
                pod.take(job)

    # Commands

    def deploy(self, wishes: Deployment, row: int) -> list[bool]:
        """Returns which changes the Pending rule voided."""
        rules = self.scenario.rules
        blocking = (PENDING, STOPPING) if rules.blocks == "stopping" else (PENDING,)
        blocked = any(pod.state in blocking for pod in self.pods)
        void = []
        for i, pod in enumerate(self.pods):
            wish = _wish(wishes, row, i)
            if wish == pod.wish:
                void.append(False)
                continue
            asks_more = wish[1] > pod.held[1] or wish[2] > pod.held[2] or not pod.holds
            void.append(blocked and wish[0] != OFF and asks_more)
            if not void[-1]:
                self._change(pod, wish)
        self.start_pending()
        return void

    def _change(self, pod: Pod, wish: Wish) -> None:
        pod.wish = wish
        if pod.state == STOPPED:
            pod.state = PENDING
        elif pod.state == PENDING:
            pod.state = STOPPED if wish[0] == OFF else PENDING
        elif pod.state != STOPPING:
            pod.stop()

    # Resources

    def start_pending(self) -> None:
        """Start what fits, in LM order."""
        for pod in self.pods:
            if self.up and pod.state == PENDING and self._fits(pod):
                pod.start()

    def _fits(self, pod: Pod) -> bool:
        """Room for what the pod wishes; on GPUs its slices are put down."""
        lm, profile = self.scenario.testbed.lms[pod.lm], self.profile(pod.lm)
        holders = [other for other in self.pods if other.holds]
        free_cores = self.spec.cores - sum(other.held[1] for other in holders)
        ram_gb = [self.scenario.testbed.lms[other.lm].ram_gb for other in holders]
        if pod.wish[1] > free_cores + SLACK or lm.ram_gb > self.spec.ram_gb - sum(ram_gb) + SLACK:
            return False
        if pod.wish[0] == CPU:
            return not lm.gpu_only and self.spec.cpu in profile.cpu and pod.wish[1] > 0
        pod.slices = self._spread(pod, holders) if self.spec.gpu in profile.gpu else {}
        return bool(pod.slices)

    def _spread(self, pod: Pod, holders: list[Pod]) -> dict[int, int]:
        """Slices by GPU, or none if they are not to be had."""
        free = [
            self.spec.vgpus_per_gpu - sum(other.slices.get(g, 0) for other in holders)
            for g in range(self.spec.gpus)
        ]
        wanted = pod.wish[2]
        span = min(wanted, sum(slices > 0 for slices in free))
        if span == 0:
            return {}
        each_gb = self.scenario.testbed.lms[pod.lm].vram_gb / span
        roomy = [
            g
            for g in range(self.spec.gpus)
            if free[g] > 0 and self._free_vram_gb(g, holders) + SLACK >= each_gb
        ]
        chosen = sorted(roomy, key=lambda g: (-free[g], g))[:span]
        if len(chosen) < span or sum(free[g] for g in chosen) < wanted:
            return {}
        given = dict.fromkeys(chosen, 1)
        for _ in range(wanted - span):
            emptiest = max(chosen, key=lambda g: (free[g] - given[g], -g))
            given[emptiest] += 1
        return given

    def _free_vram_gb(self, gpu: int, holders: list[Pod]) -> float:
        lms = self.scenario.testbed.lms
        used = [lms[pod.lm].vram_gb / len(pod.slices) for pod in holders if gpu in pod.slices]
        return self.spec.vram_gb - sum(used)

    # Service

    def prompt_s(self, pod: Pod) -> float:
        """Undisturbed seconds of a reference prompt on what the pod holds."""
        profile = self.profile(pod.lm)
        if pod.held[0] == GPU:
            return profile.gpu[self.spec.gpu].at(len(pod.slices))
        return profile.cpu[self.spec.cpu].at(pod.held[1])

    def rate(self, pod: Pod) -> float:
        """Progress per second of a serving pod."""
        if self.scenario.rules.slices == "static":
            parts = [slices / self.spec.vgpus_per_gpu for slices in pod.slices.values()]
            return min(parts, default=1.0)
        sharers = max((len(self._serving_on(g)) for g in pod.slices), default=1)
        return 1.0 if sharers <= 1 else (1.0 - self.scenario.profile.switch_loss) / sharers

    def tell_sharers(self, pod: Pod) -> None:
        """The pod has begun or ended service: its neighbours go at another pace."""
        for other in self.pods:
            shares = other.slices.keys() & pod.slices.keys()
            if other is not pod and other.serving is not None and shares:
                other.share_changed()

    def _serving_on(self, gpu: int) -> list[Pod]:
        return [pod for pod in self.pods if pod.serving is not None and gpu in pod.slices]


def _wish(wishes: Deployment, row: int, i: int) -> Wish:
    mode = int(wishes.mode[row, i])
    cores = float(wishes.cores[row, i]) if mode != OFF else 0.0
    return mode, cores, int(wishes.vgpus[row, i]) if mode == GPU else 0
