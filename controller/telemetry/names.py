"""The one table of metric names. Queries, exporters, dashboards, alerts and docs take names from
here, and tests compare it with what the services really expose.

Own names have base units, ``_total`` at the end of counters and no colons, which are Prometheus'
for recorded rules. Foreign names are those that the exporters give, units included.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Kind(StrEnum):
    """Type of a metric, as in Prometheus' text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Emitter(StrEnum):
    """Service that exposes a metric."""

    LM_SERVER = "LM server"
    NODE = "edgelm node"
    CONTROLLER = "edgelm controller"
    NODE_EXPORTER = "node exporter"
    DCGM_EXPORTER = "DCGM exporter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Labels that Prometheus adds when it scrapes are in :data:`TARGET_LABELS`.

    ``buckets`` are a histogram's upper bounds without infinity. ``always`` is False for a metric
    that may have no series: on a machine without GPUs, or before its first event.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    emitter: Emitter
    help: str
    buckets: tuple[float, ...] = ()
    always: bool = True


# Prometheus writes them from its own configuration: the machine, and the LM of an LM server.
TARGET_LABELS: Final = ("instance", "job", "lm", "node")

# Outcomes of a request: success, and the failures of requests.parquet.
OUTCOMES: Final = (
    "done",
    "deadline",
    "not_deployed",
    "refused",
    "lost_node",
    "unfinished",
    "engine_error",
    "cancelled",
)
PARTS: Final = ("uplink", "queue", "inference", "downlink")  # of a request's life

_LATENCY_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 900.0)
_DECISION_S: Final = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def _lm(name: str, kind: Kind, unit: str, text: str, *labels: str) -> Metric:
    return Metric(f"edgelm_{name}", kind, unit, labels, Emitter.LM_SERVER, text)


ENGINE_THREADS: Final = _lm(
    "engine_threads", Kind.GAUGE, "threads", "Threads that the CPU quota allows."
)
ENGINE_BUSY: Final = _lm(
    "engine_busy_seconds_total", Kind.COUNTER, "seconds", "Time that the engine computed."
)
ENGINE_PROMPTS: Final = _lm("engine_prompts_total", Kind.COUNTER, "prompts", "Prompts computed.")
ENGINE_ERRORS: Final = _lm(
    "engine_errors_total", Kind.COUNTER, "requests", "Requests given up, by reason.", "reason"
)
ENGINE_LOAD: Final = _lm(
    "engine_load_seconds", Kind.GAUGE, "seconds", "Time that loading the engine took, by phase.",
    "phase",
)  # fmt: skip
DISK_FULL: Final = _lm("disk_full", Kind.GAUGE, "flag", "1 while the disk takes no results.")
WORKER_RESTARTS: Final = _lm(
    "worker_restarts_total", Kind.COUNTER, "processes", "Worker processes that were lost."
)
QUEUE_PROMPTS: Final = _lm(
    "queue_prompts", Kind.GAUGE, "prompts", "Prompts that are not computed yet."
)
REQUESTS_ENDED: Final = _lm(
    "requests_ended_total", Kind.COUNTER, "requests", "Requests by how they ended.", "outcome"
)

NODE_QUEUE_PROMPTS: Final = Metric(
    "edgelm_node_queue_prompts", Kind.GAUGE, "prompts", ("lm",), Emitter.NODE,
    "Prompts queued at the node, by LM.", always=False,
)  # fmt: skip
NODE_QUEUE_BYTES: Final = Metric(
    "edgelm_node_queue_bytes", Kind.GAUGE, "bytes", (), Emitter.NODE,
    "Payloads of queued requests; at the limit new ones are refused.",
)  # fmt: skip
NODE_REQUESTS: Final = Metric(
    "edgelm_node_requests_total", Kind.COUNTER, "requests", ("lm", "outcome"), Emitter.NODE,
    "Requests born at the node, by how they were closed.", always=False,
)  # fmt: skip
NODE_REQUEST_PARTS: Final = Metric(
    "edgelm_node_request_part_seconds", Kind.HISTOGRAM, "seconds", ("lm", "part"), Emitter.NODE,
    "Uplink, queue, inference and downlink of returned requests born at the node.",
    buckets=_LATENCY_S, always=False,
)  # fmt: skip
NODE_RECOMPUTED: Final = Metric(
    "edgelm_node_recomputed_prompts_total", Kind.COUNTER, "prompts", ("lm",), Emitter.NODE,
    "Prompts computed again after an LM server was lost.", always=False,
)  # fmt: skip
NODE_SENT_BYTES: Final = Metric(
    "edgelm_node_sent_bytes_total", Kind.COUNTER, "bytes", (), Emitter.NODE,
    "Payloads and results sent to other nodes, retries included.",
)  # fmt: skip
NODE_ORDERS_SLOT: Final = Metric(
    "edgelm_node_orders_slot", Kind.GAUGE, "slots", (), Emitter.NODE,
    "Slot of the newest orders that reached the node; -1 before the first.",
)  # fmt: skip
NODE_PODS: Final = Metric(
    "edgelm_node_pods", Kind.GAUGE, "pods", ("lm", "state"), Emitter.NODE,
    "1 for the state of each LM's pod: off, starting, ready, stopping or pending.", always=False,
)  # fmt: skip
POD_GPU_BUSY: Final = Metric(
    "edgelm_pod_gpu_busy_ratio", Kind.GAUGE, "ratio", ("gpu", "pod"), Emitter.NODE,
    "Share of a GPU's time in which a pod's kernels ran, in the newest samples.", always=False,
)  # fmt: skip
POD_GPU_MEMORY: Final = Metric(
    "edgelm_pod_gpu_memory_bytes", Kind.GAUGE, "bytes", ("gpu", "pod"), Emitter.NODE,
    "Memory of a GPU that a pod's processes hold.", always=False,
)  # fmt: skip
GPU_LAST_SEEN: Final = Metric(
    "edgelm_gpu_last_seen_timestamp_seconds", Kind.GAUGE, "seconds", ("gpu",), Emitter.NODE,
    "Unix time of the driver's newest sample of processes on a GPU.", always=False,
)  # fmt: skip

