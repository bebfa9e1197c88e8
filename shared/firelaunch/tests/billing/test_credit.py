"""Credit: bought once, given once, taken back, and spent to the last micro-dollar but no further."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from firelaunch.billing.balance import Balance
from firelaunch.billing.base import Owner, Payment
from firelaunch.billing.checkout import Checkout
from firelaunch.billing.credit import grant_writes, payment_writes
from firelaunch.billing.entitlements import Entitlements
from firelaunch.errors import CreditExceeded, Forbidden, PreconditionFailed
from firelaunch.llm.types import FinishedCall, TokenCounts
from firelaunch.metering.reservations import Day, Metering, Quote, Reservation
from firelaunch.metering.retries import Retries, admit
from firelaunch.scope import Scope
from firelaunch.settings.plans import Plan
from firelaunch.store.base import Set
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from shop import Shop

ADA = Scope("demo", "ada")
TEN = 10_000_000
PAYG = Plan(requests_per_minute=10_000, daily_usd="1000", balance=True)  # type: ignore[arg-type]


def last(shop: Shop) -> Any:
    return shop.stripe.account.events[-1]


def test_what_was_paid_is_credit_once_however_often_and_in_what_order_it_is_told(either_shop: Shop) -> None:
    shop = either_shop
    for uid in ("ada", "bob"):
        shop.top_up(uid)
    events = shop.stripe.account.events * 3
    random.Random(7).shuffle(events)  # noqa: S311 - a test's own dice
    outcomes = [shop.send(event) for event in events]
    assert outcomes.count("applied") == 2
    assert shop.credit("ada") == shop.credit("bob") == (TEN, 0)
    assert (shop.plan(), shop.has().source) == ("payg", "credit")
    assert shop.plan("carl") == "free"


def test_what_is_paid_later_is_credit_when_the_money_has_come(shop: Shop) -> None:
    come, failed = shop.top_up("ada", later=True), shop.top_up("bob", later=True)
    shop.send_all()
    assert shop.credit("ada") == shop.credit("bob") == (0, 0)
    shop.stripe.account.payments.settle(come)
    shop.stripe.account.payments.settle(failed, failed=True)
    shop.send_all()
    assert (shop.credit("ada"), shop.credit("bob")) == ((TEN, 0), (0, 0))


def test_a_refund_takes_back_its_part_and_a_refund_that_fails_gives_it_again(either_shop: Shop) -> None:
    shop, payments = either_shop, either_shop.stripe.account.payments
    payment = shop.top_up()
    shop.send_all()
    first = payments.refund(payment, 250)
    shop.send_all()
    assert shop.credit() == (7_500_000, 0)
    payments.refund(payment)
    shop.send_all()
    assert shop.credit() == (0, 0)
    payments.fail_refund(first)
    shop.send_all()
    assert shop.credit() == (2_500_000, 0)


@pytest.mark.parametrize(
    ("opened", "while_open", "closed", "after"),
    [
        ("needs_response", 0, "won", TEN),
        ("under_review", 0, "lost", 0),
        ("warning_needs_response", TEN, "warning_closed", TEN),
    ],
)
def test_a_dispute_takes_the_credit_back_until_it_is_won(
    shop: Shop, opened: str, while_open: int, closed: str, after: int
) -> None:
    dispute = shop.stripe.account.payments.dispute(shop.top_up(), opened)
    shop.send_all()
    assert shop.credit() == (while_open, 0)
    shop.stripe.account.payments.decide(dispute, closed)
    shop.send_all()
    assert shop.credit() == (after, 0)


def test_what_was_spent_before_it_was_refunded_is_owed_and_the_next_top_up_pays_it_first(shop: Shop) -> None:
    payment = shop.top_up()
    shop.send_all()
    shop.store.commit([Balance.payment(ADA, "r1", 8_000_000)])
    shop.stripe.account.payments.refund(payment)
    shop.send_all()
    assert shop.credit() == (0, 8_000_000)
    assert shop.plan() == "free"
    shop.top_up()
    shop.send_all()
    assert shop.credit() == (2_000_000, 0)


def test_what_running_requests_hold_is_not_taken_back_from_under_them(shop: Shop) -> None:
    payment = shop.top_up()
    shop.send_all()
    now = datetime.now(UTC)
    balance = Balance.of(shop.store.get(ADA.root))
    shop.store.commit([balance.hold(ADA, "r1", 3_000_000, now, now + timedelta(minutes=1))])
    shop.stripe.account.payments.refund(payment)
    shop.send_all()
    assert shop.credit() == (3_000_000, 3_000_000)
    assert Balance.of(shop.store.get(ADA.root)).available(now) == 0
    shop.store.commit([Balance.payment(ADA, "r1", 1_000_000)])
    assert shop.credit() == (2_000_000, 3_000_000)
    assert Balance.of(shop.store.get(ADA.root)).available(now) == 0


def test_payments_of_other_things_and_of_other_apps_give_no_credit(shop: Shop) -> None:
    account = shop.stripe.account
    shop.top_up(app="elsewhere")
    with pytest.raises(Forbidden):
        shop.send(last(shop))
    for metadata in ({}, {"app_id": "demo", "uid": "ada"}, {"app_id": "demo", "uid": "ada", "credit_micro_usd": "-5"}):
        session = account.session({"customer": "cus_1", "mode": "payment"}, ["price_credit"], {"metadata": metadata})
        account.payments.dispute(account.pay(session["id"])["id"])
        assert shop.send(last(shop)) in {"skipped", "applied"}
    made_up = account.happen("charge.dispute.created", {"object": "dispute", "payment_intent": "pi_none"})
    assert shop.send(made_up) == "skipped"
    assert shop.credit() == (0, 0)


def test_events_that_never_came_are_made_up_for_by_the_reconciliation(either_shop: Shop) -> None:
    shop, payments = either_shop, either_shop.stripe.account.payments
    kept = [shop.top_up(f"user-{number}") for number in range(3)]
    shop.send_all()
    payments.refund(kept[0])
    payments.dispute(kept[1])
    for number in range(120):
        shop.top_up(f"later-{number}")
    report = shop.reconcile()
    assert [shop.credit(f"user-{number}") for number in range(3)] == [(0, 0), (0, 0), (TEN, 0)]
    assert {shop.credit(f"later-{number}") for number in range(120)} == {(TEN, 0)}
    assert (report.payments_mended, report.payment_events) == (123, 126)
    assert shop.reconcile().payments_mended == 0


def test_an_event_from_before_an_erasure_brings_nothing_back(shop: Shop) -> None:
    payment = shop.top_up()
    event = last(shop)
    shop.store.commit([Set(ADA.erasure(), {"delete_at": datetime.now(UTC)})])
    assert shop.send(event) == "skipped"
    assert shop.store.get(ADA.root) is None
    assert shop.store.get(ADA.credit_entry(payment)) is None


class Bank:
    """One user's credit on a real store, with a clock that is set by hand."""

    def __init__(self, store: Any) -> None:
        self.now = datetime(2026, 3, 1, 23, 58, tzinfo=UTC)
        self.store = ScopedStore(store, Scope("demo"))
        entitlements = Entitlements({"payg": PAYG}, "payg")
        self.metering = Metering(self.store, entitlements, lambda: self.now, 60.0)
        self.checkout = Checkout(self.store, entitlements, None, "https://a.example.com", clock=lambda: self.now)

    @property
    def balance(self) -> Balance:
        return Balance.of(self.store.get(ADA.root))

    def reserve(self, request_id: str, micro_usd: int) -> Reservation:
        quotes = Quote("big", micro_usd), Quote("small", micro_usd)
        return admit(self.metering, Retries(), ADA, request_id, quotes)[0]

    def pay(self, payment: Payment) -> None:
        user, entry = self.store.get_many([ADA.root, ADA.credit_entry(payment.id)])
        self.store.commit(payment_writes(ADA, user, entry, payment, self.now))


