"""Conditions of a testbed's nodes, as whoever manages its machines reports them.

A node's own service knows its pods and queues. Whether its machine is cordoned, lost or full of
other people's pods is known elsewhere; deciders see both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from controller.domain.state import ClusterState
from controller.domain.testbed import Node, Testbed
from controller.testbed.node.pods import HOLDING

SLACK: Final = 1e-6
FRESH_S: Final = 60.0  # for which a survey holds; afterwards nodes count as they report themselves


@dataclass(frozen=True, slots=True)
class Room:
    """Resources of a node or a pod."""

    cores: float = 0.0
    ram_gb: float = 0.0
    vgpus: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.cores + other.cores, self.ram_gb + other.ram_gb, self.vgpus + other.vgpus)

    def __sub__(self, other: Room) -> Room:
        return Room(self.cores - other.cores, self.ram_gb - other.ram_gb, self.vgpus - other.vgpus)


@dataclass(frozen=True, slots=True)
class Condition:
    """State of one node's machine.

    Attributes:
        ready: pods run there.
        open: new pods may be started there.
        reason: why it is not ready or not open; "" if it is both.
        offered: for LM pods: what the node can allocate less the requests of all other pods.
        address: of the machine, where its exporters are; "" if it is not known.
        software: versions of what runs the machine and its pods; "" if they are not known.
    """

    name: str
    ready: bool
    open: bool
    reason: str
    offered: Room
    address: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """Conditions by node, and when they were true (Unix time)."""

    unix_s: float
    conditions: Mapping[str, Condition]

    def fresh(self, now_unix_s: float) -> Mapping[str, Condition]:
        """Return the conditions, none of a survey that is too old to count."""
        return self.conditions if now_unix_s - self.unix_s <= FRESH_S else {}


def limited(state: ClusterState, testbed: Testbed, found: Mapping[str, Condition]) -> ClusterState:
    """Return the state with what is known better than by a node's own service.

    A node that is not ready is not up. One that is closed, or full of other people's pods, has
    less room for new pods; those that run go on. Nodes that ``found`` lacks stay as they are.
    """
    lms_ram_gb = np.array([lm.ram_gb for lm in testbed.lms])
    up = state.up.copy()
    cores, ram_gb = state.free_cores.copy(), state.free_ram_gb.copy()
    vgpus = state.free_vgpus.copy()
    for k, row in enumerate(state.rows.tolist()):
        condition = found.get(testbed.node_names[row])
        if condition is None:
            continue
        up[k] &= condition.ready
        if not condition.open:
            cores[k], ram_gb[k], vgpus[k] = 0.0, 0.0, 0
            continue
        holding = np.isin(state.pod[k], HOLDING)
        left = condition.offered - Room(
            float(state.cores[k][holding].sum()),
            float(lms_ram_gb[holding].sum()),
            int(state.vgpus[k][holding].sum()),
        )
        cores[k] = min(cores[k], max(0.0, left.cores))
        ram_gb[k] = min(ram_gb[k], max(0.0, left.ram_gb))
        vgpus[k] = min(vgpus[k], max(0, left.vgpus))
    return replace(state, up=up, free_cores=cores, free_ram_gb=ram_gb, free_vgpus=vgpus)


def differences(testbed: Testbed, found: Mapping[str, Condition]) -> list[str]:
    """Return where nodes offer LM pods less than the testbed file promises, a sentence each; an
    empty list if strategies can have what they plan with."""
    said = []
    for node in testbed.nodes:
        condition = found.get(node.name)
        if condition is None:
            said.append(f"{node.name}: in the testbed file, not in the cluster")
            continue
        if not condition.open:
            said.append(f"{node.name}: {condition.reason}")
        said += [f"{node.name}: {one}" for one in _shortages(node, condition.offered)]
    return said


def _shortages(node: Node, offered: Room) -> Iterable[str]:
    if offered.cores < node.cores - SLACK:
        yield (
            f"LM pods can have {max(0.0, offered.cores):g} cores, the testbed file says "
            f"{node.cores:g}: raise edgelm_reserved.cores by {node.cores - offered.cores:.3g}"
        )
    if offered.ram_gb < node.ram_gb - SLACK:
        yield (
            f"LM pods can have {max(0.0, offered.ram_gb):.4g} GB, the testbed file says "
            f"{node.ram_gb:g}: raise edgelm_reserved.ram_gb by {node.ram_gb - offered.ram_gb:.3g}"
        )
    if offered.vgpus != node.vgpus:
        yield (
            f"nvidia.com/gpu is {offered.vgpus}, the testbed file says {node.vgpus} "
            f"({node.gpus} GPUs in {node.vgpus_per_gpu} slices): look at the device plugin there"
        )
