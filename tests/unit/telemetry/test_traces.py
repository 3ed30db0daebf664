"""Traces as a collector receives them: a real HTTP receiver that decodes what is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controller.domain.errors import InputError
from controller.telemetry.traces import Traces
from controller.testbed.node.lives import RecordedLife
from controller.testbed.node.records import Record, Request

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

REQUEST = Request(7, "LM1", "vm2", 3, 0, 1.0, 100, "checksum")


class Collector(ThreadingHTTPServer):
    """A collector that keeps the bodies it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.bodies: list[bytes] = []
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def spans(collector: Collector) -> list[object]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: list[object] = []
    for body in collector.bodies:
        message = ExportTraceServiceRequest.FromString(body)
        found += [
            span
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return found


def test_a_life_is_a_trace_with_its_parts(collector: Collector) -> None:
    done = Record(
        REQUEST, "vm3", 1, None, arrived_s=2.5, started_s=4.0, finished_s=9.0, returned_s=9.25,
        uplink_s=0.5, queue_s=2.5, inference_s=5.0, downlink_s=0.25, latency_s=8.25,
    )  # fmt: skip
    with Traces(collector.url, "edgelm-node-vm2") as traces:
        traces.tell(RecordedLife(done, "0123456789ab"), lambda time_s: 1000.0 + time_s)
    by_name = {span.name: span for span in spans(collector)}  # type: ignore[attr-defined]
    times = {
        name: (span.start_time_unix_nano / 1e9 - 1000, span.end_time_unix_nano / 1e9 - 1000)
        for name, span in by_name.items()
    }
    assert times == {
        "request": (1.0, 9.25), "uplink": (2.0, 2.5), "queue": (2.5, 4.0),
        "inference": (4.0, 9.0), "downlink": (9.0, 9.25),
    }  # fmt: skip
    root = by_name.pop("request")
    assert {span.parent_span_id for span in by_name.values()} == {root.span_id}
    told = {one.key: one.value for one in root.attributes}
    assert told["edgelm.lm"].string_value == "LM1"
    assert told["edgelm.outcome"].string_value == "done"
    assert told["edgelm.prompts"].int_value == 3
    assert b"checksum" not in b"".join(collector.bodies)


def test_a_request_that_never_left_has_no_parts(collector: Collector) -> None:
    refused = Record(REQUEST, None, 0, "refused")
    with Traces(collector.url, "edgelm-node-vm2") as traces:
        traces.tell(RecordedLife(refused, "0123456789ab"), lambda time_s: 1000.0 + time_s)
    (span,) = spans(collector)
    assert span.name == "request"  # type: ignore[attr-defined]
    assert span.status.message == "refused"  # type: ignore[attr-defined]
    assert span.status.code == span.status.STATUS_CODE_ERROR  # type: ignore[attr-defined]


def test_a_record_that_is_closed_again_is_the_same_trace(collector: Collector) -> None:
    ids = []
    for run_id in ("0123456789ab", "0123456789ab", "ba9876543210"):
        collector.bodies.clear()
        with Traces(collector.url, "edgelm-node-vm2") as traces:
            traces.tell(RecordedLife(Record(REQUEST, None, 0, "refused"), run_id), float)
        (span,) = spans(collector)
        ids.append((span.trace_id, span.span_id))  # type: ignore[attr-defined]
    assert ids[0] == ids[1] != ids[2]


def test_the_collectors_path_may_be_left_out(collector: Collector) -> None:
    with Traces(collector.url.removesuffix("/v1/traces"), "edgelm-node-vm2") as traces:
        traces.tell(RecordedLife(Record(REQUEST, None, 0, "refused"), "x"), float)
    assert collector.paths == ["/v1/traces"]
    with pytest.raises(InputError, match=r"--otlp: not a URL.*http://HOST:4318"):
        Traces("collector:4318", "edgelm-node-vm2")


def test_a_collector_that_is_away_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Traces("http://127.0.0.1:9/v1/traces", "edgelm-node-vm2") as traces:
        traces.tell(RecordedLife(Record(REQUEST, None, 0, "refused"), "x"), lambda time_s: time_s)
    assert "127.0.0.1" in caplog.text or "export" in caplog.text.lower()
