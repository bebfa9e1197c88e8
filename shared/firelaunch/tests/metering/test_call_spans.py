"""Each call that has a record has one span, with the cost that the record has."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from firelaunch.billing.entitlements import Entitlements
from firelaunch.llm.types import FinishedCall, TokenCounts
from firelaunch.metering.reservations import Day, Metering, Quote
from firelaunch.scope import Scope
from firelaunch.settings.plans import Plan
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.telemetry import names
from firelaunch.telemetry.options import Sampler
from firelaunch.telemetry.outbox import Outbox
from firelaunch.telemetry.spans import Span, Tracer, current
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = Plan.model_validate({"requests_per_minute": 100, "daily_usd": "1000"})
CALLS = st.builds(
    FinishedCall,
    model=st.sampled_from(["big", "small"]),
    tokens=st.builds(TokenCounts, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    micro_usd=st.integers(0, 10_000),
    seconds=st.floats(0, 100),
    first_token_seconds=st.none() | st.floats(0, 1),
    purpose=st.sampled_from(["turn", "search", "summary"]),
    prompt=st.sampled_from([None, "chat@1"]),
    step=st.integers(0, 3),
    finish=st.sampled_from([None, "stop", "length"]),
    error=st.sampled_from([None, "model_unavailable", "stopped"]),
    operation=st.sampled_from(["chat", "embeddings"]),
    provider=st.sampled_from(["openai", "vertex", "claude", ""]),
)


@given(st.lists(CALLS, max_size=6), st.lists(CALLS, max_size=3), st.lists(CALLS, max_size=3))
def test_the_spans_of_calls_are_those_of_the_records_whenever_and_however_the_calls_ended(
    spent: list[FinishedCall], added: list[FinishedCall], late: list[FinishedCall]
) -> None:
    spans: list[Span] = []
    sink = Outbox(None, Sampler(), measure=spans.append)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "data.sqlite3")
        metering = Metering(store, Entitlements({"free": PLAN}, "free"), lambda: NOON, 60.0)
        request = Tracer(sink).begin("request", "server")
        with current(request):
            reservation, writes = metering.reserve(
                ADA, metering.today(), Day.of(None), None, "r1", Quote("big", 1_000_000), Quote("small", 1)
            )
        store.commit(writes)
        # Calls end in threads that know nothing of the request, too.
        for call in spent:
            reservation.spend(call)
        reservation.add(*added)
        store.commit(reservation.settlement())
        for call in late:
            reservation.spend(call)
        records = [store.get(f"{ADA.calls()}/{name}") for name in store.ids(ADA.calls())]
        charged = Day.of(store.get(ADA.usage(metering.today()))).number("cost_micro_usd")
        store.close()
    sink.close(30)
    costs = Counter(int(record.data["cost_micro_usd"]) for record in records if record is not None)
    traced = Counter(int(span.attributes[names.COST]) for span in spans)
    assert traced == costs
    assert sum(span.attributes[names.COST] for span in spans) == charged
    assert len(records) == len(spent) + len(added) + len(late)
    for span in spans:
        assert (span.trace_id, span.parent_id, span.kind) == (request.trace_id, request.span_id, "client")
        assert span.began <= span.ended
        assert names.INPUT_MESSAGES not in span.attributes
