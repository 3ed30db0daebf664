"""Time in service against the profile: each request's undisturbed seconds, observed and expected.

A request's pod is found by the states at the ends of slots, and on a GPU the time that other pods
took is discounted by the twin's rule (docs/twin.md, "Time-slicing"). A request of which either is
uncertain is left out: interrupted service, a pod that changed in the same slot, unknown GPUs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.calibration.observed import NO_ROW, Observed
from controller.domain.profile import Batching
from controller.domain.requests import NOWHERE
from controller.domain.state import CPU, GPU, POD_READY, POD_STARTING, UNKNOWN

Floats = NDArray[np.float64]

CONTINUOUS_S: Final = 1e-6  # between time in service and its span, if nothing interrupted it

Key = tuple[str, str, str]  # LM, "cpu" or "gpu", the hardware's model


@dataclass(frozen=True, slots=True)
class Allocation:
    """Resources of a pod."""

    mode: int
    cores: float
    vgpus: int
    cards: int


@dataclass(frozen=True, slots=True)
class Span:
    """A request at its pod, from start to end. ``sure``: it was served all the time."""

    request: int
    start_s: float
    end_s: float
    sure: bool
    pod: Allocation | None  # None: uncertain


@dataclass(frozen=True, slots=True)
class Service:
    """Undisturbed seconds of one request."""

    key: Key
    observed_s: float
    expected_s: float  # by the profile of the run


def services(run: Observed) -> list[Service]:
    """Return every request of a run of which pod and disturbance are certain."""
    spans = _spans(run)
    found = []
    for (node, lm), own in spans.items():
        partners = [span for (n, i), one in spans.items() if n == node and i != lm for span in one]
        starts = np.array([span.start_s for span in partners])
        ends = np.array([span.end_s for span in partners])
        for span in own:
            near = np.flatnonzero((starts < span.end_s) & (ends > span.start_s))
            service = _service(run, node, lm, span, [partners[k] for k in near])
            if service is not None:
                found.append(service)
    return found


def undisturbed_s(
    span: Span, cards: int, partners: list[tuple[float, float, int]], switch_loss: float
) -> float:
    """Return the seconds that a GPU pod on ``cards`` would have taken alone for its span.

    Args:
        partners: (start, end, cards) of other pods' spans on the node.
    """
    edges = {span.start_s, span.end_s}
    for start_s, end_s, _ in partners:
        edges.update(edge for edge in (start_s, end_s) if span.start_s < edge < span.end_s)
    times, progress_s = sorted(edges), 0.0
    for start_s, end_s in itertools.pairwise(times):
        busy = [mask for a, b, mask in partners if a < end_s and b > start_s]
        most = max(1 + sum(mask >> gpu & 1 for mask in busy) for gpu in _bits(cards))
        progress_s += (end_s - start_s) * (1.0 if most == 1 else (1 - switch_loss) / most)
    return progress_s


def batch_factor(batching: Batching, prompts: int) -> float:
    """Return the time of a request's prompts, in batches, over that of one prompt."""
    most = len(batching.factors)
    whole, rest = divmod(prompts, most)
    return whole * batching.factors[-1] + (batching.factors[rest - 1] if rest else 0.0)


def _service(run: Observed, node: int, lm: int, span: Span, partners: list[Span]) -> Service | None:
    table, machine = run.table, run.scenario.testbed.nodes[node]
    pod = span.pod
    if pod is None or not span.sure or np.isnan(table.finished_s[span.request]):
        return None
    name = run.scenario.testbed.lms[lm].name
    profile = run.scenario.profile.lms[name]
    if pod.mode == CPU:
        key = (name, "cpu", machine.cpu)
        seconds, batching = profile.cpu[machine.cpu].at(pod.cores), profile.cpu_batching
        observed_s = span.end_s - span.start_s
    else:
        cards = _cards(run, node, pod)
        others = [
            (one.start_s, one.end_s, _cards(run, node, one.pod) if one.pod else UNKNOWN)
            for one in partners
            if one.pod is None or one.pod.mode == GPU
        ]
        # An interrupted request may have gone on at a pod on another device.
        unsure = not all(one.sure for one in partners)
        if unsure or cards == UNKNOWN or any(mask == UNKNOWN for _, _, mask in others):
            return None
        key = (name, "gpu", machine.gpu)
        seconds, batching = profile.gpu[machine.gpu].at(cards.bit_count()), profile.gpu_batching
        observed_s = undisturbed_s(span, cards, others, run.scenario.profile.switch_loss)
    work = float(run.requests.work[span.request])
    factor = batch_factor(batching, int(table.prompts[span.request]))
    return Service(key, observed_s, seconds * work * factor)


def _spans(run: Observed) -> dict[tuple[int, int], list[Span]]:
    """Return the spans of all requests that were taken into service, by (node, LM)."""
    table, tau_s = run.table, run.scenario.tau_s
    found: dict[tuple[int, int], list[Span]] = {}
    for q in np.flatnonzero(~np.isnan(table.started_s) & (table.destination != NOWHERE)):
        start_s, finished_s = float(table.started_s[q]), float(table.finished_s[q])
        end_s = float(table.born_s[q]) + tau_s if np.isnan(finished_s) else finished_s
        whole = abs(float(table.inference_s[q]) - (end_s - start_s)) <= CONTINUOUS_S
        sure = whole and table.recomputed_prompts[q] == 0
        node, lm = int(table.destination[q]), int(table.lm[q])
        pod = allocation(run, node, lm, start_s, end_s)
        found.setdefault((node, lm), []).append(Span(int(q), start_s, end_s, bool(sure), pod))
    return found


def allocation(
    run: Observed, node: int, lm: int, start_s: float, end_s: float
) -> Allocation | None:
    """Return the pod that served an uninterrupted span, None where the states do not tell."""
    first, last = (int(time_s // run.scenario.slot_s) for time_s in (start_s, end_s))
    if first >= len(run.pods):
        return None
    state = run.pods.state[:, node, lm]
    if first < last:  # the span crosses the end of its first slot, so its pod was there then
        return _at(run, first, node, lm) if state[first] == POD_READY else None
    before = state[first - 1] if first > 0 else NO_ROW
    if first > 0 and before == NO_ROW:
        return None
    if before in (POD_READY, POD_STARTING) and state[first] == POD_READY:
        was, now = _at(run, first - 1, node, lm), _at(run, first, node, lm)
        return now if was == now else None
    if before == POD_READY and state[first] != NO_ROW:
        return _at(run, first - 1, node, lm)  # stopped later in the slot
    return _at(run, first, node, lm) if state[first] == POD_READY else None


def _at(run: Observed, slot: int, node: int, lm: int) -> Allocation:
    pods, at = run.pods, (slot, node, lm)
    return Allocation(
        int(pods.mode[at]), float(pods.cores[at]), int(pods.vgpus[at]), int(pods.cards[at])
    )


def _cards(run: Observed, node: int, pod: Allocation) -> int:
    """Return the GPUs of a pod; where they are unknown, a node's only one."""
    if pod.mode != GPU:
        return 0
    if pod.cards in (UNKNOWN, 0):
        return 1 if run.scenario.testbed.nodes[node].gpus == 1 else UNKNOWN
    return pod.cards


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
