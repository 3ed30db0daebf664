"""Compilation of a scenario into the kernel's constant tables and empty memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from controller.domain.profile import Curve
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from controller.domain.testbed import MAX_GPUS
from controller.twin.layout import CARD, LM, NODE, NONE, POD, REQUEST, Memory, Tables

Outages = Sequence[tuple[int, float, float]]  # node, down_s, up_s


def compile_tables(scenario: Scenario, outages: Outages) -> Tables:
    """Return the constants of a run.

    Raises:
        ValueError: outages of a node overlap or touch.
    """
    testbed, profile = scenario.testbed, scenario.profile
    hardware = cpu_models(scenario)
    shape = (max(1, len(hardware)), len(testbed.lms))
    lms = [profile.lms[lm.name] for lm in testbed.lms]
    points = max([len(c.amounts) for lm in lms for c in lm.cpu.values()], default=1)
    cpu_curve = np.full((*shape, 2, points), np.nan)
    for h, cpu in enumerate(hardware):
        for i, lm in enumerate(lms):
            if cpu in lm.cpu and not testbed.lms[i].gpu_only:
                cpu_curve[h, i] = _padded(lm.cpu[cpu], points)
    gpu_seconds = np.full((len(testbed.nodes), len(lms), MAX_GPUS), np.nan)
    for n, node in enumerate(testbed.nodes):
        for i, lm in enumerate(lms):
            if node.gpu in lm.gpu:
                spans = range(1, MAX_GPUS + 1)
                gpu_seconds[n, i] = [lm.gpu[node.gpu].at(span) for span in spans]
    batchings = [(lm.cpu_batching.factors, lm.gpu_batching.factors) for lm in lms]
    widest = max(len(factors) for pair in batchings for factors in pair)
    batch = np.array([[[*f, *[np.nan] * (widest - len(f))] for f in pair] for pair in batchings])
    records = np.zeros(len(lms), LM)
    for i, (spec, lm) in enumerate(zip(testbed.lms, lms, strict=True)):
        records[i] = (
            spec.ram_gb, spec.vram_gb, lm.start_cpu_s, lm.start_gpu_s, lm.stop_s,
            [len(factors) for factors in batchings[i]],
        )  # fmt: skip
    network, rules = testbed.network, scenario.rules
    return Tables(
        lm=records,
        cpu_curve=cpu_curve,
        gpu_seconds=gpu_seconds,
        batch=batch,
        outages=_outage_table(len(testbed.nodes), outages),
        site_latency_s=float(network.site_latency_s),
        site_byte_s=8e-9 / network.site_bandwidth_gbps,
        metro_latency_s=float(network.metro_latency_s),
        metro_byte_s=8e-9 / network.metro_bandwidth_gbps,
        control_s=float(network.control_s),
        switch_loss=float(profile.switch_loss),
        serve_late=rules.late == "serve",
        fail_inactive=rules.inactive == "fail",
        static_slices=rules.slices == "static",
        stopping_blocks=rules.blocks == "stopping",
    )


def cpu_models(scenario: Scenario) -> list[str]:
    """Return the testbed's CPU models in order of first appearance."""
    return list(dict.fromkeys(node.cpu for node in scenario.testbed.nodes))


def empty_memory(scenario: Scenario, requests: Requests) -> Memory:
    """Return the memory at time 0: every pod off, every request unborn."""
    testbed = scenario.testbed
    hardware, sites = cpu_models(scenario), [node.site for node in testbed.nodes]
    table = np.zeros(len(requests), REQUEST)
    for name in ("lm", "origin", "prompts", "work", "born_s", "uplink_bytes", "downlink_bytes"):
        table[name] = getattr(requests, name)
    table["destination"] = table["next"] = NONE
    table["deadline_s"] = requests.born_s + scenario.tau_s
    for name in ("sent_s", "arrived_s", "started_s", "finished_s", "returned_s"):
        table[name] = np.nan
    pods = np.zeros((len(testbed.nodes), len(testbed.lms)), POD)
    pods["head"] = pods["tail"] = NONE
    pods["timer_s"] = pods["end_s"] = pods["limit_s"] = np.inf
    pods["ready_until_s"] = -np.inf
    nodes = np.zeros(len(testbed.nodes), NODE)
    nodes["up"], nodes["transit"] = True, NONE
    cards = np.zeros((len(testbed.nodes), MAX_GPUS), CARD)
    for n, node in enumerate(testbed.nodes):
        nodes[n]["hardware"], nodes[n]["site"] = hardware.index(node.cpu), sites.index(node.site)
        nodes[n]["gpus"], nodes[n]["free_slices"] = node.gpus, node.vgpus
        nodes[n]["cores"] = nodes[n]["free_cores"] = node.cores
        nodes[n]["ram_gb"] = nodes[n]["free_ram_gb"] = node.ram_gb
        for free in ("", "free_"):
            cards[f"{free}slices"][n, : node.gpus] = node.vgpus_per_gpu
            cards[f"{free}vram_gb"][n, : node.gpus] = node.vram_gb
    return Memory(
        requests=table,
        pods=pods,
        nodes=nodes,
        cards=cards,
    )


def _padded(curve: Curve, points: int) -> tuple[list[float], list[float]]:
    """Return the curve's amounts and seconds, padded to ``points`` points: amounts go on in steps
    of 1, with the last seconds."""
    extra = range(1, points - len(curve.amounts) + 1)
    amounts = [*curve.amounts, *(curve.amounts[-1] + k for k in extra)]
    return amounts, [*curve.seconds, *(curve.seconds[-1] for _ in extra)]


def _outage_table(nodes: int, outages: Outages) -> NDArray[np.float64]:
    per_node: list[list[tuple[float, float]]] = [[] for _ in range(nodes)]
    for node, down_s, up_s in outages:
        per_node[node].append((down_s, up_s))
    table = np.full((nodes, max(1, *(len(spans) for spans in per_node)), 2), np.inf)
    for n, spans in enumerate(per_node):
        for o, span in enumerate(sorted(spans)):
            table[n, o] = span
    ends_s = table.reshape(nodes, -1)
    disordered = (ends_s[:, 1:] <= ends_s[:, :-1]) & np.isfinite(ends_s[:, :-1])
    if disordered.any():
        raise ValueError(f"outages of node {int(np.argmax(disordered.any(axis=1)))} overlap")
    return table
