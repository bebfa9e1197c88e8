"""Metering: budgets hold, reservations become cost exactly once, and money stays whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import BudgetExceeded, RateLimited, SettingsError
from firelaunch.llm.prices import Prices
from firelaunch.llm.types import FinishedCall, TokenCounts, token_bound
from firelaunch.metering.reservations import Day, Metering, Quote, Reservation
from firelaunch.scope import Scope
from firelaunch.settings.app import Plan, Price
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given, settings
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAN = Plan(requests_per_minute=5, daily_usd="0.001", cheaper_model_at_percent=50)  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Meters:
    """One user's metering on a real store, with a clock that is set by hand."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.store = SQLiteStore(path)
        self.metering = Metering(self.store, Entitlements({"free": PLAN}, "free"), self.clock, 60.0)

    def day(self) -> Day:
        return Day.of(self.store.get(ADA.usage(self.metering.today())))

    def reserve(self, request_id: str, micro: int, cheap: int = 1) -> Reservation:
        quotes = Quote("big", micro), Quote("small", cheap)
        day = self.metering.today()
        user = self.store.get(ADA.root)
        reservation, writes = self.metering.reserve(ADA, day, self.day(), user, request_id, *quotes)
        self.store.commit(writes)
        return reservation

    def settle(self, reservation: Reservation, micro: int) -> None:
        tokens = TokenCounts(input=3, cached_input=1, output=2)
        reservation.spend(FinishedCall(reservation.model, tokens, micro, 0.5))
        self.store.commit(reservation.settlement())

    def committed(self) -> int:
        return self.day().committed(self.clock.now)


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Meters]:
    made = Meters(tmp_path / "data.sqlite3")
    yield made
    made.store.close()


def test_a_reservation_holds_money_until_it_is_settled(meters: Meters) -> None:
    reservation = meters.reserve("r1", 400)
    assert meters.committed() == 400
    meters.settle(reservation, 25)
    assert meters.committed() == 25
    day = meters.day()
    assert day.reservations(NOON, expired=False) == {}
    assert [day.number(f"{k}_tokens") for k in ("input", "cached_input", "output")] == [3, 1, 2]


def test_over_the_soft_cap_the_cheap_model_is_chosen(meters: Meters) -> None:
    meters.settle(meters.reserve("r1", 400), 499)
    assert meters.reserve("r2", 100).model == "big"
    meters.settle(meters.reserve("r3", 100), 1)
    chosen = meters.reserve("r4", 100)
    assert (chosen.model, chosen.cheaper) == ("small", True)


def test_a_request_that_the_budget_covers_only_with_the_cheap_model_gets_it(meters: Meters) -> None:
    chosen = meters.reserve("r1", 1001, cheap=1000)
    assert (chosen.model, chosen.reserved) == ("small", 1000)


def test_over_the_hard_cap_is_refused_until_midnight(meters: Meters) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        meters.reserve("r1", 5000, cheap=1001)
    assert caught.value.retry_after == 12 * 3600
    assert "begins in 12 h 0 min" in caught.value.message
    assert "may cost up to $0.001001, and $0.001 is left of today's budget." in caught.value.message
    assert meters.store.get(ADA.usage("2026-03-01")) is None
    meters.settle(meters.reserve("r2", 900), 1000)
    with pytest.raises(BudgetExceeded, match=r"^Today's budget is used up"):
        meters.reserve("r3", 1)
    meters.clock.now += timedelta(hours=12)
    assert meters.reserve("r4", 400).model == "big"


def test_a_groups_refusal_tells_a_member_nothing_of_what_others_spent(meters: Meters) -> None:
    group, day = Scope("demo").of_group("g0123456789abcdef01234567"), meters.metering.today()
    with pytest.raises(BudgetExceeded) as caught:
        meters.metering.reserve(group, day, Day.of(None), None, "r1", Quote("big", 5000), Quote("small", 1001))
    assert caught.value.message.startswith("What is left of today's budget does not cover")
    assert "$" not in caught.value.message


def test_the_minute_is_the_clocks_own(meters: Meters) -> None:
    meters.clock.now = NOON + timedelta(seconds=40)
    for number in range(5):
        meters.reserve(f"r{number}", 1)
    with pytest.raises(RateLimited) as caught:
        meters.reserve("r9", 1)
    assert caught.value.retry_after == 20
    assert "Try again in 20 s" in caught.value.message
    meters.clock.now = NOON + timedelta(seconds=60)
    meters.reserve("r10", 1)
    assert meters.day().number("requests") == 6


def test_a_reservation_that_never_settles_expires_and_is_counted(meters: Meters) -> None:
    meters.reserve("r1", 800)
    meters.clock.now += timedelta(seconds=61)
    assert meters.committed() == 0
    meters.reserve("r2", 300)
    day = meters.day()
    assert (day.number("expired_requests"), day.number("expired_micro_usd")) == (1, 800)
    assert list(day.data["reservations"]) == ["r2"]


