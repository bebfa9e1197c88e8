"""Record what a request does, and how long each part takes, as the spans of a trace.

A :class:`Tracer` begins the span of a request or a job, and :func:`span` those of its parts. Where there is no tracer
no span is ever current, and :func:`span` costs the reading of one variable. A span that has ended goes to a
:class:`Sink`, which alone knows where it is sent.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from ..errors import FirelaunchError

__all__ = ["FLUSH_SECONDS", "SPAN", "NoSpan", "Parent", "Sink", "Span", "Tracer", "consumed", "current", "span"]

Kind = Literal["internal", "server", "client", "producer", "consumer"]

FLUSH_SECONDS: Final = 0.05
"""The longest that a request waits for its spans to be sent."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_IDS = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Parent:
    """A span of another process, or of an earlier time."""

    trace_id: int
    span_id: int
    sampled: bool = True

    @classmethod
    def of(cls, traceparent: str) -> Parent | None:
        """Return the span that a W3C ``traceparent`` names, or None if it names none.

        The format: https://www.w3.org/TR/trace-context/#traceparent-header
        """
        match = _TRACEPARENT.fullmatch(traceparent.strip())
        if match is None or (match[0][:2] == "00" and len(match[0]) != 55):
            return None
        trace_id, span_id = int(match[1], 16), int(match[2], 16)
        return cls(trace_id, span_id, bool(int(match[3], 16) & 1)) if trace_id and span_id else None

    @classmethod
    def of_cloud_trace(cls, header: str) -> Parent | None:
        """Return the span that Google's ``X-Cloud-Trace-Context`` names: ``TRACE_ID/SPAN_ID;o=OPTIONS``."""
        match = re.fullmatch(r"([0-9a-f]{32})/([0-9]{1,20})(?:;o=([0-9]))?", header.strip())
        if match is None or not int(match[1], 16) or not 0 < int(match[2]) < 2**64:
            return None
        return cls(int(match[1], 16), int(match[2]), match[3] == "1")


class Sink(Protocol):
    """Takes the spans that have ended. Many threads call it.

    Attributes:
        content: whether spans may hold what users and models write.
    """

    content: bool

    def samples(self, trace_id: int, parent: Parent | None) -> bool:
        """Return whether the spans of a trace are sent. The metrics count all of them."""

    def take(self, span: Span) -> None:
        """Take a span that has ended, and return at once."""

    def flush(self, seconds: float) -> None:
        """Send what was taken. Return when that is done, or after ``seconds``."""


@dataclass(slots=True, eq=False)
class Span:
    """A part of a trace. As a context manager it is the current span, and ends with the block.

    Attributes:
        began, ended: nanoseconds since 1970; ``ended`` is 0 while it goes on.
        error: the code or the type of what it failed with.
        link: the span that led to it and is of another trace.
    """

    tracer: Tracer
    name: str
    kind: Kind
    trace_id: int
    span_id: int
    parent_id: int
    sampled: bool
    attributes: dict[str, Any]
    began: int = field(default_factory=time.time_ns)
    ended: int = 0
    error: str | None = None
    link: Span | None = None
    _token: Token[Span | None] | None = None

    @property
    def traceparent(self) -> str:
        """The W3C header by which another process goes on with the trace."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"

    @property
    def content(self) -> bool:
        """Whether the span may hold what users and models write."""
        return self.tracer.content

    def set(self, name: str, value: Any) -> None:
        """Set an attribute. None sets nothing."""
        if value is not None:
            self.attributes[name] = value

    def child(
        self, name: str, attributes: Mapping[str, Any] | None = None, kind: Kind = "internal", began: int = 0
    ) -> Span:
        """Begin a part of this span, at ``began`` if that is given."""
        own = {} if attributes is None else dict(attributes)
        span = Span(self.tracer, name, kind, self.trace_id, _id(64), self.span_id, self.sampled, own)
        if began:
            span.began = began
        return span

    def fail(self, error: BaseException | str) -> None:
        """Mark the span as failed."""
        if isinstance(error, str):
            self.error = error
        else:
            self.error = error.code if isinstance(error, FirelaunchError) else type(error).__qualname__

    def end(self, at: int = 0) -> None:
        """End the span, now or at ``at``. A second call does nothing."""
        if not self.ended:
            self.ended = max(at or time.time_ns(), self.began)
            self.tracer.take(self)

    def __enter__(self) -> Span:
        self._token = SPAN.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._token is not None:
            SPAN.reset(self._token)
            self._token = None
        if error is not None and not isinstance(error, GeneratorExit):
            self.fail(error)
        self.end()


class NoSpan:
    """Stands for a span where nothing is recorded."""

    __slots__ = ()
    content = False

    def set(self, name: str, value: Any) -> None:
        """Do nothing."""

    def fail(self, error: BaseException | str) -> None:
        """Do nothing."""

    def __enter__(self) -> NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


SPAN: ContextVar[Span | None] = ContextVar("span", default=None)
"""The current span. A stream's steps run on many threads, so each step sets it anew (:func:`current`)."""

