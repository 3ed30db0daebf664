"""Prometheus' text format: written by edgelm's services, parsed from any, compared with the table
of names."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isinf, isnan
from typing import Final

from controller.telemetry.names import TABLE, Emitter, Kind, Metric, is_own, of

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]  # sorted by name


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a scrape. ``time_s`` is the exporter's Unix time, None where it gives none."""

    name: str
    labels: Labels
    value: float
    time_s: float | None = None

    def label(self, name: str) -> str:
        """Return the value of a label, empty where the sample does not have it."""
        return dict(self.labels).get(name, "")


class Exposition:
    """Current values of one service's metrics. Safe to use from several threads.

    Counters and gauges without labels are 0 from the start, so that a rate sees the first event.
    A metric of another service or other labels than the table's raise ValueError.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._mutex = threading.Lock()
        self._values: dict[Metric, dict[Labels, float]] = {}
        self._histograms: dict[Metric, dict[Labels, list[float]]] = {}
        for metric in of(emitter):
            if metric.always and not metric.labels and metric.kind is not Kind.HISTOGRAM:
                self._values[metric] = {(): 0.0}

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        key = self._key(metric, Kind.GAUGE, labels)
        with self._mutex:
            self._values.setdefault(metric, {})[key] = value

    def set_all(self, metric: Metric, rows: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Replace all series of a gauge, so that those of what is gone disappear."""
        series = {self._key(metric, Kind.GAUGE, labels): value for labels, value in rows}
        with self._mutex:
            self._values[metric] = series

    def add(self, metric: Metric, amount: float = 1.0, **labels: str) -> None:
        """Increase a counter."""
        key = self._key(metric, Kind.COUNTER, labels)
        if not amount >= 0:
            raise ValueError(f"{metric.name}: a counter cannot change by {amount}")
        with self._mutex:
            series = self._values.setdefault(metric, {})
            series[key] = series.get(key, 0.0) + amount

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Count a value in a histogram."""
        key = self._key(metric, Kind.HISTOGRAM, labels)
        with self._mutex:
            series = self._histograms.setdefault(metric, {})
            # The counts of the buckets, of infinity, then the sum.
            row = series.setdefault(key, [0.0] * (len(metric.buckets) + 2))
            for place, bound in enumerate((*metric.buckets, inf)):
                row[place] += value <= bound
            row[-1] += value

    def render(self) -> str:
        """Return the answer to GET /metrics; its type is :data:`CONTENT_TYPE`."""
        lines = []
        with self._mutex:
            for metric in of(self._emitter):
                samples = list(self._samples(metric))
                if samples:
                    lines += [f"# HELP {metric.name} {metric.help}"]
                    lines += [f"# TYPE {metric.name} {metric.kind}", *samples]
        return "\n".join(lines) + "\n"

    def _samples(self, metric: Metric) -> Iterator[str]:
        for labels, value in self._values.get(metric, {}).items():
            yield _line(metric.name, labels, value)
        for labels, row in self._histograms.get(metric, {}).items():
            for bound, count in zip((*metric.buckets, inf), row, strict=False):
                yield _line(f"{metric.name}_bucket", (*labels, ("le", _number(bound))), count)
            yield _line(f"{metric.name}_sum", labels, row[-1])
            yield _line(f"{metric.name}_count", labels, row[-2])

    def _key(self, metric: Metric, kind: Kind, labels: Mapping[str, str]) -> Labels:
        if metric.emitter is not self._emitter or TABLE.get(metric.name) is not metric:
            raise ValueError(f"{metric.name} is not a metric of {self._emitter}")
        if metric.kind is not kind:
            raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
        if set(labels) != set(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, not {tuple(labels)}")
        return tuple(sorted(labels.items()))


def parse(text: str) -> list[Sample]:
    """Return the samples of an exporter's answer.

    Raises:
        ValueError: a line that is not Prometheus' text format.
    """
    return [sample for family in _families(text) for sample in family.samples]


def problems(text: str, emitter: Emitter) -> list[str]:
    """Return how a service's answer differs from the table, empty if it does not: a metric that is
    missing, has another type or other labels, or a name of edgelm's own that the table lacks.
    Foreign exporters may expose more metrics and more labels.

    Raises:
        ValueError: a line that is not Prometheus' text format.
    """
    found = {family.name: family for family in _families(text)}
    wrong = []
    for metric in of(emitter):
        family = found.pop(metric.name, None)
        if family is not None:
            wrong += _differences(metric, family)
        elif metric.always:
            wrong.append(f"{metric.name}: no series")
    wrong += [f"{name}: not in the table of names" for name in found if is_own(name)]
    return wrong


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    samples: list[Sample]


def _families(text: str) -> Iterator[_Family]:
    # Not at the top: the twin's users need no testbed extra to import the table of names.
    from prometheus_client.parser import text_string_to_metric_families

    for family in text_string_to_metric_families(text):
        # The parser takes _total off a counter's name, and keeps it in its samples'.
        name = f"{family.name}_total" if family.type == "counter" else family.name
        samples = [
            Sample(
                one.name,
                tuple(sorted(one.labels.items())),
                float(one.value),
                None if one.timestamp is None else float(one.timestamp),
            )
            for one in family.samples
        ]
        if samples:
            yield _Family(name, family.type, samples)


def _differences(metric: Metric, family: _Family) -> list[str]:
    wrong = []
    if family.kind != metric.kind:
        wrong.append(f"{metric.name}: type {family.kind}, the table says {metric.kind}")
    expected = set(metric.labels)
    for sample in family.samples:
        labels = {name for name, _ in sample.labels}
        if metric.kind is Kind.HISTOGRAM:
            labels -= {"le"}
        if not (labels == expected if is_own(metric.name) else labels >= expected):
            wrong.append(
                f"{metric.name}: labels {sorted(labels)}, the table says {sorted(expected)}"
            )
            break
    return wrong


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