def spend(reservation: Reservation, micro_usd: int) -> None:
    reservation.spend(FinishedCall(reservation.model, TokenCounts(input=1), micro_usd, 0.1))


class CreditMachine(RuleBasedStateMachine):
    """Whatever comes together, the credit is what came in less what was billed, and never below zero."""

    running = Bundle("running")
    bought = Bundle("bought")
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.raw = SQLiteStore(self.folder / f"{uuid4()}.sqlite3")
        self.bank = Bank(self.raw)
        self.number = 0
        self.entries: dict[str, int] = {}
        self.billed = 0

    def teardown(self) -> None:
        self.raw.close()

    def _id(self) -> str:
        self.number += 1
        return f"x{self.number}"

    @rule(target=bought, micro_usd=st.integers(1, 1_000), paid=st.booleans())
    def buy(self, micro_usd: int, paid: bool) -> Payment:
        return self._told(Payment(f"pi_{self._id()}", Owner("demo", "ada"), micro_usd, 7, "usd", paid))

    @rule(target=bought, payment=consumes(bought), refunded=st.integers(0, 7), disputed=st.booleans())
    def goes_on(self, payment: Payment, refunded: int, disputed: bool) -> Payment:
        credit = payment.credit_micro_usd
        return self._told(Payment(payment.id, payment.owner, credit, 7, "usd", True, refunded, disputed))

    @rule(payment=bought)
    def told_again(self, payment: Payment) -> None:
        self._told(payment)

    def _told(self, payment: Payment) -> Payment:
        self.bank.pay(payment)
        self.entries[payment.id] = payment.worth
        return payment

    @rule(micro_usd=st.integers(-500, 500))
    def grant(self, micro_usd: int) -> None:
        key = self._id()
        for _ in range(2):  # the first answer was lost
            self.bank.checkout.grant_credit(ADA, micro_usd, "root", key)
        self.entries[key] = micro_usd

    @rule(target=running, micro_usd=st.integers(0, 700))
    def begin(self, micro_usd: int) -> Reservation | None:
        could = self.bank.balance.available(self.bank.now)
        try:
            reservation = self.bank.reserve(self._id(), micro_usd)
        except CreditExceeded:
            assert micro_usd > could
            return None
        assert micro_usd <= could
        return reservation

    @rule(reservation=running, more=st.integers(1, 300))
    def goes_further(self, reservation: Reservation | None, more: int) -> None:
        if reservation is None or reservation._settled:
            return
        try:
            reservation.cover(more)
        except CreditExceeded:
            return
        spend(reservation, more)
        reservation.release(more)

    @rule(reservation=running, share=st.floats(0, 1))
    def end(self, reservation: Reservation | None, share: float) -> None:
        if reservation is None or reservation._settled:
            return
        spend(reservation, int((reservation.reserved - reservation.spent) * share))
        until = reservation.credit_until
        self.bank.store.commit(reservation.settlement())
        if until is not None and self.bank.now < until - timedelta(seconds=15):
            self.billed += reservation.spent

    @rule(seconds=st.sampled_from([1, 20, 46, 61, 3_600]))
    def time_passes(self, seconds: int) -> None:
        self.bank.now += timedelta(seconds=seconds)

    @invariant()
    def adds_up(self) -> None:
        balance = self.bank.balance
        assert balance.micro_usd >= balance.held(self.bank.now) >= 0
        assert balance.owed >= 0
        assert balance.micro_usd - balance.owed == sum(self.entries.values()) - self.billed


