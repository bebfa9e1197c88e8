"""Sums: what settles is in them at once, each figure once, and they are what the records say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import ScopeViolation
from firelaunch.llm.types import FinishedCall, TokenCounts
from firelaunch.metering.call_records import CallLog
from firelaunch.metering.reservations import Day, Metering, Quote, Reservation
from firelaunch.metering.sum_repair import recount
from firelaunch.metering.sum_reports import SumReader
from firelaunch.metering.sums import QUIET_SHARDS, SHARDS, Purposes, Spread, bucket_of, hour_of, milliseconds_of
from firelaunch.scope import Scope
from firelaunch.settings.app import Plan
from firelaunch.store.base import Create, Delete, DocumentStore, Increment, Query, Set, Update
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given, settings
from hypothesis import strategies as st

APP = Scope("demo")
ADA = APP.of("ada")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(requests_per_minute=100_000, daily_usd="100000")  # type: ignore[arg-type]


class Meters:
    """An app's metering on a real store, with a clock that is set by hand."""

    def __init__(self, store: DocumentStore) -> None:
        self.now = NOON
        self.store = ScopedStore(store, APP)
        self.metering = Metering(self.store, Entitlements({"free": PLAN}, "free"), lambda: self.now, 60.0)

    def reserve(self, request: str, user: Scope = ADA) -> Reservation:
        day = self.metering.today()
        usage = Day.of(self.store.get(user.usage(day)))
        quote = Quote("big", 1000)
        reservation, writes = self.metering.reserve(user, day, usage, None, request, quote, quote)
        self.store.commit([*writes, Create(APP.request(request), {"uid": user.uid, "day": day})])
        return reservation

    def settle(self, reservation: Reservation, outcome: str = "answered", *, sums: bool = True, **fields: Any) -> None:
        error = "model_unavailable" if outcome == "failed" else None
        record = {"outcome": outcome, "error": error, "usage": reservation.report(), "total_ms": 900, **fields}
        update = Update(APP.request(reservation.request_id), record | reservation.ended(record))
        self.store.commit([*reservation.settlement(sums=sums), update])

    def report(self, hours: int = 24) -> Any:
        return SumReader(self.store, APP, self.now).report(self.now - timedelta(hours=hours), self.now)


@pytest.fixture(params=["sqlite", "firestore"])
def meters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Meters]:
    if request.param == "firestore":
        yield Meters(request.getfixturevalue("emulator_store"))
        return
    store = SQLiteStore(tmp_path / "data.sqlite3")
    yield Meters(store)
    store.close()


def call(micro: int = 7, **changes: Any) -> FinishedCall:
    tokens = TokenCounts(input=10, cached_input=4, output=3)
    return replace(FinishedCall("m/x.1", tokens, micro, 0.5, 0.1, "turn", "chat@1", 1, "stop"), **changes)


def test_what_settles_is_in_the_sums_at_once_by_whatever_tells_it_apart(meters: Meters) -> None:
    first = meters.reserve("r1")
    first.spend(call(0, error="model_unavailable", finish=None, tokens=TokenCounts()))
    first.spend(call(5, model="y"))
    first.add(call(2, model="embedder", purpose="search", step=0))
    meters.settle(first, first_token_ms=400, retrieval={"passages": 0, "ms": 30})
    second = meters.reserve("r2", APP.of("bob"))
    meters.settle(second, "failed")
    report = meters.report()
    assert {row["name"]: row["cost_micro_usd"] for row in report.by("model")} == {"m/x.1": 0, "y": 5, "embedder": 2}
    assert {row["name"]: row["calls"] for row in report.by("end")} == {"error:model_unavailable": 1, "stop": 2}
    assert [row["name"] for row in report.by("plan")] == ["free"]
    total = report.totals()
    assert (total["cost_micro_usd"], total["input_tokens"], total["embedded_tokens"]) == (7, 10, 10)
    named = ("requests", "failed", "searched", "empty", "fallbacks", "retries", "counted")
    assert {name: total[name] for name in named} == dict(zip(named, (2, 1, 1, 1, 1, 0, 2), strict=True))
    assert total["first_token_ms"]["count"] == 1
    assert 0.91 < total["first_token_ms"]["p50"] / 400 < 1.1


