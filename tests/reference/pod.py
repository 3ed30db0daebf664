"""One LM on one node: its queue, its pod's life, its service."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from math import inf, nan
from typing import TYPE_CHECKING, Any

import simpy

from tests.reference.agenda import BATCH_END, TIMER

if TYPE_CHECKING:
    from tests.reference.node import Node

Events = Generator[simpy.Event, Any, None]
Wish = tuple[int, float, int]  # mode, cores, vGPUs

OFF, CPU, GPU = 0, 1, 2
STOPPED, PENDING, STARTING, READY, STOPPING = range(5)

STOP, LOST, SHARE, ABANDON = "stop", "node lost", "share of the GPU changed", "abandon"


@dataclass
class Job:
    """A request on its way through the model."""

    id: int
    lm: int
    origin: int
    prompts: int
    work: float
    born_s: float
    deadline_s: float
    destination: int = -1
    done: int = 0
    attempts: int = 0
    recomputed: int = 0
    tried: set[int] = field(default_factory=set)  # prompts whose computation has begun
    sent_s: float = nan
    arrived_s: float = nan
    started_s: float = nan
    finished_s: float = nan
    returned_s: float = nan
    uplink_s: float = nan
    downlink_s: float = nan
    inference_s: float = 0.0
    failure: str | None = None
    closed: bool = False


@dataclass
class Pod:
    """The place of an LM on a node. The pod itself comes and goes with its allocation."""

    node: Node
    lm: int
    state: int = STOPPED
    wish: Wish = (OFF, 0.0, 0)
    held: Wish = (OFF, 0.0, 0)
    slices: dict[int, int] = field(default_factory=dict)  # by GPU
    queue: list[Job] = field(default_factory=list)
    ready_spans: list[list[float]] = field(default_factory=list)
    serving: Job | None = None
    busy_s: float = 0.0
    starts: int = 0
    _booked_s: float = 0.0
    _wake: simpy.Event | None = None
    _life: simpy.Process | None = None

    @property
    def holds(self) -> bool:
        """The pod has resources."""
        return self.state in (STARTING, READY, STOPPING)

    def start(self) -> None:
        """The node has given it what it wished."""
        self.held, self.state = self.wish, STARTING
        self.starts += 1
        self._life = self.node.agenda.process(self._live())

    def stop(self) -> None:
        """Begin to terminate."""
        self._leave(STOP)
        self.state = STOPPING

    def vanish(self) -> None:
        """The node is lost, and the pod with it."""
        self._leave(LOST)
        self._let_go()

    def abandon(self, job: Job) -> None:
        """Drop a request that is past its deadline."""
        self.queue.remove(job)
        if self.serving is job:
            self._end_service()
            self._interrupt(ABANDON)

    def take(self, job: Job) -> None:
        """A request joins the queue."""
        self.queue.append(job)
        if self._wake is not None:
            self._wake.succeed()
            self._wake = None

    def was_ready(self, first_s: float, before_s: float) -> bool:
        """Ready at some moment in [first_s, before_s)."""
        return any(begin < before_s and end >= first_s for begin, end in self.ready_spans)

    def book(self) -> None:
        """Account for the service up to now."""
        now_s = self.node.agenda.now
        if self.serving is not None:
            self.busy_s += now_s - self._booked_s
            if not self.serving.closed:
                self.serving.inference_s += now_s - self._booked_s
        self._booked_s = now_s

    def share_changed(self) -> None:
        """Another pod on one of its GPUs has begun or ended service."""
        self._interrupt(SHARE)

    def _interrupt(self, cause: str) -> None:
        assert self._life is not None
        self._life.interrupt(cause)

    def _leave(self, cause: str) -> None:
        if self.state == READY:
            self.ready_spans[-1][1] = self.node.agenda.now
        self._end_service()
        self._wake = None
        self._interrupt(cause)

    def _let_go(self) -> None:
        self.held, self.slices = (OFF, 0.0, 0), {}
        self.state = STOPPED if self.wish[0] == OFF else PENDING

    def _live(self) -> Events:
        """From the start of the pod until it is gone."""
        agenda, profile = self.node.agenda, self.node.profile(self.lm)
        start_s = profile.start_gpu_s if self.held[0] == GPU else profile.start_cpu_s
        try:
            yield agenda.after(start_s, TIMER + self.lm)
            self.state = READY
            self.ready_spans.append([agenda.now, inf])
            yield from self._serve()
        except simpy.Interrupt as interrupt:
            if interrupt.cause == LOST:
                return
        try:
            yield agenda.after(profile.stop_s, TIMER + self.lm)
        except simpy.Interrupt:
            return
        self._let_go()
        self.node.start_pending()

    def _serve(self) -> Events:
        prompt_s = self.node.prompt_s(self)
        profile = self.node.profile(self.lm)
        on_gpu = self.held[0] == GPU
        factors = (profile.gpu_batching if on_gpu else profile.cpu_batching).factors
        while True:
            while not self.queue:
                self._wake = simpy.Event(self.node.agenda)
                yield self._wake
            job = self.queue[0]
            late = self.node.scenario.rules.late
            if job.deadline_s <= self.node.agenda.now and late == "drop":
                self.queue.pop(0)
                self.node.expire(job)
                continue
            size = min(len(factors), job.prompts - job.done)
            batch = set(range(job.done, job.done + size))
            if job.deadline_s <= self.node.agenda.now and not job.closed:
                self.node.expire(job)
            if not job.closed:
                job.recomputed += len(batch & job.tried)
            job.tried |= batch
            try:
                yield from self._run(job, prompt_s * job.work * factors[size - 1])
            except simpy.Interrupt as interrupt:
                if interrupt.cause != ABANDON:
                    raise
                continue
            job.done += size
            if job.done == job.prompts:
                self.queue.pop(0)
                if not job.closed:
                    self.node.finish(job)

    def _run(self, job: Job, left_s: float) -> Events:
        """One batch, to its end."""
        agenda = self.node.agenda
        if job.started_s != job.started_s and not job.closed:
            job.started_s = agenda.now
        self.book()
        self.serving = job
        self.node.tell_sharers(self)
        while True:
            rate, since_s = self.node.rate(self), agenda.now
            try:
                yield agenda.after(left_s / rate, BATCH_END + self.lm)
                break
            except simpy.Interrupt as interrupt:
                if interrupt.cause != SHARE:
                    raise
                left_s = max(0.0, left_s - rate * (agenda.now - since_s))
        self._end_service()

    def _end_service(self) -> None:
        self.book()
        if self.serving is not None:
            self.serving = None
            self.node.tell_sharers(self)
