"""A lower bound on the objective that no strategy can beat at the same success rate.

A linear program with perfect foresight chooses which requests succeed and on what each is served.
It keeps: service times of every LM on every kind of node, what GPUs, cores and pods can do in the
time there is (one pod per LM and node), the wait for the first decision and the first start. It
drops what only makes things worse: queueing, sharing, start-ups later on, transfers, memory. Proof
sketch: docs/bound.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.domain import metrics
from controller.domain.capacity import kinds
from controller.domain.errors import Permanent
from controller.domain.profile import Batching, Curve
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario

Floats = NDArray[np.float64]

BINS = 24  # size classes per LM; exact when there are no more distinct sizes
CUTS = 12  # tangents of the fairness term
_INFEASIBLE = 2  # of linprog
SLACK = 1e-6  # relative; covers the tolerance of the LP's solution


@dataclass(frozen=True, slots=True)
class Bound:
    """The least objective and, at that point, the least mean latency of the successes."""

    objective: float
    t_mean_s: float


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to run an LM on one kind of node."""

    lm: int
    kind: int
    seconds: float  # per reference prompt, at best
    gpu: bool
    cores: float


def lower_bound(scenario: Scenario, requests: Requests, success_rate: float) -> Bound:
    """Return the bound for runs on these requests in which ``success_rate`` of them succeed.

    Raises:
        ValueError: the rate is outside [0, 1].
    """
    if not 0 <= success_rate <= 1:
        raise ValueError(f"a success rate must lie in [0, 1], not {success_rate}")
    arrivals = np.bincount(requests.lm, minlength=len(scenario.testbed.lms))
    successes = success_rate * len(requests)
    # Without any success there is nothing to choose: the edge cases of Eq. 8 and 9 give the value.
    if successes < 0.5:
        rates = metrics.service_rates(np.zeros(len(arrivals)), arrivals)
        worst = metrics.objective(1.0, metrics.normalised_jain(rates), scenario.lam)
        return Bound(worst, scenario.tau_s)
    program = _Program(scenario, requests)
    return program.minimise(successes)


def highest_feasible_load(scenario: Scenario, requests: Requests) -> float:
    """Return the factor by which these requests could be multiplied, in the same time, before the
    relaxation calls it impossible that all succeed."""
    return _Program(scenario, requests).stretch()


