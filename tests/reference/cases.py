"""Random small testbeds with random commands.

Hypothesis draws the shape and a seed; the seed draws every quantity. So a failing case shrinks to
few nodes, LMs and slots without sliding into round numbers, whose accidental ties no model orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from controller.domain.decisions import Deployment, RoutingPlan
from controller.domain.profile import Batching, Curve, LmProfile, Profile, Prompt, Size
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.testbed import Lm, Network, Node, Testbed
from tests.reference.model import Slot

CPUS, GPUS = ("old", "new"), ("small", "large")


@dataclass(frozen=True)
class Shape:
    """What of a case hypothesis chooses and shrinks."""

    seed: int
    nodes: int
    lms: int
    slots: int
    gpus: int  # at most, per node
    outages: int
    change: float  # chance that a pod's wish changes in a slot
    load: float  # requests per (node, LM, slot)
    round_numbers: bool  # every time a multiple of 1/4 s, so that events coincide


@dataclass(frozen=True)
class Case:
    """One run for both models."""

    scenario: Scenario
    requests: Requests
    script: tuple[Slot, ...]
    outages: tuple[tuple[int, float, float], ...]


def cases(*, round_numbers: bool = False) -> st.SearchStrategy[Case]:
    """Cases of all shapes."""
    shapes = st.builds(
        Shape,
        seed=st.integers(0, 2**32 - 1),
        nodes=st.integers(1, 4),
        lms=st.integers(1, 4),
        slots=st.integers(1, 8),
        gpus=st.integers(0, 3),
        outages=st.integers(0, 3),
        change=st.sampled_from((0.0, 0.2, 0.6)),
        load=st.sampled_from((0.3, 1.0, 3.0)),
        round_numbers=st.just(round_numbers),
    )
    return shapes.map(build)


def build(shape: Shape) -> Case:
    """The case of a shape."""
    draw = Draw(np.random.default_rng(shape.seed), shape)
    scenario = draw.scenario()
    script = draw.script(scenario)
    return Case(scenario, draw.requests(scenario), script, draw.outages(scenario))


class Draw:
    """Draws the parts of a case."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self.rng, self.shape = rng, shape

    def span(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        value = float(self.rng.uniform(low, high))
        return np.floor(value * 4) / 4 if self.shape.round_numbers else value

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    # Scenario

    def scenario(self) -> Scenario:
        lms = tuple(self.lm(i) for i in range(self.shape.lms))
        testbed = Testbed(
            "case", tuple(map(self.node, range(self.shape.nodes))), lms, self.network()
        )
        loss = 0.0 if self.shape.round_numbers else self.span(0, 0.3)
        profile = Profile("case", {lm.name: self.profile(lm.gpu_only) for lm in lms}, loss)
        return Scenario(
            testbed,
            profile,
            slot_s=8.0 if self.shape.round_numbers else self.span(6, 12),
            epoch_slots=3,
            tau_s=self.span(6, 30) if self.chance(0.5) else self.span(30, 120),
        )

    def node(self, n: int) -> Node:
        gpus = int(self.rng.integers(0, self.shape.gpus + 1))
        slices = int(self.rng.integers(1, 3 if self.shape.round_numbers else 4))
        return Node(
            name=f"node{n}",
            site=f"site{self.rng.integers(2)}",
            cpu=str(self.rng.choice(CPUS)),
            cores=self.span(4, 20),
            ram_gb=self.span(8, 32),
            gpus=gpus,
            gpu=str(self.rng.choice(GPUS)) if gpus else "",
            vram_gb=self.span(4, 16) if gpus else 0.0,
            vgpus_per_gpu=slices if gpus else 0,
        )

    def lm(self, i: int) -> Lm:
        ram_gb, vram_gb = self.span(1, 9), self.span(1, 9)
        return Lm(f"lm{i}", "", "", "text-to-text", ram_gb, vram_gb, self.chance(0.2))

    def network(self) -> Network:
        control_s = self.span(0, 2) if self.chance(0.8) else 0.0
        return Network(
            self.span(1, 2), self.span(0, 1), self.span(0.25, 2), self.span(0, 3), control_s
        )

    def profile(self, gpu_only: bool) -> LmProfile:
        factors = [1.0]
        for _ in range(self.rng.integers(0, 3)):
            factors.append(factors[-1] + self.span(0.25, 1))
        cpus = () if gpu_only and self.chance(0.5) else CPUS[-int(self.rng.integers(1, 3)) :]
        gpus = GPUS[: 1 if self.chance(0.2) else 2]
        return LmProfile(
            reference=Prompt(),
            work_model=Size(1.0),
            cpu={cpu: self.curve((1.0, 2.0, 4.0, 8.0)) for cpu in cpus},
            gpu={gpu: self.curve((1.0, 2.0, 3.0)[: self.rng.integers(1, 4)]) for gpu in gpus},
            cpu_batching=Batching(tuple(factors[: self.rng.integers(1, 4)])),
            gpu_batching=Batching(tuple(factors)),
            start_cpu_s=self.span(0, 8),
            start_gpu_s=self.span(0, 8),
            stop_s=self.span(0, 4),
            resident_ram_gb=1.0,
            resident_vram_gb=1.0,
            uplink_bytes=Size(),
            downlink_bytes=Size(),
        )

    def curve(self, amounts: tuple[float, ...]) -> Curve:
        seconds = sorted((self.span(0.25, 2) for _ in amounts), reverse=True)
        return Curve(amounts, tuple(seconds))

    # Requests

    def requests(self, scenario: Scenario) -> Requests:
        shape = self.shape
        count = self.rng.poisson(shape.load, (shape.slots, shape.nodes, shape.lms))
        slot, origin, lm = (
            np.repeat(axis, count.ravel()) for axis in np.indices(count.shape).reshape(3, -1)
        )
        late = 0.0 if self.chance(0.3) else scenario.slot_s
        born_s = slot * scenario.slot_s + np.array([self.span(0, late) for _ in slot])
        order = np.argsort(born_s, kind="stable")
        size = len(slot)
        work = np.array([self.span(0.5, 2) for _ in range(size)])
        big = 0.0 if shape.round_numbers else 2e8
        return Requests(
            lm=lm[order],
            origin=origin[order],
            prompts=self.rng.integers(1, 6, size),
            slot=slot[order],
            born_s=born_s[order],
            work=work,
            uplink_bytes=self.rng.uniform(0, big, size),
            downlink_bytes=self.rng.uniform(0, big, size),
        )

    # Commands

    def script(self, scenario: Scenario) -> tuple[Slot, ...]:
        nodes, lms = self.shape.nodes, self.shape.lms
        now = Deployment(*(np.zeros((nodes, lms), kind) for kind in (np.int64, float, np.int64)))
        script = []
        for _ in range(self.shape.slots + 4):
            now = self.change(scenario, now, 0.7 if not script else self.shape.change)
            thought_s = np.array([self.thought_s(scenario) for _ in range(nodes)])
            thought_s[self.rng.random(nodes) < 0.1] = np.nan
            script.append(Slot(self.plan(now), self.thought_s(scenario), now, thought_s))
        return tuple(script)

    def plan(self, now: Deployment) -> RoutingPlan:
        """Mostly to nodes that wish for the LM, sometimes anywhere, sometimes refused."""
        destination = self.rng.integers(0, self.shape.nodes, now.mode.shape)
        for i in range(self.shape.lms):
            wishing = np.flatnonzero(now.mode[:, i])
            if wishing.size and self.chance(0.8):
                destination[:, i] = self.rng.choice(wishing, self.shape.nodes)
        destination[self.rng.random(destination.shape) < 0.04] = -1
        return RoutingPlan(destination)

    def thought_s(self, scenario: Scenario) -> float:
        return 0.0 if self.chance(0.3) else self.span(0, scenario.slot_s)

    def change(self, scenario: Scenario, now: Deployment, share: float) -> Deployment:
        """Some wishes change; nothing says that they fit."""
        mode, cores, vgpus = now.mode.copy(), now.cores.copy(), now.vgpus.copy()
        for n, node in enumerate(scenario.testbed.nodes):
            for i in range(self.shape.lms):
                if self.chance(share):
                    on_gpu = 0.5 if node.gpus else 0.05
                    mode[n, i] = self.rng.choice((0, 1, 2), p=(0.15, 0.85 - on_gpu, on_gpu))
                    cores[n, i] = self.cores(node.cores * 0.6 if mode[n, i] == 1 else 2)
                    vgpus[n, i] = self.rng.integers(1, 5) if self.chance(0.4) else 1
        return Deployment(mode, cores, vgpus)

    def cores(self, most: float) -> float:
        if self.shape.round_numbers:
            return 2.0 ** float(self.rng.integers(-1, 4))
        return self.span(0.4, most)

    # Outages

    def outages(self, scenario: Scenario) -> tuple[tuple[int, float, float], ...]:
        spans = []
        horizon_s = (self.shape.slots + 2) * scenario.slot_s
        for n in range(self.shape.nodes):
            count = int(self.rng.integers(0, self.shape.outages + 1))
            ends = np.sort([self.span(0, horizon_s) for _ in range(2 * count)])
            if len(set(ends)) == len(ends):
                spans += [(n, float(a), float(b)) for a, b in ends.reshape(-1, 2)]
        return tuple(spans)
