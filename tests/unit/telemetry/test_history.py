"""History from a real Prometheus on loopback, which scrapes a service that the test writes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from controller.domain.errors import InputError, Permanent, Transient
from controller.telemetry import history, names
from controller.telemetry.exposition import Exposition
from controller.telemetry.history import MOST_POINTS, History, Query
from controller.telemetry.names import TABLE, Emitter, Kind
from tests.unit.telemetry.exporters import exporter, free_port, prometheus, text


@pytest.fixture(scope="module")
def service() -> Exposition:
    return Exposition(Emitter.NODE)


@pytest.fixture(scope="module")
def url(service: Exposition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus after 4 s in which the counter grew by 10 in each step of 0.2 s. It begins to
    scrape 5 s after its start."""
    with (
        exporter(text(service.render)) as port,
        prometheus(tmp_path_factory.mktemp("prometheus"), [("n1", port)]) as running,
    ):
        end_s, reader = time.monotonic() + 60, History(running)
        while not any(
            np.isfinite(one.values).all()
            for one in last(reader, history.value(names.NODE_QUEUE_PROMPTS), past_s=4)
        ):
            assert time.monotonic() < end_s
            service.add(names.NODE_SENT_BYTES, 10)
            service.observe(names.NODE_REQUEST_PARTS, 2.0, lm='a "b"', part="queue")
            service.set(names.NODE_QUEUE_PROMPTS, 7, lm='a "b"')
            time.sleep(0.2)
        reader.close()
        yield running


@pytest.fixture
def reader(url: str) -> Iterator[History]:
    with contextlib.closing(History(url)) as opened:
        yield opened


def last(reader: History, query: Query, past_s: float = 2.0) -> list[history.Series]:
    now_s = time.time()
    return reader.range(query, now_s - past_s, now_s, 0.5)


def test_a_gauge_by_its_labels(reader: History) -> None:
    [found] = last(reader, history.value(names.NODE_QUEUE_PROMPTS, lm='a "b"', node="n1"))
    assert dict(found.labels)["lm"] == 'a "b"'
    assert dict(found.labels)["node"] == "n1"
    assert list(found.values) == [7] * 5
    assert np.allclose(np.diff(found.times_s), 0.5)
    assert last(reader, history.value(names.NODE_QUEUE_PROMPTS, lm="other")) == []


def test_a_gauge_s_mean(reader: History) -> None:
    [found] = last(reader, history.mean(names.NODE_QUEUE_PROMPTS, 3), past_s=0)
    assert list(found.values) == [7]


def test_a_counter_as_a_rate(reader: History) -> None:
    [found] = last(reader, history.rate(names.NODE_SENT_BYTES, 3), past_s=0)
    assert 25 < found.values[0] < 75  # 10 each 0.2 s, and the machine may be slow
    query = history.total(history.rate(names.NODE_SENT_BYTES, 3), names.NODE_SENT_BYTES, ["node"])
    [by_node] = last(reader, query, past_s=0)
    assert by_node.labels == (("node", "n1"),)


def test_a_histogram_s_quantile(reader: History) -> None:
    [found] = last(reader, history.quantile(0.5, names.NODE_REQUEST_PARTS, 3), past_s=0)
    assert dict(found.labels)["part"] == "queue"
    assert 1.0 < found.values[0] <= 3.0  # the bucket that 2 s falls in


def test_times_without_data_are_nan_and_a_long_range_takes_several_requests(
    reader: History,
) -> None:
    now_s = time.time()
    query = history.value(names.NODE_QUEUE_PROMPTS)
    [found] = reader.range(query, now_s - MOST_POINTS * 0.5 - 60, now_s - 0.5, 0.5)
    assert len(found.values) > MOST_POINTS
    assert np.isnan(found.values[0])
    assert found.values[-1] == 7


def test_every_query_of_the_table_is_one_that_prometheus_takes(reader: History) -> None:
    makers: dict[Kind, Callable[[Any], Query]] = {
        Kind.GAUGE: history.value,
        Kind.COUNTER: lambda metric: history.rate(metric, 60),
        Kind.HISTOGRAM: lambda metric: history.quantile(0.99, metric, 60),
    }
    for metric in TABLE.values():
        last(reader, history.total(makers[metric.kind](metric), metric, metric.labels))


def test_a_query_that_prometheus_refuses_is_permanent(reader: History) -> None:
    with pytest.raises(Permanent, match="parse error"):
        last(reader, Query("sum("))


def test_one_that_is_gone_hangs_or_talks_nonsense_is_transient() -> None:
    def hang(_: object) -> None:
        time.sleep(1.5)

    query = history.value(names.CONTROLLER_SLOT)
    for answer in (hang, text("no JSON"), text("{}"), text("busy", 503)):
        with (
            exporter(answer) as port,
            contextlib.closing(History(f"http://127.0.0.1:{port}", timeout_s=0.5)) as reader,
            pytest.raises(Transient, match=f"127.0.0.1:{port}"),
        ):
            last(reader, query)
    with (
        contextlib.closing(History(f"http://127.0.0.1:{free_port()}")) as reader,
        pytest.raises(Transient, match="refused"),
    ):
        last(reader, query)


def test_what_the_table_does_not_have_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="no label pid: use one of lm, instance"):
        history.value(names.NODE_QUEUE_PROMPTS, pid="7")
    with pytest.raises(ValueError, match="only counters"):
        history.rate(names.NODE_QUEUE_PROMPTS, 60)
    with pytest.raises(ValueError, match="only gauges"):
        history.mean(names.NODE_SENT_BYTES, 60)
    with pytest.raises(ValueError, match="only histograms"):
        history.quantile(0.5, names.NODE_QUEUE_PROMPTS, 60)
    with pytest.raises(ValueError, match="is a histogram"):
        history.value(names.NODE_REQUEST_PARTS)
    with pytest.raises(ValueError, match="at least a second"):
        history.rate(names.NODE_SENT_BYTES, 0)
    with pytest.raises(ValueError, match="no label pod"):
        history.total(history.value(names.NODE_QUEUE_BYTES), names.NODE_QUEUE_BYTES, ["pod"])


def test_an_interval_or_address_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="not a URL"):
        History("vm1:9090")
    with contextlib.closing(History("http://127.0.0.1:1")) as reader:
        for start_s, end_s, step_s in ((2, 1, 1), (1, 2, 0), (1, 2, -1)):
            with pytest.raises(InputError, match="not an interval"):
                reader.range(history.value(names.CONTROLLER_SLOT), start_s, end_s, step_s)
