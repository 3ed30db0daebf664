"""Delays outside service: links, the way from a decision to its effect, and pods' start-ups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from controller.calibration.observed import NO_ROW, Observed
from controller.domain.requests import NOWHERE
from controller.domain.state import GPU, POD_OFF, POD_READY, POD_STARTING

Floats = NDArray[np.float64]

LINKS = ("site", "metro")


def link_latencies_s(run: Observed) -> dict[str, Floats]:
    """Return, by link, the seconds of one way that bytes do not explain: the mean of each returned
    request's two ways. A run with outages says nothing: its transfers wait for nodes."""
    if not run.faultless:
        return {link: np.zeros(0) for link in LINKS}
    table, network = run.table, run.scenario.testbed.network
    sites = np.array([node.site for node in run.scenario.testbed.nodes])
    travelled = ~np.isnan(table.returned_s) & (table.destination != NOWHERE)
    travelled &= table.destination != table.origin
    same = sites[table.origin] == sites[table.destination]
    both_s = table.uplink_s + table.downlink_s
    bits = (run.requests.uplink_bytes + run.requests.downlink_bytes) * 8
    found = {}
    for link, gbps, chosen in (
        ("site", network.site_bandwidth_gbps, travelled & same),
        ("metro", network.metro_bandwidth_gbps, travelled & ~same),
    ):
        found[link] = np.maximum(0.0, (both_s - bits / (gbps * 1e9))[chosen] / 2)
    return found


def control_s(run: Observed) -> Floats:
    """Return the seconds from a plan to its effect, of each request that waited for a plan: it was
    born before the plan was made, so it left as soon as that came into force.

    Slot 0 is left out: there the scheduler waits for the planner, and nodes for the run.
    """
    if not run.faultless:
        return np.zeros(0)
    table, slot_s = run.table, run.scenario.slot_s
    known = (table.slot > 0) & (table.slot < len(run.scheduler_s)) & ~np.isnan(table.arrived_s)
    rows = np.flatnonzero(known)
    made_s = table.slot[rows] * slot_s + run.scheduler_s[table.slot[rows]]
    waited = table.born_s[rows] <= made_s  # False also for NaN
    rows, made_s = rows[waited], made_s[waited]
    # A plan is in force by the next boundary at the latest.
    return np.maximum(0.0, table.arrived_s[rows] - table.uplink_s[rows] - made_s)


def start_ups_s(run: Observed, control: float) -> dict[tuple[str, str], list[float]]:
    """Return, by (LM, device), the seconds from a pod's creation to its first request, of pods that
    a request awaited for most of that time.

    A pod counts if it was off at the slot's beginning and no pod of its node stopped in that slot:
    then the deployment created it at once.
    """
    found: dict[tuple[str, str], list[float]] = {}
    if not run.faultless:
        return found
    pods, slot_s, table = run.pods, run.scenario.slot_s, run.table
    order = np.argsort(table.started_s, kind="stable")  # NaN last
    for t, n in np.argwhere(~np.isnan(run.deployer_s)):
        before = pods.state[t - 1, n] if t else np.full(len(run.scenario.testbed.lms), POD_OFF)
        if NO_ROW in before or NO_ROW in pods.state[t, n] or _something_stopped(run, t, n):
            continue
        created_s = t * slot_s + min(float(run.deployer_s[t, n]) + control, slot_s)
        for i in np.flatnonzero((before == POD_OFF) & np.isin(pods.state[t, n], _UP)):
            here = (table.destination[order] == n) & (table.lm[order] == i)
            later = order[here & (table.started_s[order] > created_s)]
            if not len(later):
                continue
            first = later[0]
            wait_s = float(table.started_s[first]) - created_s
            # One that came late may have found a pod that was ready long since.
            if table.arrived_s[first] <= created_s + wait_s / 2:
                device = "gpu" if pods.mode[t, n, i] == GPU else "cpu"
                name = run.scenario.testbed.lms[i].name
                found.setdefault((name, device), []).append(wait_s)
    return found


_UP = (POD_STARTING, POD_READY)


def _something_stopped(run: Observed, t: int, n: int) -> bool:
    """Return True if a pod of node n that was there at the slot's beginning is not at its end."""
    if t == 0:
        return False
    pods = run.pods
    there = pods.state[t - 1, n] != POD_OFF
    same = np.isin(pods.state[t, n], _UP) & (pods.mode[t, n] == pods.mode[t - 1, n])
    same &= (pods.cores[t, n] == pods.cores[t - 1, n]) & (pods.vgpus[t, n] == pods.vgpus[t - 1, n])
    return bool(np.any(there & ~same))
