"""Rough expectations that a guard compares decisions by: seconds until a request is served, and how
busy a node would be. Made from the profile and the present state, as section V-D's agents see them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import landing, sharing
from controller.domain.decisions import MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, POD_READY, POD_STARTING, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pods = tuple[Ints, Floats, Ints]  # (I,) modes, cores, vGPUs


class Waits:
    """Seconds until prompts sent to each node would be done, in one slot's state."""

    def __init__(
        self, scenario: Scenario, state: ClusterState, policy: MacroPolicy, expected: Floats
    ) -> None:
        """``expected`` (N, I): prompts a slot by origin."""
        self.expected = expected
        self._backlog = state.backlog
        self.sharing = sharing(state.cards, state.mode)
        self.delay_s = _delay_s(scenario, state)
        self._most_s = scenario.tau_s
        wanted = zip(state.want_mode, state.want_cores, strict=True)
        self.prompt_s: Floats = np.array(
            [scenario.prompt_seconds(n, *pods) for n, pods in enumerate(wanted)]
        )
        self.prompt_s[~state.up] = np.inf
        # Where no pod of an LM is wanted yet, one is assumed that serves the planned share.
        load = policy.routing * np.maximum(expected.sum(axis=0), 1e-9)
        assumed = np.divide(scenario.slot_s, load, out=np.full(load.shape, np.inf), where=load > 0)
        unknown = ~np.isfinite(self.prompt_s).any(axis=0)
        self.prompt_s = np.where(unknown, assumed, self.prompt_s)
        batch = np.ones(load.shape[1]) if policy.demand is None else policy.demand.prompts
        self._finite_s = np.where(np.isfinite(self.prompt_s), self.prompt_s, 0.0)
        self.request_s: Floats = np.maximum(1e-9, batch * self._finite_s)

    def waiting_s(self) -> Floats:
        """Return (N, I) seconds of work that waits for each pod."""
        return np.asarray(self._backlog * self._finite_s)

    def sent(self, destination: Ints) -> Floats:
        """Return (N, I) prompts that a plan sends to each node."""
        total = np.zeros(destination.shape)
        origin, lm = np.nonzero(destination >= 0)
        np.add.at(total, (destination[origin, lm], lm), self.expected[origin, lm])
        return total

    def done_s(self, sent: Floats) -> Floats:
        """Return (N, I) seconds until ``sent`` (N, I) prompts and those before them are done, at
        most the deadline."""
        able = np.isfinite(self.prompt_s)
        work_s = np.where(able, (self._backlog + sent) * np.where(able, self.prompt_s, 0.0), 0.0)
        beside_s = np.minimum(work_s[:, :, None], work_s[:, None, :])
        busy_s = work_s + (beside_s * self.sharing).sum(axis=2)
        return np.where(able, np.minimum(self.delay_s + busy_s, self._most_s), self._most_s)

    def mean_s(self, destination: Ints) -> Floats:
        """Return (I,) the mean over the prompts that a plan accepts; NaN without any."""
        done_s = self.done_s(self.sent(destination))
        taken = destination >= 0
        weight: Floats = np.where(taken, np.maximum(self.expected, 1e-9), 0.0)
        lms = np.arange(destination.shape[1])
        total_s = (weight * done_s[np.maximum(destination, 0), lms]).sum(axis=0)
        count = weight.sum(axis=0)
        mean_s: Floats = np.divide(total_s, count, out=np.full(len(lms), np.nan), where=count > 0)
        return mean_s


def _delay_s(scenario: Scenario, state: ClusterState) -> Floats:
    """Return (N, I) seconds until the pod that is wanted serves, if it does not yet."""
    lms = [scenario.profile.lms[lm.name] for lm in scenario.testbed.lms]
    start_s = np.array([[0.0, lm.start_cpu_s, lm.start_gpu_s] for lm in lms])
    start_s = start_s[np.arange(len(lms)), state.want_mode]
    stop_s = np.where(state.mode != OFF, [lm.stop_s for lm in lms], 0.0)
    delay_s = np.where(state.pod == POD_STARTING, start_s, start_s + stop_s)
    return np.where(state.pod == POD_READY, 0.0, delay_s)


def occupation(
    scenario: Scenario, state: ClusterState, row: int, pods: Pods, work: Floats, slots: int,
    *, settled: bool = False,
) -> float:  # fmt: skip
    """Return how much of the next ``slots`` slots a node's pods need for ``work`` (I,) prompts, by
    LM at most 1, mean over the LMs that have any; 0 without work. ``settled``: as if all of them
    ran already."""
    has = work > 0
    if not has.any():
        return 0.0
    n, (mode, cores, _) = int(state.rows[row]), pods
    prompt_s = scenario.prompt_seconds(n, mode, cores)
    card = landing(scenario, n, mode)
    busy = (card >= 0) & has
    beside = np.array([(busy & (card == one)).sum() if one >= 0 else 1 for one in card])
    need_s = np.where(has, prompt_s, 0.0) * np.where(has, work, 0.0) * np.maximum(1, beside)
    if not settled:
        need_s += _change_s(scenario, state, row, pods)
    return float(np.minimum(1.0, need_s[has] / (slots * scenario.slot_s)).mean())


def _change_s(scenario: Scenario, state: ClusterState, row: int, pods: Pods) -> Floats:
    """Return (I,) seconds until each of the pods serves."""
    found = np.zeros(len(pods[0]))
    changed = changes(state, row, pods)
    for i, lm in enumerate(scenario.testbed.lms):
        if pods[0][i] == OFF or (state.pod[row, i] == POD_READY and not changed[i]):
            continue
        profile = scenario.profile.lms[lm.name]
        found[i] = profile.start_gpu_s if pods[0][i] == GPU else profile.start_cpu_s
        if changed[i] and state.mode[row, i] != OFF:
            found[i] += profile.stop_s
    return found


def changes(state: ClusterState, row: int, pods: Pods) -> Bools:
    """Return (I,) True where the pods differ from those wanted now."""
    mode, cores, vgpus = pods
    return np.asarray(
        (mode != state.want_mode[row])
        | (np.abs(cores - state.want_cores[row]) > 1e-9)
        | (vgpus != state.want_vgpus[row])
    )
