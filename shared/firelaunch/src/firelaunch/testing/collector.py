"""A receiver of OTLP over HTTP on a real socket, for tests of what an app sends.

It refuses what OpenTelemetry's own collector refuses (its ``otlpreceiver``): a method other than POST, another content
type than protobuf, a body that is none or is too large, and an unknown path. A script makes it slow, or has it fail.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["OtlpCollector", "ReceivedSpan"]

_MOST_BYTES = 20 * 2**20
"""The most bytes of a body: the default of the collector's ``max_request_body_size``."""

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it came. Ids are hexadecimal, times nanoseconds; ``parent`` is "" for a span without one."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    failed: bool
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    links: tuple[str, ...] = ()


@dataclass(slots=True)
class OtlpCollector:
    """A collector, as a context manager.

    Attributes:
        spans: those that came, in order.
        metrics: the latest sums of each metric by its name: attributes and value of each point. A histogram's value is
            its count and its sum.
        requests: path, headers and size of each request that was taken.
        refused: status and path of each that was not.
        script: called with each request's number; returns the status and headers to answer with, or None to take it.
        seconds: how long each answer takes.
        needs: headers that a request must have; 401 without.
        port: where it listens; 0 for any free port.
    """

    script: Callable[[int], tuple[int, Mapping[str, str]] | None] = lambda _: None
    seconds: float = 0.0
    needs: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: dict[str, list[tuple[dict[str, Any], Any]]] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str], int]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    _numbers: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _server: Any = None

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The address to name in ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait until ``condition`` holds, which is asked after each request.

        Raises:
            AssertionError: it does not within ``seconds``.
        """
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise AssertionError(f"{len(self.spans)} spans came; refused: {self.refused}")

    def trace(self, trace: str) -> list[ReceivedSpan]:
        """Return the spans of one trace, in the order in which they began."""
        return sorted((span for span in list(self.spans) if span.trace == trace), key=lambda span: span.began)

    def take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        """Take a request, and return the status and the headers of its answer."""
        with self._changed:
            self._numbers += 1
            scripted = self.script(self._numbers)
            status, more = scripted or (self._refusal(method, path, headers, body), {})
            if status == 200:
                status = self._take(path, headers, body)
            if status == 200:
                self.requests.append((path, headers, len(body)))
            else:
                self.refused.append((status, path))
            self._changed.notify_all()
            return status, more

    def _refusal(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> int:
        if path not in {"/v1/traces", "/v1/metrics"}:
            return 404
        if method != "POST":
            return 405
        if any(headers.get(name.lower()) != value for name, value in self.needs.items()):
            return 401
        if headers.get("content-type") != "application/x-protobuf":
            return 415
        return 413 if len(body) > _MOST_BYTES else 200

    def _take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        try:
            data = _plain(headers.get("content-encoding", ""), body)
            if path == "/v1/traces":
                spans = _spans(ExportTraceServiceRequest.FromString(data))
                if any(len(span.trace) != 32 or len(span.id) != 16 for span in spans):
                    return 400
                self.spans += spans
            else:
                self.metrics |= _metrics(ExportMetricsServiceRequest.FromString(data))
        except (DecodeError, OSError, EOFError, zlib.error):
            return 400
        return 200


def _plain(encoding: str, body: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _spans(request: Any) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            span.name,
            _KINDS[span.kind],
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.status.code == 2,
            _values(span.attributes),
            _values(resource.resource.attributes),
            tuple(link.trace_id.hex() for link in span.links),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _metrics(request: Any) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                found[metric.name] = [
                    (
                        _values(point.attributes),
                        (point.count, point.sum) if kind == "histogram" else point.as_int or point.as_double,
                    )
                    for point in getattr(metric, kind).data_points
                ]
    return found


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _handler(collector: OtlpCollector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            if collector.seconds:
                time.sleep(collector.seconds)
            status, more = collector.take(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET = do_PUT = _answer  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
            """Say nothing."""

    return Handler
