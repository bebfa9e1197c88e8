"""At each bound of a budget, of credit and of a reservation one micro-dollar decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import (
    AppBudgetExceeded,
    BudgetExceeded,
    Contention,
    CreditExceeded,
    PreconditionFailed,
    RateLimited,
)
from firelaunch.llm.types import FinishedCall, TokenCounts
from firelaunch.metering import reservations
from firelaunch.metering.call_records import CallLog
from firelaunch.metering.ceiling import Ceiling
from firelaunch.metering.reservations import Day, Metering, Quote, Reservation
from firelaunch.scope import Scope
from firelaunch.settings.plans import Budget, Plan
from firelaunch.store.base import Create, Set, Update
from firelaunch.store.sqlite import SQLiteStore

ADA = Scope("demo", "ada")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLANS = {
    "free": Plan(requests_per_minute=3, daily_usd="0.001", cheaper_model_at_percent=50),  # type: ignore[arg-type]
    "local": Plan(requests_per_minute=3, daily_usd="0"),  # type: ignore[arg-type]
    "payg": Plan(requests_per_minute=9, daily_usd="1", cheaper_model_at_percent=100, balance=True),  # type: ignore[arg-type]
}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Meters:
    """Ada's metering on a real store, with a clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.store = SQLiteStore(path)
        self.metering = Metering(self.store, Entitlements(PLANS, "free"), self.clock, 60.0)

    def has(self, **fields: Any) -> None:
        self.store.commit([Set(ADA.root, fields)])

    def day(self) -> Day:
        return Day.of(self.store.get(ADA.usage("2026-03-01")))

    def reserve(self, request_id: str, micro: int, cheap: int = 0, *, counted: bool = True) -> Reservation:
        quotes = Quote("big", micro), Quote("small", cheap)
        user = self.store.get(ADA.root)
        reservation, writes = self.metering.reserve(
            ADA, "2026-03-01", self.day(), user, request_id, *quotes, counted=counted
        )
        self.store.commit(writes)
        return reservation

    def settle(self, reservation: Reservation, micro: int) -> None:
        reservation.spend(call(micro))
        self.store.commit(reservation.settlement())

    def spend(self, request_id: str, micro: int) -> None:
        self.settle(self.reserve(request_id, micro, counted=False), micro)

    def balance(self) -> dict[str, Any]:
        user = self.store.get(ADA.root)
        assert user is not None
        found: dict[str, Any] = user.data["balance"]
        return found


def call(micro: int) -> FinishedCall:
    return FinishedCall("big", TokenCounts(input=1, output=1), micro, 0.5)


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Meters]:
    made = Meters(tmp_path / "data.sqlite3")
    yield made
    made.store.close()


@pytest.mark.parametrize(("spent", "model"), [(499, "big"), (500, "small")])
def test_the_cheap_model_answers_from_its_percent_of_the_budget_on(meters: Meters, spent: int, model: str) -> None:
    meters.spend("before", spent)
    assert meters.reserve("r1", 1).model == model


def test_a_request_that_takes_all_that_is_left_has_the_usual_model(meters: Meters) -> None:
    assert meters.reserve("r1", 1_000).model == "big"
    with pytest.raises(BudgetExceeded, match="is used up"):
        meters.reserve("r2", 1, cheap=1)
    assert meters.reserve("r3", 1).model == "small", "what costs nothing is never too much"


def test_a_plan_without_a_budget_has_free_models_and_the_usual_one(meters: Meters) -> None:
    meters.has(plan="local")
    reservation = meters.reserve("r1", 0)
    assert (reservation.model, reservation.cheaper) == ("big", False)
    with pytest.raises(BudgetExceeded):
        meters.reserve("r2", 1)


def test_a_refusal_names_the_last_micro_dollar_and_the_time_until_midnight(meters: Meters) -> None:
    meters.spend("before", 999)
    meters.clock.now = NOON + timedelta(hours=11, minutes=30, seconds=20)
    with pytest.raises(BudgetExceeded, match=r"\$0.000001 is left of today's budget") as caught:
        meters.reserve("r1", 9, cheap=2)
    assert caught.value.retry_after == 29 * 60 + 40
    assert "begins in 30 min, at midnight UTC" in caught.value.message


