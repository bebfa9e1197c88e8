"""Spans form one trace, whichever thread or process goes on with it, and cost nothing where nobody traces."""

from __future__ import annotations

import threading
from contextvars import copy_context

import pytest
from firelaunch.errors import NotFound
from firelaunch.telemetry.spans import SPAN, NoSpan, Parent, Span, Tracer, current, span
from hypothesis import given
from hypothesis import strategies as st


class Kept:
    """A sink that keeps what it takes."""

    content = False

    def __init__(self, *, samples: bool = True) -> None:
        self.spans: list[Span] = []
        self.flushed: list[list[str]] = []
        self._samples = samples

    def samples(self, trace_id: int, parent: Parent | None) -> bool:  # noqa: ARG002 - the protocol's
        return self._samples and (parent is None or parent.sampled)

    def take(self, span: Span) -> None:
        self.spans.append(span)

    def flush(self, seconds: float) -> None:
        assert 0 < seconds <= 0.05
        self.flushed.append([span.name for span in self.spans])


def test_without_a_current_span_nothing_is_recorded() -> None:
    with span("work", {"a": 1}) as part:
        part.set("b", 2)
        part.fail("oops")
        assert isinstance(part, NoSpan)
        assert SPAN.get() is None


def test_parts_are_children_of_the_part_around_them_and_the_one_before_is_current_again() -> None:
    sink = Kept()
    request = Tracer(sink).begin("request", "server")
    with current(request):
        with span("outer") as outer, span("inner") as inner:
            assert SPAN.get() is inner
        assert SPAN.get() is request
    assert SPAN.get() is None
    assert isinstance(outer, Span)
    assert isinstance(inner, Span)
    assert (inner.parent_id, outer.parent_id, request.parent_id) == (outer.span_id, request.span_id, 0)
    assert len({inner.trace_id, outer.trace_id, request.trace_id}) == 1
    assert [each.name for each in sink.spans] == ["inner", "outer"]
    assert outer.began <= inner.began <= inner.ended <= outer.ended


def test_a_part_that_raises_has_the_code_of_the_error_and_the_error_goes_on() -> None:
    sink = Kept()
    with current(Tracer(sink).begin("request", "server")):
        with pytest.raises(NotFound), span("find"):
            raise NotFound
        with pytest.raises(ZeroDivisionError), span("divide"):
            1 / 0  # noqa: B018
    assert [(each.name, each.error) for each in sink.spans] == [
        ("find", NotFound.code),
        ("divide", "ZeroDivisionError"),
    ]


def test_a_thread_in_a_copied_context_goes_on_with_the_trace() -> None:
    sink = Kept()

    def work() -> None:
        with span("in the thread"):
            pass

    with current(Tracer(sink).begin("request", "server")) as _:
        request = SPAN.get()
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        thread.join()
    assert request is not None
    assert sink.spans[0].parent_id == request.span_id


def test_a_span_ends_once() -> None:
    sink = Kept()
    request = Tracer(sink).begin("request", "server")
    request.end()
    first = request.ended
    request.end()
    assert (request.ended, len(sink.spans)) == (first, 1)


def test_the_last_request_that_runs_waits_until_all_is_sent_and_the_others_do_not() -> None:
    sink = Kept()
    tracer = Tracer(sink)
    requests = [tracer.begin_request(f"r{number}", lambda _: "", {}) for number in range(3)]
    tracer.end_request(requests[1])
    tracer.end_request(requests[0])
    tracer.end_request(requests[0])
    assert sink.flushed == []
    tracer.end_request(requests[2])
    assert sink.flushed == [["r1", "r0", "r2"]]


ID = st.integers(min_value=1, max_value=2**64 - 1)


@given(st.integers(min_value=1, max_value=2**128 - 1), ID, st.booleans())
def test_a_traceparent_that_was_written_is_read_as_the_same_span(trace_id: int, span_id: int, sampled: bool) -> None:
    span = Span(Tracer(Kept()), "x", "internal", trace_id, span_id, 0, sampled, {})
    assert Parent.of(span.traceparent) == Parent(trace_id, span_id, sampled)


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}"))
def test_whatever_stands_in_the_headers_is_a_span_or_none(header: str) -> None:
    for parent in (Parent.of(header), Parent.of_cloud_trace(header)):
        assert parent is None or (0 < parent.trace_id < 2**128 and 0 < parent.span_id < 2**64)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_a_traceparent_that_the_specification_calls_invalid_names_no_span(header: str) -> None:
    assert Parent.of(header) is None


def test_googles_own_header_names_the_span_too() -> None:
    parent = Parent.of_cloud_trace("105445aa7843bc8bf206b12000100000/1;o=1")
    assert parent == Parent(0x105445AA7843BC8BF206B12000100000, 1, sampled=True)
    sink = Kept()
    headers = {"X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/9;o=1"}
    request = Tracer(sink).begin_request("r", lambda name: headers.get(name, ""), {})
    assert (request.trace_id, request.parent_id) == (0x105445AA7843BC8BF206B12000100000, 9)


def test_work_that_was_asked_for_goes_on_with_its_askers_trace_and_links_the_request_that_brought_it() -> None:
    tracer = Tracer(Kept())
    asker, bringer = tracer.begin("ask", "server"), tracer.begin("sweep", "server")
    with current(bringer):
        brought = tracer.consume("job", asker.traceparent, {})
        own = tracer.consume("job", bringer.traceparent, {})
        unasked = tracer.consume("job", "", {})
    assert (brought.trace_id, brought.parent_id, brought.link) == (asker.trace_id, asker.span_id, bringer)
    assert own.parent_id == unasked.parent_id == bringer.span_id
    assert own.link is None
    alone = tracer.consume("job", "", {})
    assert (alone.parent_id, alone.link) == (0, None)
