"""Traces of requests' lives for an OpenTelemetry collector: times and names, never contents.

It needs the extra `otel`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from controller import __version__
from controller.domain.errors import InputError, Permanent

NS: Final = 1_000_000_000
FLUSH_MS: Final = 5000
PATH: Final = "/v1/traces"


class Life(Protocol):
    """A closed request: its times in the run's seconds, None where never reached."""

    @property
    def key(self) -> str:
        """Name of the request among those of all runs."""

    @property
    def failure(self) -> str | None: ...

    @property
    def born_s(self) -> float: ...

    @property
    def parts_s(self) -> Mapping[str, tuple[float, float]]:
        """Begin and end of uplink, queue, inference and downlink, as far as it got."""

    @property
    def attributes(self) -> Mapping[str, str | int]: ...


class Traces:
    """Sends a trace per request to an OTLP endpoint over HTTP, in batches, beside the work.

    Args:
        endpoint: of the collector, such as http://host:4318; /v1/traces is added where it lacks.
        service: name of the service that tells.

    Raises:
        InputError: the endpoint is no URL.
        Permanent: the extra `otel` is not installed.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", endpoint):
            raise InputError(
                "command line", "not a URL", field="--otlp", value=endpoint,
                remedy="use http://HOST:4318",
            )  # fmt: skip
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise Permanent(
                "traces need OpenTelemetry: pip install 'edgelm[otel]', or leave out --otlp"
            ) from error
        resource = Resource.create({"service.name": service, "service.version": __version__})
        self._ids = _ids()
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        url = endpoint.rstrip("/").removesuffix(PATH) + PATH
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("edgelm", __version__)

    def tell(self, life: Life, unix_s: Callable[[float], float]) -> None:
        """Send a request's trace. ``unix_s`` turns the run's seconds into the machine's time.

        Told again, after a restart say, it is the same trace: its ids come from its key.
        """
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        def ns(time_s: float) -> int:
            return int(unix_s(time_s) * NS)

        ends_s = [end_s for _, end_s in life.parts_s.values()]
        self._ids.begin(life.key)
        root = self._tracer.start_span(
            "request", start_time=ns(life.born_s), attributes=dict(life.attributes)
        )
        inside = set_span_in_context(root)
        for name, (begin_s, end_s) in life.parts_s.items():
            part = self._tracer.start_span(name, inside, start_time=ns(begin_s))
            part.end(ns(end_s))
        if life.failure is not None:
            root.set_status(Status(StatusCode.ERROR, life.failure))
        root.end(ns(max([life.born_s, *ends_s])))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def _ids() -> Any:
    """Return a generator of ids that are the same for the same key."""
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class KeyedIds(IdGenerator):
        def begin(self, key: str) -> None:
            self._key, self._spans = key, 0

        def generate_trace_id(self) -> int:
            return _digest(self._key, 16)

        def generate_span_id(self) -> int:
            self._spans += 1
            return _digest(f"{self._key}/{self._spans}", 8)

    return KeyedIds()


def _digest(text: str, size_bytes: int) -> int:
    digest = hashlib.sha256(text.encode()).digest()[:size_bytes]
    return int.from_bytes(digest, "big") or 1  # 0 is no id
