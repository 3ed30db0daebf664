"""One node's allocation as an integer program, for nodes with too many allocations to enumerate.

Each LM takes one option: off, a CPU pod with some of the node's cores, or a GPU pod that shares its
GPU with r - 1 others. The program knows what each option of an LM is worth by itself; pods that
share a GPU are taken to have an equal part of it. What it finds becomes an
:class:`allocation.Allocation`, whose real costs count from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import feasible, landing
from controller.domain.decisions import Demand
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF
from controller.policies.solver.allocation import (
    LOADS,
    MAX_ALLOCATIONS,
    MAX_LOAD,
    SHORTAGE,
    TURNS,
    Allocation,
    best_allocation,
    burst,
    congestion,
    enumerate_allocations,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GRAINS = 8  # parts of a node's cores that a CPU pod may have, or more for more LMs
STEPS = 20  # from a node's allocation to a better neighbour, at most
GAP = 0.01  # relative gap at which the search ends


@dataclass(frozen=True, slots=True)
class Option:
    """A way to run one LM on a node."""

    lm: int
    mode: int
    cores: float
    share: int  # pods on its GPU; 1 for a CPU pod
    prompt_s: float


class NodeProgram:
    """Integer program of one node; solved anew for each worth of its options."""

    def __init__(self, scenario: Scenario, n: int) -> None:
        self._scenario, self._n = scenario, n
        self._node, self._lms = scenario.testbed.nodes[n], scenario.testbed.lms
        self._options = list(self._ways())
        self._able = {(option.lm, option.mode) for option in self._options}

    def priced(self, prices: Floats, demand: Demand, *, costs: bool) -> Allocation | None:
        """Return the allocation whose requests are worth most, each of LM i at ``prices[i]``, less
        what they cost unless ``costs`` is False; None for everything off."""

        def worth(option: Option) -> float:
            price, prompts = float(prices[option.lm]), float(demand.prompts[option.lm])
            return self._worth(option, price, prompts, costs=costs)

        everything = np.ones(len(self._lms), np.bool_)
        return self._best(worth, everything, must=False)

    def fitted(self, role: Bools, requests: Floats, demand: Demand) -> Allocation:
        """Return a cheap allocation for ``requests`` (I,) a slot that runs exactly ``role`` (I,),
        or if none can, one within it."""

        def worth(option: Option) -> float:
            i = option.lm
            wanted = float(requests[i])
            return SHORTAGE * wanted - self._waiting(option, wanted, float(demand.prompts[i]))

        found = self._best(worth, role, must=True) or self._best(worth, role, must=False)
        return found or self.nothing()

    def nothing(self) -> Allocation:
        """Return the allocation in which everything is off."""
        found = self._made(np.full(len(self._lms), OFF), np.zeros(len(self._lms)))
        if found is None:
            raise AssertionError("a node without pods is within its capacity")
        return found

    def neighbours(self, allocation: Allocation) -> Iterator[Allocation]:
        """Yield allocations that differ from one in the mode of an LM, in a CPU pod and a GPU pod
        that change places, or in a part of the cores that one CPU pod leaves to another."""
        for modes, cores in self._steps(allocation):
            if (made := self._made(modes, cores)) is not None:
                yield made

    def _steps(self, allocation: Allocation) -> Iterator[tuple[Ints, Floats]]:
        """Yield modes and weights of cores, possible or not."""
        pods = np.flatnonzero(allocation.mode == CPU).tolist()
        gpu_pods = np.flatnonzero(allocation.mode == GPU).tolist()
        mean = float(allocation.cores[pods].mean()) if pods else self._node.cores
        for i, mode in [(i, OFF) for i in range(len(self._lms))] + sorted(self._able):
            if mode != allocation.mode[i]:
                yield _with(allocation.mode, i, mode), _with(allocation.cores, i, mean)
        for a, b in product(pods, gpu_pods):
            if {(a, GPU), (b, CPU)} <= self._able:
                modes = _with(_with(allocation.mode, a, GPU), b, CPU)
                yield modes, _with(allocation.cores, b, allocation.cores[a])
        part = self._node.cores / self._grains
        for a, b in permutations(pods, 2):
            if allocation.cores[a] > part:
                cores = _with(allocation.cores, a, allocation.cores[a] - part)
                yield allocation.mode, _with(cores, b, allocation.cores[b] + part)

    @property
    def _grains(self) -> int:
        return max(GRAINS, len(self._lms))

    def _ways(self) -> Iterator[Option]:
        node, scenario = self._node, self._scenario
        for i, lm in enumerate(self._lms):
            profile = scenario.profile.lms[lm.name]
            if scenario.on_cpu(self._n, i):
                for part in range(1, self._grains + 1):
                    cores = node.cores * part / self._grains
                    yield Option(i, CPU, cores, 1, profile.cpu[node.cpu].at(cores))
            if scenario.on_gpu(self._n, i):
                seconds = profile.gpu[node.gpu].at(1.0)
                for share in range(1, min(node.vgpus_per_gpu, len(self._lms)) + 1):
                    yield Option(i, GPU, lm.cores_on_gpu, share, seconds)

    def _worth(self, option: Option, price: float, prompts: float, *, costs: bool) -> float:
        """Return the most that an option's requests are worth, less their cost."""
        service_s, slot_s, room = (
            prompts * option.prompt_s,
            self._scenario.slot_s,
            self._room(option),
        )
        most = MAX_LOAD * slot_s * room / service_s
        if not costs:
            return price * most
        # Costs are linear between these knots, and the best of a concave function is at one.
        knots = np.unique(np.append(TURNS[most > TURNS], LOADS * slot_s * room / service_s))
        waits = np.interp(knots * service_s / slot_s / room, LOADS, congestion(LOADS))
        total = waits + burst(knots, service_s, slot_s) + knots * service_s / slot_s
        return float((price * knots - total).max())

    def _waiting(self, option: Option, requests: float, prompts: float) -> float:
        """Return the requests in the system at an option with ``requests`` a slot."""
        service_s, slot_s, room = (
            prompts * option.prompt_s,
            self._scenario.slot_s,
            self._room(option),
        )
        load = requests * service_s / slot_s / room
        lost = requests * max(0.0, 1 - MAX_LOAD / load) if load > 0 else 0.0
        load = min(load, MAX_LOAD)
        waits = congestion(np.array(load)) + burst(np.array(requests), service_s, slot_s)
        return float(waits) + load * room + SHORTAGE * lost

    def _room(self, option: Option) -> float:
        """Return the part of a server that an option has: pods that share a GPU lose some of its
        time to switching."""
        if option.share == 1:
            return 1.0
        return (1 - self._scenario.profile.switch_loss) / option.share

    def _best(
        self, worth: Callable[[Option], float], role: Bools, *, must: bool
    ) -> Allocation | None:
        """Return the allocation of the options that are worth most in sum, with every LM of the
        role if it ``must`` have them; None if there is none."""
        from scipy.optimize import LinearConstraint, milp

        options = [option for option in self._options if role[option.lm]]
        if not options:
            return None
        values = np.array([worth(option) for option in options])
        # Columns: the options, then mu of each LM and lambda of the worst packing.
        count, lms, node = len(options), len(self._lms), self._node
        width = count + lms + 1
        rows: list[Floats] = []
        low: list[float] = []
        high: list[float] = []

        def constrain(row: Floats, least: float, most: float) -> None:
            rows.append(np.pad(row, (0, width - len(row))))
            low.append(least)
            high.append(most)

        of = np.array([option.lm for option in options])
        gpu = np.array([option.mode == GPU for option in options])
        share = np.array([option.share for option in options])
        for i in np.flatnonzero(role).tolist():
            constrain((of == i).astype(float), float(must), 1.0)
        constrain(np.array([option.cores for option in options]), 0.0, node.cores)
        constrain(np.array([self._lms[i].ram_gb for i in of]), 0.0, node.ram_gb)
        if gpu.any():
            constrain(gpu.astype(float), 0.0, node.vgpus)
            constrain(gpu / share, 0.0, node.gpus)
            # The sum of the largest needs, as many as a GPU has slices, by its dual program.
            packing = np.zeros(width)
            packing[count : count + lms], packing[-1] = 1.0, node.vgpus_per_gpu
            constrain(packing, 0.0, node.vram_gb)
            for i, lm in enumerate(self._lms):
                row = np.zeros(width)
                row[:count][gpu & (of == i)] = -lm.vram_gb
                row[count + i], row[-1] = 1.0, 1.0
                constrain(row, 0.0, np.inf)
        upper = np.append(np.ones(count), np.full(lms + 1, np.inf))
        result = milp(
            np.append(-values, np.zeros(lms + 1)),
            integrality=np.append(np.ones(count), np.zeros(lms + 1)),
            bounds=(0, upper),
            constraints=LinearConstraint(np.array(rows), low, high),
            options={"mip_rel_gap": GAP, "node_limit": 200},
        )
        if result.x is None:
            return None
        modes, cores = np.full(lms, OFF), np.zeros(lms)
        for k in np.flatnonzero(result.x[:count] > 0.5):
            modes[of[k]], cores[of[k]] = options[k].mode, options[k].cores
        return self._made(modes, cores)

    def _made(self, mode: Ints, weights: Floats) -> Allocation | None:
        """Return the allocation in which CPU pods share all cores that GPU pods leave, in
        proportion to their ``weights``; None if the node cannot run it."""
        scenario, n = self._scenario, self._n
        host = np.where(mode == GPU, [lm.cores_on_gpu for lm in self._lms], 0.0)
        spare = self._node.cores - float(host.sum())
        on_cpu = mode == CPU
        cores = host.copy()
        if on_cpu.any():
            cores[on_cpu] = weights[on_cpu] / weights[on_cpu].sum() * spare
        vgpus = (mode == GPU).astype(np.int64)
        if spare < 0 or not feasible(scenario, n, mode, cores, vgpus):
            return None
        return Allocation(
            mode, cores, vgpus, scenario.prompt_seconds(n, mode, cores), landing(scenario, n, mode)
        )


