"""Deployers that look at no queue: random (RR) and full activation (RF)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from controller.domain.capacity import blocked
from controller.domain.decisions import Call, Decision, Deployment, InForce
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, OFF, ClusterState
from controller.policies.patterns import DeploymentBuilder, enumerate_fixed, keeps_or_stops

LEAVE: Final = "leave"
FILL: Final = "fill"


@dataclass(frozen=True, slots=True)
class RandomParameters:
    """``redraw_slots``: slots between two draws, 1 for a draw in every slot."""

    redraw_slots: float = field(default=1.0, metadata={"later": True})


@dataclass(frozen=True, slots=True)
class FullParameters:
    """``idle_slices``: ``leave`` a GPU's slices idle that no GPU-only LM needs, or ``fill`` them
    with the LMs that would run on CPUs."""

    idle_slices: str = field(default=LEAVE, metadata={"choices": (LEAVE, FILL), "later": True})


class RandomDeployer:
    """Deployer that draws one feasible pattern per node and slot, regardless of queues."""

    def __init__(
        self,
        scenario: Scenario,
        streams: Sequence[np.random.Generator],
        parameters: RandomParameters = RandomParameters(),
    ) -> None:
        """Keep one stream per node, so that a node draws the same alone as beside others."""
        self._scenario = scenario
        self._every = max(1, round(parameters.redraw_slots))
        self._kinds = enumerate_fixed(scenario)
        self._streams = streams

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del in_force
        builder = DeploymentBuilder(state)
        if (state.slot + 1) % self._every:
            return Decision(builder.build(), (Call(),) * len(state.rows))
        transient = blocked(self._scenario, state)
        for patterns in self._kinds:
            rows = builder.rows(patterns)
            draw = np.array([self._streams[n].random() for n in state.rows[rows]])
            choice = (draw * len(patterns)).astype(np.int64)
            for k in np.flatnonzero(transient[rows]):
                allowed = keeps_or_stops(patterns, state.want_mode[rows[k] : rows[k] + 1])[0]
                options = np.flatnonzero(allowed)
                choice[k] = options[int(draw[k] * len(options))]
            builder.choose(rows, patterns, choice)
        return Decision(builder.build(), (Call(),) * len(state.rows))


class FullDeployer:
    """Deployer of as many LMs as fit at once, never reconfigured. LMs that need a GPU come first;
    the others run on CPUs while memory lasts."""

    def __init__(self, scenario: Scenario, parameters: FullParameters = FullParameters()) -> None:
        shape = len(scenario.testbed.nodes), len(scenario.testbed.lms)
        mode, cores = np.zeros(shape, np.int64), np.zeros(shape)
        vgpus = np.zeros(shape, np.int64)
        for patterns in enumerate_fixed(scenario):
            active = (patterns.mode != OFF).sum(axis=1)
            on_cpu = (patterns.mode == CPU).sum(axis=1)
            taste = on_cpu if parameters.idle_slices == FILL else -on_cpu
            best = int(np.lexsort((taste, -active))[0])
            mode[patterns.rows] = patterns.mode[best]
            cores[patterns.rows] = patterns.cores[best]
            vgpus[patterns.rows] = patterns.vgpus[best]
        self._full = Deployment(mode, cores, vgpus)
        self._all_rows = Decision(self._full, (Call(),) * shape[0])

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del in_force
        if len(state.rows) == len(self._full.mode):
            return self._all_rows
        full, rows = self._full, state.rows
        mine = Deployment(full.mode[rows], full.cores[rows], full.vgpus[rows])
        return Decision(mine, (Call(),) * len(rows))
