"""Synthetic arrivals, drawn for all nodes and slots at once.

Every LM and every purpose (counts, times, prompts, ...) draws from its own generator, slot by slot.
So no draw depends on the order of a mapping, and a longer run begins with the same requests as a
shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.domain.scenario import Scenario
from controller.workloads.processes import Bursty, Diurnal, Paper, Poisson

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Root = tuple[int, ...]  # entropy that all generators of one workload share
RateShare = Callable[[Floats, Ints], Floats]  # (time in slots, node) -> rate over the peak rate

# Purposes of a generator, the second part of its key.
COUNTS: Final = 0
OFFSETS: Final = 1
PROMPTS: Final = 2
THINNING: Final = 3
CHAIN: Final = 4
ORIGINS: Final = 5

CHAIN_BLOCK: Final = 64  # pairs of sojourns drawn together


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Unsorted requests; all arrays are (R,). ``sizes``: per prompt, by column of
    :class:`controller.domain.profile.Prompt`, NaN or absent for the LM's reference prompt."""

    lm: Ints
    origin: Ints
    prompts: Ints
    slot: Ints
    offset: Floats  # into the slot, as a share of it
    sizes: Mapping[str, Floats] | None = None


def stream(root: Root, *key: int) -> np.random.Generator:
    """Return the generator of one purpose."""
    return np.random.default_rng(np.random.SeedSequence(root, spawn_key=key))


def per_lm(
    value: float | Mapping[str, float], scenario: Scenario, source: str, field: str
) -> Floats:
    """Return a number per LM, shape (I,).

    Raises:
        InputError: an LM is unknown, or has no number.
    """
    names = scenario.testbed.lm_names
    if not isinstance(value, Mapping):
        return np.full(len(names), float(value))
    check_lms(value, scenario, source, field)
    missing = [name for name in names if name not in value]
    if missing:
        raise InputError(
            source, f"no number for {', '.join(missing)}", field=field, remedy="0 is none"
        )
    return np.array([value[name] for name in names], dtype=np.float64)


def check_lms(named: Mapping[str, float], scenario: Scenario, source: str, field: str) -> None:
    """Raise unless every name is an LM of the testbed.

    Raises:
        InputError: unknown LM; lists the testbed's LMs.
    """
    names = scenario.testbed.lm_names
    for name in named:
        if name not in names:
            raise InputError(
                source,
                f"no such LM on testbed {scenario.testbed.name}",
                field=field,
                value=name,
                remedy=f"it has {', '.join(names)}",
            )


def draw_paper(process: Paper, scenario: Scenario, intensity: Floats, root: Root) -> Arrivals:
    """Return the arrivals of section V-A. ``intensity`` (T, I) multiplies the requests: x means
    floor(x) draws of K_q, and one more with probability frac(x). A heavier load contains the
    requests of a lighter one."""
    slots, lms = intensity.shape
    nodes = len(scenario.testbed.nodes)
    parts = []
    for i in range(lms):
        for layer in range(int(np.ceil(intensity[:, i].max(initial=0.0)))):
            chosen = stream(root, i, COUNTS, layer).random((slots, nodes))
            k = stream(root, i, PROMPTS, layer).integers(
                0, process.max_prompts, (slots, nodes), endpoint=True
            )
            offset = stream(root, i, OFFSETS, layer).random((slots, nodes))
            there = (chosen < intensity[:, i, None] - layer) & (k > 0)
            slot, origin = np.nonzero(there)
            at = offset[there] if process.arrivals == "uniform" else np.zeros(len(slot))
            parts.append(Arrivals(np.full(len(slot), i), origin, k[there], slot, at))
    return _joined(parts)


def draw_poisson(
    process: Poisson, scenario: Scenario, intensity: Floats, root: Root, source: str
) -> Arrivals:
    """Return Poisson arrivals with the rates of ``process`` times ``intensity`` (T, I)."""
    rates = per_lm(process.requests_per_slot, scenario, source, "requests_per_slot")
    return _draw_thinned(rates * intensity, scenario, process.max_prompts, root, None)


def draw_bursty(
    process: Bursty, scenario: Scenario, intensity: Floats, root: Root, source: str
) -> Arrivals:
    """Return the arrivals of a two-state MMPP, exact in continuous time: a Poisson process at the
    higher rate, thinned where the chain is in the state of the lower one."""
    calm = per_lm(process.calm_requests_per_slot, scenario, source, "calm_requests_per_slot")
    burst = per_lm(process.burst_requests_per_slot, scenario, source, "burst_requests_per_slot")
    in_burst = _draw_states(process, len(intensity), len(scenario.testbed.nodes), root)
    peak = np.maximum(calm, burst)

    def share_of(i: int) -> RateShare:
        rates = np.array([calm[i], burst[i]]) / max(peak[i], np.finfo(float).tiny)
        return lambda time, node: rates[in_burst(time, node)]

    return _draw_thinned(peak * intensity, scenario, process.max_prompts, root, share_of)


