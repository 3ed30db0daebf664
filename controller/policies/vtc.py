"""VTC-GPU: least virtual service first, after the Virtual Token Counter (Sheng et al., OSDI 2024),
with LM types as clients and calibrated GPU-seconds instead of tokens, so that modalities compare.

Every node keeps one counter per LM, which grows by the service the LM receives there; work on CPUs
counts as the GPU-seconds it replaces. When an LM returns after an absence, its counter is raised to
the least counter of the LMs present, or of those that left last, so that idling earns no credit. A
running pod keeps its GPU unless another LM lags by more than the time of a restart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import feasible, sharing
from controller.domain.decisions import Call, Decision, Deployment, InForce, RoutingPlan
from controller.domain.scenario import Scenario
from controller.domain.state import CPU, GPU, OFF, ClusterState
from controller.policies.patterns import fixed_share

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class ServiceCounters:
    """Virtual counters of LMs, a row per node."""

    def __init__(self, scenario: Scenario) -> None:
        lms = range(len(scenario.testbed.lms))
        nodes = range(len(scenario.testbed.nodes))
        shares = [fixed_share(scenario, n) for n in nodes]
        self.counter = np.zeros((len(nodes), len(lms)))
        self._present = np.zeros(self.counter.shape, np.bool_)
        self._latest = self._present.copy()  # LMs in the latest slot with any present
        self._worth = np.array([[_worth(scenario, n, i, shares[n]) for i in lms] for n in nodes])

    def update(self, rows: Ints, given_s: Floats, present: Bools) -> None:
        """Add the GPU-seconds ``given_s`` (n, I) on the nodes ``rows``, then raise the counters of
        returning LMs. ``present`` (n, I): LMs with work."""
        counter, before = self.counter[rows] + given_s, self._present[rows]
        stayed = before & present
        peers = np.where(stayed.any(axis=1, keepdims=True), stayed, self._latest[rows])
        least = np.where(peers, counter, np.inf).min(axis=1, keepdims=True)
        lifted = np.maximum(counter, np.where(np.isfinite(least), least, 0.0))
        self.counter[rows] = np.where(present & ~before, lifted, counter)
        self._present[rows] = present
        self._latest[rows] = np.where(
            present.any(axis=1, keepdims=True), present, self._latest[rows]
        )

    def given_s(self, state: ClusterState) -> Floats:
        """Return (n, I) calibrated GPU-seconds served in the slot that ended. Busy pods whose GPUs
        are unknown are assumed to share one."""
        busy = state.busy_s > 0
        sharers = 1 + (sharing(state.cards, state.mode) & busy[:, None, :]).sum(axis=2)
        worth = np.where(state.mode == CPU, self._worth[state.rows], 1.0 / sharers)
        return np.asarray(state.busy_s * worth)


class VtcScheduler:
    """Scheduler that sends each origin to the node with the shortest queue for the LM as deployed
    there, in seconds. Queues include the expected requests of origins already assigned in this
    slot. Fairness is left to the nodes."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._hosts = scenario.hosts()
        self._batch = np.ones(self._hosts.shape[1])

    async def schedule(self, state: ClusterState, in_force: InForce) -> Decision[RoutingPlan]:
        del in_force
        requests, arrived = state.arrived_requests.sum(axis=0), state.arrived_prompts.sum(axis=0)
        self._batch = np.where(requests > 0, arrived / np.maximum(1, requests), self._batch)
        seconds = self._prompt_seconds(state)
        destination = np.zeros(self._hosts.shape, np.int64)
        for i in range(len(self._batch)):
            nodes = np.flatnonzero(self._hosts[:, i] & state.up)
            if len(nodes) == 0:
                nodes = np.flatnonzero(self._hosts[:, i])
            queue_s = state.backlog[nodes, i] * seconds[nodes, i]
            for origin in range(len(destination)):
                best = int(np.argmin(queue_s))
                destination[origin, i] = nodes[best]
                queue_s[best] += self._batch[i] * seconds[nodes[best], i]
        return Decision(RoutingPlan(destination))

    def _prompt_seconds(self, state: ClusterState) -> Floats:
        """Return (N, I) seconds per prompt of the pods as wanted; where off, twice those of the
        LM's slowest pod that is on, at least 2 s."""
        seconds = np.array(
            [
                self._scenario.prompt_seconds(n, mode, cores)
                for n, (mode, cores) in enumerate(
                    zip(state.want_mode, state.want_cores, strict=True)
                )
            ]
        )
        running = np.where(np.isfinite(seconds), seconds, 0.0).max(axis=0)
        return np.where(np.isfinite(seconds), seconds, 2 * np.maximum(running, 1.0))


