"""Lyapunov drift-plus-penalty deployment, Eq. 14-19 (RL, AL, LL, and MAL's lower tier).

The paper leaves open: V and p0 (here 1 and 0.1), the linear smoothing f (here (1 + x) / 2, so a
device without headroom keeps half its weight), whether headroom is taken before or after the
action (before: eta_n(t) carries no action), what a large text LM is, whose alpha is 1.2 (one
with at least twice the RAM of the smallest text LM), and which alpha an LM of another modality has.
The paper sets text LMs apart from image LMs, which are slower and gain more from a GPU; every LM
that is not text-to-text counts as the latter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import blocked
from controller.domain.decisions import Call, Decision, Deployment, InForce
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, ClusterState
from controller.policies.patterns import (
    DeploymentBuilder,
    Patterns,
    enumerate_fixed,
    keeps_or_stops,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TEXT: Final = "text-to-text"


@dataclass(frozen=True, slots=True)
class LyapunovParameters:
    """Parameters of Eq. 15-19; the paper's final values (section VI) where it gives them."""

    lambda_churn: float = 0.08
    kappa: float = 0.76
    p0: float = 0.1
    p1: float = 0.25
    p2: float = 0.37
    v: float = 1.0
    alpha_cpu: float = 1.0
    alpha_gpu_text: float = 1.0
    alpha_gpu_large_text: float = 1.2
    alpha_gpu_image: float = 1.5  # of every LM that is not text-to-text


class LyapunovDeployer:
    """Deployer that gives each node the feasible pattern with the highest score (Eq. 15)."""

    def __init__(self, scenario: Scenario, parameters: LyapunovParameters) -> None:
        self._scenario = scenario
        self._parameters = parameters
        self._kinds = enumerate_fixed(scenario)
        lms, nodes = scenario.testbed.lms, scenario.testbed.nodes
        self._image = np.array([lm.modality != TEXT for lm in lms])
        self._alpha_gpu = _alpha_gpu(scenario, self._image, parameters)
        self._cores = np.array([node.cores or 1.0 for node in nodes])  # no headroom of nothing
        self._ram_gb = np.array([node.ram_gb or 1.0 for node in nodes])
        self._vgpus = np.array([node.vgpus for node in nodes])

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del in_force
        builder = DeploymentBuilder(state)
        transient = blocked(self._scenario, state)
        for patterns in self._kinds:
            rows = builder.rows(patterns)
            score = self._score(state, rows, patterns)
            if transient[rows].any():
                allowed = keeps_or_stops(patterns, state.want_mode[rows])
                score = np.where(transient[rows][:, None] & ~allowed, -np.inf, score)
            builder.choose(rows, patterns, np.argmax(score, axis=1))
        return Decision(builder.build(), (Call(),) * len(state.rows))

    def _score(self, state: ClusterState, rows: Ints, patterns: Patterns) -> Floats:
        """Return (n, A) scores, Eq. 15 with the rate of Eq. 16 and the costs of Eq. 17-19."""
        p, nodes = self._parameters, state.rows[rows]
        backlog = state.backlog[rows].astype(np.float64)
        eta_cpu = state.free_cores[rows] / self._cores[nodes]
        eta_ram = state.free_ram_gb[rows] / self._ram_gb[nodes]
        eta_gpu = state.free_vgpus[rows] / np.maximum(1, self._vgpus[nodes])
        rate_cpu = p.alpha_cpu * _smooth(eta_cpu) * _smooth(eta_ram)
        on_cpu = (patterns.mode == CPU).astype(np.float64)
        on_gpu = (patterns.mode == GPU).astype(np.float64)
        drift = rate_cpu[:, None] * (backlog @ on_cpu.T)
        drift += _smooth(eta_gpu)[:, None] * ((backlog * self._alpha_gpu) @ on_gpu.T)
        images = backlog[:, self._image].sum(axis=1) / np.maximum(1.0, backlog.sum(axis=1))
        price = p.p0 + p.p1 * (1 - eta_gpu) + p.p2 * images
        gpu_cost = price[:, None] * on_gpu.sum(axis=1)
        active = state.want_mode[rows] != OFF
        flips = (patterns.mode != OFF)[None] != active[:, None]
        weight = (1 + p.kappa * backlog)[:, None]
        churn = p.lambda_churn * (flips * weight).sum(axis=2)
        return np.asarray(drift - p.v * (gpu_cost + churn))


def _smooth(headroom: Floats) -> Floats:
    return np.asarray((1 + headroom) / 2)


def _alpha_gpu(
    scenario: Scenario, image: NDArray[np.bool_], parameters: LyapunovParameters
) -> Floats:
    """Return (I,) GPU weights alpha by kind of LM."""
    ram_gb = np.array([lm.ram_gb for lm in scenario.testbed.lms])
    smallest = ram_gb[~image].min() if (~image).any() else np.inf
    text = np.where(
        ram_gb >= 2 * smallest, parameters.alpha_gpu_large_text, parameters.alpha_gpu_text
    )
    return np.where(image, parameters.alpha_gpu_image, text)