def test_a_request_counts_in_the_day_that_paid_for_it_also_when_it_ends_after_midnight(meters: Meters) -> None:
    meters.now = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)
    reservation = meters.reserve("r1")
    meters.now += timedelta(minutes=1)
    reservation.spend(call())
    meters.settle(reservation)
    assert {at: point["calls"] for at, point in meters.report().points.items() if point["calls"]} == {
        "2026-03-01T23": 1
    }
    assert hour_of(datetime(2026, 2, 28, 9, tzinfo=UTC), "2026-03-01") == "2026-03-01T00", "a clock that went back"


def test_calls_that_end_after_their_request_and_those_of_a_very_long_one_are_summed_once(meters: Meters) -> None:
    reservation = meters.reserve("r1")
    for number in range(405):
        reservation.cover(0)
        reservation.spend(call(1, step=number + 1))
    meters.settle(reservation)
    reservation.spend(call(9, step=500))
    assert meters.report().totals()["cost_micro_usd"] == 405 + 9
    assert meters.report().totals()["calls"] == 406
    assert not recount(meters.store, APP, ["2026-03-01T12"])


def test_sums_that_were_left_out_lost_or_doubled_are_what_the_records_say_after_a_recount(meters: Meters) -> None:
    for number in range(3):
        reservation = meters.reserve(f"r{number}")
        reservation.spend(call(number + 1))
        meters.settle(reservation, sums=number != 1)
    assert meters.report().totals()["cost_micro_usd"] == 1 + 3
    assert recount(meters.store, APP, ["2026-03-01T12"])
    right = meters.report()
    assert right.totals()["cost_micro_usd"] == 6
    assert not recount(meters.store, APP, ["2026-03-01T12"])
    for shard in range(QUIET_SHARDS):
        meters.store.commit([Delete(APP.hour_sum("2026-03-01T12", shard))])
    assert recount(meters.store, APP, ["2026-03-01T12"])
    assert meters.report().total == right.total
    cell = {"m|p|free|turn|stop": {"calls": Increment(5)}}
    meters.store.commit([Set(APP.hour_sum("2026-03-01T12", 2), {"hour": "2026-03-01T12", "calls": cell}, True)])
    assert recount(meters.store, APP, ["2026-03-01T12"])
    assert meters.report().total == right.total


def test_a_busy_process_spreads_its_sums_over_more_documents_and_a_quiet_one_keeps_to_few() -> None:
    now = [0.0]
    spread = Spread(lambda: now[0])

    def settled(seconds: int, of_a_second: int) -> set[int]:
        found = set()
        for _ in range(seconds):
            now[0] += 1
            found |= {spread.shard() for _ in range(of_a_second)}
        return found

    quiet = set(range(QUIET_SHARDS))
    assert settled(30, 1) <= quiet
    settled(11, 40)
    busy = settled(20, 40)
    assert busy - quiet
    assert busy <= set(range(SHARDS))
    settled(21, 1)
    assert settled(60, 1) <= quiet


def test_all_documents_of_a_busy_hour_are_in_its_sums_and_a_recount_puts_one_in_their_place(meters: Meters) -> None:
    cell = {"m|p|free|turn|stop": {"calls": Increment(1)}}
    for shard in range(SHARDS):
        path = APP.hour_sum("2026-03-01T12", shard)
        meters.store.commit([Set(path, {"hour": "2026-03-01T12", "calls": cell}, merge=True)])
    assert meters.report().totals()["calls"] == SHARDS
    assert recount(meters.store, APP, ["2026-03-01T12"])
    assert meters.report().totals()["calls"] == 0
    assert len(meters.store.query(Query(APP.sums()))) == 1


def test_a_recount_loses_nothing_that_settles_while_it_reads(meters: Meters) -> None:
    first = meters.reserve("r1")
    first.spend(call(1))
    meters.settle(first, sums=False)
    late = meters.reserve("r2")
    late.spend(call(2))

    class Racing:
        """Settles a request after the sums were read."""

        settled = False

        def __getattr__(self, name: str) -> Any:
            return getattr(meters.store, name)

        def query(self, query: Any) -> Any:
            found = meters.store.query(query)
            if not self.settled:
                self.settled = True
                meters.settle(late)
            return found

    assert recount(Racing(), APP, ["2026-03-01T12"])  # type: ignore[arg-type]
    assert meters.report().totals()["cost_micro_usd"] == 3


