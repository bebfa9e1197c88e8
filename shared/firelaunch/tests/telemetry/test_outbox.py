"""A receiver that is down, slow or refuses costs telemetry and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from firelaunch.telemetry.options import Sampler, read_options
from firelaunch.telemetry.outbox import Outbox, RareLog
from firelaunch.telemetry.sinks import outbox
from firelaunch.telemetry.spans import Span, Tracer
from firelaunch.testing.collector import OtlpCollector

ALWAYS = 3600.0
"""Seconds of a delay that no test waits for: what is sent, a flush or a full batch has sent."""


class Receiver:
    """Takes spans, or holds on to them until ``go`` is set, or refuses them."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.called = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.refuses = False

    def send(self, spans: Sequence[Span]) -> bool:
        self.called.set()
        assert self.go.wait(30)
        if self.refuses:
            return False
        self.batches.append([span.name for span in spans])
        return True

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.go.set()


def ended(sink: Outbox, *names: str) -> None:
    for name in names:
        Tracer(sink).begin(name, "internal").end()


def test_a_flush_sends_what_waits_and_returns_when_it_is_sent(receiver: Receiver) -> None:
    sink = Outbox(receiver.send, Sampler(), delay=ALWAYS)
    ended(sink, "a", "b")
    sink.flush(30)
    assert receiver.batches == [["a", "b"]]
    ended(sink, "c")
    sink.flush(30)
    assert receiver.names == ["a", "b", "c"]
    sink.flush(30)  # nothing waits


def test_a_full_batch_is_sent_without_a_flush(receiver: Receiver) -> None:
    sink = Outbox(receiver.send, Sampler(), delay=ALWAYS, batch=3)
    ended(sink, *"abc")
    assert receiver.called.wait(30)


def test_a_flush_gives_up_on_a_receiver_that_does_not_answer(receiver: Receiver) -> None:
    receiver.go.clear()
    sink = Outbox(receiver.send, Sampler(), delay=ALWAYS)
    ended(sink, "a")
    sink.flush(0.05)
    assert receiver.batches == []
    receiver.go.set()
    ended(sink, "b")
    sink.flush(30)
    assert receiver.names == ["a", "b"]


def test_a_flush_does_not_wait_for_a_receiver_that_just_refused_and_waits_again_once_it_takes(
    receiver: Receiver,
) -> None:
    receiver.refuses = True
    sink = Outbox(receiver.send, Sampler(), delay=ALWAYS)
    ended(sink, "a")
    sink.flush(30)
    receiver.go.clear()
    ended(sink, "b")
    sink.flush(ALWAYS)  # would never return if it waited
    receiver.refuses = False
    receiver.go.set()
    while "c" not in receiver.names:
        ended(sink, "c")
        sink.flush(0.05)
    ended(sink, "d")
    sink.flush(30)
    assert receiver.names[-1] == "d"


