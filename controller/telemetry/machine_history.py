"""Use of machines over a span of time, from a Prometheus that has scraped their exporters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import Permanent
from controller.telemetry import names
from controller.telemetry.history import History, Query, Series, mean, rate, total
from controller.telemetry.names import Metric
from controller.telemetry.usage import IDLE, MIB

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MachineUse:
    """Means over the window that ends at ``until_s``, a Unix time. NaN is unknown.

    ``gpu_busy`` is the share of time, mean over the machine's GPUs; ``gpus`` is their number, 0
    where Prometheus knows of none.
    """

    node: str
    until_s: float
    busy_cores: float
    memory_used_bytes: float
    received_bytes_per_s: float
    sent_bytes_per_s: float
    gpu_busy: float
    gpu_memory_used_bytes: float
    gpus: int


def read_use(
    history: History, start_s: float, end_s: float, window_s: int
) -> dict[str, list[MachineUse]]:
    """Return the use of each machine that Prometheus knows, window by window in ascending order.

    Args:
        start_s, end_s: Unix times. A span that is shorter than a window gives one window, which
            begins before the span.
        window_s: at least four times the interval at which Prometheus scrapes: a rate takes two
            values, and one may be missing.

    Raises:
        Transient: Prometheus does not answer.
        Permanent: it refuses a query, or its series do not say of which node they are.
    """
    first_s = min(start_s + window_s, end_s)

    def read(query: Query) -> list[Series]:
        return history.range(query, first_s, end_s, float(window_s))

    def rates(metric: Metric, by: str, without: Iterable[str]) -> dict[str, Floats]:
        found = read(total(rate(metric, window_s), metric, ("node", by)))
        skipped = frozenset(without)
        return _by_node(
            (one for one in found if dict(one.labels).get(by) not in skipped), np.add.reduce
        )

    def level(metric: Metric) -> dict[str, Floats]:
        return _by_node(read(mean(metric, window_s)), np.add.reduce)

    def of_gpus(metric: Metric) -> dict[str, dict[str, Floats]]:
        return _by_gpu(read(mean(metric, window_s)))

    busy = rates(names.HOST_CPU, "mode", IDLE)
    memory, free = level(names.HOST_MEMORY), level(names.HOST_MEMORY_FREE)
    received = rates(names.HOST_RECEIVED, "device", ("lo",))
    sent = rates(names.HOST_SENT, "device", ("lo",))
    gpu_busy, gpu_memory = of_gpus(names.GPU_BUSY), of_gpus(names.GPU_MEMORY_USED)
    times_s = first_s + window_s * np.arange(int((end_s - first_s) / window_s + 1e-9) + 1)
    unknown = np.full(len(times_s), nan)
    found = {}
    for node in sorted({*busy, *memory, *received, *gpu_busy}):
        shares = gpu_busy.get(node, {})
        used = gpu_memory.get(node, {})
        columns = {
            "busy_cores": busy.get(node, unknown),
            "memory_used_bytes": memory.get(node, unknown) - free.get(node, unknown),
            "received_bytes_per_s": received.get(node, unknown),
            "sent_bytes_per_s": sent.get(node, unknown),
            "gpu_busy": np.mean(list(shares.values()), axis=0) / 100 if shares else unknown,
            "gpu_memory_used_bytes": np.sum(list(used.values()), axis=0) * MIB if used else unknown,
        }
        found[node] = [
            MachineUse(
                node=node,
                until_s=float(until_s),
                gpus=len(shares),
                **{name: float(values[k]) for name, values in columns.items()},
            )
            for k, until_s in enumerate(times_s)
        ]
    return found


def _by_node(series: Iterable[Series], join: Callable[[list[Floats]], Floats]) -> dict[str, Floats]:
    groups: dict[str, list[Floats]] = {}
    for one in series:
        groups.setdefault(_node_of(one), []).append(one.values)
    return {node: join(values) for node, values in groups.items()}


def _by_gpu(series: Iterable[Series]) -> dict[str, dict[str, Floats]]:
    """Return the values of each GPU by node. An exporter that knows pods repeats a GPU's values for
    each pod, and a GPU's other labels may change in between: the largest counts."""
    found: dict[str, dict[str, Floats]] = {}
    for one in series:
        gpus, gpu = found.setdefault(_node_of(one), {}), _label(one, "UUID")
        gpus[gpu] = np.fmax(gpus[gpu], one.values) if gpu in gpus else one.values
    return found


def _node_of(one: Series) -> str:
    node = _label(one, "node")
    if not node:
        raise Permanent(
            f"Prometheus has a series without the label node: {_shown(dict(one.labels))}; let its "
            "configuration add the node's name to what it scrapes (docs/telemetry.md)"
        )
    return node


def _label(one: Series, name: str) -> str:
    return dict(one.labels).get(name, "")


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in labels.items()) or "no labels"
