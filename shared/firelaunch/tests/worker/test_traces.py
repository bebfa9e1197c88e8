"""One trace, from the request that asks for work to the last job that follows, whoever brings the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fakes.jobs import ACCOUNT, Site, cloud_site
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.telemetry import names
from firelaunch.telemetry.spans import current
from firelaunch.testing.cloud_events import Sent, document_event, pushed
from firelaunch.testing.collector import OtlpCollector, ReceivedSpan
from firelaunch.worker import JobRun
from firelaunch.worker.event_handlers import WriteEvent, on_write
from firelaunch.worker.job_definitions import job

ADA = Scope("demo", "ada")
CLOUD = {"FIRELAUNCH_MODE": "cloud", "OPENAI_API_KEY": "none", "GOOGLE_CLOUD_PROJECT": "demo-project"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Meal(Record):
    name: str


meals = Collection("meals", Meal, owner="user")


@job("tidy")
def tidy(run: JobRun) -> None:
    """The last one."""


@job("sort")
def sort(run: JobRun) -> None:
    run.enqueue(tidy)


@on_write("meals/{meal}")
def meal_written(event: WriteEvent) -> None:
    event.enqueue(tidy)


DECLARED = Declared(collections=(meals,), jobs=(sort, tidy), events=(meal_written,))


@pytest.fixture
def collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as made:
        yield made


@contextmanager
def cloud(folder: Path, collector: OtlpCollector) -> Iterator[Site]:
    store = SQLiteStore(folder / "data.sqlite3")
    environ = {**CLOUD, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
    try:
        with cloud_site(folder, store, declared=DECLARED, **environ) as made:
            yield made
    finally:
        store.close()


def path_to(span: ReceivedSpan, spans: list[ReceivedSpan]) -> list[str]:
    """The names of the spans that lead to a span, the first one first."""
    by_id = {each.id: each for each in spans}
    names_so_far = [span.name]
    while span.parent in by_id:
        span = by_id[span.parent]
        names_so_far.insert(0, span.name)
    return names_so_far


def last_job(collector: OtlpCollector, trace: str) -> ReceivedSpan:
    collector.wait_for(lambda: any(span.name == "job tidy" for span in collector.trace(trace)))
    return next(span for span in collector.trace(trace) if span.name == "job tidy")


def test_jobs_that_cloud_tasks_brings_are_in_the_trace_of_whoever_asked_for_the_first(
    tmp_path: Path, collector: OtlpCollector
) -> None:
    with cloud(tmp_path, collector) as site:
        assert site.services.tracer is not None
        request = site.services.tracer.begin("request", "server")
        with current(request):
            site.services.within(ADA).enqueue(sort)
        request.end()
        trace = f"{request.trace_id:032x}"
        last = last_job(collector, trace)
        collector.wait_for(lambda: len([s for s in collector.trace(trace) if s.kind == "server"]) == 3)
    delivered = "POST /internal/jobs/<kind>"
    assert path_to(last, collector.trace(trace)) == ["request", delivered, "job sort", delivered, "job tidy"]
    assert last.attributes[names.JOB_OUTCOME] == "succeeded"
    assert (last.kind, last.failed) == ("consumer", False)


def test_a_job_that_a_sweep_brings_stays_in_its_own_trace_and_links_the_sweep(
    tmp_path: Path, collector: OtlpCollector
) -> None:
    with cloud(tmp_path, collector) as site:
        assert site.services.tracer is not None
        request = site.services.tracer.begin("request", "server")
        with current(request):
            prepared = site.services.jobs.prepare(ADA, tidy.kind, tidy.kind.payload_of())
        site.services.store.commit([prepared.write])
        sweep = site.services.tracer.begin("sweep", "server")
        with current(sweep):
            assert site.runner.run(prepared.job_id) == "ran"
        last = last_job(collector, f"{request.trace_id:032x}")
    assert last.parent == f"{request.span_id:016x}"
    assert last.links == (f"{sweep.trace_id:032x}",)


def in_header(sent: Sent) -> Sent:
    return Sent({**sent.headers, "traceparent": TRACEPARENT}, sent.body)


def in_event(sent: Sent) -> Sent:
    return Sent({**sent.headers, "ce-traceparent": TRACEPARENT}, sent.body)


def in_message(sent: Sent) -> Sent:
    attributes = {name: value for name, value in sent.headers.items() if name.lower().startswith("ce-")}
    attributes["content-type"] = sent.headers["Content-Type"]
    return pushed({**attributes, "ce-traceparent": TRACEPARENT}, sent.body)


@pytest.mark.parametrize("naming", [in_header, in_event, in_message])
def test_an_event_that_eventarc_delivers_goes_on_with_the_trace_that_it_names(
    tmp_path: Path, collector: OtlpCollector, naming: object
) -> None:
    sent = naming(document_event("demo-project", f"{ADA.root}/meals/m1", None, {"name": "Soup"}))  # type: ignore[operator]
    with cloud(tmp_path, collector) as site:
        assert site.certificates is not None
        now = int(datetime.now(UTC).timestamp())
        claims = {"iss": "https://accounts.google.com", "aud": site.url, "email": ACCOUNT, "email_verified": True}
        token = site.certificates.sign({**claims, "sub": "1", "iat": now, "exp": now + 600})
        headers = {**sent.headers, "Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{site.url}/internal/events/meal_written", content=sent.body, headers=headers)
        assert answer.status_code == 204, answer.text
        last = last_job(collector, TRACE)
        spans = collector.trace(TRACE)
    walked = path_to(last, spans)
    assert walked[-3:] == ["job meal_written", "POST /internal/jobs/<kind>", "job tidy"]
    assert "event meal_written" in walked
