"""History of metrics from Prometheus, for reports and calibration. Queries are built from the table
of names alone, so that one for a metric or label that nobody emits is an error here and not an
empty answer there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError, Permanent, Transient
from controller.telemetry.exposition import Labels
from controller.telemetry.names import TARGET_LABELS, Kind, Metric

MOST_POINTS: Final = 10_000  # a series and request; Prometheus answers at most 11,000


@dataclass(frozen=True, slots=True)
class Query:
    """An expression of PromQL, made by the functions of this module."""

    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one series on a grid of Unix times; NaN where Prometheus has none."""

    labels: Labels
    times_s: NDArray[np.float64]
    values: NDArray[np.float64]


def value(metric: Metric, **labels: str) -> Query:
    """Return the query of a gauge's or counter's value, for series that have the labels' values.

    Raises:
        ValueError: a histogram, or a label that the metric lacks.
    """
    if metric.kind is Kind.HISTOGRAM:
        raise ValueError(f"{metric.name} is a histogram: ask for a quantile or a mean")
    return Query(_selector(metric.name, metric, labels))


def mean(metric: Metric, window_s: int, **labels: str) -> Query:
    """Return the query of a gauge's mean over a window.

    Raises:
        ValueError: not a gauge, a window under a second, or a label that the metric lacks.
    """
    if metric.kind is not Kind.GAUGE:
        raise ValueError(f"{metric.name} is a {metric.kind}: only gauges have means")
    return Query(f"avg_over_time({_selector(metric.name, metric, labels)}[{_window(window_s)}])")


def rate(metric: Metric, window_s: int, **labels: str) -> Query:
    """Return the query of a counter's increase per second over a window. Prometheus takes a value
    that falls for a restart.

    Raises:
        ValueError: not a counter, a window under a second, or a label that the metric lacks.
    """
    if metric.kind is not Kind.COUNTER:
        raise ValueError(f"{metric.name} is a {metric.kind}: only counters have rates")
    return Query(f"rate({_selector(metric.name, metric, labels)}[{_window(window_s)}])")


def quantile(part: float, metric: Metric, window_s: int, **labels: str) -> Query:
    """Return the query of a histogram's quantile over a window, by the metric's labels.

    Raises:
        ValueError: not a histogram, ``part`` not in [0, 1], a window under a second, or a label
            that the metric lacks.
    """
    if metric.kind is not Kind.HISTOGRAM:
        raise ValueError(f"{metric.name} is a {metric.kind}: only histograms have quantiles")
    if not 0 <= part <= 1:
        raise ValueError(f"a quantile is between 0 and 1, not {part}")
    buckets = _selector(f"{metric.name}_bucket", metric, labels)
    by = ", ".join((*metric.labels, "le"))
    return Query(
        f"histogram_quantile({part:g}, sum by ({by}) (rate({buckets}[{_window(window_s)}])))"
    )


def total(query: Query, metric: Metric, by: Iterable[str] = ()) -> Query:
    """Return the query of the sum over series that agree in the labels ``by``.

    Raises:
        ValueError: a label that the metric lacks.
    """
    names = list(by)
    for name in names:
        _check_label(metric, name)
    return Query(f"sum by ({', '.join(names)}) ({query.text})")


class History:
    """Reader of one Prometheus.

    Args:
        url: as ``http://vm1:9090``.
        headers: sent with each request, such as an Authorization.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 10.0, headers: Mapping[str, str] | None = None
    ) -> None:
        # Not at the top: only the testbed's extra has them, and they take a third of a second.
        import requests
        from prometheus_api_client import PrometheusConnect
        from urllib3.util.retry import Retry

        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
            raise InputError("history", "not a URL", value=url, remedy="use http://HOST:9090")
        session = requests.Session()
        session.trust_env = False  # neither a proxy nor a password of the user's is for the testbed
        self._url = url
        self._prometheus = PrometheusConnect(
            url.rstrip("/"),
            headers=dict(headers or {}),
            session=session,
            timeout=timeout_s,
            retry=Retry(total=0),  # who asks knows whether there is time to ask again
        )

    def range(self, query: Query, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """Return the series of a query at start_s, start_s + step_s, ... <= end_s, Unix times.

        Raises:
            InputError: an interval that is empty, or a step that is not positive.
            Transient: Prometheus does not answer.
            Permanent: Prometheus refuses the query.
        """
        if not (step_s > 0 and start_s <= end_s):
            raise InputError(
                "history",
                "not an interval with a step",
                value=(start_s, end_s, step_s),
                remedy="use start <= end and a step over 0",
            )
        points = int((end_s - start_s) / step_s + 1e-9) + 1
        times_s = np.arange(points, dtype=np.float64) * step_s + start_s
        found: dict[Labels, NDArray[np.float64]] = {}
        for first in range(0, len(times_s), MOST_POINTS):
            piece = times_s[first : first + MOST_POINTS]
            for row in self._ask(query, piece[0], piece[-1], step_s):
                labels = tuple(sorted(row["metric"].items()))
                values = found.setdefault(labels, np.full(len(times_s), np.nan))
                for time_s, text in row["values"]:
                    values[round((float(time_s) - start_s) / step_s)] = float(text)
        return [Series(labels, times_s, found[labels]) for labels in sorted(found)]

    def close(self) -> None:
        """Close the connections."""
        self._prometheus.close()

    def _ask(self, query: Query, start_s: float, end_s: float, step_s: float) -> list[Any]:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests.exceptions import RequestException

        # The client rounds its times to seconds; the exact ones replace them.
        exact = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}"}
        begin, end = (datetime.fromtimestamp(one, UTC) for one in (start_s, end_s))
        try:
            rows: list[Any] = self._prometheus.custom_query_range(
                query.text, begin, end, f"{step_s:.3f}", params=exact
            )
        except PrometheusApiClientException as error:
            raise _refusal(self._url, query, str(error)) from error
        except (RequestException, KeyError, TypeError) as error:
            raise Transient(f"{self._url}: {type(error).__name__}: {error}") from error
        return rows


def _refusal(url: str, query: Query, said: str) -> Permanent | Transient:
    status = re.search(r"Status Code (\d+)", said)
    if status is not None and status[1].startswith("5"):
        return Transient(f"{url}: {said[:300]}")
    return Permanent(f"{url}: {query.text}: {said[:300]}")


def _selector(name: str, metric: Metric, labels: Mapping[str, str]) -> str:
    for label in labels:
        _check_label(metric, label)
    inside = ",".join(f'{label}="{_escape(text)}"' for label, text in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def _check_label(metric: Metric, label: str) -> None:
    if label not in (*metric.labels, *TARGET_LABELS):
        known = ", ".join((*metric.labels, *TARGET_LABELS))
        raise ValueError(f"{metric.name} has no label {label}: use one of {known}")


def _window(window_s: int) -> str:
    if window_s < 1:
        raise ValueError(f"a window is at least a second, not {window_s}")
    return f"{int(window_s)}s"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