def test_a_reservation_that_expired_is_still_paid_when_it_settles_late(meters: Meters) -> None:
    late = meters.reserve("r1", 800)
    meters.clock.now += timedelta(seconds=61)
    meters.reserve("r2", 300)
    meters.settle(late, 70)
    assert meters.day().number("cost_micro_usd") == 70


def test_a_call_beyond_its_reservation_extends_it_or_is_refused(meters: Meters) -> None:
    reservation = meters.reserve("r1", 100)
    reservation.cover(100)
    assert reservation.reserved == 100
    reservation.release(100)
    reservation.spend(FinishedCall("big", TokenCounts(1), 60, 0.5))
    reservation.cover(100)
    assert (reservation.reserved, meters.committed()) == (160, 160)
    with pytest.raises(BudgetExceeded, match=r"up to \$0.001101, and \$0.001 is left"):
        reservation.cover(941)
    assert meters.committed() == 160


def test_a_days_cost_stays_on_the_day_that_it_was_reserved(meters: Meters) -> None:
    meters.clock.now = NOON + timedelta(hours=11, minutes=59, seconds=59)
    reservation = meters.reserve("r1", 100)
    meters.clock.now += timedelta(seconds=10)
    reservation.cover(150)
    meters.settle(reservation, 42)
    assert meters.day().number("cost_micro_usd") == 0
    assert Day.of(meters.store.get(ADA.usage("2026-03-01"))).number("cost_micro_usd") == 42


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 700), st.integers(0, 60), st.sampled_from(["settle", "crash", "late"])), max_size=25
    )
)
def test_what_is_settled_is_what_was_spent_and_no_admission_goes_over_the_budget(
    tmp_path_factory: Any, steps: Any
) -> None:
    meters = Meters(tmp_path_factory.mktemp("usage") / "data.sqlite3")
    spent = 0
    late: list[tuple[Reservation, int]] = []
    for number, (micro, seconds, fate) in enumerate(steps):
        before = meters.committed()
        try:
            reservation = meters.reserve(f"r{number}", micro, cheap=micro // 2)
        except (BudgetExceeded, RateLimited):
            assert meters.committed() == before
        else:
            assert meters.committed() <= PLAN.daily_usd
            used = reservation.reserved * 2 // 3
            if fate == "settle":
                meters.settle(reservation, used)
                spent += used
            elif fate == "late":
                late.append((reservation, used))
        meters.clock.now += timedelta(seconds=seconds)
    for reservation, used in late:
        meters.settle(reservation, used)
        spent += used
    assert meters.day().number("cost_micro_usd") == spent
    meters.store.close()


def test_cost_is_the_tables_price_rounded_up_to_a_whole_micro_dollar() -> None:
    prices = Prices("openai", {})
    assert prices.cost("gpt-5.4-mini", TokenCounts(input=1_000_000, output=1_000_000)) == 5_250_000
    assert prices.cost("gpt-5.4-mini", TokenCounts(input=1)) == 1
    assert prices.cost("gpt-5.4-mini", TokenCounts()) == 0
    cached = prices.cost("gpt-5.4-mini", TokenCounts(input=1_000_000, cached_input=1_000_000))
    assert 0 < cached < 750_000


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**6))
def test_an_overriding_price_counts_cached_tokens_once(asked: int, cached: int, answered: int) -> None:
    cached = min(asked, cached)
    price = Price(input="1.25", cached_input="0.125", output="10")  # type: ignore[arg-type]
    cost = Prices("openai", {"m": price}).cost("m", TokenCounts(asked, cached, answered))
    exact = (asked - cached) * Decimal("1.25") + cached * Decimal("0.125") + answered * 10
    assert 0 <= cost - exact < 1


@given(
    st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**5), st.sampled_from(["gpt-5.4-mini", "gpt-5.5"])
)
def test_cost_is_what_the_price_table_itself_calculates(asked: int, cached: int, answered: int, model: str) -> None:
    from genai_prices import Usage, calc_price

    cached = min(asked, cached)
    usage = Usage(input_tokens=asked, cache_read_tokens=cached, output_tokens=answered)
    exact = calc_price(usage, model, provider_id="openai").total_price * 1_000_000
    assert 0 <= Prices("openai", {}).cost(model, TokenCounts(asked, cached, answered)) - exact < 1


def test_a_model_without_a_price_is_refused_by_name() -> None:
    prices = Prices("offline", {"mine": Price(input="1", output="1")})  # type: ignore[arg-type]
    prices.check("openai", ["mine", "gpt-5.4-mini"], "OPENAI_MODEL")
    prices.check("vertex", ["gemini-2.5-flash", "google/gemini-2.5-flash"], "models.vertex")
    with pytest.raises(SettingsError, match="'imagined'"):
        prices.check("openai", ["mine", "imagined"], "OPENAI_MODEL")


@given(st.text())
def test_a_token_is_never_less_than_a_byte(text: str) -> None:
    assert token_bound([{"role": "user", "content": text}]) >= len(text.encode("utf-8", "replace"))
