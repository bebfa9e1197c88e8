"""Events: any order, more than once, at once, forged, foreign, unknown."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from firelaunch.billing.base import BillingError, BillingUnavailable
from firelaunch.errors import BadRequest, Forbidden
from shop import Shop


def last(shop: Shop) -> Any:
    return shop.stripe.account.events[-1]


def test_a_subscription_entitles_and_its_end_takes_that_away(either_shop: Shop) -> None:
    shop = either_shop
    sub = shop.subscribe()
    assert shop.send(last(shop)) == "applied"
    assert (shop.plan(), shop.has().source) == ("pro", "subscription")
    shop.stripe.account.change(sub, price="price_team")
    assert shop.send(last(shop)) == "applied"
    assert (shop.plan(), shop.has().features) == ("team", {"export"})
    shop.stripe.account.change(sub, status="canceled")
    assert shop.send(last(shop)) == "applied"
    assert (shop.plan(), shop.has().source) == ("free", "default")


@pytest.mark.parametrize(
    ("status", "plan"),
    [
        ("active", "pro"),
        ("trialing", "pro"),
        ("past_due", "pro"),
        *((s, "free") for s in ("incomplete", "incomplete_expired", "unpaid", "paused", "canceled", "something_new")),
    ],
)
def test_the_states_that_entitle(shop: Shop, status: str, plan: str) -> None:
    shop.subscribe(status=status)
    shop.send_all()
    assert shop.plan() == plan


def test_who_pays_an_old_price_has_the_plan_and_who_pays_an_unknown_one_has_the_default(shop: Shop) -> None:
    shop.subscribe("ada", price="price_1999")
    shop.subscribe("bob", price="price_of_something_else")
    shop.send_all()
    assert (shop.plan("ada"), shop.plan("bob")) == ("pro", "free")


def test_of_two_subscriptions_the_better_counts_until_it_ends(shop: Shop) -> None:
    shop.subscribe(price="price_pro")
    better = shop.subscribe(price="price_team")
    shop.send_all()
    assert shop.plan() == "team"
    shop.stripe.account.change(better, status="canceled")
    shop.send_all()
    assert shop.plan() == "pro"


def test_an_event_is_applied_once_and_answered_well_each_time(either_shop: Shop) -> None:
    shop = either_shop
    sub = shop.subscribe()
    event = last(shop)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: shop.send(event), range(8)))
    assert sorted(outcomes) == ["applied", *["duplicate"] * 7]
    receipt = shop.receipt(event)
    assert receipt is not None
    assert (receipt["type"], receipt["outcome"], receipt["uid"], receipt["subscription"]) == (
        *("customer.subscription.created", "applied"),
        *("ada", sub),
    )
    user = shop.store.get("apps/demo/users/ada")
    assert user is not None
    assert user.data["billing"]["revision"] == 1


def test_an_event_that_comes_late_changes_nothing_that_is_newer(shop: Shop) -> None:
    sub = shop.subscribe()
    late = last(shop)
    shop.stripe.account.change(sub, price="price_team")
    shop.send(last(shop))
    assert shop.send(late) == "applied"
    assert shop.plan() == "team"


def test_an_answer_that_was_asked_for_first_and_stored_last_does_not_win(either_shop: Shop) -> None:
    """The first event's question is answered, and before the answer arrives the second event is applied in full."""
    shop = either_shop
    sub = shop.subscribe()
    first = last(shop)

    def meanwhile(_: str) -> None:
        shop.stripe.answered = lambda _: None
        shop.stripe.account.change(sub, price="price_team")
        assert shop.send(last(shop)) == "applied"

    shop.stripe.answered = meanwhile
    assert shop.send(first) == "applied"
    assert shop.plan() == "team"


def test_nor_does_it_where_the_newer_state_is_the_one_that_was_stored_before(either_shop: Shop) -> None:
    """pro, team, pro: the question about "team" is overtaken by an event that finds "pro", as it is stored already."""
    shop = either_shop
    sub = shop.subscribe()
    shop.send(last(shop))
    shop.stripe.account.change(sub, price="price_team")
    middle = last(shop)

    def meanwhile(_: str) -> None:
        shop.stripe.answered = lambda _: None
        shop.stripe.account.change(sub, price="price_pro")
        assert shop.send(last(shop)) == "applied"

    shop.stripe.answered = meanwhile
    assert shop.send(middle) == "applied"
    assert shop.plan() == "pro"