def test_the_records_of_a_user_who_was_erased_take_nothing_from_the_sums(meters: Meters) -> None:
    reservation = meters.reserve("r1")
    reservation.spend(call(3))
    meters.settle(reservation)
    erasure = Set(ADA.erasure(), {"begun_at": NOON + timedelta(hours=1)})
    meters.store.commit([erasure, *(Delete(path) for path in [*meters.store.tree(APP.calls()), APP.request("r1")])])
    assert not recount(meters.store, APP, ["2026-03-01T12"])
    assert meters.report().totals()["cost_micro_usd"] == 3


def test_a_call_log_takes_additions_to_sums_and_nothing_that_sets_a_figure_or_is_anothers() -> None:
    fine = Set(APP.hour_sum("2026-03-01T12", 3), {"hour": "2026-03-01T12", "calls": {"c": {"n": Increment(1)}}}, True)
    assert CallLog.checked(ADA, [fine])[0].path == fine.path
    bob, own = APP.of("bob"), {"uid": "ada", "period": "2026-03", "calls": Increment(1)}
    assert CallLog.checked(ADA, [Set(ADA.user_sum("2026-03"), own, merge=True)])
    for bad in (
        Set(fine.path, {**fine.data, "calls": {"c": {"n": 1}}}, merge=True),
        Set(fine.path, fine.data),
        Set(Scope("other").hour_sum("2026-03-01T12", 3), fine.data, merge=True),
        Set(APP.hour_sum("2026-03-01T13", 3), fine.data, merge=True),
        Set(APP.hour_sum("2026-03-01T12", SHARDS), fine.data, merge=True),
        Set(bob.user_sum("2026-03"), own, merge=True),
        Set(bob.user_sum("2026-03"), {**own, "uid": "bob"}, merge=True),
    ):
        with pytest.raises(ScopeViolation):
            CallLog.checked(ADA, [bad])


def test_purposes_beyond_what_a_process_tells_apart_count_together(meters: Meters) -> None:
    purposes = Purposes()
    assert [purposes.bounded(f"p{number}") for number in range(42)][-2:] == ["other", "other"]
    assert purposes.bounded("p3") == "p3"
    reservation = meters.reserve("r1")
    for number in range(60):
        reservation.spend(call(1, purpose=f"of-user-{number}", step=number))
    meters.settle(reservation)
    report = meters.report()
    assert len(report.by("purpose")) == 40 + 1
    assert report.totals()["cost_micro_usd"] == 60
    assert not recount(meters.store, APP, ["2026-03-01T12"])


@given(st.floats(1, 10**6))
def test_a_time_that_is_read_from_its_bucket_is_at_most_nine_percent_off(milliseconds: float) -> None:
    assert 0.91 < milliseconds_of(bucket_of(milliseconds)) / milliseconds < 1.1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=130).filter(lambda name: not any(0xD800 <= ord(c) < 0xE000 for c in name)),
            st.sampled_from(("stop", "length", "__x__", None)),
            st.integers(0, 10**9),
            st.integers(0, 90),
        ),
        max_size=12,
    )
)
def test_no_name_of_a_model_or_a_purpose_breaks_a_settlement_or_loses_a_micro_dollar(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Any]
) -> None:
    store = SQLiteStore(tmp_path_factory.mktemp("sums") / "data.sqlite3")
    meters = Meters(store)
    for number, (name, finish, micro, minutes) in enumerate(calls):
        reservation = meters.reserve(f"r{number}")
        meters.now += timedelta(minutes=minutes)
        reservation.spend(call(micro, model=name, purpose=name, finish=finish))
        meters.settle(reservation)
    spent = sum(micro for _, _, micro, _ in calls)
    report = meters.report(47)
    assert report.totals()["cost_micro_usd"] == spent
    assert sum(point["cost_micro_usd"] for point in report.points.values()) == spent
    assert all(sum(row["cost_micro_usd"] for row in report.by(part)) == spent for part in ("model", "purpose", "end"))
    assert not any(recount(meters.store, APP, [hour]) for hour in report.points)
    store.close()
