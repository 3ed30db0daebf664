"""Candidate configurations of a node: the finite action set of section VI.

A pattern gives each LM a mode: off, on CPU or on GPU. Nodes of equal hardware share one set, so
the cost grows with the kinds of nodes, not with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import feasible, kinds
from controller.domain.decisions import Deployment
from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_PATTERNS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Patterns of one kind of node; arrays are (A, I) except ``rows``."""

    rows: Ints  # the testbed's nodes of this kind
    mode: Ints
    cores: Floats
    vgpus: Ints

    def __len__(self) -> int:
        return len(self.mode)


def fixed_share(scenario: Scenario, n: int) -> float:
    """Return the cores of a CPU pod for policies that do not choose cores: the cores that pods on
    the node's GPUs leave, divided equally among the LMs that may run on its CPUs."""
    node, all_lms = scenario.testbed.nodes[n], scenario.testbed.lms
    lms = range(len(all_lms))
    on_gpu = [i for i in lms if scenario.on_gpu(n, i)]
    hosts = sorted((all_lms[i].cores_on_gpu for i in on_gpu), reverse=True)[: node.vgpus]
    on_cpu = sum(scenario.on_cpu(n, i) for i in lms)
    return max(0.0, (node.cores - sum(hosts)) / max(1, on_cpu))


def enumerate_fixed(scenario: Scenario) -> list[Patterns]:
    """Return every pattern within Eq. 1 with one vGPU a GPU pod and :func:`fixed_share` a CPU pod.
    The first pattern of each kind is all off.

    Raises:
        InputError: too many LMs to enumerate.
    """
    return [_enumerate_kind(scenario, rows) for rows in kinds(scenario)]


def keeps_or_stops(patterns: Patterns, want_mode: Ints) -> Bools:
    """Return (n, A) the patterns that leave each LM as wanted or switch it off, the only ones that
    the Pending rule allows a blocked row."""
    mode = patterns.mode[None]
    return np.asarray(((mode == want_mode[:, None]) | (mode == OFF)).all(axis=2))


class DeploymentBuilder:
    """Builder of one deployment from the chosen pattern of every row."""

    def __init__(self, state: ClusterState) -> None:
        self._rows = {int(n): r for r, n in enumerate(state.rows)}
        self._mode = state.want_mode.copy()
        self._cores = state.want_cores.copy()
        self._vgpus = state.want_vgpus.copy()

    def rows(self, patterns: Patterns) -> Ints:
        """Return the positions in the state of the nodes of this kind."""
        return np.array([self._rows[n] for n in patterns.rows.tolist() if n in self._rows], int)

    def choose(self, rows: Ints, patterns: Patterns, choice: Ints) -> None:
        """Give row ``rows[k]`` the pattern ``choice[k]``."""
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
    host = np.array([lm.cores_on_gpu for lm in scenario.testbed.lms])
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
