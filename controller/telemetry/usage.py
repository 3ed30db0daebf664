"""Use of the nodes' cores, memory and GPUs, from two scrapes in a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from controller.telemetry import names
from controller.telemetry.exposition import Labels
from controller.telemetry.names import Kind, Metric
from controller.telemetry.scrape import Exporter, Reading, Scrape

MIB: Final = 2**20
_CLOCK_SET_S: Final = 5.0
IDLE: Final = frozenset({"idle", "iowait", "steal"})  # modes in which a core works for nobody here


@dataclass(frozen=True, slots=True)
class GpuUsage:
    """One GPU of a node. Unknown is None."""

    gpu: str
    model: str
    busy: float | None  # share of time
    memory_used_bytes: float | None
    memory_bytes: float | None


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """Use of one node. Unknown is None, never 0: without an answer, before the second one for what
    is a rate, and after a restart of an exporter. ``age_s`` is that of the oldest answer in it."""

    node: str
    age_s: float | None
    cores: int | None
    busy_cores: float | None
    memory_bytes: float | None
    memory_free_bytes: float | None
    disk_free_bytes: float | None
    received_bytes_per_s: float | None
    sent_bytes_per_s: float | None
    gpus: tuple[GpuUsage, ...] | None
    faults: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the figures as a JSON object for a store."""
        return {**asdict(self), "gpus": _documents(self.gpus), "faults": list(self.faults)}


class Usage:
    """Use of all nodes, round by round. It remembers the last scrape of each node exporter."""

    def __init__(self) -> None:
        self._before: dict[str, Scrape] = {}

    def update(self, readings: Iterable[Reading]) -> dict[str, NodeUsage]:
        """Return the use of each node in a round of readings."""
        by_node: dict[str, dict[Exporter, Reading]] = {}
        for reading in readings:
            by_node.setdefault(reading.target.node, {})[reading.target.exporter] = reading
        return {node: self._node(node, found) for node, found in by_node.items()}

    def _node(self, node: str, readings: Mapping[Exporter, Reading]) -> NodeUsage:
        host = readings.get(Exporter.NODE)
        gpu = readings.get(Exporter.DCGM)
        scrape = host.scrape if host else None
        before = self._before.get(node)
        if scrape is not None:
            self._before[node] = scrape
            if before is not None and _booted(before, scrape):
                before = None
        answered = [one.age_s for one in readings.values() if one.scrape and one.age_s is not None]
        return NodeUsage(
            node,
            age_s=max(answered, default=None),
            **_host_figures(before, scrape),
            gpus=() if gpu is None else _gpus(gpu.scrape),
            faults=tuple(one.fault for one in readings.values() if one.fault),
        )


def rates(
    before: Scrape | None, after: Scrape | None, metric: Metric
) -> dict[Labels, float] | None:
    """Return the increase per second of a counter's series, None if it is unknown.

    It is unknown without both scrapes, and when a series fell or vanished: then the counter was
    reset in between, and a rate from what is left would be too low.
    """
    if metric.kind is not Kind.COUNTER:
        raise ValueError(f"{metric.name} is a {metric.kind}: only counters have rates")
    if before is None or after is None or after.taken_s <= before.taken_s:
        return None
    old, new = before.series(metric), after.series(metric)
    if any(new.get(labels, -1.0) < value for labels, value in old.items()):
        return None
    passed_s = after.taken_s - before.taken_s
    # A series that was not there before has no increase yet: a core or device was added.
    return {labels: (new[labels] - value) / passed_s for labels, value in old.items()}


def _booted(before: Scrape, after: Scrape) -> bool:
    """Return True if the machine was started in between: its counters may have passed the old
    values again. The kernel's boot time moves a little when its clock is set."""
    old, new = before.total(names.HOST_BOOT), after.total(names.HOST_BOOT)
    return old is not None and new is not None and new - old > _CLOCK_SET_S


def _host_figures(before: Scrape | None, scrape: Scrape | None) -> dict[str, Any]:
    cores = busy_cores = memory = free = disk = None
    received = sent = None
    if scrape is not None:
        cores = len({dict(labels)["cpu"] for labels in scrape.series(names.HOST_CPU)})
        memory, free = scrape.total(names.HOST_MEMORY), scrape.total(names.HOST_MEMORY_FREE)
        disk = _root(scrape.series(names.HOST_DISK_FREE))
        busy_cores = _sum(rates(before, scrape, names.HOST_CPU), "mode", IDLE)
        received = _sum(rates(before, scrape, names.HOST_RECEIVED), "device", frozenset({"lo"}))
        sent = _sum(rates(before, scrape, names.HOST_SENT), "device", frozenset({"lo"}))
    return {
        "cores": cores,
        "busy_cores": busy_cores,
        "memory_bytes": memory,
        "memory_free_bytes": free,
        "disk_free_bytes": disk,
        "received_bytes_per_s": received,
        "sent_bytes_per_s": sent,
    }


def _sum(rate: dict[Labels, float] | None, label: str, without: frozenset[str]) -> float | None:
    if rate is None:
        return None
    return sum(value for labels, value in rate.items() if dict(labels)[label] not in without)


def _root(free: Mapping[Labels, float]) -> float | None:
    return next(
        (value for labels, value in free.items() if dict(labels)["mountpoint"] == "/"), None
    )


def _gpus(scrape: Scrape | None) -> tuple[GpuUsage, ...] | None:
    if scrape is None:
        return None
    used = scrape.series(names.GPU_MEMORY_USED)
    free = scrape.series(names.GPU_MEMORY_FREE)
    reserved = scrape.series(names.GPU_MEMORY_RESERVED)
    found = []
    for labels, percent in sorted(scrape.series(names.GPU_BUSY).items()):
        taken, left = used.get(labels), free.get(labels)
        whole = None if taken is None or left is None else taken + left + reserved.get(labels, 0.0)
        about = dict(labels)
        found.append(
            GpuUsage(
                gpu=about["UUID"],
                model=about["modelName"],
                busy=percent / 100,
                memory_used_bytes=None if taken is None else taken * MIB,
                memory_bytes=None if whole is None else whole * MIB,
            )
        )
    return tuple(found)


def _documents(gpus: tuple[GpuUsage, ...] | None) -> list[dict[str, Any]] | None:
    return None if gpus is None else [asdict(one) for one in gpus]
