"""OpenTelemetry's own classes read the spans that were encoded."""

from __future__ import annotations

import math
from typing import Any

from firelaunch.telemetry import names
from firelaunch.telemetry.options import Sampler
from firelaunch.telemetry.otlp_encoding import encode
from firelaunch.telemetry.outbox import Outbox
from firelaunch.telemetry.spans import Span, Tracer
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACER = Tracer(Outbox(None, Sampler()))
KINDS = ("internal", "server", "client", "producer", "consumer")
IDS = st.integers(min_value=1, max_value=2**64 - 1)
TRACES = st.integers(min_value=1, max_value=2**128 - 1)
TIMES = st.integers(min_value=0, max_value=2**64 - 1)
VALUES = (
    st.text(max_size=300)
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats()
    | st.lists(st.text(max_size=10), max_size=3)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    attributes = draw(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=5))
    made = Span(
        TRACER,
        draw(st.text(max_size=200)),
        draw(st.sampled_from(KINDS)),  # type: ignore[arg-type]
        draw(TRACES),
        draw(IDS),
        draw(IDS | st.just(0)),
        sampled=True,
        attributes=attributes,
        began=draw(TIMES),
        ended=draw(TIMES),
        error=draw(st.none() | st.text(min_size=1, max_size=20)),
    )
    if draw(st.booleans()):
        made.link = Span(TRACER, "", "server", draw(TRACES), draw(IDS), 0, sampled=True, attributes={})
    return made


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and math.isnan(ours):
        return math.isnan(theirs)
    if isinstance(ours, str):
        ours = ours.encode("utf-8", "replace").decode()
    if isinstance(ours, list):
        return [each.encode("utf-8", "replace").decode() for each in ours] == theirs
    return type(ours) is type(theirs) and ours == theirs


@given(
    st.lists(spans(), max_size=4), st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=200), max_size=3)
)
def test_spans_come_back_as_they_were(sent: list[Span], resource: dict[str, str]) -> None:
    (read,) = ExportTraceServiceRequest.FromString(encode(sent, resource, 1_000)).resource_spans
    assert {pair.key: pair.value.string_value for pair in read.resource.attributes} == {
        key.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for key, value in resource.items()
    }
    (scope,) = read.scope_spans
    assert (scope.scope.name, scope.schema_url, read.schema_url) == ("firelaunch", names.SCHEMA_URL, names.SCHEMA_URL)
    assert len(scope.spans) == len(sent)
    for ours, theirs in zip(sent, scope.spans, strict=True):
        assert theirs.trace_id == ours.trace_id.to_bytes(16, "big")
        assert theirs.span_id == ours.span_id.to_bytes(8, "big")
        assert theirs.parent_span_id == (ours.parent_id.to_bytes(8, "big") if ours.parent_id else b"")
        assert theirs.name == ours.name.encode("utf-8", "replace").decode()
        assert theirs.kind == KINDS.index(ours.kind) + 1
        assert (theirs.start_time_unix_nano, theirs.end_time_unix_nano) == (ours.began, ours.ended)
        assert theirs.status.code == (0 if ours.error is None else 2)
        read_attributes = [plain(pair.value) for pair in theirs.attributes]
        expected = [*ours.attributes.values(), *([] if ours.error is None else [ours.error])]
        assert len(read_attributes) == len(expected)
        assert all(same(*pair) for pair in zip(expected, read_attributes, strict=True))
        links = [] if ours.link is None else [(ours.link.trace_id, ours.link.span_id)]
        assert [(int.from_bytes(link.trace_id), int.from_bytes(link.span_id)) for link in theirs.links] == links


@given(st.text(max_size=500), st.integers(min_value=1, max_value=200))
def test_a_long_text_is_cut(text: str, most: int) -> None:
    span = Span(TRACER, "x", "internal", 1, 1, 0, sampled=True, attributes={"a": text})
    request = ExportTraceServiceRequest.FromString(encode([span], {}, most))
    (pair,) = request.resource_spans[0].scope_spans[0].spans[0].attributes
    assert pair.value.string_value == text[:most].encode("utf-8", "replace").decode()


def test_what_no_attribute_can_hold_goes_as_its_text() -> None:
    span = Span(TRACER, "x", "internal", 1, 1, 0, sampled=True, attributes={"big": 2**70, "none": None, "map": {1: 2}})
    request = ExportTraceServiceRequest.FromString(encode([span], {}, 100))
    pairs = request.resource_spans[0].scope_spans[0].spans[0].attributes
    assert [pair.value.string_value for pair in pairs] == [str(2**70), "None", "{1: 2}"]
