"""Capacity of a node: Eq. 1, GPU memory in the worst packing, and the rows that the Pending rule
blocks (section V-D)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controller.domain.pending import SLACK, blocks
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, UNKNOWN, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def kinds(scenario: Scenario) -> list[Ints]:
    """Group the testbed's rows by equal hardware, in order of first appearance."""
    groups: dict[object, list[int]] = {}
    for n, node in enumerate(scenario.testbed.nodes):
        groups.setdefault(replace(node, name="", site=""), []).append(n)
    return [np.array(rows) for rows in groups.values()]


def feasible(scenario: Scenario, n: int, mode: Ints, cores: Floats, vgpus: Ints) -> bool:
    """Return True if a pattern, arrays (I,), is within Eq. 1 on node n, with GPU memory for the
    worst packing (:func:`vram_holds`), and none of its pods would be pending for ever: a CPU pod
    without cores, or a GPU pod without a vGPU."""
    node, lms = scenario.testbed.nodes[n], scenario.testbed.lms
    return bool(
        sum(vgpus) <= node.vgpus
        and sum(cores) <= node.cores + SLACK
        and sum(lm.ram_gb for lm, m in zip(lms, mode, strict=True) if m != OFF)
        <= node.ram_gb + SLACK
        and np.all(cores[mode == CPU] > 0)
        and np.all(vgpus[mode == GPU] > 0)
        and vram_holds(
            (lm.vram_gb for lm, m in zip(lms, mode, strict=True) if m == GPU),
            node.vgpus_per_gpu,
            node.vram_gb,
        )
    )


def vram_holds(needs_gb: Iterable[float], slices: int, gpu_gb: float) -> bool:
    """Return True if pods that need ``needs_gb`` each fit into GPU memory whichever slices the
    device plugin gives them, on any number of GPUs with ``slices`` slices and ``gpu_gb`` each.

    A pod is budgeted its whole need on every GPU that it has a slice of. Its slices may all be on
    one GPU; if they are not, its framework divides the model, not edgelm. So the worst
    GPU has one slice of each of the pods with the largest needs. Precondition: pods ask for no
    more slices than the node has. See docs/decisions/006-worst-packing.md.
    """
    return sum(sorted(needs_gb, reverse=True)[:slices]) <= gpu_gb + SLACK


def landing(scenario: Scenario, n: int, mode: Ints) -> Ints:
    """Return (I,) the GPU of node n on which each one-slice pod is expected when all start
    together; -1 for pods not on GPU, and for pods without a place.

    In LM order, a pod gets the GPU with the most free slices among those with enough vRAM, as from
    a device plugin that spreads pods. This is no guarantee: another plugin packs them.
    """
    node, lms = scenario.testbed.nodes[n], scenario.testbed.lms
    slices = np.full(node.gpus, node.vgpus_per_gpu)
    vram_gb = np.full(node.gpus, node.vram_gb)
    gpu = np.full(len(mode), -1)
    for i in np.flatnonzero(mode == GPU):
        room = np.where(vram_gb >= lms[i].vram_gb - SLACK, slices, 0)
        if room.any():
            gpu[i] = best = int(np.argmax(room))
            slices[best] -= 1
            vram_gb[best] -= lms[i].vram_gb
    return gpu


def blocked(scenario: Scenario, state: ClusterState) -> Bools:
    """Return (n,) the rows on which the Pending rule voids changes that need more resources."""
    return np.asarray(blocks(state.pod, scenario.rules.blocks == "stopping").any(axis=1))


def sharing(cards: Ints, mode: Ints) -> Bools:
    """Return (n, I, I) True where two different pods of a node share a GPU, from the bit masks of
    their GPUs ``cards`` and their modes, both (n, I). A pod whose GPUs are UNKNOWN is assumed to
    share with every other GPU pod of its node, the worst case."""
    on_gpu = mode == GPU
    unknown = cards == UNKNOWN
    shared = (cards[:, :, None] & cards[:, None, :]) != 0
    shared |= unknown[:, :, None] | unknown[:, None, :]
    shared &= on_gpu[:, :, None] & on_gpu[:, None, :]
    return np.asarray(shared & ~np.eye(cards.shape[1], dtype=np.bool_))