def test_nor_where_the_user_had_no_document_and_the_subscription_is_over(shop: Shop) -> None:
    sub = shop.subscribe()
    first = last(shop)

    def meanwhile(_: str) -> None:
        shop.stripe.answered = lambda _: None
        shop.stripe.account.change(sub, status="canceled")
        assert shop.send(last(shop)) == "applied"

    shop.stripe.answered = meanwhile
    shop.send(first)
    assert shop.plan() == "free"


def test_an_unknown_event_is_kept_and_skipped(shop: Shop) -> None:
    unknown = [
        shop.stripe.account.happen("tax.form.invented", {"object": "tax_form", "id": "tf_1"}),
        shop.stripe.account.happen("radar.invented", {"object": "x", "metadata": {"app_id": "other", "uid": "ada"}}),
        shop.stripe.account.happen("customer.subscription.updated", {"object": "subscription", "id": 7}),
        shop.stripe.account.happen(
            "customer.subscription.updated",
            {"object": "subscription", "id": "sub_1", "metadata": {"app_id": "demo", "uid": "a/b"}},
        ),
    ]
    kept_in = ["demo", "other", "demo", "demo"]
    for event, app in zip(unknown, kept_in, strict=True):
        assert [shop.send(event), shop.send(event)] == ["skipped", "duplicate"]
        receipt = shop.receipt(event, app)
        assert receipt is not None
        assert (receipt["type"], receipt["outcome"]) == (event["type"], "skipped")
    assert shop.stripe.requests == []


def test_an_event_of_another_app_is_refused_and_leaves_no_trace(shop: Shop) -> None:
    shop.subscribe(app="elsewhere")
    with pytest.raises(Forbidden):
        shop.send(last(shop))
    assert [shop.receipt(last(shop), app) for app in ("demo", "other", "elsewhere")] == [None] * 3
    assert shop.store.get("apps/elsewhere/users/ada") is None


def test_an_event_that_says_another_owner_than_the_subscription_gives_nothing(shop: Shop) -> None:
    sub = shop.subscribe("ada")
    about = {"object": "subscription", "id": sub, "metadata": {"app_id": "demo", "uid": "eve"}}
    shop.send(shop.stripe.account.happen("customer.subscription.updated", about))
    about = {**about, "metadata": {"app_id": "other", "uid": "ada"}}
    shop.send(shop.stripe.account.happen("customer.subscription.updated", about))
    assert (shop.plan("eve"), shop.plan("ada", "other")) == ("free", "free")


def test_checkouts_and_invoices_lead_to_their_subscription(shop: Shop) -> None:
    sub, metadata = shop.subscribe(), {"app_id": "demo", "uid": "ada"}
    details = {"subscription": sub, "metadata": metadata}
    invoice = {"object": "invoice", "metadata": {}, "parent": {"subscription_details": details}}
    assert shop.send(shop.stripe.account.happen("invoice.paid", invoice)) == "applied"
    assert shop.plan() == "pro"
    other = shop.subscribe("bob")
    session = {"object": "checkout.session", "subscription": other, "metadata": {**metadata, "uid": "bob"}}
    assert shop.send(shop.stripe.account.happen("checkout.session.completed", session)) == "applied"
    assert shop.plan("bob") == "pro"


@pytest.mark.parametrize(
    "forge",
    [
        lambda body, _: (body, None),
        lambda body, _: (body, ""),
        lambda body, _: (body, "nonsense"),
        lambda body, _: (body, "t=now,v1=00"),
        lambda body, header: (body, header.replace("v1=", "v0=")),
        lambda body, header: (body, header[:-1] + ("0" if header[-1] != "0" else "1")),
        lambda body, header: (body + b" ", header),
        lambda body, header: (body.replace(b"ada", b"eve"), header),
        lambda body, header: (b"\xff" + body, header),
    ],
)
def test_a_forged_signature_is_refused(shop: Shop, forge: Any) -> None:
    shop.subscribe()
    with pytest.raises(BadRequest):
        shop.webhooks.event(*forge(*shop.stripe.webhook(last(shop))))