CONTROLLER_SLOT: Final = Metric(
    "edgelm_controller_slot", Kind.GAUGE, "slots", (), Emitter.CONTROLLER,
    "Slot in which the controller is; -1 without a run.",
)  # fmt: skip
DECISIONS: Final = Metric(
    "edgelm_controller_decisions_total", Kind.COUNTER, "decisions", ("tier", "outcome"),
    Emitter.CONTROLLER, "Decisions by tier and outcome.", always=False,
)  # fmt: skip
DECISION_SECONDS: Final = Metric(
    "edgelm_controller_decision_seconds", Kind.HISTOGRAM, "seconds", ("tier",),
    Emitter.CONTROLLER, "Time that decisions took.", buckets=_DECISION_S, always=False,
)  # fmt: skip
STORE_AWAY: Final = Metric(
    "edgelm_controller_store_away", Kind.GAUGE, "flag", (), Emitter.CONTROLLER,
    "1 while the store does not answer; writes wait on the controller's disk.",
)  # fmt: skip
SCRAPES: Final = Metric(
    "edgelm_controller_scrapes_total", Kind.COUNTER, "scrapes",
    ("target", "exporter", "outcome"), Emitter.CONTROLLER,
    "Scrapes of the exporters on the nodes, answered (ok) or not (failed).", always=False,
)  # fmt: skip


def _host(name: str, kind: Kind, unit: str, text: str, *labels: str) -> Metric:
    return Metric(f"node_{name}", kind, unit, labels, Emitter.NODE_EXPORTER, text)


HOST_CPU: Final = _host(
    "cpu_seconds_total", Kind.COUNTER, "seconds", "Time of each core by mode.", "cpu", "mode"
)
HOST_MEMORY: Final = _host("memory_MemTotal_bytes", Kind.GAUGE, "bytes", "Memory of the machine.")
HOST_MEMORY_FREE: Final = _host(
    "memory_MemAvailable_bytes", Kind.GAUGE, "bytes", "Memory that new processes can have."
)
HOST_DISK: Final = _host(
    "filesystem_size_bytes", Kind.GAUGE, "bytes", "Size of a file system.",
    "device", "fstype", "mountpoint",
)  # fmt: skip
HOST_DISK_FREE: Final = _host(
    "filesystem_avail_bytes", Kind.GAUGE, "bytes", "Room in a file system for ordinary users.",
    "device", "fstype", "mountpoint",
)  # fmt: skip
HOST_RECEIVED: Final = _host(
    "network_receive_bytes_total", Kind.COUNTER, "bytes", "Bytes received.", "device"
)
HOST_SENT: Final = _host(
    "network_transmit_bytes_total", Kind.COUNTER, "bytes", "Bytes sent.", "device"
)
HOST_BOOT: Final = _host(
    "boot_time_seconds", Kind.GAUGE, "seconds", "Unix time at which the machine was started."
)
HOST_CLOCK: Final = _host(
    "time_seconds", Kind.GAUGE, "seconds", "Unix time by the machine's clock."
)


def _gpu(name: str, unit: str, text: str, *, always: bool = True) -> Metric:
    labels = ("gpu", "UUID", "device", "modelName", "Hostname")
    name = f"DCGM_FI_DEV_{name}"
    return Metric(name, Kind.GAUGE, unit, labels, Emitter.DCGM_EXPORTER, text, always=always)


GPU_BUSY: Final = _gpu("GPU_UTIL", "percent", "Time in which any kernel ran.")
GPU_MEMORY_USED: Final = _gpu("FB_USED", "MiB", "GPU memory in use.")
GPU_MEMORY_FREE: Final = _gpu("FB_FREE", "MiB", "GPU memory that is free.")
GPU_MEMORY_RESERVED: Final = _gpu(
    "FB_RESERVED", "MiB", "GPU memory that the driver keeps; newer exporters.", always=False
)
GPU_TEMPERATURE: Final = _gpu("GPU_TEMP", "celsius", "Temperature of the GPU.", always=False)
GPU_POWER: Final = _gpu("POWER_USAGE", "watts", "Power that the GPU draws.", always=False)
GPU_FAULT: Final = _gpu("XID_ERRORS", "code", "Last XID error; 0 is none.", always=False)

TABLE: Final[Mapping[str, Metric]] = MappingProxyType(
    {one.name: one for one in list(globals().values()) if isinstance(one, Metric)}
)


def of(emitter: Emitter) -> list[Metric]:
    """Return the metrics of one service, in the order of the table."""
    return [one for one in TABLE.values() if one.emitter is emitter]


def is_own(name: str) -> bool:
    """Return True for a name of edgelm's own."""
    return name.startswith("edgelm_")


def markdown(metrics: Iterable[Metric] = TABLE.values()) -> str:
    """Return the table for docs/telemetry.md."""
    lines = ["| Metric | Type | Unit | Labels | Emitter | Meaning |", "|---|---|---|---|---|---|"]
    for one in metrics:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        lines.append(
            f"| `{one.name}` | {one.kind} | {one.unit} | {labels} | {one.emitter} | {one.help} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
