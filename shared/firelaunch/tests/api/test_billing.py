"""Billing over the API: the real stripe package, against the server that plays Stripe's part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Set
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.stripe import StripeServer
from firelaunch.testing.stripe.forms import FormRefused
from shop import Shop

SOLD = (
    SETTINGS
    + """
[plans.pro]
requests_per_minute = 1000
daily_usd = "5"
stripe_price = "price_pro"
features = ["export"]

[plans.team]
requests_per_minute = 2000
daily_usd = "9"
stripe_price = "price_missing_in_stripe"

[billing]
return_url = "https://app.example.com/plans?tab=1"
"""
)


CREDIT = (
    SETTINGS
    + """
[plans.payg]
requests_per_minute = 1000
daily_usd = "50"
balance = true

[billing]
return_url = "https://app.example.com/plans"

[billing.top_ups.ten]
stripe_price = "price_credit"
credit_usd = "10"

[prices.offline]
input = "20"
output = "20"
"""
)


@pytest.fixture
def stripe() -> Iterator[StripeServer]:
    with StripeServer() as server:
        server.account.prices.add("price_pro")
        server.account.one_time["price_credit"] = 1_000
        yield server


@pytest.fixture
def app(make_app: Callable[..., App], stripe: StripeServer) -> App:
    return make_app(SOLD, STRIPE_API_KEY=stripe.key, STRIPE_API_BASE=stripe.url)


def webhook(app: App, stripe: StripeServer, event: Any, secret: str | None = None) -> Any:
    body, signature = stripe.webhook(event, secret=secret)
    return app.test_client().post("/dev/stripe", data=body, headers={"Stripe-Signature": signature})


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def test_from_checkout_to_the_plan_and_the_portal(app: App, stripe: StripeServer) -> None:
    ada = sign_in(app, "ada")
    assert ada.get("/v1/me").get_json()["plan"] == "free"
    assert refusal(ada.post("/v1/billing/portal")) == (409, "no_customer")
    url = ada.post("/v1/billing/checkout", {"plan": "pro"}).get_json()["url"]
    session = stripe.account.sessions[url.rpartition("/")[2]]
    assert session["client_reference_id"] == "ada"
    assert session["metadata"] == {"app_id": "demo", "uid": "ada"}
    assert stripe.account.customers[session["customer"]]["metadata"] == {"app_id": "demo", "uid": "ada"}
    assert session["success_url"] == "https://app.example.com/plans?tab=1&checkout=done"
    assert session["cancel_url"] == "https://app.example.com/plans?tab=1&checkout=canceled"

    stripe.account.pay(session["id"])
    shop = Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    shop.send_all()
    me = ada.get("/v1/me").get_json()
    assert (me["plan"], me["features"]) == ("pro", ["export"])
    assert ada.get("/v1/usage").get_json()["limit"]["daily_micro_usd"] == 5_000_000
    assert ada.post("/v1/billing/portal").get_json()["url"].startswith("https://billing.stripe.com/")
    assert refusal(ada.post("/v1/billing/checkout", {"plan": "pro"})) == (409, "already_subscribed")
    assert sign_in(app, "bob").get("/v1/me").get_json()["plan"] == "free"


@pytest.mark.parametrize(
    "status", ["active", "trialing", "past_due", "incomplete", "unpaid", "paused", "a_state_of_next_year"]
)
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told yet"])
def test_who_has_a_subscription_in_any_state_but_the_last_is_sold_no_second_one(
    app: App, stripe: StripeServer, status: str, told: bool
) -> None:
    ada = sign_in(app, "ada")
    session = ada.post("/v1/billing/checkout", {"plan": "pro"}).get_json()["url"].rpartition("/")[2]
    subscription = stripe.account.pay(session)["id"]
    stripe.account.change(subscription, status=status)
    shop = Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    if told:
        shop.send_all()
    refused = ada.post("/v1/billing/checkout", {"plan": "pro"})
    assert refusal(refused) == (409, "already_subscribed")
    assert status in refused.get_json()["error"]["message"]
    assert len(stripe.account.sessions) == 1
    stripe.account.change(subscription, status="canceled")
    assert ada.post("/v1/billing/checkout", {"plan": "pro"}).status_code == 200, "it ended, whether we heard or not"


@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_clients_see_when_what_was_canceled_in_the_portal_ends(app: App, stripe: StripeServer, mode: str) -> None:
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    none = {"micro_usd": 0, "held_micro_usd": 0, "owed_micro_usd": 0}
    empty = {"plan": "free", "source": "default", "credit": none, "trial_used": False, "subscriptions": []}
    assert ada.get("/v1/billing").get_json() == empty
    subscription = shop.subscribe(billing_mode=mode)
    shop.send_all()
    runs = ada.get("/v1/billing").get_json()["subscriptions"][0]
    assert (runs["plan"], runs["status"], runs["cancel_at"], runs["cancel_at_period_end"]) == (
        *("pro", "active", None, False),
    )
    stripe.account.cancel_in_portal(subscription)
    shop.send_all()
    ends = ada.get("/v1/billing").get_json()["subscriptions"][0]
    assert ends["cancel_at"] == ends["period_end"] is not None
    assert ends["cancel_at_period_end"] is True
    stripe.account.change(subscription, cancel_at=None, cancel_at_period_end=False)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["subscriptions"][0] == runs


def test_a_cancellation_in_half_a_year_is_none_at_the_end_of_the_period(app: App, stripe: StripeServer) -> None:
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    stripe.account.change(shop.subscribe(), cancel_at=int(stripe.account.clock()) + 180 * 86_400)
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()["subscriptions"][0]
    assert (seen["cancel_at_period_end"], seen["cancel_at"] > seen["period_end"]) == (False, True)


@pytest.mark.parametrize("behavior", ["void", "keep_as_draft", "mark_uncollectible"])
def test_while_payment_is_not_collected_subscribers_keep_their_plan_unless_the_settings_say_otherwise(
    app: App, stripe: StripeServer, make_app: Callable[..., App], behavior: str
) -> None:
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    subscription = shop.subscribe()
    resumes = int(stripe.account.clock()) + 86_400
    stripe.account.change(subscription, pause_collection={"behavior": behavior, "resumes_at": resumes})
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["subscriptions"][0]["collection_paused"]) == ("pro", behavior)
    assert seen["subscriptions"][0]["collection_resumes_at"] is not None
    strict = SOLD + 'pauses_without_plan = ["void"]\n'
    strict_app = make_app(strict, STRIPE_API_KEY=stripe.key, STRIPE_API_BASE=stripe.url)
    strict_shop = Shop(stripe, strict_app.services.store)  # type: ignore[attr-defined]
    strict_shop.send_all()
    user = sign_in(strict_app, "ada")
    assert user.get("/v1/billing").get_json()["plan"] == ("free" if behavior == "void" else "pro")
    stripe.account.change(subscription, pause_collection=None)
    strict_shop.send_all()
    assert user.get("/v1/billing").get_json()["plan"] == "pro"


def test_a_suspended_subscription_gives_no_plan_and_says_why_until_it_resumes(app: App, stripe: StripeServer) -> None:
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    subscription = shop.subscribe()
    stripe.account.pause(subscription)
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["subscriptions"][0]["status"]) == ("free", "paused")
    assert seen["subscriptions"][0]["paused_reason"] == "pause_requested"
    stripe.account.resume(subscription)
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["subscriptions"][0]["paused_reason"]) == ("pro", None)


TRIAL = SOLD.replace('stripe_price = "price_pro"', 'stripe_price = "price_pro"\ntrial_days = 14')
WITHOUT_CARD = TRIAL.replace("trial_days = 14", 'trial_days = 14\ntrial_without_card = true\ntrial_end = "pause"')


@pytest.fixture
def trials(make_app: Callable[..., App], stripe: StripeServer) -> Callable[[str], tuple[Any, Shop]]:
    """An app with these settings: its user ada, and the shop."""

    def make(settings: str) -> tuple[Any, Shop]:
        app = make_app(settings, STRIPE_API_KEY=stripe.key, STRIPE_API_BASE=stripe.url)
        return sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]

    return make


def begin(user: Any, plan: str = "pro") -> str:
    """The id of a new checkout."""
    page: str = user.post("/v1/billing/checkout", {"plan": plan}).get_json()["url"]
    return page.rpartition("/")[2]


def test_a_trial_gives_the_plan_and_each_user_has_one(trials: Any, stripe: StripeServer) -> None:
    ada, shop = trials(TRIAL)
    session = begin(ada)
    with pytest.raises(FormRefused):
        stripe.account.pay(session, card=False)
    subscription = stripe.account.pay(session)["id"]
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["trial_used"], seen["subscriptions"][0]["status"]) == ("pro", True, "trialing")
    assert seen["subscriptions"][0]["trial_end"] == seen["subscriptions"][0]["period_end"]
    stripe.account.end_trial(subscription)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["subscriptions"][0]["status"] == "active"
    stripe.account.change(subscription, status="canceled")
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["trial_used"] is True
    assert stripe.account.pay(begin(ada))["status"] == "active", "the second time they pay at once"


def test_a_trial_that_we_were_never_told_of_is_no_reason_for_another(trials: Any, stripe: StripeServer) -> None:
    ada, _ = trials(TRIAL)
    subscription = stripe.account.pay(begin(ada))["id"]
    stripe.account.change(subscription, status="canceled")
    assert stripe.account.pay(begin(ada))["status"] == "active"


def test_a_trial_without_a_card_waits_for_one_and_goes_on_when_it_has_it(trials: Any, stripe: StripeServer) -> None:
    ada, shop = trials(WITHOUT_CARD)
    subscription = stripe.account.pay(begin(ada), card=False)["id"]
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["plan"] == "pro"
    stripe.account.end_trial(subscription)
    shop.send_all()
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["subscriptions"][0]["status"]) == ("free", "paused")
    assert seen["subscriptions"][0]["paused_reason"] == "trial_end_without_payment_method"
    assert refusal(ada.post("/v1/billing/checkout", {"plan": "pro"})) == (409, "already_subscribed")
    stripe.account.resume(subscription)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["plan"] == "pro"


def test_a_trial_without_a_card_may_end_for_good(trials: Any, stripe: StripeServer) -> None:
    ada, shop = trials(WITHOUT_CARD.replace('trial_end = "pause"', ""))
    subscription = stripe.account.pay(begin(ada), card=False)["id"]
    stripe.account.end_trial(subscription)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["subscriptions"] == []
    with pytest.raises(FormRefused):
        stripe.account.pay(begin(ada), card=False)


def test_of_two_trials_from_two_open_pages_one_counts(trials: Any, stripe: StripeServer) -> None:
    ada, shop = trials(WITHOUT_CARD)
    pages = [begin(ada), begin(ada)]
    first, second = (stripe.account.pay(page, card=False)["id"] for page in pages)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["plan"] == "pro"
    stripe.account.end_trial(first)
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["plan"] == "free", "the other one still runs"
    stripe.account.change(second, status="active")
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["plan"] == "pro", "it is paid now"


def test_credit_is_bought_spent_by_turns_and_shown_and_what_is_left_ends_in_a_402(
    make_app: Callable[..., App], stripe: StripeServer
) -> None:
    settings = CREDIT.replace('name = "Demo"', 'name = "Demo"\nplan = "payg"')
    app = make_app(settings, STRIPE_API_KEY=stripe.key, STRIPE_API_BASE=stripe.url)
    ada, shop = sign_in(app, "ada"), Shop(stripe, app.services.store)  # type: ignore[attr-defined]
    chat = ada.new_chat()
    assert refusal(ada.send(chat, "Hello")) == (402, "credit_exceeded")
    assert refusal(ada.post("/v1/billing/checkout", {"top_up": "gold"})) == (400, "invalid_request")
    for body in ({}, {"top_up": "ten", "plan": "payg"}):
        assert refusal(ada.post("/v1/billing/checkout", body)) == (400, "invalid_request")
    url = ada.post("/v1/billing/checkout", {"top_up": "ten"}, Idempotency_Key="k").get_json()["url"]
    assert ada.post("/v1/billing/checkout", {"top_up": "ten"}, Idempotency_Key="k").get_json()["url"] == url
    session = stripe.account.sessions[url.rpartition("/")[2]]
    assert (session["mode"], session["metadata"]["credit_micro_usd"]) == ("payment", "10000000")
    stripe.account.pay(session["id"])
    shop.send_all()
    assert ada.get("/v1/billing").get_json()["credit"]["micro_usd"] == 10_000_000
    spent = ada.send(chat, "Hello").get_json()["usage"]["cost_micro_usd"]
    assert spent > 0
    assert ada.get("/v1/billing").get_json()["credit"] == {
        "micro_usd": 10_000_000 - spent,
        "held_micro_usd": 0,
        "owed_micro_usd": 0,
    }
    assert ada.get("/v1/usage").get_json()["cost_micro_usd"] == spent
    stripe.account.payments.refund(session["payment_intent"], 995)
    shop.send_all()
    assert refusal(ada.send(chat, "Hello")) == (402, "credit_exceeded")
    assert ada.get("/v1/billing").get_json()["credit"]["micro_usd"] == 50_000 - spent


def test_who_has_no_credit_left_has_the_default_plan_again(make_app: Callable[..., App]) -> None:
    app = make_app(CREDIT.replace('daily_usd = "0.', 'daily_usd = "5.'))
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    assert ada.get("/v1/me").get_json()["plan"] == "free"
    assert root.post("/v1/ops/users/ada/credit", {"micro_usd": 50}).get_json() == {
        "uid": "ada",
        "micro_usd": 50,
        "held_micro_usd": 0,
        "owed_micro_usd": 0,
    }
    assert (ada.get("/v1/billing").get_json()["plan"], ada.get("/v1/billing").get_json()["source"]) == (
        *("payg", "credit"),
    )
    assert ada.send(ada.new_chat(), "Hello").status_code == 200, "50 cover nothing, so the free plan does"
    assert ada.get("/v1/billing").get_json()["credit"]["micro_usd"] == 50
    root.post("/v1/ops/users/ada/credit", {"micro_usd": -80})
    seen = ada.get("/v1/billing").get_json()
    assert (seen["plan"], seen["credit"]["owed_micro_usd"]) == ("free", 30)


def test_admins_give_credit_once_for_each_key_and_nobody_else_does(make_app: Callable[..., App]) -> None:
    app = make_app(CREDIT)
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    assert refusal(ada.post("/v1/ops/users/ada/credit", {"micro_usd": 50})) == (403, "forbidden")
    for body in ({}, {"micro_usd": "5"}, {"micro_usd": 10**13}, {"micro_usd": 5, "uid": "bob"}):
        assert refusal(root.post("/v1/ops/users/ada/credit", body)) == (400, "invalid_request")
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda n: root.post("/v1/ops/users/ada/credit", {"micro_usd": 50}, Idempotency_Key=f"k{n % 2}"),
                range(8),
            )
        )
    assert {answer.status_code for answer in answers} == {200}
    assert ada.get("/v1/billing").get_json()["credit"]["micro_usd"] == 100
    again = root.post("/v1/ops/users/ada/credit", {"micro_usd": 51}, Idempotency_Key="k0")
    assert refusal(again) == (422, "idempotency_key_reused")


def test_a_turn_also_of_a_batch_knows_the_features_and_the_limits_of_what_is_paid(
    make_app: Callable[..., App], stripe: StripeServer
) -> None:
    told = []

    def workflow(turn: Any) -> Iterator[Any]:
        told.append(turn.features)
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    app = make_app(SOLD, answer=workflow)
    ada = sign_in(app, "ada")
    ada.send(ada.new_chat(), "Hello")
    app.services.store.commit([Set("apps/demo/users/ada", {"plan": "pro"})])  # type: ignore[attr-defined]
    ada.send(ada.new_chat(), "Hello")
    batch = ada.post("/v1/batches", {"inputs": [{"text": "Hello"}], "budget_micro_usd": 10_000}).get_json()
    app.runner.run(batch["id"])
    assert told == [frozenset(), {"export"}, {"export"}]


def test_nobody_says_who_they_are_or_where_to_lead_back_to_in_a_body(app: App, stripe: StripeServer) -> None:
    ada = sign_in(app, "ada")
    for more in ({"uid": "bob"}, {"app_id": "other"}, {"success_url": "https://evil.example.com"}, {"price": "x"}):
        assert refusal(ada.post("/v1/billing/checkout", {"plan": "pro", **more})) == (400, "invalid_request")
    assert stripe.requests == []


def test_two_checkouts_at_once_are_of_one_customer(app: App, stripe: StripeServer) -> None:
    ada = sign_in(app, "ada")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ada.post("/v1/billing/checkout", {"plan": "pro"}), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(stripe.account.customers) == 1


def test_an_idempotency_key_leads_to_one_page_and_another_users_same_key_to_their_own(
    app: App, stripe: StripeServer
) -> None:
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    urls = [
        user.post("/v1/billing/checkout", {"plan": "pro"}, Idempotency_Key="k").get_json() for user in (ada, ada, bob)
    ]
    assert urls[0] == urls[1] != urls[2]
    stripe.account.prices.add("price_missing_in_stripe")
    again = ada.post("/v1/billing/checkout", {"plan": "team"}, Idempotency_Key="k")
    assert refusal(again) == (422, "idempotency_key_reused")


def test_a_customer_who_was_deleted_in_stripe_is_made_anew(app: App, stripe: StripeServer) -> None:
    ada = sign_in(app, "ada")
    ada.post("/v1/billing/checkout", {"plan": "pro"})
    stripe.account.delete_customer(next(iter(stripe.account.customers)))
    assert refusal(ada.post("/v1/billing/portal")) == (409, "no_customer")
    assert ada.post("/v1/billing/checkout", {"plan": "pro"}, Idempotency_Key="k").status_code == 200
    assert ada.post("/v1/billing/portal").status_code == 200


@pytest.mark.parametrize("plan", ["free", "no such plan"])
def test_a_plan_that_is_not_for_sale_is_refused(app: App, stripe: StripeServer, plan: str) -> None:
    assert refusal(sign_in(app, "ada").post("/v1/billing/checkout", {"plan": plan})) == (400, "invalid_request")
    assert stripe.requests == []


def test_what_stripe_refuses_or_fails_at_is_told_apart_and_no_key_is_logged(
    app: App, stripe: StripeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("firelaunch"), "propagate", True)
    ada = sign_in(app, "ada")
    assert refusal(ada.post("/v1/billing/checkout", {"plan": "team"})) == (502, "billing_failed")
    stripe.fail = [500] * 3
    failed = ada.post("/v1/billing/checkout", {"plan": "pro"})
    assert refusal(failed) == (503, "billing_unavailable")
    assert failed.headers["Retry-After"]
    key, stripe.key = stripe.key, "sk_test_replaced"
    assert refusal(ada.post("/v1/billing/checkout", {"plan": "pro"})) == (502, "billing_failed")
    said = caplog.text
    assert "AuthenticationError 401" in said
    assert key not in said
    assert key not in repr(app.services)  # type: ignore[attr-defined]


def test_without_a_key_billing_is_off_and_admins_grant_plans(make_app: Callable[..., App]) -> None:
    app = make_app(SOLD)
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    assert refusal(ada.post("/v1/billing/checkout", {"plan": "pro"})) == (409, "billing_off")
    assert refusal(ada.post("/v1/billing/portal")) == (409, "billing_off")

    def grant(user: Any, uid: str, body: Any) -> Any:
        return user.client.put(
            f"/v1/ops/users/{uid}/plan", json=body, headers={"Authorization": f"Bearer {user.token}"}
        )

    assert refusal(grant(ada, "ada", {"plan": "pro"})) == (403, "forbidden")
    assert refusal(grant(root, "ada", {"plan": "gold"})) == (400, "invalid_request")
    assert refusal(grant(root, "ada", {})) == (400, "invalid_request")
    assert refusal(grant(root, "__x__", {"plan": "pro"})) == (400, "invalid_id")
    assert ada.get("/v1/me").get_json()["plan"] == "free"
    granted = grant(root, "ada", {"plan": "pro"})
    assert granted.get_json() == {"uid": "ada", "plan": "pro", "source": "granted"}
    assert ada.get("/v1/me").get_json()["plan"] == "pro"
    taken = grant(root, "ada", {"plan": None})
    assert taken.get_json() == {"uid": "ada", "plan": "free", "source": "default"}
    assert grant(root, "never seen", {"plan": None}).get_json()["plan"] == "free"


def test_an_admin_has_lost_events_made_up_for_by_a_job(app: App, stripe: StripeServer) -> None:
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    for app_id in ("demo", "other"):
        metadata = {"app_id": app_id, "uid": "ada"}
        stripe.account.subscribe(stripe.account.customer(metadata)["id"], metadata, "price_pro")
    assert refusal(ada.post("/v1/ops/billing/reconcile")) == (403, "forbidden")
    begun = root.post("/v1/ops/billing/reconcile")
    job = begun.get_json()
    assert (begun.status_code, job["kind"], job["state"]) == (202, "reconcile", "queued")
    assert ada.get("/v1/me").get_json()["plan"] == "free"
    app.runner.run(job["id"])
    assert refusal(ada.get(f"/v1/ops/jobs/{job['id']}")) == (403, "forbidden")
    done = root.get(f"/v1/ops/jobs/{job['id']}").get_json()
    assert (done["state"], done["progress"]["done"]) == ("succeeded", 2)
    counts = {name: done["result"][name] for name in ("subscriptions", "foreign", "differences", "mended", "failed")}
    assert counts == {"subscriptions": 1, "foreign": 1, "differences": 1, "mended": 1, "failed": 0}
    assert ada.get("/v1/me").get_json()["plan"] == "pro"


def test_a_reconciliation_waits_for_stripe_and_ends_where_waiting_would_not_help(
    app: App, stripe: StripeServer, make_app: Callable[..., App]
) -> None:
    root = sign_in(app, "root", role="admin")
    waiting = root.post("/v1/ops/billing/reconcile").get_json()["id"]
    stripe.fail = [500] * 3
    app.runner.run(waiting)
    state = root.get(f"/v1/ops/jobs/{waiting}").get_json()
    assert (state["state"], state["error"]["code"]) == ("queued", "billing_unavailable")
    stripe.key = "sk_test_rolled"
    refused = root.post("/v1/ops/billing/reconcile").get_json()["id"]
    app.runner.run(refused)
    state = root.get(f"/v1/ops/jobs/{refused}").get_json()
    assert (state["state"], state["error"]["code"]) == ("dead", "job_failed")
    off = make_app(SOLD)
    assert refusal(sign_in(off, "root", role="admin").post("/v1/ops/billing/reconcile")) == (409, "billing_off")


@pytest.mark.parametrize(
    ("settings", "environ", "said"),
    [
        (SETTINGS, {"STRIPE_API_KEY": "sk_test_1"}, "billing.return_url is empty"),
        (
            SOLD.replace("price_missing_in_stripe", "price_pro"),
            {},
            "price_pro is a price of plans.pro and of plans.team",
        ),
        (SOLD.replace('"price_pro"', '"pro"'), {}, "plans.pro.stripe_price is 'pro'"),
        (SOLD.replace("https://app", "javascript:app"), {}, "billing.return_url is"),
        (SOLD.replace('"export"', '"Not a name"'), {}, "plans.pro.features"),
        (CREDIT.replace("balance = true", ""), {}, "billing.top_ups sells credit that no plan is paid from"),
        (CREDIT + "[plans.two]\nrequests_per_minute = 1\ndaily_usd = '1'\nbalance = true\n", {}, "have `balance`"),
        (CREDIT.replace('credit_usd = "10"', 'credit_usd = "0"'), {}, "billing.top_ups.ten.credit_usd"),
        (
            CREDIT + "[billing.top_ups.two]\nstripe_price = 'price_credit'\ncredit_usd = '1'\n",
            {},
            "price_credit is a price of billing.top_ups.ten and of billing.top_ups.two",
        ),
    ],
)
def test_settings_that_would_sell_the_wrong_thing_do_not_start(
    tmp_path: Path, settings: str, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said.replace(".", r"\.").replace("[", r"\[")):
        Settings.load(write_app(tmp_path, settings), environ)


def test_another_servers_address_for_stripe_is_refused_in_the_cloud(tmp_path: Path) -> None:
    environ = {
        "FIRELAUNCH_MODE": "cloud",
        "GOOGLE_CLOUD_PROJECT": "p",
        "OPENAI_API_KEY": "k",
        "STRIPE_API_BASE": "http://x",
    }
    with pytest.raises(SettingsError, match="STRIPE_API_BASE"):
        Settings.load(write_app(tmp_path, SOLD), environ)


@pytest.fixture
def laptop(tmp_path: Path, stripe: StripeServer) -> Iterator[App]:
    """An app that takes webhooks itself, by a route that no OpenAPI document shows."""
    given = {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url, "STRIPE_WEBHOOK_SECRET": stripe.secret}
    services = build(Settings.load(write_app(tmp_path / "laptop", SOLD), given))
    app = App("laptop")
    app.services = services  # type: ignore[attr-defined]
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    yield app
    services.store.close()


def test_on_a_laptop_the_app_itself_takes_the_webhooks_that_stripe_signed(laptop: App, stripe: StripeServer) -> None:
    app = laptop
    ada = sign_in(app, "ada")
    url = ada.post("/v1/billing/checkout", {"plan": "pro"}).get_json()["url"]
    stripe.account.pay(url.rpartition("/")[2])
    event = stripe.account.events[-1]
    assert webhook(app, stripe, event, secret="whsec_of_somebody_else").status_code == 400
    assert app.test_client().post("/dev/stripe", json=event).status_code == 400, "without a signature"
    assert ada.get("/v1/me").get_json()["plan"] == "free"
    assert webhook(app, stripe, event).get_json() == {"event": event["id"], "outcome": "applied"}
    assert ada.get("/v1/me").get_json()["plan"] == "pro"
    assert webhook(app, stripe, event).get_json()["outcome"] == "duplicate"
    other = stripe.account.subscribe("cus_x", {"app_id": "other", "uid": "ada"}, "price_pro")
    assert other["metadata"]["app_id"] == "other"
    assert webhook(app, stripe, stripe.account.events[-1]).get_json()["outcome"] == "foreign"


def test_no_webhook_is_taken_without_a_secret_or_in_the_cloud(app: App, stripe: StripeServer, tmp_path: Path) -> None:
    event = stripe.account.happen("invoice.paid", {"id": "in_1", "object": "invoice"})
    assert webhook(app, stripe, event).status_code == 404
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p", "OPENAI_API_KEY": "k"}
    secret = {"STRIPE_API_KEY": stripe.key, "STRIPE_WEBHOOK_SECRET": stripe.secret}
    deployed = build(Settings.load(write_app(tmp_path / "cloud", SOLD), {**cloud, **secret}))
    assert deployed.checkout.webhooks is None


def test_stripe_leads_back_to_the_page_that_a_fragment_names_and_on_a_laptop_to_the_laptop(
    make_app: Callable[..., App], stripe: StripeServer, tmp_path: Path
) -> None:
    given = {"STRIPE_API_KEY": stripe.key, "STRIPE_API_BASE": stripe.url}
    app = make_app(SOLD, **given, FIRELAUNCH_RETURN_URL="http://localhost:8080/#/plans")
    url = sign_in(app, "ada").post("/v1/billing/checkout", {"plan": "pro"}).get_json()["url"]
    session = stripe.account.sessions[url.rpartition("/")[2]]
    assert session["success_url"] == "http://localhost:8080/?checkout=done#/plans"
    cloud = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p", "OPENAI_API_KEY": "k"}
    for name in ("FIRELAUNCH_RETURN_URL", "FIRELAUNCH_MEMBERSHIP_URL"):
        with pytest.raises(SettingsError, match=name):
            Settings.load(write_app(tmp_path / "cloud", SOLD), {**cloud, name: "http://localhost:8080"})
