"""Small worlds for examples worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.domain.decisions import Deployment, RoutingPlan
from controller.domain.profile import Batching, Curve, LmProfile, Profile, Prompt, Size
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF
from controller.domain.testbed import Lm, Network, Node, Testbed
from tests.reference.model import Slot

Pod = tuple[int, float, int]  # mode, cores, vGPUs
ABSENT: Pod = (OFF, 0.0, 0)
ONE_SECOND = Curve((1.0,), (1.0,))


def on_cpu(cores: float) -> Pod:
    return CPU, cores, 0


def on_gpu(vgpus: int = 1, cores: float = 0.0) -> Pod:
    return GPU, cores, vgpus


@dataclass(frozen=True)
class Model:
    """An LM and its speed on the one kind of CPU and GPU there is."""

    cpu: Curve | None = ONE_SECOND
    gpu: Curve | None = ONE_SECOND
    ram_gb: float = 1.0
    vram_gb: float = 1.0
    gpu_only: bool = False
    factors: tuple[float, ...] = (1.0,)
    start_s: float = 0.0
    stop_s: float = 0.0


def node(
    cores: float = 8.0,
    ram_gb: float = 100.0,
    gpus: int = 0,
    slices: int = 2,
    vram_gb: float = 24.0,
    site: str = "a",
) -> Node:
    gpu = ("gpu", vram_gb, slices) if gpus else ("", 0.0, 0)
    return Node("", site, "cpu", cores, ram_gb, gpus, *gpu)


def world(
    nodes: Sequence[Node],
    models: Sequence[Model],
    *,
    network: Network | None = None,
    switch_loss: float = 0.0,
    slot_s: float = 10.0,
    tau_s: float = 1e6,
) -> Scenario:
    """A scenario of these nodes and LMs; transfers take no time unless a network is given."""
    lms = tuple(
        Lm(f"lm{i}", "", "", "text-to-text", m.ram_gb, m.vram_gb, m.gpu_only)
        for i, m in enumerate(models)
    )
    profiles = {lm.name: _profile(model) for lm, model in zip(lms, models, strict=True)}
    testbed = Testbed("world", tuple(nodes), lms, network or Network(1.0, 0.0, 1.0, 0.0))
    return Scenario(
        testbed, Profile("world", profiles, switch_loss), slot_s=slot_s, epoch_slots=4, tau_s=tau_s
    )


def _profile(model: Model) -> LmProfile:
    batching = Batching(model.factors)
    return LmProfile(
        reference=Prompt(),
        work_model=Size(1.0),
        cpu={"cpu": model.cpu} if model.cpu else {},
        gpu={"gpu": model.gpu} if model.gpu else {},
        cpu_batching=batching,
        gpu_batching=batching,
        start_cpu_s=model.start_s,
        start_gpu_s=model.start_s,
        stop_s=model.stop_s,
        resident_ram_gb=0.0,
        resident_vram_gb=0.0,
        uplink_bytes=Size(),
        downlink_bytes=Size(),
    )


@dataclass(frozen=True)
class Ask:
    """A request."""

    born_s: float
    lm: int = 0
    origin: int = 0
    prompts: int = 1
    work: float = 1.0
    up_bytes: float = 0.0
    down_bytes: float = 0.0


def requests(scenario: Scenario, asks: Sequence[Ask]) -> Requests:
    """The arrivals, in order of birth."""
    born_s = np.array([ask.born_s for ask in asks])
    return Requests(
        lm=np.array([ask.lm for ask in asks], np.int64),
        origin=np.array([ask.origin for ask in asks], np.int64),
        prompts=np.array([ask.prompts for ask in asks], np.int64),
        slot=(born_s // scenario.slot_s).astype(np.int64),
        born_s=born_s,
        work=np.array([ask.work for ask in asks]),
        uplink_bytes=np.array([ask.up_bytes for ask in asks]),
        downlink_bytes=np.array([ask.down_bytes for ask in asks]),
    )


def slot(
    pods: Sequence[Sequence[Pod]],
    to: Sequence[Sequence[int]] | None = None,
    thought_s: float = 0.0,
    route_thought_s: float = 0.0,
) -> Slot:
    """Commands: pods by node and LM; destinations by origin and LM, by default the origin."""
    mode, cores, vgpus = (np.array([[pod[k] for pod in row] for row in pods]) for k in range(3))
    stay = np.tile(np.arange(len(pods))[:, None], mode.shape[1])
    return Slot(
        plan=RoutingPlan(np.array(to) if to is not None else stay),
        route_thought_s=route_thought_s,
        deployment=Deployment(mode, cores.astype(np.float64), vgpus),
        deploy_thought_s=np.full(len(pods), thought_s),
    )