class _Program:
    """The linear program. Its variables are the shares of the successes that are requests of an
    (LM, size bin) served by an option. In shares every coefficient is near 1 however large the
    run, so absolute tolerances stay small."""

    def __init__(self, scenario: Scenario, requests: Requests) -> None:
        self._scenario = scenario
        self._lms = len(scenario.testbed.lms)
        self._options = list(_options(scenario))
        self._bins = [_bins(scenario, requests, i) for i in range(self._lms)]
        self._time_s = float(requests.born_s[-1]) + scenario.tau_s
        self._arrival_s = float(requests.slot[-1] + 1) * scenario.slot_s
        self._columns = [
            (o, b)
            for o, option in enumerate(self._options)
            for b in range(len(self._bins[option.lm].count))
        ]

    def minimise(self, successes: float) -> Bound:
        """Return the bound by cutting planes: each round's optimum is valid, the last the
        tightest."""
        arrivals = np.array([bins.count.sum() for bins in self._bins], np.float64)
        present = np.flatnonzero(arrivals)
        latency_s = self._latency_s()
        # The price of a column is its latency; the last variable, z, stands for the variance of the
        # success rates and is priced by the least unfairness that it can mean.
        lam, tau_s = self._scenario.lam, self._scenario.tau_s
        fairness = (1 - lam) * _fairness_scale(arrivals[present], successes)
        price = np.append(lam / tau_s * latency_s, fairness)
        # Success rates are linear in the columns: successes of an LM over its arrivals.
        served = self._served()  # (I, columns)
        rates = served[present] * (successes / arrivals[present, None])
        cuts: list[Floats] = []
        limits: list[float] = []
        solution = np.zeros(len(price))
        value = 0.0
        # Solve, look up the true variance there, and add the tangent that the solution violates.
        for _ in range(CUTS):
            solution, value = self._solve(price, successes, np.array(cuts), np.array(limits))
            rho = rates @ solution[:-1]
            spread, slope = _variance(rho)
            if spread - solution[-1] < 1e-7:
                break
            # variance >= spread + slope (rates y - rho), so z - slope rates y >= spread - slope rho
            cuts.append(np.append(slope @ rates, -1.0))
            limits.append(float(slope @ rho - spread))
        return Bound(value * (1 - SLACK), float(latency_s @ solution[:-1]))

    def stretch(self) -> float:
        """Return the largest factor t such that t times the requests fit into the time in which
        they arrive."""
        from scipy.optimize import linprog

        # Every bin is served in the same proportion t, in the time in which requests arrive.
        use, room = self._capacity(self._arrival_s)
        full, counts = self._bin_rows()
        result = linprog(  # variables: shares of each bin, and t
            np.append(np.zeros(len(self._columns)), -1.0),
            A_ub=np.hstack([use / room[:, None] * (counts @ full), np.zeros((len(use), 1))]),
            b_ub=np.ones(len(use)),
            A_eq=np.hstack([full, -np.ones((len(full), 1))]),
            b_eq=np.zeros(len(full)),
            method="highs",
        )
        return float(result.x[-1])

    def _solve(
        self, price: Floats, successes: float, cuts: Floats, limits: Floats
    ) -> tuple[Floats, float]:
        from scipy.optimize import linprog

        # Rows, each scaled to a right-hand side of 1: capacities; no more of a bin than there is;
        # the tangents so far. The shares of the successes sum to 1.
        use, room = self._capacity(self._time_s)
        full, counts = self._bin_rows()
        upper = np.vstack([use / room[:, None], full / counts[:, None]]) * successes
        upper = np.hstack([upper, np.zeros((len(upper), 1))])
        if len(cuts):
            upper = np.vstack([upper, cuts])
        result = linprog(
            price,
            A_ub=upper,
            b_ub=np.concatenate([np.ones(len(room) + len(counts)), limits]),
            A_eq=np.append(np.ones(len(self._columns)), 0.0)[None],
            b_eq=[1.0],
            method="highs",
        )
        if result.status == _INFEASIBLE:  # more than the relaxation can serve: claim nothing
            return np.zeros(len(price)), 0.0
        if result.x is None:
            raise Permanent(f"the bound could not be solved: {result.message}")
        return np.asarray(result.x), float(result.fun)

    def _latency_s(self) -> Floats:
        """Return (columns,) the least latency of a request of the bin by the option."""
        bins = self._bins
        return np.array(
            [
                bins[self._options[o].lm].wait_s[b]
                + bins[self._options[o].lm].work[b] * self._options[o].seconds
                for o, b in self._columns
            ]
        )

    def _served(self) -> Floats:
        """Return (I, columns) the incidence of LMs."""
        lm = np.array([self._options[o].lm for o, _ in self._columns])
        return np.asarray(lm == np.arange(self._lms)[:, None], np.float64)

    def _bin_rows(self) -> tuple[Floats, Floats]:
        """Return ((B, columns), (B,)): no more of a bin is served than there is."""
        keys = [(i, b) for i in range(self._lms) for b in range(len(self._bins[i].count))]
        index = {key: row for row, key in enumerate(keys)}
        rows = np.zeros((len(keys), len(self._columns)))
        for column, (o, b) in enumerate(self._columns):
            rows[index[self._options[o].lm, b], column] = 1.0
        counts = np.array([self._bins[i].count[b] for i, b in keys], np.float64)
        return rows, counts

    def _capacity(self, time_s: float) -> tuple[Floats, Floats]:
        """Return ((C, columns), (C,)): GPU, core and pod seconds by kind of node."""
        rows, room = [], []
        work = np.array([self._bins[self._options[o].lm].work[b] for o, b in self._columns])
        options = [self._options[o] for o, _ in self._columns]
        spent_s = work * np.array([option.seconds for option in options])
        for k, nodes in enumerate(kinds(self._scenario)):
            node = self._scenario.testbed.nodes[int(nodes[0])]
            here = np.array([option.kind == k for option in options])
            on_gpu = np.array([option.gpu for option in options])
            cores = np.array([option.cores for option in options])
            rows += [spent_s * (here & on_gpu), spent_s * cores * here]
            # GPUs and cores are pooled over the nodes of the kind; a pod serves one request at a
            # time, and a node has one pod per LM.
            room += [time_s * max(1, node.gpus) * len(nodes), time_s * node.cores * len(nodes)]
            for i in range(self._lms):
                rows.append(spent_s * (here & np.array([option.lm == i for option in options])))
                room.append(time_s * len(nodes))
        return np.array(rows), np.array(room)