class VtcDeployer:
    """Deployer that gives each node's GPU slices to the LMs with work and the least virtual
    service; the others run on CPUs where they can."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        nodes, lms = scenario.testbed.nodes, scenario.testbed.lms
        self._service = ServiceCounters(scenario)
        self._share = [fixed_share(scenario, n) for n in range(len(nodes))]
        self._can = [
            [(scenario.on_gpu(n, i), scenario.on_cpu(n, i)) for i in range(len(lms))]
            for n in range(len(nodes))
        ]
        profiles = [scenario.profile.lms[lm.name] for lm in lms]
        self._restart_s = np.array([p.start_gpu_s + p.stop_s for p in profiles])
        self._cores_on_gpu = [lm.cores_on_gpu for lm in lms]
        self._filled: dict[tuple[int, bytes], tuple[Ints, Floats]] = {}

    async def deploy(self, state: ClusterState, in_force: InForce) -> Decision[Deployment]:
        del in_force
        at_work = (state.backlog > 0) | (state.busy_s > 0)
        self._service.update(state.rows, self._service.given_s(state), at_work)
        rank = self._service.counter[state.rows] - self._restart_s * (state.want_mode == GPU)
        idle = (~at_work).astype(np.int64)
        mode, cores = np.zeros_like(state.want_mode), np.zeros_like(state.want_cores)
        for row, n in enumerate(state.rows.tolist()):
            order = np.lexsort((rank[row], idle[row]))
            key = n, order.tobytes()
            if key not in self._filled:
                self._filled[key] = self._fill(n, order)
            mode[row], cores[row] = self._filled[key]
        vgpus = (mode == GPU).astype(np.int64)
        return Decision(Deployment(mode, cores, vgpus), (Call(),) * len(state.rows))

    def _fill(self, n: int, order: Ints) -> tuple[Ints, Floats]:
        """Return modes and cores (I,) on node n: each LM in ``order`` on a GPU, or else on CPUs, if
        Eq. 1 still holds with it."""
        mode, cores = np.zeros(len(order), np.int64), np.zeros(len(order))
        for i in order.tolist():
            on_gpu, on_cpu = self._can[n][i]
            for able, device, need in (
                (on_gpu, GPU, self._cores_on_gpu[i]),
                (on_cpu, CPU, self._share[n]),
            ):
                if not able:
                    continue
                mode[i], cores[i] = device, need
                if feasible(self._scenario, n, mode, cores, (mode == GPU).astype(np.int64)):
                    break
                mode[i], cores[i] = OFF, 0.0
        return mode, cores


def _worth(scenario: Scenario, n: int, i: int, share: float) -> float:
    """Return the GPU-seconds that a second of LM i on node n's CPUs replaces, measured on the
    testbed's fastest GPU for the LM; 0 if the node's CPUs or every GPU cannot run it."""
    if not scenario.on_cpu(n, i):
        return 0.0
    lm = scenario.profile.lms[scenario.testbed.lms[i].name]
    gpus = {node.gpu for node in scenario.testbed.nodes if node.gpus}
    fastest = min((lm.gpu[gpu].at(1.0) for gpu in gpus if gpu in lm.gpu), default=0.0)
    return fastest / lm.cpu[scenario.testbed.nodes[n].cpu].at(max(share, 1e-9))
