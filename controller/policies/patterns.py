"""Candidate configurations of a node: the finite action set of section VI.

A pattern says for each LM whether it is off, on CPU or on GPU. Nodes of equal hardware share one
set, so six hundred nodes cost no more than their kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Deployment
from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, POD_PENDING, POD_STOPPING, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_PATTERNS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Patterns of one kind of node; arrays are (A, I)."""

    rows: Ints  # the testbed's nodes of this kind
    mode: Ints
    cores: Floats
    vgpus: Ints

    def __len__(self) -> int:
        return len(self.mode)


def kinds(scenario: Scenario) -> list[Ints]:
    """Rows of the testbed grouped by equal hardware, in order of first appearance."""
    groups: dict[object, list[int]] = {}
    for n, node in enumerate(scenario.testbed.nodes):
        groups.setdefault(replace(node, name="", site=""), []).append(n)
    return [np.array(rows) for rows in groups.values()]


def fixed_share(scenario: Scenario, n: int) -> float:
    """Cores of a CPU pod where cores are not decided on: an equal part, for every LM that may run
    on the node's CPUs, of what pods on its GPUs leave."""
    node, lms = scenario.testbed.nodes[n], range(len(scenario.testbed.lms))
    on_gpu = [i for i in lms if scenario.on_gpu(n, i)]
    hosts = sorted((_host_cores(scenario, i) for i in on_gpu), reverse=True)[: node.vgpus]
    on_cpu = sum(scenario.on_cpu(n, i) for i in lms)
    return max(0.0, (node.cores - sum(hosts)) / max(1, on_cpu))


def enumerate_fixed(scenario: Scenario) -> list[Patterns]:
    """Every pattern within Eq. 1 with one vGPU a GPU pod and :func:`fixed_share` a CPU pod. The
    first pattern of each kind is all off.

    Raises:
        InputError: too many LMs to enumerate.
    """
    return [_enumerate_kind(scenario, rows) for rows in kinds(scenario)]


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


def keeps_or_stops(patterns: Patterns, want_mode: Ints) -> Bools:
    """(n, A) patterns that leave each LM as wanted or switch it off: all that a blocked row may."""
    mode = patterns.mode[None]
    return np.asarray(((mode == want_mode[:, None]) | (mode == OFF)).all(axis=2))


class DeploymentBuilder:
    """Collects the choice of pattern of every row into one deployment."""

    def __init__(self, state: ClusterState) -> None:
        self._rows = {int(n): r for r, n in enumerate(state.rows)}
        self._mode = state.want_mode.copy()
        self._cores = state.want_cores.copy()
        self._vgpus = state.want_vgpus.copy()

    def rows(self, patterns: Patterns) -> Ints:
        """Positions in the state of the nodes of this kind."""
        return np.array([self._rows[n] for n in patterns.rows.tolist() if n in self._rows], int)

    def choose(self, rows: Ints, patterns: Patterns, choice: Ints) -> None:
        """Row ``rows[k]`` takes pattern ``choice[k]``."""
        self._mode[rows] = patterns.mode[choice]
        self._cores[rows] = patterns.cores[choice]
        self._vgpus[rows] = patterns.vgpus[choice]

    def build(self) -> Deployment:
        return Deployment(self._mode, self._cores, self._vgpus)


def _enumerate_kind(scenario: Scenario, rows: Ints) -> Patterns:
    n = int(rows[0])
    share = fixed_share(scenario, n)
    lms = range(len(scenario.testbed.lms))
    choices = [list(_modes(scenario, n, i)) for i in lms]
    if np.prod([float(len(c)) for c in choices]) > MAX_PATTERNS:
        raise InputError(
            f"testbed {scenario.testbed.name}",
            f"too many LMs to enumerate every pattern of node {scenario.testbed.nodes[n].name}",
            value=len(choices),
            remedy="use a strategy that does not enumerate (VTC-GPU), or fewer LMs",
        )
    host = np.array([_host_cores(scenario, i) for i in lms])
    found = []
    for modes in product(*choices):
        mode = np.array(modes)
        cores = np.where(mode == CPU, share, np.where(mode == GPU, host, 0.0))
        vgpus = (mode == GPU).astype(np.int64)
        if feasible(scenario, n, mode, cores, vgpus):
            found.append((mode, cores, vgpus))
    mode, cores, vgpus = (np.array(column) for column in zip(*found, strict=True))
    return Patterns(rows, mode, cores, vgpus)


def _modes(scenario: Scenario, n: int, i: int) -> Iterator[int]:
    yield OFF
    if scenario.on_cpu(n, i):
        yield CPU
    if scenario.on_gpu(n, i):
        yield GPU


def _host_cores(scenario: Scenario, i: int) -> float:
    return scenario.profile.lms[scenario.testbed.lms[i].name].host_cores
