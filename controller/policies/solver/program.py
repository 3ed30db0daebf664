"""The solver's plan: a mixed-integer program over kinds of nodes.

Integer x[k, p] is the number of nodes of kind k that run allocation p. Continuous variables are the
requests a slot that each pod serves, in segments of a convex cost (``allocation.py``), so the
program is linear. Nodes of equal hardware share variables, so the program's size does not grow with
the cluster.

Where a kind of node has too many allocations to enumerate, columns are generated: the linear
relaxation over some allocations prices a request of each LM, ``node.py`` finds the allocation that
is worth most at these prices, and so on until it finds none that is new. Then the neighbours of
the best plan's allocations join, and the integers are decided among all that was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import Demand
from controller.domain.errors import Permanent
from controller.domain.scenario import Scenario
from controller.policies.solver.allocation import (
    LOADS,
    MAX_ALLOCATIONS,
    MAX_LOAD,
    SHORTAGE,
    TURNS,
    Allocation,
    burst,
    congestion,
)
from controller.policies.solver.node import Kind, find_kinds

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Terms = list[tuple[int, float]]  # (variable, coefficient)

POD_PRICE = 1e-4  # breaks ties in favour of fewer pods
ROUNDS = 12  # of column generation at most; a few suffice
GAP = 0.05  # relative gap at which the search ends: the cost model is no more exact


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Allocation of every node and its planned requests a slot."""

    allocation: tuple[Allocation, ...]  # by node
    requests: Floats  # (N, I) per slot


@dataclass(slots=True)
class _Model:
    """Linear program under construction."""

    price: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    terms: list[tuple[int, int, float]] = field(default_factory=list)  # row, column, coefficient
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def variable(self, price: float, most: float = np.inf) -> int:
        """Add a variable between 0 and ``most`` and return its column."""
        self.price.append(price)
        self.most.append(most)
        return len(self.price) - 1

    def constrain(self, terms: Terms, low: float, high: float) -> None:
        """Add a row: the sum of ``terms`` lies between ``low`` and ``high``."""
        self.terms += [(len(self.low), column, value) for column, value in terms]
        self.low.append(low)
        self.high.append(high)

    def segments(self, knots: Floats, values: Floats, price: float, nodes: int) -> list[int]:
        """Add variables whose sum costs the convex function through (knots, values), plus ``price``
        a unit, on each of ``nodes`` nodes (a column). Return their columns."""
        # Slopes of a convex function rise, so the program fills cheap segments first by itself:
        # no integers are needed to keep their order.
        width = np.diff(knots)
        slope = np.diff(values) / width + price
        found = [self.variable(float(s)) for s in slope]
        # A segment is as wide as all nodes of this allocation together, and closed without any.
        for variable, w in zip(found, width, strict=True):
            self.constrain([(variable, 1.0), (nodes, -float(w))], -np.inf, 0.0)
        return found

    def solve(self, integers: Sequence[int]) -> Floats:
        """Return the optimal values.

        Raises:
            Permanent: the search ended without a plan.
        """
        from scipy.optimize import LinearConstraint, milp  # half of the command's start otherwise
        from scipy.sparse import coo_matrix

        # One sparse row a constraint; only the counts of nodes are integers.
        rows, columns, values = zip(*self.terms, strict=True)
        shape = len(self.low), len(self.price)
        integrality = np.zeros(len(self.price))
        integrality[list(integers)] = 1
        result = milp(
            self.price,
            integrality=integrality,
            bounds=(0, np.array(self.most)),
            constraints=LinearConstraint(
                coo_matrix((values, (rows, columns)), shape).tocsr(), self.low, self.high
            ),
            options={"mip_rel_gap": GAP, "node_limit": 400},
        )
        if result.x is None:
            raise Permanent(f"the solver found no plan: {result.message} (status {result.status})")
        return np.asarray(result.x)

    def prices(self, rows: Sequence[int]) -> Floats:
        """Return how the optimum of the linear relaxation changes with the bound of each row."""
        from scipy.optimize import linprog
        from scipy.sparse import coo_matrix

        at, columns, values = (np.array(part) for part in zip(*self.terms, strict=True))
        low, high = np.array(self.low), np.array(self.high)
        equal = low == high
        # Rows with a lower bound only are turned around: linprog knows upper bounds.
        sign = np.where(np.isinf(high), -1.0, 1.0)
        matrix = coo_matrix((values * sign[at], (at, columns)), (len(low), len(self.price))).tocsr()
        result = linprog(
            self.price,
            A_ub=matrix[~equal],
            b_ub=np.where(np.isinf(high), -low, high)[~equal],
            A_eq=matrix[equal],
            b_eq=high[equal],
            bounds=[(0, most) for most in self.most],
        )
        if result.x is None:
            raise Permanent(f"the solver found no prices: {result.message}")
        found = np.zeros(len(low))
        found[equal], found[~equal] = result.eqlin.marginals, result.ineqlin.marginals
        return np.asarray((found * sign)[list(rows)])


