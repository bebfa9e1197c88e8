"""Trace HTTP requests: a span for each, from its first byte to the end of its response."""

from __future__ import annotations

from flask import Response, g, request

from ..llm.client_connection import STREAM_KEY
from ..telemetry import REQUEST_ID, TRACE
from ..telemetry.names import METHOD, REQUEST, ROUTE, STATUS
from ..telemetry.spans import SPAN, Span, Tracer

__all__ = ["begin_span", "finish_span", "leave_span"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def begin_span(tracer: Tracer | None) -> None:
    """Begin the span of the current request, unless ``tracer`` is None.

    Its name is the route and not the path, which holds a user's ids.
    """
    if tracer is None:
        return
    method = request.method if request.method in _METHODS else "_OTHER"
    attributes = {METHOD: method, REQUEST: REQUEST_ID.get()}
    name = method
    if request.url_rule is not None:
        attributes[ROUTE] = str(request.url_rule)
        name = f"{method} {request.url_rule}"
    span = tracer.begin_request(name, lambda header: request.headers.get(header, ""), attributes)
    g.span = span
    SPAN.set(span)
    TRACE.set(f"{span.trace_id:032x}")


def finish_span(response: Response) -> None:
    """Note how the current request ended, and end its span, if no stream follows that ends it."""
    span: Span | None = g.get("span")
    if span is None:
        return
    span.set(STATUS, response.status_code)
    if response.status_code >= 500:
        span.fail(str(response.status_code))
    if STREAM_KEY in request.environ:
        return  # see `api.base.event_stream`
    if response.is_streamed:
        response.call_on_close(lambda: span.tracer.end_request(span))
    else:
        span.tracer.end_request(span)


def leave_span() -> None:
    """Leave the current request's span. A request that failed without a response ends it here."""
    SPAN.set(None)
    span: Span | None = g.get("span")
    if span is not None and STATUS not in span.attributes:
        span.fail("500")
        span.tracer.end_request(span)