def test_while_nothing_is_taken_the_queue_keeps_the_newest_and_no_more(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.go.clear()
    sink = Outbox(receiver.send, Sampler(), queue=10, batch=5, delay=ALWAYS)
    ended(sink, *(f"first{number}" for number in range(5)))
    assert receiver.called.wait(30)  # with the first five
    ended(sink, *(str(number) for number in range(1_000)))
    receiver.go.set()
    sink.flush(30)
    assert receiver.names == [*(f"first{number}" for number in range(5)), *map(str, range(990, 1_000))]
    assert "990 spans were dropped" in caplog.text


def test_a_span_that_is_dropped_is_counted_once_all_the_same(receiver: Receiver) -> None:
    counted: list[str] = []
    receiver.go.clear()
    sink = Outbox(receiver.send, Sampler(), queue=10, batch=5, delay=ALWAYS, measure=lambda s: counted.append(s.name))
    every = [str(number) for number in range(200)]
    ended(sink, *every[:5])
    assert receiver.called.wait(30)
    ended(sink, *every[5:])
    receiver.go.set()
    sink.close(30)
    assert sorted(counted) == sorted(every)


def test_an_exporter_that_raises_is_a_line_in_the_log_and_the_next_batch_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[str] = []

    def send(spans: Sequence[Span]) -> bool:
        if not sent and spans[0].name == "a":
            raise ConnectionError("no route")
        sent.extend(span.name for span in spans)
        return True

    sink = Outbox(send, Sampler(), delay=ALWAYS)
    ended(sink, "a")
    sink.flush(30)
    ended(sink, "b")
    sink.close(30)
    assert sent == ["b"]
    assert "ConnectionError: no route" in caplog.text


def test_there_is_one_line_a_minute_and_it_says_how_many_others_there_were(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    problems = RareLog(lambda: now)
    for second in range(0, 180, 5):
        now = float(second)
        problems.say(f"refused at {second}")
    lines = [record.getMessage() for record in caplog.records if record.name == "firelaunch.telemetry.outbox"]
    assert lines == [
        "telemetry is lost: refused at 0 (0 more times in the minute before)",
        "telemetry is lost: refused at 60 (11 more times in the minute before)",
        "telemetry is lost: refused at 120 (11 more times in the minute before)",
    ]


def test_spans_of_traces_that_are_not_sampled_are_measured_and_not_sent(receiver: Receiver) -> None:
    measured: list[str] = []
    sink = Outbox(receiver.send, Sampler(0.0), measure=lambda span: measured.append(span.name), delay=ALWAYS)
    ended(sink, "a")
    sink.close(30)
    assert (measured, receiver.batches) == (["a"], [])


def test_the_end_of_the_process_sends_what_is_left_and_the_last_metrics(receiver: Receiver) -> None:
    reports: list[bool] = []
    sink = Outbox(receiver.send, Sampler(), measure=lambda _: None, report=reports.append, delay=ALWAYS)
    ended(sink, "a")
    sink.close(30)
    assert receiver.names == ["a"]
    assert reports[-1] is True


def otlp(url: str, **environ: str) -> Outbox:
    options = read_options({"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRICS_EXPORTER": "none", **environ})
    assert options is not None
    return outbox(replace(options, delay=ALWAYS), "my-app")


def test_a_collector_that_is_busy_is_asked_again_when_it_said_and_gets_the_same_spans() -> None:
    def busy_at_first(number: int) -> tuple[int, dict[str, str]] | None:
        return (503, {"Retry-After": "0"}) if number < 3 else None

    with OtlpCollector(script=busy_at_first) as collector:
        sink = otlp(collector.url)
        ended(sink, "a")
        sink.flush(30)
        assert [span.name for span in collector.spans] == ["a"]
        assert collector.refused == [(503, "/v1/traces")] * 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415])
def test_a_collector_that_refuses_for_good_is_not_asked_again_for_the_same_spans(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with OtlpCollector(script=lambda _: (status, {})) as collector:
        sink = otlp(collector.url)
        ended(sink, "a")
        sink.flush(30)
        ended(sink, "b")
        sink.close(30)
        assert collector.refused == [(status, "/v1/traces")] * 2
    lines = [record for record in caplog.records if record.name == "firelaunch.telemetry.outbox"]
    assert len(lines) == 1
    assert str(status) in lines[0].getMessage()


def test_a_collector_that_is_down_is_found_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with OtlpCollector() as gone:
        url = gone.url
    sink = otlp(url, OTEL_EXPORTER_OTLP_TIMEOUT="0.2")
    ended(sink, "a")
    sink.flush(30)
    assert "telemetry is lost" in caplog.text
    port = int(url.rpartition(":")[2])
    with OtlpCollector(port=port) as collector:
        ended(sink, "b")
        sink.close(30)
        assert [span.name for span in collector.spans] == ["b"]


def test_the_headers_of_the_environment_go_along() -> None:
    headers = "Authorization=Basic%20cGs6c2s=,x-langfuse-ingestion-version=4"
    with OtlpCollector(needs={"Authorization": "Basic cGs6c2s=", "x-langfuse-ingestion-version": "4"}) as collector:
        sink = otlp(collector.url, OTEL_EXPORTER_OTLP_HEADERS=headers)
        ended(sink, "a")
        sink.flush(30)
        assert [span.name for span in collector.spans] == ["a"]
    with OtlpCollector(needs={"Authorization": "Basic other"}) as collector:
        sink = otlp(collector.url, OTEL_EXPORTER_OTLP_HEADERS=headers)
        ended(sink, "a")
        sink.flush(30)
        assert collector.refused == [(401, "/v1/traces")]


def test_a_body_may_be_compressed() -> None:
    with OtlpCollector() as collector:
        sink = otlp(collector.url, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
        ended(sink, "a")
        sink.flush(30)
        assert [span.name for span in collector.spans] == ["a"]
        assert collector.requests[0][1]["content-encoding"] == "gzip"


def test_no_answer_of_a_collector_leads_the_spans_elsewhere() -> None:
    """A redirect would take the headers, which hold a key, to whoever it names."""
    with OtlpCollector() as other:
        moved = (307, {"Location": f"{other.url}/v1/traces"})
        with OtlpCollector(script=lambda _: moved) as collector:
            sink = otlp(collector.url)
            ended(sink, "a")
            sink.flush(30)
            assert collector.refused == [(307, "/v1/traces")]
        assert (other.requests, other.refused) == ([], [])
