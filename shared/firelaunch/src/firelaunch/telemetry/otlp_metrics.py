"""Count finished spans for the metrics, and send the sums with OpenTelemetry's SDK.

No other module imports OpenTelemetry. :mod:`.sinks` imports this one only where metrics are sent.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from . import names
from .options import Exporter
from .otlp_http import session_for
from .outbox import RareLog
from .spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter

__all__ = ["MetricsReport"]

_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_CHUNK_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))
_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds of the histograms, as the conventions advise."""

_COUNTERS = {
    names.INPUT_TOKENS: (names.USED_INPUT, "{token}"),
    names.OUTPUT_TOKENS: (names.USED_OUTPUT, "{token}"),
    names.CACHE_READ_TOKENS: (names.USED_CACHE_READ, "{token}"),
    names.CACHE_WRITE_TOKENS: (names.USED_CACHE_WRITE, "{token}"),
    names.REASONING_TOKENS: (names.USED_REASONING, "{token}"),
    names.COST: (names.SPENT, "u{USD}"),
}
"""The counters and their units, by the attributes of calls' spans that they add up."""


class _RareHandler(logging.Handler):
    def __init__(self, problems: RareLog) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        self._problems.say(record.getMessage())


class MetricsReport:
    """Counts spans for the metrics, and sends the sums now and then.

    Args:
        exporter: "otlp" or "console".
        resource: what the process is.
        every: seconds between two reports.
        problems: is told what goes wrong, with all that OpenTelemetry logs.
    """

    def __init__(
        self, exporter: Exporter, endpoint: str, resource: Mapping[str, str], every: float, problems: RareLog
    ) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.handlers[:], logger.propagate = [_RareHandler(problems)], False
        self._every = every
        self._next = time.monotonic() + every
        # An interval without end keeps the reader from starting a thread of its own.
        self._reader = PeriodicExportingMetricReader(_exporter(exporter, endpoint), export_interval_millis=math.inf)
        provider = MeterProvider(
            [self._reader],
            Resource(resource, names.SCHEMA_URL),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        meter = provider.get_meter("firelaunch", schema_url=names.SCHEMA_URL)

        def histogram(name: str, unit: str, bounds: Sequence[float]) -> Any:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._http = histogram(names.HTTP_DURATION, "s", _HTTP_SECONDS)
        self._call = histogram(names.INFERENCE_DURATION, "s", _CALL_SECONDS)
        self._first = histogram(names.INFERENCE_FIRST_CHUNK, "s", _FIRST_CHUNK_SECONDS)
        self._embeddings = histogram(names.EMBEDDINGS_DURATION, "s", _CALL_SECONDS)
        self._embedded_tokens = histogram(names.EMBEDDINGS_TOKENS, "{token}", _TOKENS)
        self._tool = histogram(names.TOOL_DURATION, "s", _CALL_SECONDS)
        self._job = histogram(names.JOB_DURATION, "s", _CALL_SECONDS)
        # The SDK's own counters cost 7 µs an addition. These are read once a report.
        self._sums: dict[str, dict[tuple[Any, ...], int]] = {name: defaultdict(int) for name in _COUNTERS}
        self._lock = threading.Lock()
        for name, (counter, unit) in _COUNTERS.items():
            meter.create_observable_counter(counter, [self._observer(name)], unit)

    def measure(self, span: Span) -> None:
        """Count a span that has ended."""
        operation = span.attributes.get(names.OPERATION)
        seconds = (span.ended - span.began) / 1e9
        if span.kind == "server":
            self._http.record(seconds, _labels(span, names.METHOD, names.ROUTE, names.STATUS))
        elif operation in {names.CHAT, names.EMBEDDINGS}:
            self._measure_call(span, seconds, is_chat=operation == names.CHAT)
        elif operation == names.EXECUTE_TOOL:
            self._tool.record(seconds, _labels(span, names.OPERATION, names.TOOL_NAME))
        elif names.JOB_KIND in span.attributes:
            self._job.record(seconds, _labels(span, names.JOB_KIND, names.JOB_OUTCOME))

    def _measure_call(self, span: Span, seconds: float, *, is_chat: bool) -> None:
        found = span.attributes
        labels = _labels(span, names.OPERATION, names.PROVIDER, names.MODEL)
        key = tuple(labels.items())
        with self._lock:
            for name, sums in self._sums.items():
                if number := found.get(name):
                    sums[key] += number
        (self._call if is_chat else self._embeddings).record(seconds, labels)
        if names.FIRST_CHUNK in found:
            self._first.record(found[names.FIRST_CHUNK], labels)
        # By the conventions counters have the tokens of failed calls, too, and histograms have not. The histograms
        # of chats (gen_ai.client.inference.operation.*) are left out, as each costs 7 µs a call.
        if span.error is None and not is_chat:
            self._embedded_tokens.record(found[names.INPUT_TOKENS], labels)

    def _observer(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        more = {} if name == names.COST else {names.MODALITY: "text"}

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                sums = list(self._sums[name].items())
            return [Observation(number, {**dict(key), **more}) for key, number in sums]

        return observe

    def report(self, now: bool) -> None:
        """Send the sums if that is due, or ``now``."""
        moment = time.monotonic()
        if now or moment >= self._next:
            self._next = moment + self._every
            self._reader.collect()


def _labels(span: Span, *wanted: str) -> dict[str, Any]:
    labels = {name: span.attributes[name] for name in wanted if name in span.attributes}
    if span.error is not None:
        labels[names.ERROR] = span.error
    return labels


def _exporter(exporter: Exporter, endpoint: str) -> MetricExporter:
    if exporter == "console":
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

        return ConsoleMetricExporter()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(endpoint, session=session_for(endpoint))