_NO_SPAN = NoSpan()


def span(name: str, attributes: Mapping[str, Any] | None = None, kind: Kind = "internal") -> Span | NoSpan:
    """Begin a part of the current span, for a ``with`` block. Nothing is recorded outside of a request or a job.

    Don't let a ``yield`` of a generator stand in the block: the generator may go on in another thread.
    """
    parent = SPAN.get()
    return _NO_SPAN if parent is None else parent.child(name, attributes, kind)


@contextmanager
def _current(span: Span) -> Iterator[None]:
    token = SPAN.set(span)
    try:
        yield
    finally:
        SPAN.reset(token)


def current(span: Span | None) -> AbstractContextManager[object]:
    """Make ``span`` the current one in a ``with`` block, without ending it. None leaves the current span as it is."""
    return _NO_SPAN if span is None else _current(span)


def consumed(tracer: Tracer | None, name: str, traceparent: str, attributes: Mapping[str, Any] = {}) -> Span | NoSpan:
    """Begin the span of work that was asked for earlier, as :meth:`Tracer.consume` does; nothing without a tracer."""
    return _NO_SPAN if tracer is None else tracer.consume(name, traceparent, attributes)


class Tracer:
    """Begins the spans of requests and jobs, and has them sent before the process may lose its CPU.

    Cloud Run takes the CPU away when no request is running. So the request that ends last waits until its spans are
    sent, for :data:`FLUSH_SECONDS` at most. The others need not wait.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._requests = 0
        self._lock = threading.Lock()

    @property
    def content(self) -> bool:
        """Whether spans may hold what users and models write."""
        return self._sink.content

    def take(self, span: Span) -> None:
        """Pass on a span that has ended."""
        self._sink.take(span)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: Parent | None = None,
        attributes: Mapping[str, Any] | None = None,
        link: Span | None = None,
    ) -> Span:
        """Begin a span that no other span of this process contains."""
        trace_id = _id(128) if parent is None else parent.trace_id
        sampled = self._sink.samples(trace_id, parent)
        own = {} if attributes is None else dict(attributes)
        span = Span(self, name, kind, trace_id, _id(64), 0 if parent is None else parent.span_id, sampled, own)
        span.link = link
        return span

    def begin_request(self, name: str, headers: Callable[[str], str], attributes: Mapping[str, Any]) -> Span:
        """Begin the span of an HTTP request. End it with :meth:`end_request`.

        Args:
            headers: returns the request's header of a name, or "".
        """
        parent = Parent.of(headers("traceparent")) or Parent.of_cloud_trace(headers("X-Cloud-Trace-Context"))
        with self._lock:
            self._requests += 1
        return self.begin(name, "server", parent, attributes)

    def end_request(self, span: Span) -> None:
        """End the span of an HTTP request. The last one that is running waits until all spans are sent."""
        if span.ended:
            return
        span.end()
        with self._lock:
            self._requests -= 1
            last = self._requests == 0
        if last:
            self._sink.flush(FLUSH_SECONDS)

    def consume(self, name: str, traceparent: str, attributes: Mapping[str, Any]) -> Span:
        """Begin the span of work that was asked for earlier, in the trace of whoever asked.

        If this process was told of it by a request of another trace, the span has a link to that request.

        Args:
            traceparent: as the asker wrote it down; "" for work that nobody asked for.
        """
        here, asker = SPAN.get(), Parent.of(traceparent)
        if here is not None and (asker is None or asker.trace_id == here.trace_id):
            return here.child(name, attributes, "consumer")
        return self.begin(name, "consumer", asker, attributes, link=here)


def _id(bits: int) -> int:
    return _IDS.getrandbits(bits) or 1