@dataclass(frozen=True, slots=True, eq=False)
class _Bins:
    """Requests of an LM by size; each bin counts for its smallest member."""

    count: NDArray[np.int64]
    work: Floats  # reference prompts
    wait_s: Floats  # before service can begin


def _bins(scenario: Scenario, requests: Requests, i: int) -> _Bins:
    mine = requests.lm == i
    size = (requests.prompts * requests.work)[mine]
    wait_s = _first_wait_s(scenario, requests, i)[mine]
    distinct = np.unique(size)
    # Beyond BINS sizes, group by quantiles; a group counts for its smallest member.
    if len(distinct) > BINS:
        distinct = np.unique(np.quantile(size, np.linspace(0, 1, BINS + 1)[:-1], method="lower"))
    place = np.searchsorted(distinct, size, side="right") - 1
    count = np.bincount(place, minlength=len(distinct))
    # Likewise a bin waits as long as the member that waits least.
    least_s = np.full(len(distinct), np.inf)
    np.minimum.at(least_s, place, wait_s)
    return _Bins(count, distinct, np.where(count > 0, least_s, 0.0))


def _first_wait_s(scenario: Scenario, requests: Requests, i: int) -> Floats:
    """Return (R,) the wait before service: no request is sent before its slot's plan is in force,
    none is served before a pod that was ordered at time 0 has started."""
    profile = scenario.profile.lms[scenario.testbed.lms[i].name]
    control_s = scenario.testbed.network.control_s
    # A deployment is in force at the next boundary at the latest, however long messages take.
    ready_s = min(control_s, scenario.slot_s) + min(profile.start_cpu_s, profile.start_gpu_s)
    in_force_s = requests.slot * scenario.slot_s + control_s
    return np.asarray(np.maximum(0.0, np.maximum(in_force_s, ready_s) - requests.born_s))


def _options(scenario: Scenario) -> Iterator[_Option]:
    """Yield the options that span every other: GPUs at their fastest, cores at each point of the
    curve."""
    for k, nodes in enumerate(kinds(scenario)):
        n = int(nodes[0])
        node = scenario.testbed.nodes[n]
        for i, lm in enumerate(scenario.testbed.lms):
            profile = scenario.profile.lms[lm.name]
            # Memory as the twin divides it over the GPUs that a pod spans: that allows more than
            # the budget for the worst packing does (capacity.vram_holds), as a bound must.
            spans = [g for g in range(1, node.gpus + 1) if lm.vram_gb / g <= node.vram_gb]
            if spans and node.vgpus and node.gpu in profile.gpu and lm.ram_gb <= node.ram_gb:
                fastest = min(profile.gpu[node.gpu].at(span) for span in spans)
                yield _Option(i, k, fastest * _gain(profile.gpu_batching), gpu=True, cores=0.0)
            if scenario.on_cpu(n, i):
                gain = _gain(profile.cpu_batching)
                for cores in _points(profile.cpu[node.cpu], node.cores):
                    seconds = profile.cpu[node.cpu].at(cores) * gain
                    yield _Option(i, k, seconds, gpu=False, cores=cores)


def _points(curve: Curve, cores: float) -> list[float]:
    """Return amounts of cores whose mixtures are as good as any amount up to ``cores``: between two
    points of the table core seconds are concave in seconds, so the chord is below."""
    points = [amount for amount in curve.amounts if amount < cores]
    return [*points, cores]


def _gain(batching: Batching) -> float:
    """Return the least time per prompt in a batch over that of a single prompt."""
    return min(factor / (k + 1) for k, factor in enumerate(batching.factors))


def _variance(rho: Floats) -> tuple[float, Floats]:
    """Return the population variance of the rates and its gradient."""
    deviation = rho - rho.mean()
    return float((deviation**2).mean()), 2 * deviation / len(rho)


def _fairness_scale(arrivals: Floats, successes: float) -> float:
    """Return c such that 1 - F_norm >= c * variance of the rates: 1 - F is the variance over the
    mean square, and no rates with this many successes have a larger mean square than R."""
    types = len(arrivals)
    if types <= 1:
        return 0.0
    # Hand the successes out to the LMs with the fewest requests first.
    total, left = 0.0, successes
    for count in np.sort(arrivals):  # R <= mean rate, largest when the rare types come first
        total += min(1.0, left / count)
        left = max(0.0, left - count)
    return 1 / (1 - 1 / types) / (total / types)
