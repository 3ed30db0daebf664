"""What fits on a node: Eq. 1, where pods land on GPUs, and the Pending rule (section V-D)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_PENDING, POD_STOPPING, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def kinds(scenario: Scenario) -> list[Ints]:
    """Rows of the testbed grouped by equal hardware, in order of first appearance."""
    groups: dict[object, list[int]] = {}
    for n, node in enumerate(scenario.testbed.nodes):
        groups.setdefault(replace(node, name="", site=""), []).append(n)
    return [np.array(rows) for rows in groups.values()]


def feasible(scenario: Scenario, n: int, mode: Ints, cores: Floats, vgpus: Ints) -> bool:
    """Eq. 1 on node n for one pattern, arrays (I,), and no pod that would be pending for ever: one
    without cores, or one that fits the node's vRAM in total but no GPU's."""
    node, lms = scenario.testbed.nodes[n], scenario.testbed.lms
    return bool(
        sum(vgpus) <= node.vgpus
        and sum(cores) <= node.cores + 1e-9
        and sum(lm.ram_gb for lm, m in zip(lms, mode, strict=True) if m != OFF)
        <= node.ram_gb + 1e-9
        and np.all(cores[mode == CPU] > 0)
        and np.all(landing(scenario, n, mode)[mode == GPU] >= 0)
    )


def landing(scenario: Scenario, n: int, mode: Ints) -> Ints:
    """(I,) GPU of node n that each one-slice pod lands on when they start together: in LM order,
    where most slices are free among those with the vRAM, as the device plugin spreads them. -1 for
    pods not on GPU, and for those that find no place."""
    node, lms = scenario.testbed.nodes[n], scenario.testbed.lms
    slices = np.full(node.gpus, node.vgpus_per_gpu)
    vram_gb = np.full(node.gpus, node.vram_gb)
    gpu = np.full(len(mode), -1)
    for i in np.flatnonzero(mode == GPU):
        room = np.where(vram_gb >= lms[i].vram_gb - 1e-9, slices, 0)
        if room.any():
            gpu[i] = best = int(np.argmax(room))
            slices[best] -= 1
            vram_gb[best] -= lms[i].vram_gb
    return gpu


def blocked(state: ClusterState) -> Bools:
    """(n,) rows on which the Pending rule voids anything that needs more resources."""
    return np.asarray(np.isin(state.pod, (POD_PENDING, POD_STOPPING)).any(axis=1))
