"""Checks of a reply beyond its schema: section V-D's rules, every violation named.

Each check turns a validated reply into a decision or raises InvalidDecision with all that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.agents.replies import ELSEWHERE, ELSEWHERE_WORD, REFUSE_WORD, listed
from controller.domain.capacity import blocked, feasible
from controller.domain.decisions import REFUSE, Demand, MacroPolicy
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, MODES, OFF, ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SUM_SLACK: Final = 0.02  # by which shares may miss 1; they are then scaled
LEAST_CORES: Final = 0.1  # of a pod on CPUs
MOST_LOAD: Final = 1e9  # of a forecast: beyond any, and products of it stay finite
MOST_CORES: Final = 1e6  # of a pod: beyond any, and sums of it stay finite
MOST_SHARE: Final = 1e6
MOST_VGPUS: Final = 1_000_000  # of a pod: beyond any, and sums of it do not wrap around


class PolicyCheck:
    """The planner's: shares and roles (Eq. 12-13)."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._hosts = scenario.hosts()
        self._runs: dict[tuple[int, bytes], bool] = {}

    def __call__(self, reply: Mapping[str, Any], up: Bools) -> MacroPolicy:
        """Raise InvalidDecision."""
        testbed = self._scenario.testbed
        routing = np.zeros(self._hosts.shape)
        roles = np.zeros(self._hosts.shape, np.bool_)
        for i, lm in enumerate(testbed.lm_names):
            for n, node in enumerate(testbed.node_names):
                share = reply["routing"][lm].get(node, 0.0)
                routing[n, i] = max(-MOST_SHARE, min(share, MOST_SHARE))
                roles[n, i] = lm in reply["roles"].get(node, ())
        demand = self._demand(reply)
        problems = [
            *self._negatives(routing, demand),
            *self._sums(routing),
            *self._places(routing, roles, up),
            *self._capacity(roles),
        ]
        if problems:
            raise InvalidDecision(listed(problems))
        return MacroPolicy(routing=routing / routing.sum(axis=0), roles=roles, demand=demand)

    def _demand(self, reply: Mapping[str, Any]) -> Demand:
        forecasts = [reply["forecast"][lm] for lm in self._scenario.testbed.lm_names]
        return Demand(
            requests=np.array([one.requests_per_slot for one in forecasts], np.float64),
            prompts=np.array([one.prompts_per_request for one in forecasts], np.float64),
        )

    def _negatives(self, routing: Floats, demand: Demand) -> list[str]:
        found = [f"share of {lm} on {node} is negative" for lm, node in self._pairs(routing < 0)]
        lms = self._scenario.testbed.lm_names
        for lm, requests, prompts in zip(lms, demand.requests, demand.prompts, strict=True):
            if not (0 <= requests <= MOST_LOAD and 0 < prompts <= MOST_LOAD):
                found.append(
                    f"forecast of {lm}: requests must be 0 or more, prompts above 0, "
                    f"both at most {MOST_LOAD:g}"
                )
        return found

    def _sums(self, routing: Floats) -> list[str]:
        return [
            f"shares of {lm} sum to {total:.3g}, not 1"
            for lm, total in zip(self._scenario.testbed.lm_names, routing.sum(axis=0), strict=True)
            if abs(total - 1) > SUM_SLACK
        ]

    def _places(self, routing: Floats, roles: Bools, up: Bools) -> list[str]:
        """Return the shares where the role has the LM and, if any of its hosts is up, on nodes
        that are."""
        off_role = self._pairs((routing > 0) & ~roles)
        alive = self._hosts & up[:, None]
        down = self._pairs((routing > 0) & ~up[:, None] & alive.any(axis=0))
        return [
            *(f"{lm} has a share on {node}, whose role lacks it" for lm, node in off_role),
            *(f"{lm} has a share on {node}, which is down" for lm, node in down),
        ]

    def _capacity(self, roles: Bools) -> list[str]:
        testbed = self._scenario.testbed
        return [
            f"{testbed.nodes[n].name} cannot run "
            f"{'+'.join(lm for lm, r in zip(testbed.lm_names, roles[n], strict=True) if r)} at once"
            for n in range(len(roles))
            if not self.runs_at_once(n, roles[n])
        ]

    def runs_at_once(self, n: int, role: Bools) -> bool:
        """Return True if some choice of CPUs and GPUs fits all of the role within Eq. 1."""
        key = n, role.tobytes()
        if key not in self._runs:
            self._runs[key] = any(
                fits(self._scenario, n, np.array(modes)) for modes in self._choices(n, role)
            )
        return self._runs[key]

    def _choices(self, n: int, role: Bools) -> Any:
        scenario = self._scenario
        return product(
            *(
                [
                    m
                    for m, can in ((CPU, scenario.on_cpu(n, i)), (GPU, scenario.on_gpu(n, i)))
                    if can
                ]
                if wanted
                else [OFF]
                for i, wanted in enumerate(role)
            )
        )

    def _pairs(self, wrong: Bools) -> list[tuple[str, str]]:
        testbed = self._scenario.testbed
        return [
            (testbed.lm_names[i], testbed.node_names[n])
            for n, i in zip(*np.nonzero(wrong), strict=True)
        ]


