"""Each agent's observation as plain data with names instead of indices.

A view holds what its template says in sentences and a mapping that goes into the prompt as JSON:
``context``, which never changes during a run, in the system message's, and ``observation``, the
present, in the user message's. Hardware models are free text in their files, so they appear under
aliases (``cpu1``, ``gpu1``); the names of nodes and LMs have been checked against a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.domain.capacity import blocked
from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.profile import Curve
from controller.domain.scenario import Scenario
from controller.domain.state import MODES, OFF, STATES, ClusterState
from controller.domain.testbed import Node
from controller.wire import gpus_of, intent_to_wire

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Json = dict[str, Any]

DIGITS = 4  # of shares and rates in prompts


@dataclass(frozen=True, slots=True)
class SystemView:
    """Once and for all, of every agent."""

    context: Json


@dataclass(frozen=True, slots=True)
class RepairView:
    """After a reply that broke rules, of every agent."""

    problems: str


@dataclass(frozen=True, slots=True)
class PlannerView:
    """Once an epoch (section IV-A)."""

    observation: Json
    epoch: int
    baseline: str  # what a uniformly random policy achieves, a sentence
    last: str  # the epoch that ended, a sentence; empty before there is one
    best: Sequence[str]  # past cases, a sentence each
    worst: Sequence[str]
    nearest: Sequence[str]
    what_if: int  # candidate policies that may be tried first


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """Once a slot (section IV-B 1)."""

    observation: Json


@dataclass(frozen=True, slots=True)
class DeployerView:
    """Once a slot and node (section IV-B 2)."""

    observation: Json
    blocked: bool  # by the Pending rule


def cluster_context(scenario: Scenario, agent: str) -> Json:
    """Return the static context C: hardware, LMs, the problem's constants."""
    return {**_constants(scenario, agent), **_hardware(scenario, scenario.testbed.nodes)}


def node_context(scenario: Scenario, n: int) -> Json:
    """Return the same for one node alone, without its name, so that equal nodes share a prompt."""
    return {
        **_constants(scenario, "deployer"),
        **_hardware(scenario, (scenario.testbed.nodes[n],), names=("self",)),
    }


def policy_json(scenario: Scenario, policy: MacroPolicy) -> Json:
    """Return the shares above zero by LM, roles by node."""
    testbed = scenario.testbed
    forecast = demand_json(testbed.lm_names, policy.demand)
    return {**intent_to_wire(testbed, policy, DIGITS), "forecast": forecast}


def demand_json(lms: Sequence[str], demand: Demand | None) -> Json | None:
    if demand is None:
        return None
    return {
        lm: {"requests_per_slot": round(r, DIGITS), "prompts_per_request": round(k, DIGITS)}
        for lm, r, k in zip(lms, demand.requests.tolist(), demand.prompts.tolist(), strict=True)
    }


def pod_json(state: ClusterState, row: int, lms: Sequence[str]) -> Json:
    """Return the pods of a node that are wanted, held or waited for; the others are off and
    idle."""
    want, mode = state.want_mode[row].tolist(), state.mode[row].tolist()
    cores, vgpus = state.want_cores[row].tolist(), state.want_vgpus[row].tolist()
    backlog, pod = state.backlog[row].tolist(), state.pod[row].tolist()
    cards = state.cards[row].tolist()
    pods: Json = {}
    for i, lm in enumerate(lms):
        if want[i] == OFF and mode[i] == OFF and not backlog[i]:
            continue
        one: Json = {"backlog": backlog[i], "wanted": MODES[want[i]], "state": STATES[pod[i]]}
        if want[i] != OFF:
            one["cores"] = cores[i]
        if vgpus[i]:
            one["vgpus"] = vgpus[i]
        if mode[i] != want[i]:
            one["held"] = MODES[mode[i]]
        if gpus := gpus_of(cards[i]):
            one["gpus"] = gpus
        elif gpus is None:
            one["gpus"] = None  # the device plugin does not report them
        pods[lm] = one
    return pods


def deployer_observation(
    scenario: Scenario, state: ClusterState, row: int, policy: MacroPolicy
) -> Json:
    """Return a node's observation: role, expected share of the load, queues, pods, headroom."""
    n, lms = int(state.rows[row]), scenario.testbed.lm_names
    expected = policy.demand and Demand(
        policy.routing[n] * policy.demand.requests, policy.demand.prompts
    )
    return {
        "slot": state.slot + 1,
        "node": scenario.testbed.nodes[n].name,
        "role": [lm for lm, may in zip(lms, policy.roles[n].tolist(), strict=True) if may],
        "expected": demand_json(lms, expected),
        "pods": pod_json(state, row, lms),
        "free": {
            "cores": round(float(state.free_cores[row]), DIGITS),
            "ram_gb": round(float(state.free_ram_gb[row]), DIGITS),
            "vgpus": int(state.free_vgpus[row]),
        },
        "blocked": bool(blocked(scenario, state)[row]),
    }


def _constants(scenario: Scenario, agent: str) -> Json:
    return {
        "agent": agent,
        "slot_s": scenario.slot_s,
        "epoch_slots": scenario.epoch_slots,
        "deadline_s": scenario.tau_s,
        "lambda": scenario.lam,
        "gpu_switch_loss": scenario.profile.switch_loss,
    }


def _hardware(scenario: Scenario, nodes: Sequence[Node], names: Sequence[str] = ()) -> Json:
    """Return nodes in groups of equal hardware and site, and the LMs with their speed on it."""
    cpus = _aliases("cpu", [node.cpu for node in nodes])
    gpus = _aliases("gpu", [node.gpu for node in nodes if node.gpu])
    groups: dict[tuple[Any, ...], Json] = {}
    for n, node in enumerate(nodes):
        facts = {
            "site": node.site,
            "cpu": cpus[node.cpu],
            "cores": node.cores,
            "ram_gb": node.ram_gb,
            "gpus": node.gpus,
        }
        if node.gpus:
            facts |= {
                "gpu": gpus[node.gpu],
                "vram_gb": node.vram_gb,
                "vgpus_per_gpu": node.vgpus_per_gpu,
            }
        group = groups.setdefault(tuple(facts.values()), {"names": [], **facts})
        group["names"].append(names[n] if names else node.name)
    return {"nodes": list(groups.values()), "lms": _lms(scenario, cpus, gpus)}


def _lms(scenario: Scenario, cpus: Mapping[str, str], gpus: Mapping[str, str]) -> Json:
    found: Json = {}
    for lm in scenario.testbed.lms:
        profile = scenario.profile.lms[lm.name]
        found[lm.name] = {
            "modality": lm.modality,
            "ram_gb": lm.ram_gb,
            "vram_gb": lm.vram_gb,
            "gpu_only": lm.gpu_only,
            "start_on_cpu_s": profile.start_cpu_s,
            "start_on_gpu_s": profile.start_gpu_s,
            "stop_s": profile.stop_s,
            "cores_beside_gpu": lm.cores_on_gpu,
            "seconds_per_prompt": {
                **{alias: _points(profile.cpu[c]) for c, alias in cpus.items() if c in profile.cpu},
                **{alias: _points(profile.gpu[g]) for g, alias in gpus.items() if g in profile.gpu},
            },
        }
    return found


def _points(curve: Curve) -> Json:
    """Return the seconds against cores or GPUs."""
    return {f"{a:g}": s for a, s in zip(curve.amounts, curve.seconds, strict=True)}


def _aliases(kind: str, models: Sequence[str]) -> dict[str, str]:
    return {model: f"{kind}{k}" for k, model in enumerate(dict.fromkeys(models), start=1)}