def _draw_states(
    process: Bursty, slots: int, nodes: int, root: Root
) -> Callable[[Floats, Ints], Ints]:
    """Return the states of all nodes as a function of (time in slots, node): 0 calm, 1 burst."""
    chains = [
        draw_chain(process, slots, stream(root, n, CHAIN))
        for n in range(nodes if process.scope == "node" else 1)
    ]
    firsts = np.array([first for first, _ in chains])
    # Put all nodes on one time axis, one after the other, so that one search serves all requests.
    switches = np.concatenate([s[s < slots] + n * slots for n, (_, s) in enumerate(chains)])
    before = np.searchsorted(switches, np.arange(len(chains)) * slots)

    def state(time: Floats, node: Ints) -> Ints:
        chain = node if process.scope == "node" else np.zeros(len(node), np.int64)
        passed = np.searchsorted(switches, time + chain * slots, side="right") - before[chain]
        return np.asarray((firsts[chain] + passed) % 2)

    return state


def draw_chain(process: Bursty, slots: int, rng: np.random.Generator) -> tuple[int, Floats]:
    """Return a path of the two-state chain, begun in its stationary distribution.

    Returns:
        The first state (0 calm, 1 burst), and the switch times in slots; the last is beyond
        ``slots``.
    """
    mean_slots = (process.calm_slots, process.burst_slots)
    first = int(rng.random() * sum(mean_slots) < process.burst_slots)
    pair = np.array([mean_slots[first], mean_slots[1 - first]])
    blocks = [rng.standard_exponential((CHAIN_BLOCK, 2)) * pair]
    while sum(float(block.sum()) for block in blocks) <= slots:
        blocks.append(rng.standard_exponential((CHAIN_BLOCK, 2)) * pair)
    return first, np.cumsum(np.concatenate(blocks))


def draw_diurnal(
    process: Diurnal, scenario: Scenario, intensity: Floats, root: Root, source: str
) -> Arrivals:
    """Return Poisson arrivals with a sinusoidal rate, by thinning."""
    mean = per_lm(process.requests_per_slot, scenario, source, "requests_per_slot")
    top = 1 + process.amplitude

    def share(time: Floats, _node: Ints) -> Floats:
        angle = 2 * np.pi * (time - process.shift_slots) / process.period_slots
        return np.asarray((1 + process.amplitude * np.sin(angle)) / top)

    return _draw_thinned(
        mean * top * intensity, scenario, process.max_prompts, root, lambda _i: share
    )


def _draw_thinned(
    peak: Floats,
    scenario: Scenario,
    max_prompts: int,
    root: Root,
    share_of: Callable[[int], RateShare] | None,
) -> Arrivals:
    """Return a Poisson process with rates ``peak`` (T, I) per node and slot, each arrival kept with
    the probability ``share_of(lm)(time, node)``."""
    slots, lms = peak.shape
    nodes = len(scenario.testbed.nodes)
    parts = []
    for i in range(lms):
        counts = stream(root, i, COUNTS).poisson(peak[:, i, None], (slots, nodes))
        slot, origin = np.divmod(np.repeat(np.arange(slots * nodes), counts.ravel()), nodes)
        offset = stream(root, i, OFFSETS).random(len(slot))
        prompts = stream(root, i, PROMPTS).integers(1, max_prompts, len(slot), endpoint=True)
        kept = np.full(len(slot), True)
        if share_of is not None:
            kept = stream(root, i, THINNING).random(len(slot)) < share_of(i)(slot + offset, origin)
        count = int(kept.sum())
        parts.append(
            Arrivals(np.full(count, i), origin[kept], prompts[kept], slot[kept], offset[kept])
        )
    return _joined(parts)


def _joined(parts: list[Arrivals]) -> Arrivals:
    if not parts:
        none = np.zeros(0, np.int64)
        return Arrivals(none, none, none, none, np.zeros(0))
    return Arrivals(
        lm=np.concatenate([part.lm for part in parts]),
        origin=np.concatenate([part.origin for part in parts]),
        prompts=np.concatenate([part.prompts for part in parts]),
        slot=np.concatenate([part.slot for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
    )