def test_the_credit_is_what_came_in_less_what_was_billed_and_never_below_zero(tmp_path: Path) -> None:
    """The machine's invariant asserts it after each step."""
    CreditMachine.folder = tmp_path
    run_state_machine_as_test(CreditMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_many_at_once_spend_no_more_than_there_is(either_shop: Shop) -> None:
    """Requests, top-ups, refunds and repeated events of one user at once."""
    shop, bank = either_shop, Bank(either_shop.store)
    bank.now = datetime.now(UTC)
    payment = shop.top_up(credit=1_000)
    shop.send_all()

    def request(number: int) -> int:
        try:
            reservation = bank.reserve(f"r{number}", 90)
        except CreditExceeded:
            return 0
        spend(reservation, 70)
        bank.store.commit(reservation.settlement())
        return 70

    def event(number: int) -> int:
        if number == 5:
            shop.top_up(credit=500)
        if number == 9:
            shop.stripe.account.payments.refund(payment, 500)
        for each in list(shop.stripe.account.events):
            shop.send(each)
        return 0

    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(lambda n: event(n) if n % 4 == 1 else request(n), range(20)))
        spent += sum(pool.map(request, range(100, 120)))
    event(0)
    # What a request that was under way held may have refused the last ones: one more at a time spends what is left.
    for number in itertools.count(200):
        if not (billed := request(number)):
            break
        spent += billed
    has, owed = shop.credit()
    assert has - owed == 1_000 + 500 - 500 - spent
    assert 0 <= has < 90, "what one more request holds is all that is left"
    assert owed == 0 or has == 0


def test_a_grant_that_was_read_before_another_is_made_anew(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    store.commit([Set(ADA.root, {"plan": "payg"})])
    before, now = store.get(ADA.root), datetime.now(UTC)
    store.commit(grant_writes(ADA, before, "g1", 5, "root", now))
    with pytest.raises(PreconditionFailed):
        store.commit(grant_writes(ADA, before, "g2", 5, "root", now))
    assert Balance.of(store.get(ADA.root)).micro_usd == 5
    store.close()


def test_a_request_that_settles_after_its_credit_was_let_go_takes_none(tmp_path: Path) -> None:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    bank = Bank(raw)
    bank.now -= timedelta(hours=1)
    bank.checkout.grant_credit(ADA, 100, "root", None)
    slow = bank.reserve("r1", 100)
    spend(slow, 80)
    bank.now += timedelta(seconds=61)
    quick = bank.reserve("r2", 100)
    spend(quick, 100)
    for reservation in (slow, quick):
        bank.store.commit(reservation.settlement())
    assert (bank.balance.micro_usd, bank.balance.owed) == (0, 0)
    assert Day.of(bank.store.get(ADA.usage(slow.day))).number("cost_micro_usd") == 180
    raw.close()


def test_a_call_that_its_request_left_behind_is_paid_from_what_stays_held(tmp_path: Path) -> None:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    bank = Bank(raw)
    bank.checkout.grant_credit(ADA, 100, "root", None)
    request = bank.reserve("r1", 40)
    request.cover(30)
    request.cover(60)
    bank.store.commit(request.settlement())
    assert bank.balance.held(bank.now) == 90
    spend(request, 25)
    request.release(30)
    assert (bank.balance.micro_usd, bank.balance.held(bank.now)) == (75, 65)
    spend(request, 60)
    assert (bank.balance.micro_usd, bank.balance.held(bank.now)) == (15, 5)
    raw.close()