@dataclass(frozen=True, slots=True)
class _Pick:
    """Columns of one allocation of one kind of node."""

    kind: int
    allocation: Allocation
    nodes: int  # number of nodes that run it
    flows: dict[int, list[int]]  # LM -> requests a slot, by segment of cost


class Program:
    """Program of one scenario; solved anew for each demand."""

    def __init__(self, scenario: Scenario, most: int = MAX_ALLOCATIONS) -> None:
        self._scenario = scenario
        self._kinds = find_kinds(scenario, most)
        self._by_node = {int(n): kind for kind in self._kinds for n in kind.rows}
        self._gpus = sum(node.gpus for node in scenario.testbed.nodes)

    def solve(self, demand: Demand, up: Bools, current: Sequence[Allocation]) -> Plan:
        """Return the best plan on the nodes that are up. Nodes keep their ``current`` allocation
        if the plan contains it; nodes that are down always do."""
        pools = [_Pool(kind, current) for kind in self._kinds]
        self._generate(pools, demand, up)
        plan = self._choose(pools, demand, up, current)
        news = [pool.add_neighbours(plan, up) for pool in pools]
        if any(news):
            plan = self._choose(pools, demand, up, current)
        return plan

    def _choose(
        self, pools: list[_Pool], demand: Demand, up: Bools, current: Sequence[Allocation]
    ) -> Plan:
        # Add columns and rows kind by kind, then the price of unserved requests; assign the optimal
        # counts to nodes.
        model = _Model()
        picks, served = self._add_allocations(model, pools, demand, up)
        self._add_shortage(model, demand, served)
        values = model.solve([pick.nodes for pick in picks])
        return self._read(values, picks, up, current)

    def _generate(self, pools: list[_Pool], demand: Demand, up: Bools) -> None:
        """Add allocations to kinds that are not enumerated, as long as prices ask for new ones."""
        for _ in range(ROUNDS if any(pool.is_open for pool in pools) else 0):
            model = _Model()
            _, served = self._add_allocations(model, pools, demand, up)
            rows = self._add_shortage(model, demand, served)
            prices = model.prices(rows)
            news = [pool.add_priced(prices, demand, costs=True) for pool in pools]
            if not any(news):
                return

    def highest_load(self, prompts: Floats, up: Bools) -> float:
        """Return the most requests a slot of every LM, equally many with ``prompts`` (I,) each,
        that the nodes could serve in the linear relaxation of the program."""
        demand = Demand(np.ones(len(prompts)), prompts)
        pools = [_Pool(kind, ()) for kind in self._kinds]
        prices = np.ones(len(prompts))
        highest = 0.0
        for _ in range(ROUNDS + 1):
            new = [pool.add_priced(prices, demand, costs=False) for pool in pools]
            if highest and not any(new):
                break
            # The same flows and capacities, but nothing has a price except the common load, which
            # is maximised; without integers this is a linear program.
            model = _Model()
            _, served = self._add_allocations(model, pools, demand, up)
            model.price = [0.0] * len(model.price)
            load = model.variable(-1.0)
            first = len(model.low)
            for flows in served:
                model.constrain([*flows, (load, -1.0)], 0.0, np.inf)
            highest = float(model.solve([])[load])
            if not any(pool.is_open for pool in pools):
                break
            prices = model.prices(range(first, first + len(served)))
        return highest

    def _add_allocations(
        self, model: _Model, pools: list[_Pool], demand: Demand, up: Bools
    ) -> tuple[list[_Pick], list[Terms]]:
        """Add every allocation of every kind of node; return them and the flows that serve each
        LM."""
        picks: list[_Pick] = []
        served: list[Terms] = [[] for _ in demand.requests]
        for k, pool in enumerate(pools):
            rows, counts = pool.kind.rows, Terms()
            for allocation in pool.allocations:
                # x: number of nodes of this kind that run this allocation; flows: its requests.
                x = model.variable(POD_PRICE * float(allocation.active.sum()), len(rows))
                flows = self._add_pods(model, allocation, demand, x)
                for i, flow in flows.items():
                    served[i] += [(y, 1.0) for y in flow]
                picks.append(_Pick(k, allocation, x, flows))
                counts.append((x, 1.0))
            # Every node of the kind that is up runs exactly one allocation.
            available = float(up[rows].sum())
            model.constrain(counts, available, available)
        return picks, served

    def _add_pods(
        self, model: _Model, allocation: Allocation, demand: Demand, x: int
    ) -> dict[int, list[int]]:
        """Add and return the request flows of one allocation by LM, with their costs."""
        slot_s, loss = self._scenario.slot_s, self._scenario.profile.switch_loss
        flows: dict[int, list[int]] = {}
        for lms in allocation.servers():
            # Pods that share a GPU lose some of its time to switching.
            room = 1 - loss if len(lms) > 1 else 1.0
            load: Terms = []
            # Each LM's flow pays for its service and for the burst of a slot, segment by segment.
            for i in lms.tolist():
                service_s = float(demand.prompts[i] * allocation.prompt_s[i])
                most = MAX_LOAD * slot_s / service_s
                knots = np.append(TURNS[most > TURNS], most)
                held_s = service_s + self._held_up_s(allocation, demand, i, lms)
                flows[i] = model.segments(
                    knots, burst(knots, service_s, slot_s), held_s / slot_s, x
                )
                load += [(y, service_s / slot_s / room) for y in flows[i]]
            # The server's load, over all its LMs, pays for congestion; its last knot is MAX_LOAD,
            # which is the server's capacity.
            waits = model.segments(LOADS, congestion(LOADS), 0.0, x)
            model.constrain([*load, *((z, -1.0) for z in waits)], -np.inf, 0.0)
        return flows

    def _held_up_s(self, allocation: Allocation, demand: Demand, i: int, lms: Ints) -> float:
        """Return the seconds by which the other pods of its GPU delay a request of LM i. Each pod
        is present as often as if its demand were spread over all GPUs, an estimate that keeps the
        program linear."""
        own_s = demand.prompts[i] * allocation.prompt_s[i]
        delay_s = 0.0
        for j in lms.tolist():
            if j != i:
                other_s = demand.prompts[j] * allocation.prompt_s[j]
                presence = demand.requests[j] * other_s / self._scenario.slot_s / self._gpus
                delay_s += min(own_s, other_s) * min(1.0, presence)
        return float(delay_s)

    @staticmethod
    def _add_shortage(model: _Model, demand: Demand, served: list[Terms]) -> list[int]:
        """Add the price of unserved requests: high, with an extra price on the largest unserved
        share of any LM. Return the rows of the LMs' demand."""
        rows = []
        worst = model.variable(SHORTAGE * float(demand.requests.sum()))
        for i, wanted in enumerate(demand.requests.tolist()):
            # Each request is served or short; ``worst`` is at least every LM's short share.
            short = model.variable(SHORTAGE, wanted)
            rows.append(len(model.low))
            model.constrain([*served[i], (short, 1.0)], wanted, wanted)
            model.constrain([(short, 1.0), (worst, -max(wanted, 1e-9))], -np.inf, 0.0)
        return rows

    def _read(
        self, values: Floats, picks: list[_Pick], up: Bools, current: Sequence[Allocation]
    ) -> Plan:
        """Assign the chosen allocations to the nodes."""
        chosen = list(current)
        requests = np.zeros((len(up), len(current[0].mode)))
        free = [kind.rows[up[kind.rows]].tolist() for kind in self._kinds]
        # Allocations that a node already has come first, so that they stay where they are.
        held = {allocation.mode.tobytes() for allocation in current}
        for pick in sorted(picks, key=lambda pick: pick.allocation.mode.tobytes() not in held):
            count = round(values[pick.nodes])
            rows, mode = free[pick.kind], pick.allocation.mode
            # Nodes that have it keep it; the rest of the count goes to the others in order.
            rows.sort(key=lambda n: not np.array_equal(current[n].mode, mode))
            for n in rows[:count]:
                chosen[n] = pick.allocation
                for i, flow in pick.flows.items():
                    requests[n, i] = values[flow].sum() / count
            del rows[:count]
        return Plan(tuple(chosen), requests)

    def best(self, n: int, role: Bools, requests: Floats, demand: Demand) -> Allocation:
        """Return the allocation of node ``n`` as :meth:`Kind.best`."""
        return self._by_node[n].best(role, requests, demand)

    def nothing(self) -> list[Allocation]:
        """Return each node's allocation in which everything is off."""
        return [self._by_node[n].nothing() for n in range(len(self._by_node))]


