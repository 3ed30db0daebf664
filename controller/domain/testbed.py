"""Parts of a testbed: nodes, GPUs, large models (LMs) and the network between nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_GPUS: Final = 8  # physical GPUs of a node, as bits of a mask


@dataclass(frozen=True, slots=True)
class Node:
    """Worker node. All its GPUs are of one model; each is time-sliced into ``vgpus_per_gpu``.

    ``cores`` and ``ram_gb`` are allocatable: the machine's less those that the testbed file
    reserves for the system. The machine's totals are absent, so that no policy plans with them.
    """

    name: str
    site: str
    cpu: str
    cores: float  # allocatable to pods
    ram_gb: float  # likewise
    gpus: int = 0
    gpu: str = ""
    vram_gb: float = 0.0  # of one physical GPU
    vgpus_per_gpu: int = 0

    @property
    def vgpus(self) -> int:
        """Schedulable slices, the node's ``nvidia.com/gpu``."""
        return self.gpus * self.vgpus_per_gpu


@dataclass(frozen=True, slots=True)
class Lm:
    """A large model type, one of the I in Eq. 1-10."""

    name: str
    title: str
    model: str
    modality: str  # INPUT-to-OUTPUT, such as text-to-image
    ram_gb: float  # pod memory while active, M_i of Eq. 1
    vram_gb: float  # GPU memory while active on a GPU, V_i of Eq. 1
    gpu_only: bool = False
    cores_on_gpu: float = 0.0  # cores that a pod on a GPU needs (tokeniser, PNG)


@dataclass(frozen=True, slots=True)
class Network:
    """Links between nodes. A transfer takes ``latency_s + bytes * 8 / bandwidth``; within a node,
    no time."""

    site_bandwidth_gbps: float  # between nodes of one site
    site_latency_s: float
    metro_bandwidth_gbps: float  # between sites
    metro_latency_s: float
    control_s: float = 0.0  # delay from a decision to its coming into force


@dataclass(frozen=True, slots=True)
class Testbed:
    """Workers and LMs in fixed order: the row and column indices of every (node, LM) array."""

    __test__ = False  # the name is the field's, not pytest's

    name: str
    nodes: tuple[Node, ...]
    lms: tuple[Lm, ...]
    network: Network

    @property
    def node_names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)

    @property
    def lm_names(self) -> tuple[str, ...]:
        return tuple(lm.name for lm in self.lms)
