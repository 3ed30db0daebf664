"""Cluster states for policies to decide on, written down instead of simulated."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from controller.domain.capacity import landing
from controller.domain.decisions import Decision, MacroPolicy
from controller.domain.scenario import Scenario
from controller.domain.state import GPU, OFF, POD_OFF, POD_READY, ClusterState, Telemetry
from controller.inputs.catalog import load_profile, load_testbed
from tests.reference.worlds import ABSENT, Pod

T = TypeVar("T")


def decision_of(call: Coroutine[Any, Any, Decision[T]]) -> Decision[T]:
    """What a policy decides. It computes and waits for nothing, so it needs no event loop."""
    try:
        call.send(None)
    except StopIteration as done:
        decision: Decision[T] = done.value
        return decision
    raise AssertionError("a policy has suspended")


def decide(call: Coroutine[Any, Any, Decision[T]]) -> T:
    """The decision without how it came about."""
    return decision_of(call).value


def open_policy(scenario: Scenario) -> MacroPolicy:
    """No intent: what the strategies without a planner are given."""
    hosts = scenario.hosts()
    return MacroPolicy(routing=hosts / hosts.sum(axis=0), roles=hosts)


def shipped(testbed: str = "paper", profile: str = "a5000") -> Scenario:
    return Scenario(load_testbed(testbed).to_domain(), load_profile(profile).to_domain())


def with_cores_on_gpu(scenario: Scenario, cores: float) -> Scenario:
    """The scenario in which a pod on a GPU holds ``cores``."""
    lms = tuple(replace(lm, cores_on_gpu=cores) for lm in scenario.testbed.lms)
    return replace(scenario, testbed=replace(scenario.testbed, lms=lms))


def idle(scenario: Scenario, **changes: Any) -> ClusterState:
    """Nothing deployed, nothing queued."""
    none = [[ABSENT] * len(scenario.testbed.lms)] * len(scenario.testbed.nodes)
    return running(scenario, none, **changes)


def running(scenario: Scenario, pods: Sequence[Sequence[Pod]], **changes: Any) -> ClusterState:
    """The pods (node, LM) are ready, as wanted, on the GPUs that they land on together."""
    nodes, lms = scenario.testbed.nodes, scenario.testbed.lms
    mode, cores, vgpus = (np.array([[pod[k] for pod in row] for row in pods]) for k in range(3))
    cores = cores.astype(np.float64)
    gpu = np.array([landing(scenario, n, row) for n, row in enumerate(mode)])
    ram_gb = np.where(mode != OFF, [lm.ram_gb for lm in lms], 0.0)
    zeros = np.zeros(mode.shape, np.int64)
    values: dict[str, Any] = {
        "time_s": 0.0,
        "slot": -1,
        "rows": np.arange(len(nodes)),
        "up": np.ones(len(nodes), np.bool_),
        "heard_s": np.zeros(len(nodes)),
        "backlog": zeros,
        "mode": mode,
        "cores": cores,
        "vgpus": vgpus,
        "cards": np.where(mode == GPU, 1 << np.maximum(gpu, 0), 0),
        "pod": np.where(mode != OFF, POD_READY, POD_OFF),
        "want_mode": mode,
        "want_cores": cores,
        "want_vgpus": vgpus,
        "want_slot": np.full(len(nodes), -1),
        "free_cores": np.array([node.cores for node in nodes]) - cores.sum(axis=1),
        "free_ram_gb": np.array([node.ram_gb for node in nodes]) - ram_gb.sum(axis=1),
        "free_vgpus": np.array([node.vgpus for node in nodes]) - vgpus.sum(axis=1),
        "arrived_prompts": zeros,
        "arrived_requests": zeros,
        "busy_s": np.zeros(mode.shape),
    }
    given = {key: np.asarray(value) if key in values else value for key, value in changes.items()}
    return ClusterState(**{**values, **given, "slot": int(changes.get("slot", -1))})


def rows_of(state: ClusterState, rows: Sequence[int]) -> ClusterState:
    """What a deployer sees that controls only these nodes."""
    pick = {
        name: getattr(state, name)[list(rows)]
        for name in ClusterState.__slots__
        if name not in ("time_s", "slot")
    }
    return replace(state, **pick)


def telemetry(
    requests: Sequence[float], prompts: Sequence[float] | None = None, slots: int = 50
) -> Telemetry:
    """A window of ``slots`` slots in which this many requests a slot came, of ``prompts`` each."""
    none = np.zeros(len(requests), np.int64)
    arrived = np.round(np.array(requests) * slots).astype(np.int64)
    each = np.ones(len(requests)) if prompts is None else np.array(prompts)
    return Telemetry(
        first_slot=0,
        last_slot=slots - 1,
        arrived_requests=arrived,
        arrived_prompts=np.round(arrived * each).astype(np.int64),
        succeeded=none,
        failed=none,
        latency_sum_s=np.zeros(len(requests)),
    )


NOTHING_SEEN = replace(telemetry([0.0], slots=1), last_slot=-1)