class _Pool:
    """Allocations of one kind of node that a program chooses from: all of them, or those that were
    found so far."""

    def __init__(self, kind: Kind, current: Sequence[Allocation]) -> None:
        self.kind = kind
        self.allocations: list[Allocation] = []
        if kind.allocations is not None:
            self.allocations = kind.allocations
            return
        self._known: set[bytes] = set()
        self._add(kind.nothing())
        for n in kind.rows:
            if n < len(current):
                self._add(current[n])

    @property
    def is_open(self) -> bool:
        """True if the kind is not enumerated."""
        return self.kind.allocations is None

    def add_priced(self, prices: Floats, demand: Demand, *, costs: bool) -> bool:
        """Add the allocation that is worth most at ``prices`` (I,); return True if it is new."""
        if self.kind.program is None:
            return False
        found = self.kind.program.priced(prices, demand, costs=costs)
        return found is not None and self._add(found)

    def add_neighbours(self, plan: Plan, up: Bools) -> bool:
        """Add the neighbours of what the plan chose; return True if any is new."""
        if self.kind.program is None:
            return False
        chosen = {id(plan.allocation[n]): plan.allocation[n] for n in self.kind.rows if up[n]}
        near = [one for each in chosen.values() for one in self.kind.program.neighbours(each)]
        before = len(self.allocations)
        for one in near:
            self._add(one)
        return len(self.allocations) > before

    def _add(self, allocation: Allocation) -> bool:
        key = allocation.mode.tobytes() + allocation.cores.round(6).tobytes()
        if key in self._known:
            return False
        self._known.add(key)
        self.allocations.append(allocation)
        return True
