"""The server that plays Stripe's part refuses what Stripe refuses; the real stripe package asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import stripe
from firelaunch.testing.stripe import StripeServer, WebhookDelivery
from firelaunch.testing.stripe.forms import FormRefused


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer() as running:
        running.account.prices.add("price_pro")
        yield running


def client(server: StripeServer, key: str | None = None, retries: int = 0) -> stripe.StripeClient:
    return stripe.StripeClient(key or server.key, base_addresses={"api": server.url}, max_network_retries=retries)


CHECKOUT: dict[str, Any] = {
    "mode": "subscription",
    "line_items": [{"price": "price_pro", "quantity": 1}],
    "success_url": "https://a.example.com",
}


def test_another_key_is_refused_and_not_repeated_in_full(server: StripeServer) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        client(server, "sk_test_ofsomebodyelse").v1.customers.create()
    assert refused.value.http_status == 401
    assert "ofsomebodyelse" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"subscription_data": {"colour": "red"}}, "parameter_unknown", "subscription_data[colour]"),
        ({"line_items": [{"price": "price_pro", "colour": 1}]}, "parameter_unknown", "line_items[0][colour]"),
        ({"line_items": [{"price": "price_x"}]}, "resource_missing", "line_items[0][price]"),
        ({"line_items": None}, "parameter_missing", "line_items"),
        ({"customer": "cus_x"}, "resource_missing", "customer"),
        ({"success_url": "example"}, "url_invalid", "success_url"),
        ({"success_url": None}, "parameter_missing", "success_url"),
        ({"metadata": "text"}, None, "metadata"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata"),
        ({"mode": {"a": "b"}}, None, "mode"),
    ],
)
def test_what_a_checkout_is_refused_for(
    server: StripeServer, change: dict[str, Any], code: str | None, param: str
) -> None:
    customer = client(server).v1.customers.create().id
    asked = {key: value for key, value in {**CHECKOUT, "customer": customer, **change}.items() if value is not None}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client(server).v1.checkout.sessions.create(asked)  # type: ignore[arg-type]
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)
    assert server.account.sessions == {}


def test_a_key_of_idempotency_gives_the_first_answer_again_and_only_to_the_same_question(server: StripeServer) -> None:
    options: Any = {"idempotency_key": "k"}
    first = client(server).v1.customers.create({"email": "a@example.com"}, options)
    again = client(server).v1.customers.create({"email": "a@example.com"}, options)
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        client(server).v1.customers.create({"email": "b@example.com"}, options)
    assert len(server.account.customers) == 1


def test_many_at_once_with_one_key_make_one_customer(server: StripeServer) -> None:
    started = threading.Barrier(4)

    def create(_: int) -> str:
        started.wait()
        made: str = client(server, retries=5).v1.customers.create({}, {"idempotency_key": "k"}).id
        return made

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(create, range(4)))) == 1


def test_lists_come_in_pages_newest_first_and_without_what_was_canceled(server: StripeServer) -> None:
    customer = server.account.customer({})["id"]
    made = [server.account.subscribe(customer, {}, "price_pro")["id"] for _ in range(7)]
    server.account.change(made[3], status="canceled")
    listed = client(server).v1.subscriptions.list({"limit": 2}).auto_paging_iter()
    assert [found.id for found in listed] == [made[n] for n in (6, 5, 4, 2, 1, 0)]
    assert len(client(server).v1.subscriptions.list({"status": "all"}).data) == 7
    assert client(server).v1.subscriptions.list({"customer": "cus_none"}).data == []
    for bad in ({"limit": 101}, {"limit": 0}, {"starting_after": "sub_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            client(server).v1.subscriptions.list(bad)  # type: ignore[arg-type]


def test_events_can_be_read_again_and_hold_what_was_then(server: StripeServer) -> None:
    customer = client(server).v1.customers.create({"metadata": {"uid": "ada"}}).id
    session = client(server).v1.checkout.sessions.create({**CHECKOUT, "customer": customer})  # type: ignore[typeddict-item]
    sub = server.account.pay(session.id)["id"]
    server.account.change(sub, status="canceled")
    kinds = [event.type for event in client(server).v1.events.list({"limit": 100}).data]
    assert kinds == [
        "customer.subscription.deleted",
        "checkout.session.completed",
        "customer.subscription.created",
        "customer.created",
    ]
    created = server.account.events[1]
    assert client(server).v1.events.retrieve(created["id"]).data.object["status"] == "active"
    assert client(server).v1.subscriptions.retrieve(sub).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client(server).v1.subscriptions.retrieve("sub_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_webhooks_are_signed_as_the_package_expects(server: StripeServer) -> None:
    event = server.account.happen("invented", {"object": "x"})
    body, signature = server.webhook(event)
    assert stripe.Webhook.construct_event(body, signature, server.secret).id == event["id"]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, signature, "whsec_other")


def test_a_path_that_is_not_stripes_is_refused(server: StripeServer) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client(server).v1.products.list()
    assert refused.value.http_status == 404


def test_a_subscription_is_of_the_flexible_mode_and_only_such_a_one_can_be_paused(server: StripeServer) -> None:
    account = server.account
    customer = account.customer({})["id"]
    flexible = account.subscribe(customer, {}, "price_pro")["id"]
    classic = account.subscribe(customer, {}, "price_pro", billing_mode="classic")["id"]
    for subscription in (flexible, classic):
        account.cancel_in_portal(subscription)
    seen = {name: client(server).v1.subscriptions.retrieve(name) for name in (flexible, classic)}
    assert (seen[flexible].billing_mode.type, seen[flexible].cancel_at_period_end) == ("flexible", False)
    assert (seen[classic].billing_mode.type, seen[classic].cancel_at_period_end) == ("classic", True)
    assert seen[flexible].cancel_at == seen[flexible].items.data[0].current_period_end  # type: ignore[attr-defined]
    with pytest.raises(FormRefused):
        account.pause(classic)
    with pytest.raises(FormRefused):
        account.resume(flexible)
    account.pause(flexible)
    paused = client(server).v1.subscriptions.retrieve(flexible)
    assert (paused.status, account.events[-1]["type"]) == ("paused", "customer.subscription.paused")
    with pytest.raises(FormRefused):
        account.pause(flexible)


@pytest.fixture
def paged() -> Iterator[StripeServer]:
    with StripeServer(pages=True) as running:
        running.account.prices.add("price_pro")
        yield running


def browse(server: StripeServer, url: str, **chosen: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as browser:
        return browser.post(url, data=chosen) if chosen else browser.get(url)


def checkout(server: StripeServer, **more: Any) -> str:
    customer = client(server).v1.customers.create().id
    back = {"success_url": "https://a.example.com/?checkout=done#/plans", "cancel_url": 'https://a.example.com/?x="<b>'}
    session = client(server).v1.checkout.sessions.create({**CHECKOUT, "customer": customer, **back, **more})
    assert session.url is not None
    return session.url


def test_people_pay_on_its_page_and_a_declined_card_leaves_the_checkout_open(paged: StripeServer) -> None:
    url = checkout(paged)
    page = browse(paged, url)
    assert page.status_code == 200
    assert "<b>" not in page.text, "an address is no HTML"
    assert "Your card was declined." in browse(paged, url, pay="declined").text
    assert not paged.account.subscriptions
    paid = browse(paged, url, pay="card")
    assert (paid.status_code, paid.headers["Location"]) == (303, "https://a.example.com/?checkout=done#/plans")
    assert [each["status"] for each in paged.account.subscriptions.values()] == ["active"]
    assert "completed or expired" in browse(paged, url, pay="card").text, "a checkout is paid once"
    assert browse(paged, f"{paged.url}/c/pay/cs_test_none").status_code == 404


def test_people_cancel_pay_and_end_on_the_portals_page(paged: StripeServer) -> None:
    browse(paged, checkout(paged), pay="card")
    (key, subscription), *_ = paged.account.subscriptions.items()
    sessions = client(paged).v1.billing_portal.sessions
    url = sessions.create({"customer": subscription["customer"], "return_url": "https://a.example.com/#/plans"}).url
    assert 'href="https://a.example.com/#/plans"' in browse(paged, url).text
    for act, name, value in (
        ("cancel", "cancel_at", subscription["items"]["data"][0]["current_period_end"]),
        ("keep", "cancel_at", None),
        ("fail", "status", "past_due"),
        ("pay", "status", "active"),
        ("end", "status", "canceled"),
    ):
        assert browse(paged, url, subscription=key, do=act).status_code == 200
        assert subscription[name] == value
    stranger = checkout(paged)
    browse(paged, stranger, pay="card")
    other = next(reversed(paged.account.subscriptions))
    browse(paged, url, subscription=other, do="end")
    assert paged.account.subscriptions[other]["status"] == "active", "a portal changes its own customer's alone"


def test_events_are_sent_signed_in_their_order_and_again_until_they_are_taken(server: StripeServer) -> None:
    taken: list[dict[str, Any]] = []
    refused, done = [], threading.Event()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stripe.WebhookSignature.verify_header(body, self.headers["Stripe-Signature"], server.secret)
            event = json.loads(body)
            first = not refused
            (refused if first else taken).append(event)
            self.send_response(503 if first else 200)
            self.end_headers()
            if len(taken) == 2:
                done.set()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, args=(0.02,), daemon=True).start()
    with WebhookDelivery(server, f"http://127.0.0.1:{hook.server_port}/", pause=0.01):
        server.account.customer({})
        server.account.customer({})
        assert done.wait(30)
    hook.shutdown()
    hook.server_close()
    assert [event["id"] for event in taken] == [event["id"] for event in server.account.events]
    assert refused[0]["id"] == taken[0]["id"]
