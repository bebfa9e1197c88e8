"""The reconciliation: whatever was lost, it ends with Stripe's truth."""

from __future__ import annotations

import random

import pytest
from firelaunch.billing.base import BillingUnavailable
from firelaunch.billing.checkout import Checkout
from firelaunch.errors import ScopeViolation
from firelaunch.scope import Scope
from firelaunch.store.base import Set
from firelaunch.store.scoped import ScopedStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop import Shop


def test_where_nothing_was_lost_nothing_is_found(shop: Shop) -> None:
    shop.subscribe()
    shop.send_all()
    report = shop.reconcile()
    assert (report.subscriptions, report.subscribers, report.differences, report.mended) == (1, 1, 0, 0)


def test_lost_events_are_made_up_for_page_by_page(either_shop: Shop) -> None:
    """250 subscriptions are three pages. Some are new, some changed, some ended, and nobody told us."""
    shop = either_shop
    account = shop.stripe.account
    subs = [shop.subscribe(f"user-{number}") for number in range(250)]
    for event in account.events[: 2 * 200]:
        shop.send(event)
    for sub in subs[:30]:
        account.change(sub, status="canceled")
    for sub in subs[30:50]:
        account.change(sub, price="price_team")
    account.change(subs[60], status="unpaid")
    report = shop.reconcile()
    assert (report.subscriptions, report.differences, report.mended, report.failed) == (220, 101, 101, 0)
    assert len(report.shown) == 100
    plans = [shop.plan(f"user-{number}") for number in range(250)]
    assert plans == ["free"] * 30 + ["team"] * 20 + ["pro"] * 10 + ["free"] + ["pro"] * 189
    again = shop.reconcile()
    assert (again.differences, again.subscribers) == (0, 220)
    lists = [params for _, path, params in shop.stripe.requests if path == "/v1/subscriptions"]
    assert len(lists) == 6
    assert {params["limit"] for params in lists} == {"100"}


def test_what_is_of_no_app_of_ours_is_counted_and_left_alone(shop: Shop) -> None:
    shop.subscribe(app="elsewhere")
    shop.subscribe(uid="a/b")
    customer = shop.stripe.account.customer({})["id"]
    shop.stripe.account.subscribe(customer, {}, "price_pro")
    report = shop.reconcile()
    assert (report.subscriptions, report.foreign, report.differences) == (0, 3, 0)
    assert shop.store.get("apps/elsewhere/users/ada") is None


def test_a_subscription_that_was_given_to_another_user_is_taken_from_the_first(shop: Shop) -> None:
    sub = shop.subscribe("ada")
    shop.send_all()
    shop.stripe.account.change(sub, metadata={"app_id": "demo", "uid": "bob"})
    shop.send(shop.stripe.account.events[-1])
    assert (shop.plan("ada"), shop.plan("bob")) == ("pro", "pro")
    assert shop.reconcile().mended == 1
    assert (shop.plan("ada"), shop.plan("bob")) == ("free", "pro")


def test_what_an_admin_granted_stays(shop: Shop) -> None:
    shop.store.commit([Set("apps/demo/users/ada", {"plan": "team"})])
    sub = shop.subscribe()
    shop.reconcile()
    shop.stripe.account.change(sub, status="canceled")
    shop.reconcile()
    assert shop.plan() == "team"


def test_an_entry_that_somebody_made_up_is_taken_away(shop: Shop) -> None:
    entry = {"status": "active", "prices": ["price_team"], "period_end": None, "cancel_at_period_end": False}
    forged = {"subscriptions": {"sub_forged": entry}, "subscribed": True}
    shop.store.commit([Set("apps/demo/users/ada", {"billing": forged})])
    assert shop.plan() == "team"
    report = shop.reconcile()
    assert (report.differences, report.mended, shop.plan()) == (1, 1, "free")


def test_one_that_cannot_be_mended_does_not_keep_the_others_from_it(shop: Shop) -> None:
    entry = {"status": "active", "prices": ["price_team"], "period_end": None, "cancel_at_period_end": False}
    broken = {"subscriptions": {"no-subscription": entry}, "subscribed": True}
    shop.store.commit([Set("apps/demo/users/abe", {"billing": broken})])
    shop.subscribe("bob")
    report = shop.reconcile()
    assert (report.differences, report.mended, report.failed, shop.plan("bob")) == (2, 1, 1, "pro")


def test_where_stripe_goes_away_in_the_middle_it_ends_and_can_be_begun_again(shop: Shop) -> None:
    for number in range(120):
        shop.subscribe(f"user-{number}")
    # the first page, which is listed, and its first mending
    answered = []

    def then_fail(path: str) -> None:
        answered.append(path)
        if len(answered) == 2:
            shop.stripe.fail = [500] * 3

    shop.stripe.answered = then_fail
    with pytest.raises(BillingUnavailable):
        shop.reconcile()
    shop.stripe.answered = lambda _: None
    assert shop.reconcile().mended == 119
    assert {shop.plan(f"user-{number}") for number in range(120)} == {"pro"}


STEPS = st.tuples(
    st.integers(0, 2), st.sampled_from(["pro", "team", "past_due", "active", "unpaid", "paused", "canceled"])
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=20), seed=st.integers(0, 2**32), lost=st.floats(0, 1))
def test_any_order_any_repetition_and_any_loss_end_in_the_truth(
    shop: Shop, steps: list[tuple[int, str]], seed: int, lost: float
) -> None:
    """Events come as late as they like while Stripe goes on: in the end all have come, or the reconciliation has."""
    chance = random.Random(seed)  # noqa: S311 - tests
    account = shop.stripe.account
    users = [f"{seed}-{number}-{len(account.events)}" for number in range(3)]
    began = len(account.events)
    subs = [shop.subscribe(user) for user in users]
    waiting: list[object] = []
    told = began
    for which, what in [*steps, (0, "")]:
        change = {"price": f"price_{what}"} if what in {"pro", "team"} else {"status": what}
        if what and account.subscriptions[subs[which]]["status"] != "canceled":
            account.change(subs[which], **change)  # type: ignore[arg-type]
        waiting += [event for event in account.events[told:] for _ in range(chance.randint(1, 4))]
        told = len(account.events)
        chance.shuffle(waiting)
        for _ in range(chance.randint(0, len(waiting)) if what else len(waiting)):
            event = waiting.pop()
            if chance.random() >= lost:
                shop.send(event)
    if lost:
        shop.reconcile()
        assert shop.reconcile().differences == 0
    for user, sub in zip(users, subs, strict=True):
        truth = account.subscriptions[sub]
        paid = truth["items"]["data"][0]["price"]["id"].removeprefix("price_")
        assert shop.plan(user) == (paid if truth["status"] in {"active", "trialing", "past_due"} else "free")


def test_the_desk_of_one_app_reaches_into_no_other(shop: Shop) -> None:
    shop.subscribe(app="other")
    desk = Checkout(ScopedStore(shop.store, Scope("demo")), shop.entitlements, shop.payments, "https://app.example.com")
    for attempt in (
        lambda: desk.grant(Scope("other", "ada"), "pro", "root"),
        lambda: desk.subscribe(Scope("other", "ada"), None, "pro", None),
        lambda: desk.portal(Scope("other", "ada")),
        lambda: desk.reconciliation(Scope("other")).run(),
    ):
        with pytest.raises(ScopeViolation):
            attempt()
    assert shop.has(app="other").source == "default"
    assert desk.reconciliation(Scope("demo")).run().foreign == 1