def _with(values: NDArray[Any], i: int, value: float) -> NDArray[Any]:
    """Return a copy of an array with another value at one place."""
    changed = values.copy()
    changed[i] = value
    return changed


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Nodes of equal hardware, with all their allocations or with the program that finds them."""

    scenario: Scenario
    rows: Ints
    allocations: list[Allocation] | None
    program: NodeProgram | None

    def best(self, role: Bools, requests: Floats, demand: Demand) -> Allocation:
        """Return the cheapest allocation for ``role`` (I,) and a node's ``requests`` (I,) a slot,
        as :func:`allocation.best_allocation`."""
        if self.allocations is not None:
            return best_allocation(self.scenario, self.allocations, role, requests, demand)
        if self.program is None:
            raise AssertionError("a kind has allocations or a program")
        found = self.program.fitted(role, requests, demand)
        for _ in range(STEPS):
            near = [one for one in self.program.neighbours(found) if not np.any(one.active & ~role)]
            former = found
            found = best_allocation(self.scenario, [former, *near], role, requests, demand)
            if found is former:
                break
        return found

    def nothing(self) -> Allocation:
        """Return the allocation in which everything is off."""
        if self.allocations is not None:
            return self.allocations[0]
        if self.program is None:
            raise AssertionError("a kind has allocations or a program")
        return self.program.nothing()


def find_kinds(scenario: Scenario, most: int = MAX_ALLOCATIONS) -> list[Kind]:
    """Return the kinds of nodes of a testbed; those with up to ``most`` allocations have all."""
    return [
        Kind(
            scenario,
            rows,
            allocations,
            NodeProgram(scenario, int(rows[0])) if allocations is None else None,
        )
        for rows, allocations in enumerate_allocations(scenario, most)
    ]
