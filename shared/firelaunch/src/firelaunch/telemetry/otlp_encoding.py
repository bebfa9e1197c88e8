"""Encode spans as OTLP's protobuf message ``ExportTraceServiceRequest``.

OpenTelemetry's own encoder takes 25 µs a span, and more than all the rest of telemetry together; this one takes 5. The
message: https://github.com/open-telemetry/opentelemetry-proto/blob/v1.9.0/opentelemetry/proto/trace/v1/trace.proto. Its
fields never change their numbers. A test compares what comes out with OpenTelemetry's own classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from . import names
from .spans import Span

__all__ = ["encode"]

_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_FAILED: Final = b"\x7a\x02\x18\x02"
"""Field 15, a status whose field 3, its code, is 2."""

_CACHED_CHARACTERS = 80
"""The most characters of an attribute that is encoded once and kept. Most come again with each request."""


def encode(spans: Iterable[Span], resource: Mapping[str, str], text: int) -> bytes:
    """Return the message with ``spans``.

    Args:
        resource: what the process is.
        text: characters of an attribute at most.
    """
    scope = [_bytes(1, _bytes(1, b"firelaunch")), *(_bytes(2, _span(span, text)) for span in spans)]
    scope.append(_bytes(3, names.SCHEMA_URL.encode()))
    own = b"".join(_bytes(1, _pair(key, value, text)) for key, value in resource.items())
    parts = [_bytes(1, own), _bytes(2, b"".join(scope)), _bytes(3, names.SCHEMA_URL.encode())]
    return _bytes(1, b"".join(parts))


def _span(span: Span, text: int) -> bytes:
    parts = [
        b"\x0a\x10",
        span.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        span.span_id.to_bytes(8, "big"),
        _bytes(5, span.name.encode("utf-8", "replace")),
        b"\x30%c\x39" % _KINDS[span.kind],
        struct.pack("<Q", span.began),
        b"\x41",
        struct.pack("<Q", span.ended),
    ]
    if span.parent_id:
        parts += [b"\x22\x08", span.parent_id.to_bytes(8, "big")]
    parts += [_bytes(9, _pair(key, value, text)) for key, value in span.attributes.items()]
    if span.error is not None:
        parts += [_bytes(9, _pair(names.ERROR, span.error, text)), _FAILED]
    if span.link is not None:
        link = _bytes(1, span.link.trace_id.to_bytes(16, "big")) + _bytes(2, span.link.span_id.to_bytes(8, "big"))
        parts.append(_bytes(13, link))
    return b"".join(parts)


def _pair(key: str, value: Any, text: int) -> bytes:
    """Return the message ``KeyValue``."""
    if type(value) is str and len(value) <= min(text, _CACHED_CHARACTERS):
        return _cached_pair(key, value)
    return _bytes(1, key.encode("utf-8", "replace")) + _bytes(2, _value(value, text))


@lru_cache(1024)
def _cached_pair(key: str, value: str) -> bytes:
    return _bytes(1, key.encode("utf-8", "replace")) + _bytes(2, _value(value, _CACHED_CHARACTERS))


def _value(value: Any, text: int) -> bytes:
    """Return the message ``AnyValue``."""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return b"\x18" + _varint(value % 2**64)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _bytes(5, b"".join(_bytes(1, _value(each, text)) for each in value))
    return _bytes(1, str(value)[:text].encode("utf-8", "replace"))


def _bytes(number: int, data: bytes) -> bytes:
    """Return field ``number``, a text, bytes or another message."""
    size = len(data)
    head = bytes((number << 3 | 2, size)) if size < 128 else bytes((number << 3 | 2,)) + _varint(size)
    return head + data


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)