def fits(scenario: Scenario, n: int, mode: Ints) -> bool:
    """Return True if the modes (I,) fit node n with one vGPU a GPU pod and some cores for each CPU
    pod."""
    cores = np.where(mode == GPU, [lm.cores_on_gpu for lm in scenario.testbed.lms], 0.0)
    cores = np.where(mode == CPU, LEAST_CORES, cores)
    return feasible(scenario, n, mode, cores, (mode == GPU).astype(np.int64))


def check_routing(scenario: Scenario, reply: Mapping[str, Any], roles: Bools, up: Bools) -> Ints:
    """Return (N, I) destinations, REFUSE or ELSEWHERE: never off-role, not to a node that is down
    while another of the role is up. ``roles`` (N, I) and ``up`` (N,) are of the scenario's
    nodes.

    Raises:
        InvalidDecision: naming every wrong entry.
    """
    nodes, lms = scenario.testbed.node_names, scenario.testbed.lm_names
    place = {name: n for n, name in enumerate(nodes)}
    place |= {REFUSE_WORD: REFUSE, ELSEWHERE_WORD: ELSEWHERE}
    destination = np.array([[place[reply[lm][name]] for lm in lms] for name in nodes], np.int64)
    meant = roles & scenario.hosts()
    alive = meant & up[:, None]
    allowed = np.where(alive.any(axis=0), alive, meant)
    wrong = (destination >= 0) & ~allowed[np.maximum(destination, 0), np.arange(len(lms))]
    if wrong.any():
        found = []
        for origin, i in zip(*np.nonzero(wrong), strict=True):
            to = destination[origin, i]
            why = "that node is down" if meant[to, i] else "off-role"
            found.append(f"{lms[i]} from {nodes[origin]} to {nodes[to]}: {why}")
        raise InvalidDecision(listed(found))
    return destination


def check_pods(
    scenario: Scenario, reply: Mapping[str, Any], state: ClusterState, row: int, role: Bools
) -> tuple[Ints, Floats, Ints]:
    """Return ((I,) modes, cores, vGPUs) for the node of a row: within Eq. 1, nothing started
    off-role, nothing that needs more while the Pending rule holds.

    Raises:
        InvalidDecision: naming every violation.
    """
    n, lms = int(state.rows[row]), scenario.testbed.lms
    held_up = bool(blocked(scenario, state)[row])
    mode, cores, vgpus = _read_pods(scenario, reply)
    problems = []
    for i, lm in enumerate(lms):
        if mode[i] == OFF:
            continue
        if not (scenario.on_cpu(n, i) if mode[i] == CPU else scenario.on_gpu(n, i)):
            problems.append(f"{lm.name} cannot run on {MODES[mode[i]]} here")
        if mode[i] == CPU and cores[i] < LEAST_CORES:
            problems.append(f"{lm.name} on cpu needs cores, {LEAST_CORES} or more")
        if mode[i] == GPU and vgpus[i] < 1:
            problems.append(f"{lm.name} on gpu needs 1 vgpu or more")
        more = (
            mode[i] != state.want_mode[row, i]
            or cores[i] > state.want_cores[row, i] + 1e-9
            or vgpus[i] > state.want_vgpus[row, i]
        )
        if more and not role[i]:
            problems.append(f"{lm.name} is off-role: it may only stay as it is or stop")
        elif more and held_up:
            problems.append(f"{lm.name}: while a pod is pending or stopping, only stay or stop")
    problems += _over_budget(scenario, n, mode, cores, vgpus) if not problems else []
    if problems:
        raise InvalidDecision(listed(problems))
    return mode, cores, vgpus


def _read_pods(scenario: Scenario, reply: Mapping[str, Any]) -> tuple[Ints, Floats, Ints]:
    lms = scenario.testbed.lms
    mode = np.zeros(len(lms), np.int64)
    cores, vgpus = np.zeros(len(lms)), np.zeros(len(lms), np.int64)
    for i, lm in enumerate(lms):
        pod = reply.get(lm.name)
        if pod is None or pod.mode == MODES[OFF]:
            continue
        mode[i] = MODES.index(pod.mode)
        if mode[i] == CPU:
            cores[i] = max(-MOST_CORES, min(pod.cores, MOST_CORES))
        else:
            cores[i] = lm.cores_on_gpu
            vgpus[i] = max(0, min(pod.vgpus, MOST_VGPUS))
    return mode, cores, vgpus


def _over_budget(scenario: Scenario, n: int, mode: Ints, cores: Floats, vgpus: Ints) -> list[str]:
    """Return which sums of Eq. 1 exceed the node's totals."""
    if feasible(scenario, n, mode, cores, vgpus):
        return []
    node, on = scenario.testbed.nodes[n], mode != OFF
    ram_gb = sum(lm.ram_gb for lm, active in zip(scenario.testbed.lms, on, strict=True) if active)
    found = [
        f"{what} needed {need:g}, the node has {has:g}"
        for what, need, has in (
            ("cores", float(cores.sum()), node.cores),
            ("ram_gb", ram_gb, node.ram_gb),
            ("vgpus", int(vgpus.sum()), node.vgpus),
        )
        if need > has + 1e-9
    ]
    return found or ["the pods on GPUs do not fit the memory of one GPU if all are on it"]
