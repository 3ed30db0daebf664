"""Capacity and waiting of a node's patterns: the solver's cost model.

Costs are mean numbers of requests in the system (Little's law: latency times arrival rate), so the
least sum over pods gives the least mean latency. Three terms: service; the *burst*, since the
requests of a slot arrive together and take turns; and congestion carried from slot to slot,
``a rho^2 / (1 - rho)`` (Kingman) with ``a = VARIABILITY``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import prod

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import feasible, kinds, landing
from controller.domain.decisions import Demand
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PARTS = 4  # cores are split among a node's CPU pods in quarters, or finer for more pods
# (ca^2 + cs^2) / 2: 0.19 for the paper's arrivals (8 slots of 9, K uniform on 1..8), 0.63 for
# Poisson ones. One value in between serves every workload; plans hardly depend on it.
VARIABILITY = 0.35
MAX_LOAD = 0.95  # of a pod or GPU in a plan
SHORTAGE = 100.0  # slots that a request which cannot be served counts as waiting
LOADS = np.array([0.0, 0.4, 0.65, 0.83, MAX_LOAD])  # knots of congestion
TURNS = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])  # knots of burst, requests a slot
MAX_ALLOCATIONS = 1_000  # enumerated per kind of node; with more, the program takes minutes
MAX_MODES = 60_000  # tried per kind of node: all modes of ten LMs


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """One pattern of one kind of node, with exact cores; arrays are (I,)."""

    mode: Ints
    cores: Floats
    vgpus: Ints
    prompt_s: Floats  # per reference prompt, undisturbed; inf where off
    card: Ints  # physical GPU of the pod; -1 unless on GPU

    @property
    def active(self) -> NDArray[np.bool_]:
        return np.asarray(self.mode != OFF)

    def servers(self) -> list[Ints]:
        """Return the LMs that share a server: the pods of a GPU, or one CPU pod."""
        cards = [np.flatnonzero(self.card == g) for g in np.unique(self.card[self.card >= 0])]
        return cards + [np.array([i]) for i in np.flatnonzero(self.mode == CPU)]


def enumerate_allocations(
    scenario: Scenario, most: int = MAX_ALLOCATIONS
) -> list[tuple[Ints, list[Allocation] | None]]:
    """Return (rows, allocations) for each kind of node, None where there are more than ``most``;
    the first allocation of each is all off."""
    return [(rows, _of_kind(scenario, int(rows[0]), most)) for rows in kinds(scenario)]


def burst(requests: Floats, service_s: float, slot_s: float) -> Floats:
    """Return the mean number waiting because ``requests`` (m) a slot arrive together and take
    turns: m(m-1)/2 turns for a constant m, but at least m^2/4, half of a Poisson number's, since m
    varies."""
    turns = np.maximum(requests * (requests - 1) / 2, requests**2 / 4)
    return np.asarray(turns * service_s / slot_s)


def congestion(load: Floats) -> Floats:
    """Return the mean number waiting from slot to slot at utilisation ``load`` < 1."""
    return np.asarray(VARIABILITY * load**2 / (1 - load))


def cost(
    allocation: Allocation, requests: Floats, prompts: Floats, slot_s: float, switch_loss: float
) -> float:
    """Return the requests in the system when a node gets ``requests`` (I,) a slot of ``prompts``
    (I,) each. Requests beyond MAX_LOAD, or without a pod, count as waiting SHORTAGE slots."""
    total, lost = 0.0, float(requests[~allocation.active].sum())
    for lms in allocation.servers():
        service_s = prompts[lms] * allocation.prompt_s[lms]
        loads = requests[lms] * service_s / slot_s
        load = loads.sum() / (1 - switch_loss if len(lms) > 1 else 1)
        if load > MAX_LOAD:
            excess = float(1 - MAX_LOAD / load)
            lost += float(requests[lms].sum()) * excess
            loads, load = loads * (1 - excess), np.float64(MAX_LOAD)
        total += float(loads.sum() + congestion(load))
        total += sum(
            float(burst(m, s, slot_s)) for m, s in zip(requests[lms], service_s, strict=True)
        )
        total += _sharing(requests[lms], service_s, loads, slot_s)
    return total + SHORTAGE * lost


def best_allocation(
    scenario: Scenario,
    allocations: Sequence[Allocation],
    role: NDArray[np.bool_],
    requests: Floats,
    demand: Demand,
) -> Allocation:
    """Return the cheapest allocation for ``role`` (I,) and the node's ``requests`` (I,) a slot:
    among those that run exactly the role, or if there is none, those within the role."""
    in_role = [a for a in allocations if np.array_equal(a.active, role)]
    within = in_role or [a for a in allocations if not np.any(a.active & ~role)]
    slot_s, loss = scenario.slot_s, scenario.profile.switch_loss
    return min(within, key=lambda a: cost(a, requests, demand.prompts, slot_s, loss))


def _sharing(requests: Floats, service_s: Floats, loads: Floats, slot_s: float) -> float:
    """Return the mean number of requests delayed by pods on the same GPU. Another LM delays a
    request by the shorter of both services, as often as the other is present."""
    delay = 0.0
    for a in range(len(requests)):
        for b in range(len(requests)):
            if a != b:
                presence = min(1.0, loads[b])
                delay += requests[a] * min(service_s[a], service_s[b]) * presence / slot_s
    return float(delay)


def _of_kind(scenario: Scenario, n: int, most: int) -> list[Allocation] | None:
    node, lms = scenario.testbed.nodes[n], scenario.testbed.lms
    choices = [_modes(scenario, n, i) for i in range(len(lms))]
    if prod(map(len, choices)) > MAX_MODES:
        return None
    found = []
    for modes in product(*choices):
        mode = np.array(modes)
        vgpus = (mode == GPU).astype(np.int64)
        host = np.where(mode == GPU, [lm.cores_on_gpu for lm in lms], 0.0)
        spare = node.cores - float(host.sum())
        for shares in _splits(int((mode == CPU).sum())):
            cores = host.copy()
            cores[mode == CPU] = np.array(shares) * spare
            if spare < 0 or not feasible(scenario, n, mode, cores, vgpus):
                continue
            found.append(
                Allocation(
                    mode,
                    cores,
                    vgpus,
                    scenario.prompt_seconds(n, mode, cores),
                    landing(scenario, n, mode),
                )
            )
            if len(found) > most:
                return None
    return found


def _modes(scenario: Scenario, n: int, i: int) -> list[int]:
    can = [(CPU, scenario.on_cpu(n, i)), (GPU, scenario.on_gpu(n, i))]
    return [OFF, *(mode for mode, able in can if able)]


def _splits(pods: int) -> Iterator[tuple[float, ...]]:
    """Yield every split of the cores among ``pods`` pods, as shares; one empty split for none."""
    parts = max(PARTS, pods)
    if pods == 0:
        yield ()
        return
    for cuts in combinations(range(1, parts), pods - 1):
        yield tuple((b - a) / parts for a, b in pairwise((0, *cuts, parts)))