def test_work_that_is_not_counted_takes_money_and_no_request_of_the_minute(meters: Meters) -> None:
    for number in range(5):
        meters.reserve(f"step{number}", 10, counted=False)
    for number in range(3):
        meters.reserve(f"r{number}", 10)
    with pytest.raises(RateLimited):
        meters.reserve("r4", 10)
    day = meters.day()
    assert (day.number("requests"), day.committed(NOON)) == (3, 80)


def test_calls_are_covered_by_what_is_reserved_and_raise_it_by_what_is_missing(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    reservation.held = 10
    reservation.cover(30)
    assert (reservation.committed, reservation.reserved) == (40, 100)
    reservation.cover(60)
    assert (reservation.committed, reservation.reserved, meters.day().committed(NOON)) == (100, 100, 100)
    reservation.cover(1)
    assert (reservation.committed, reservation.reserved, meters.day().committed(NOON)) == (101, 101, 101)


def test_a_reservation_may_be_raised_to_what_others_leave_and_not_above(meters: Meters) -> None:
    meters.spend("before", 300)
    meters.reserve("other", 200)
    reservation = meters.reserve("r1", 100, cheap=100)
    with pytest.raises(BudgetExceeded):
        meters.metering.extend(reservation, 501)
    meters.metering.extend(reservation, 500)
    assert (reservation.reserved, meters.day().committed(NOON)) == (500, 1_000)


def test_a_reservation_that_expired_may_be_raised_to_all_that_is_left(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    meters.clock.now += timedelta(seconds=60)
    with pytest.raises(BudgetExceeded):
        meters.metering.extend(reservation, 1_001)
    meters.metering.extend(reservation, 1_000)
    assert meters.day().committed(meters.clock.now) == 1_000


def test_what_is_booked_besides_adds_up_and_lets_go_of_what_was_held_for_it(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    reservation.held = 50
    reservation.spend(call(7))
    reservation.add(call(2), call(3))
    assert (reservation.spent, reservation.held, reservation.calls) == (12, 0, 3)
    assert reservation.tokens == TokenCounts(input=1, output=1), "the others' tokens are another model's"


@pytest.mark.parametrize(("reused", "calls", "cached"), [(0, 0, False), (1, 0, True), (2, 0, True), (1, 1, False)])
def test_an_answer_is_from_the_cache_if_all_of_it_is(meters: Meters, reused: int, calls: int, cached: bool) -> None:
    reservation = meters.reserve("r1", 100)
    for _ in range(reused):
        reservation.reuse("other")
    for _ in range(calls):
        reservation.spend(call(1))
    assert (reservation.report()["cached"], reservation.reused) == (cached, reused)


def test_records_of_calls_name_no_writer_who_was_erased_meanwhile(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    reservation.names = {"writer": "bob", "group": "g1"}
    reservation.spend(call(1))
    reservation.forget_writer()
    reservation.spend(call(1))
    records = [write.data for write in reservation.settlement() if isinstance(write, Create) and "calls" in write.path]
    assert [(record.get("writer"), record.get("group")) for record in records] == [(None, "g1")] * 2
    assert all(record["cost_micro_usd"] == 1 for record in records)


def test_expired_reservations_are_let_go_of_and_counted_once(meters: Meters) -> None:
    assert meters.metering.release_expired(ADA, "2026-03-01") == {}
    for name, micro in (("a", 10), ("b", 20)):
        meters.reserve(name, micro)
    meters.clock.now += timedelta(seconds=30)
    meters.reserve("c", 40)
    assert meters.metering.release_expired(ADA, "2026-03-01") == {}
    meters.clock.now += timedelta(seconds=30)
    assert meters.metering.release_expired(ADA, "2026-03-01") == {"a": 10, "b": 20}
    meters.clock.now += timedelta(seconds=30)
    assert meters.metering.release_expired(ADA, "2026-03-01") == {"c": 40}
    assert meters.metering.release_expired(ADA, "2026-03-01") == {}
    day = meters.day()
    assert (day.number("expired_requests"), day.number("expired_micro_usd")) == (3, 70)
    assert day.committed(meters.clock.now) == 0


class Overtaken(CallLog):
    """The way to the database of a user whose other requests come first."""

    def __init__(self, store: Any, first: Callable[[], object], times: int) -> None:
        super().__init__(store)
        self._first, self._left = first, times

    def commit(self, user: Scope, writes: Any) -> datetime:
        if self._left:
            self._left -= 1
            self._first()
        return super().commit(user, writes)


def test_who_is_overtaken_reads_the_day_again_and_gives_up_at_last(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)

    def other() -> None:
        meters.store.commit(
            [Update(ADA.usage("2026-03-01"), {"updated_at": meters.clock.now, "n": object.__hash__(object())})]
        )

    once = Metering(meters.store, meters.metering.entitlements, meters.clock, 60.0, Overtaken(meters.store, other, 1))
    once.extend(reservation, 150)
    assert meters.day().committed(NOON) == 150
    always = Metering(meters.store, once.entitlements, meters.clock, 60.0, Overtaken(meters.store, other, 10**6))
    with pytest.raises(Contention) as caught:
        always.extend(reservation, 200)
    assert caught.value.retry_after == 1
    assert (reservation.reserved, meters.day().committed(NOON)) == (150, 150)


def test_without_a_budget_of_its_own_the_app_pays_for_its_work_and_closes_nothing(meters: Meters) -> None:
    assert meters.metering.pay_for_app(10**9, lambda: ("done", 5)) == "done"
    meters.metering.close()


def credit(micro: int) -> dict[str, Any]:
    return {"balance": {"micro_usd": micro}}


def test_credit_is_held_to_the_last_micro_dollar_and_then_the_default_plan_is_there(meters: Meters) -> None:
    meters.has(**credit(600))
    first = meters.reserve("r1", 600)
    assert (first.plan, first.model) == ("payg", "big")
    assert meters.balance()["reservations"]["r1"]["micro_usd"] == 600
    second = meters.reserve("r2", 400, cheap=1)
    assert second.plan == "free", "a last bit of credit keeps nobody from what everybody has"
    meters.settle(first, 500)
    assert meters.balance() == {"micro_usd": 100, "reservations": {}}


def test_who_was_granted_a_plan_on_credit_has_no_other_when_it_is_used_up(meters: Meters) -> None:
    meters.has(plan="payg", **credit(10))
    with pytest.raises(CreditExceeded):
        meters.reserve("r1", 12, cheap=11)
    assert meters.reserve("r2", 11, cheap=10).model == "small"


def test_credit_bounds_what_a_reservation_is_raised_to(meters: Meters) -> None:
    meters.has(**credit(500))
    reservation = meters.reserve("r1", 100)
    meters.clock.now += timedelta(seconds=5)
    with pytest.raises(CreditExceeded):
        meters.metering.extend(reservation, 501)
    meters.metering.extend(reservation, 500)
    assert meters.balance()["reservations"]["r1"]["micro_usd"] == 500
    assert reservation.credit_until == meters.clock.now + timedelta(seconds=60)


@pytest.mark.parametrize(("before_its_end", "paid"), [(15.001, 80), (15.0, 0), (-1.0, 0)])
def test_what_settles_while_credit_is_surely_held_is_paid_from_it(
    meters: Meters, before_its_end: float, paid: int
) -> None:
    meters.has(**credit(500))
    reservation = meters.reserve("r1", 100)
    meters.clock.now += timedelta(seconds=60 - before_its_end)
    meters.settle(reservation, 80)
    assert meters.balance() == {"micro_usd": 500 - paid, "reservations": {}}


@pytest.mark.parametrize(("before_its_end", "paid"), [(15.001, (30, 10)), (15.0, (0, 0))])
def test_calls_that_were_left_behind_are_paid_from_what_stays_held_for_them_and_not_twice(
    meters: Meters, before_its_end: float, paid: tuple[int, int]
) -> None:
    meters.has(**credit(500))
    reservation = meters.reserve("r1", 100)
    reservation.cover(40)
    meters.settle(reservation, 20)
    assert (meters.balance()["micro_usd"], meters.balance()["reservations"]["r1"]["micro_usd"]) == (480, 40)
    meters.clock.now += timedelta(seconds=60 - before_its_end)
    left = 480
    for cost, taken in zip((30, 30), paid, strict=True):
        reservation.spend(call(cost))
        left -= taken
        assert meters.balance()["micro_usd"] == left
    assert meters.day().number("cost_micro_usd") == 80
    assert set(meters.balance()["reservations"]) == (set() if paid[0] else {"r1"})


def test_a_commit_that_reads_an_old_day_is_refused(meters: Meters) -> None:
    day, user = meters.day(), meters.store.get(ADA.root)
    _, writes = meters.metering.reserve(ADA, "2026-03-01", day, user, "r1", Quote("big", 1), Quote("small", 1))
    meters.reserve("r2", 1)
    later = meters.day()
    _, second = meters.metering.reserve(ADA, "2026-03-01", later, user, "r3", Quote("big", 1), Quote("small", 1))
    meters.reserve("r4", 1)
    with pytest.raises(PreconditionFailed):
        meters.store.commit(second)
    assert meters.day().committed(NOON) == 2
    assert writes


def test_a_days_sums_have_each_call_once_also_those_that_end_late(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    reservation.cover(40)
    meters.settle(reservation, 20)
    reservation.spend(call(7))
    sums = meters.store.get(ADA.user_sum("2026-03-01"))
    assert sums is not None
    assert (sums.data["cost_micro_usd"], sums.data["calls"], sums.data["requests"]) == (27, 2, 0)
    assert reservation.calls == 2


def test_how_a_request_ended_has_its_retries_fallbacks_and_times(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    for model, step in (("a", 1), ("a", 1), ("a", 1), ("b", 1), ("c", 1), ("a", 2), ("embedding", 0)):
        reservation.spend(replace(call(1), model=model, step=step))
    record = {"usage": reservation.report(), "outcome": "answered", "error": None}
    for passages, empty in (([], True), (["a passage"], False)):
        (fact,) = (
            value
            for name, value in reservation.ended({**record, "retrieval": {"passages": passages, "ms": 5}}).items()
            if name.startswith("sums.")
        )
        assert (fact["searched"], fact["empty"], fact["retrieval_ms"]) == (True, empty, 5)
        assert (fact["retries"], fact["fallbacks"], fact["model_ms"]) == (2, 2, 3_000)
    meters.store.commit(reservation.settlement())
    sums = meters.store.get(ADA.user_sum("2026-03-01"))
    assert sums is not None
    assert (sums.data["calls"], sums.data["requests"]) == (7, 1)


def test_a_request_of_very_many_calls_stores_their_records_before_it_settles(
    meters: Meters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "_MOST_RECORDS", 2)
    reservation = meters.reserve("r1", 100)
    for _ in range(5):
        reservation.cover(1)
        reservation.release(1)
        reservation.spend(call(1))
    assert len(list(meters.store.ids("apps/demo/calls"))) == 4
    meters.store.commit(reservation.settlement())
    assert len(list(meters.store.ids("apps/demo/calls"))) == 5
    assert meters.day().number("cost_micro_usd") == 5


@pytest.fixture
def bounded(meters: Meters) -> Metering:
    """Metering of an app with a budget of its own, of 10,000 micro-dollars a day."""
    budget = Budget(daily_usd="0.01")  # type: ignore[arg-type]
    ceiling = Ceiling(meters.store, Scope("demo"), budget, meters.clock, 60.0, monotonic=lambda: 0.0)
    return replace(meters.metering, ceiling=ceiling)


def used(metering: Metering) -> int:
    """End the process's share, and return what the app's budget has spent."""
    metering.close()
    assert metering.ceiling is not None
    return metering.ceiling.pool("2026-03-01").spent("day", "2026-03-01")


def test_work_of_the_app_itself_is_paid_from_its_budget_and_refused_beyond_it(bounded: Metering) -> None:
    assert bounded.pay_for_app(0, lambda: ("free", 0)) == "free"
    assert bounded.pay_for_app(3_000, lambda: ("done", 2_000)) == "done"
    with pytest.raises(AppBudgetExceeded):
        bounded.pay_for_app(8_001, lambda: pytest.fail("there is no money for it"))
    assert used(bounded) == 2_000


def test_a_call_that_ends_after_its_request_is_paid_from_the_apps_budget_too(meters: Meters, bounded: Metering) -> None:
    reservation, writes = bounded.reserve(
        ADA, "2026-03-01", meters.day(), None, "r1", Quote("big", 100), Quote("small", 1)
    )
    with reservation.admission():
        meters.store.commit(writes)
    reservation.cover(40)
    reservation.cover(20)
    meters.settle(reservation, 30)
    reservation.spend(call(7))
    reservation.release(40)
    reservation.release(20)
    assert reservation.draw is not None
    assert (reservation.draw.spent, reservation.draw.held) == (37, 0)
    assert used(bounded) == 37