def test_an_old_signature_and_another_endpoints_are_refused_and_a_recent_one_is_not(shop: Shop) -> None:
    shop.subscribe()
    for bad in ({"at": time.time() - 301}, {"secret": "whsec_of_another"}):
        with pytest.raises(BadRequest):
            shop.webhooks.event(*shop.stripe.webhook(last(shop), **bad))
    assert shop.webhooks.event(*shop.stripe.webhook(last(shop), at=time.time() - 240)).id == last(shop)["id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"evt_1"',
        b"{}",
        b"[" * 100_000,
        b'{"id": "evt_1", "type": "x", "created": 1}',
        b'{"id": 1, "type": "x", "created": 1, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": 1e400, "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "x", "created": 1, "data": {"object": []}}',
        b'{"id": "evt_1", "type": ["x"], "created": 1, "data": {"object": {}}}',
    ],
)
def test_what_is_signed_and_no_event_is_refused(shop: Shop, body: bytes) -> None:
    with pytest.raises(BadRequest):
        shop.send(body)


def test_an_id_that_would_lead_elsewhere_is_refused(shop: Shop) -> None:
    for evil in ("../../users/ada", "", "e" * 65, "__x__"):
        with pytest.raises(BadRequest):
            shop.send({**shop.stripe.account.happen("x", {}), "id": evil})


def test_where_stripe_cannot_be_asked_the_event_is_to_be_sent_again_and_then_counts(shop: Shop) -> None:
    shop.subscribe()
    shop.stripe.fail = [503, 0, 500]
    with pytest.raises(BillingUnavailable):
        shop.send(last(shop))
    assert shop.receipt(last(shop)) is None
    shop.stripe.fail = [429]
    with pytest.raises(BillingUnavailable):
        shop.send(last(shop))
    assert shop.send(last(shop)) == "applied"
    assert shop.plan() == "pro"


def test_a_key_that_stripe_does_not_take_is_no_end_of_the_event(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.subscribe()
    key, shop.stripe.key = shop.stripe.key, "sk_test_replaced"
    with pytest.raises(BillingError) as refused:
        shop.send(last(shop))
    assert refused.value.status >= 500
    assert key not in f"{refused.value!r} {refused.value} {refused.value.__cause__!r} {caplog.text}"


def test_many_events_of_one_user_at_once_all_count(either_shop: Shop) -> None:
    shop = either_shop
    subs = [shop.subscribe() for _ in range(6)]
    started = threading.Barrier(6)

    def send(event: Any) -> str:
        started.wait()
        return shop.send(event)

    created = [e for e in shop.stripe.account.events if e["type"] == "customer.subscription.created"]
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, created)) == {"applied"}
    user = shop.store.get("apps/demo/users/ada")
    assert user is not None
    assert set(user.data["billing"]["subscriptions"]) == set(subs)


def test_usage_that_stripe_could_not_take_is_an_error_in_the_log(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("firelaunch"), "propagate", True)
    reason = {"error_count": 3, "error_types": [{"code": "meter_event_customer_not_found", "error_count": 3}]}
    thin = {
        "object": "v2.core.event",
        "id": "evt_test_1",
        "type": "v1.billing.meter.error_report_triggered",
        "created": "2026-11-01T10:00:00.000Z",
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/mtr_1"},
    }
    assert shop.send({**thin, "data": {"reason": reason}}) == "skipped"
    assert "Stripe did not take usage that was reported (meter_event_customer_not_found: 3)" in caplog.text
    assert shop.send({**thin, "data": {"reason": reason}}) == "duplicate"
    assert shop.send({**thin, "id": "evt_test_2", "type": "v1.billing.meter.no_meter_found"}) == "skipped"
    assert "(no meter)" in caplog.text
    assert shop.send({**thin, "id": "evt_test_3", "type": "v2.core.event_destination.ping"}) == "skipped"
    with pytest.raises(BadRequest):
        shop.send({**thin, "created": "yesterday"})
