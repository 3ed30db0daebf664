"""Dashboards for Grafana. Their queries are built from the table of names alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.telemetry import names
from controller.telemetry.history import Query, quantile, rate, total, value

WINDOW_S: Final = 120  # of rates: eight scrapes
WIDTH: Final = 12  # of the 24 columns that a row of Grafana has
HEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """Diagram: its lines are a query and the legend of its series."""

    title: str
    unit: str
    lines: Sequence[tuple[Query, str]]


def dashboards() -> dict[str, str]:
    """Return the JSON of each dashboard by its name."""
    return {
        "edgelm-requests": _dashboard("edgelm: requests and decisions", _requests()),
        "edgelm-machines": _dashboard("edgelm: machines and GPUs", _machines()),
    }


def _requests() -> list[Panel]:
    closed = rate(names.NODE_REQUESTS, WINDOW_S)
    by_outcome = total(closed, names.NODE_REQUESTS, ("lm", "outcome"))
    queues = total(value(names.NODE_QUEUE_PROMPTS), names.NODE_QUEUE_PROMPTS, ("node", "lm"))
    pods = total(value(names.NODE_PODS), names.NODE_PODS, ("state",))
    recomputed = total(rate(names.NODE_RECOMPUTED, WINDOW_S), names.NODE_RECOMPUTED, ("lm",))
    decisions = total(rate(names.DECISIONS, WINDOW_S), names.DECISIONS, ("tier", "outcome"))
    return [
        Panel("Requests closed", "reqps", [(by_outcome, "{{lm}} {{outcome}}")]),
        Panel("Prompts queued", "short", [(queues, "{{node}} {{lm}}")]),
        Panel(
            "Parts of a request's life, 95th percentile", "s",
            [(quantile(0.95, names.NODE_REQUEST_PARTS, WINDOW_S), "{{lm}} {{part}}")],
        ),
        Panel("Pods by state", "short", [(pods, "{{state}}")]),
        Panel("Decisions", "ops", [(decisions, "{{tier}} {{outcome}}")]),
        Panel(
            "Time of a decision, 95th percentile", "s",
            [(quantile(0.95, names.DECISION_SECONDS, WINDOW_S), "{{tier}}")],
        ),
        Panel(
            "Slot", "short",
            [(value(names.CONTROLLER_SLOT), "controller"),
             (value(names.NODE_ORDERS_SLOT), "orders at {{node}}")],
        ),
        Panel("Prompts computed again", "cps", [(recomputed, "{{lm}}")]),
        Panel("Store away", "bool", [(value(names.STORE_AWAY), "controller")]),
        Panel("Sent between nodes", "Bps", [(rate(names.NODE_SENT_BYTES, WINDOW_S), "{{node}}")]),
    ]  # fmt: skip


def _machines() -> list[Panel]:
    cores = total(rate(names.HOST_CPU, WINDOW_S), names.HOST_CPU, ("node", "mode"))
    gpu = "{{node}} GPU {{gpu}}"
    return [
        Panel("Cores by mode", "short", [(cores, "{{node}} {{mode}}")]),
        Panel(
            "Memory", "bytes",
            [(value(names.HOST_MEMORY_FREE), "{{node}} free"),
             (value(names.HOST_MEMORY), "{{node}}")],
        ),
        Panel("Room on disks", "bytes", [(value(names.HOST_DISK_FREE), "{{node}} {{mountpoint}}")]),
        Panel(
            "Network", "Bps",
            [(rate(names.HOST_RECEIVED, WINDOW_S), "{{node}} {{device}} in"),
             (rate(names.HOST_SENT, WINDOW_S), "{{node}} {{device}} out")],
        ),
        Panel("GPUs busy", "percent", [(value(names.GPU_BUSY), gpu)]),
        Panel("Memory of GPUs in use", "mbytes", [(value(names.GPU_MEMORY_USED), gpu)]),
        Panel("GPU use by pod", "percentunit", [(value(names.POD_GPU_BUSY), "{{pod}}")]),
        Panel("GPU memory by pod", "bytes", [(value(names.POD_GPU_MEMORY), "{{pod}}")]),
        Panel("Temperature of GPUs", "celsius", [(value(names.GPU_TEMPERATURE), gpu)]),
        Panel("Faults of GPUs (XID)", "short", [(value(names.GPU_FAULT), gpu)]),
    ]  # fmt: skip


def _dashboard(title: str, panels: Sequence[Panel]) -> str:
    document = {
        "uid": title.replace(": ", "-").replace(" ", "-"),
        "title": title,
        "tags": ["edgelm"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(document, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 24 // WIDTH)
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + k), "datasource": source, "expr": query.text,
             "legendFormat": legend}
            for k, (query, legend) in enumerate(panel.lines)
        ],
    }  # fmt: skip
