"""Serve the account over HTTP: authentication, refusals, idempotency keys, and signed webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from .account import Account
from .checkouts import CHECKOUT, create_checkout
from .forms import FormRefused, check, decode, missing
from .meters import METER_EVENT
from .pages import PAGES, Pages

__all__ = ["StripeServer"]

_ANY = {"*": None}
_LISTING = {"limit": None, "starting_after": None}
_CUSTOMER = {"email": None, "metadata": _ANY}
_EVENTS_KEPT = 30 * 86_400
_PORTAL = {"customer": None, "return_url": None}

Answer = tuple[int, dict[str, Any], dict[str, str]]


class StripeServer:
    """A server that replaces Stripe's, as a context manager.

    Set STRIPE_API_BASE, STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET to its ``url``, ``key`` and ``secret``. It accepts and
    refuses requests as https://docs.stripe.com/api says, but knows only the parameters that firelaunch uses.

    Attributes:
        account: the account, in which tests pay, change and cancel.
        fail: statuses with which to refuse the next requests; 0 closes the connection without an answer.
        answered: called with the path of each GET, after its answer is made and before it is sent.
        lost: called with the path of each request; "request" closes the connection before the request is looked at,
            "answer" after it was done and before it is answered, None lets it through.
        requests: method, path and decoded parameters of each request.

    Args:
        clock: returns the seconds since 1970.
        port: the port to listen on; any that is free if it is 0.
        pages: whether people pay and cancel on pages of this server, in the place of Stripe's own
            (:mod:`firelaunch.testing.stripe.pages`).
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, port: int = 0, pages: bool = False) -> None:
        self.key = "sk_test_" + secrets.token_hex(12)
        self.secret = "whsec_" + secrets.token_hex(16)
        self.account = Account(clock)
        self.fail: list[int] = []
        self.answered: Callable[[str], None] = lambda _: None
        self.lost: Callable[[str], Literal["request", "answer"] | None] = lambda _: None
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self._replies: dict[str, tuple[str, Answer | None]] = {}
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.pages = Pages(self.account) if pages else None
        if pages:
            self.account.checkout_pages = self.url

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def webhook(self, event: Any, *, at: float | None = None, secret: str | None = None) -> tuple[bytes, str]:
        """Return a webhook's body and its ``Stripe-Signature`` (https://docs.stripe.com/webhooks#verify-manually).

        Args:
            event: JSON, or the bytes of a body.
            at: the time of sending, in seconds since 1970; by default now.
            secret: a secret other than the endpoint's.
        """
        body = event if isinstance(event, bytes) else json.dumps(event, indent=2).encode()
        sent = int(time.time() if at is None else at)
        signed = hmac.new((secret or self.secret).encode(), f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
        return body, f"t={sent},v1={signed}"

    def respond(self, method: str, target: str, headers: Any, body: str) -> tuple[int, bytes, Mapping[str, str]] | None:
        """Return the status, raw body and headers of the answer to a request; None where the connection breaks off."""
        path = urlsplit(target).path
        if self.pages is not None and PAGES.match(path):
            return self.pages.answer(method, path, body)
        lost = self.lost(path)
        if lost == "request":
            return None
        status, answer, more = self.answer(method, target, headers, body)
        if method == "GET":
            self.answered(path)
        if status == 0 or lost == "answer":
            return None
        named = {"Content-Type": "application/json", "Request-Id": f"req_{secrets.token_hex(7)}"}
        return status, json.dumps(answer).encode(), {**named, **more}

    def answer(self, method: str, target: str, headers: Any, body: str) -> Answer:
        """Return the status, body and headers of the answer to a request."""
        url = urlsplit(target)
        try:
            self._authenticate(headers.get("Authorization", ""))
            params = decode(body if method == "POST" else url.query)
            with self.account.lock:
                self.requests.append((method, url.path, params))
                if self.fail:
                    return self.fail.pop(0), {"error": {"type": "api_error", "message": "scripted"}}, {}
            if method == "POST" and (key := headers.get("Idempotency-Key")):
                return self._once(key, url.path, params)
            return self._do(method, url.path, params)
        except FormRefused as refused:
            return refused.status, refused.body, {}

    def _authenticate(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        if not key:
            raise FormRefused(401, "You did not provide an API key.")
        if scheme != "Bearer" or not hmac.compare_digest(key, self.key):
            raise FormRefused(401, f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[-4:]}")

    def _once(self, key: str, path: str, params: dict[str, Any]) -> Answer:
        """Do a request once for each idempotency key, and repeat its answer afterwards.

        A request that was refused for its parameters may be sent again
        (https://docs.stripe.com/api/idempotent_requests).
        """
        fingerprint = json.dumps([path, params], sort_keys=True)
        with self.account.lock:
            earlier = self._replies.get(key)
            if earlier is None:
                self._replies[key] = (fingerprint, None)
        if earlier is not None:
            if earlier[0] != fingerprint:
                message = "Keys for idempotent requests can only be used with the parameters they were first used with."
                raise FormRefused(400, message, kind="idempotency_error")
            if earlier[1] is None:
                message = "There is currently another in-progress request using this Idempotent Key."
                raise FormRefused(409, message, kind="idempotency_error", code="idempotency_key_in_use")
            status, body, _ = earlier[1]
            return status, body, {"Idempotent-Replayed": "true"}
        try:
            answer = self._do("POST", path, params)
        except FormRefused:
            del self._replies[key]
            raise
        self._replies[key] = (fingerprint, answer)
        return answer

    def _do(self, method: str, path: str, params: dict[str, Any]) -> Answer:
        routes: list[tuple[str, str, Any, Callable[..., dict[str, Any]]]] = [
            ("POST", r"/v1/customers", _CUSTOMER, self._create_customer),
            ("GET", r"/v1/customers/(\w+)", {}, self._retrieve),
            ("POST", r"/v1/checkout/sessions", CHECKOUT, lambda params: create_checkout(self.account, params)),
            ("POST", r"/v1/billing_portal/sessions", _PORTAL, self._create_portal),
            ("GET", r"/v1/subscriptions", {**_LISTING, "customer": None, "status": None}, self._list_subscriptions),
            ("GET", r"/v1/subscriptions/(\w+)", {}, self._retrieve),
            ("POST", r"/v1/subscriptions/(\w+)", {"metadata": _ANY}, self._update_subscription),
            ("DELETE", r"/v1/subscriptions/(\w+)", {}, self._cancel_subscription),
            ("GET", r"/v1/payment_intents/(\w+)", {"expand": _ANY}, self._retrieve_payment),
            ("POST", r"/v1/billing/meter_events", METER_EVENT, self._take_usage),
            ("GET", r"/v1/disputes", {**_LISTING, "payment_intent": None}, self._list_disputes),
            ("GET", r"/v1/events", {**_LISTING, "type": None, "types": _ANY, "created": _ANY}, self._list_events),
            ("GET", r"/v1/events/(\w+)", {}, self._retrieve),
        ]
        for allowed, pattern, known, do in routes:
            if method == allowed and (match := re.fullmatch(pattern, path)):
                check(params, known)
                with self.account.lock:
                    return 200, json.loads(json.dumps(do(params, *match.groups()))), {}
        raise FormRefused(404, f"Unrecognized request URL ({method}: {path}).")

    def _create_customer(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.account.customer(params.get("metadata", {}), params.get("email"))

    def _create_portal(self, params: dict[str, Any]) -> dict[str, Any]:
        if "customer" not in params:
            raise missing("customer")
        customer = self.account.known_customer(params["customer"])["id"]
        session = f"bps_{secrets.token_hex(8)}"
        url = f"{self.url if self.pages else 'https://billing.stripe.com'}/p/session/{session}"
        if self.pages is not None:
            self.pages.portals[session] = (customer, params.get("return_url", ""))
        return {"id": session, "object": "billing_portal.session", "customer": customer, "url": url}

    def _retrieve(self, _: dict[str, Any], key: str) -> dict[str, Any]:
        events = (event for event in self.account.events if event["id"] == key)
        stored = self.account.subscriptions.get(key) or self.account.customers.get(key) or next(events, None)
        if stored is None:
            raise FormRefused(404, f"No such object: '{key}'", code="resource_missing", param="id")
        return stored

    def _update_subscription(self, params: dict[str, Any], key: str) -> dict[str, Any]:
        """Change a subscription's metadata: empty values remove keys, others stay (https://docs.stripe.com/api/metadata)."""
        subscription = self.account.subscriptions.get(key)
        if subscription is None:
            raise FormRefused(404, f"No such subscription: '{key}'", code="resource_missing", param="id")
        metadata = {**subscription["metadata"], **params.get("metadata", {})}
        self.account.change(key, metadata={name: value for name, value in metadata.items() if value})
        return subscription

    def _cancel_subscription(self, _: dict[str, Any], key: str) -> dict[str, Any]:
        subscription = self.account.subscriptions.get(key)
        if subscription is None or subscription["status"] == "canceled":
            raise FormRefused(404, f"No such subscription: '{key}'", code="resource_missing", param="id")
        self.account.change(key, status="canceled")
        return subscription

    def _list_subscriptions(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.account.page(self.account.listed(params), params, "/v1/subscriptions")

    def _list_events(self, params: dict[str, Any]) -> dict[str, Any]:
        kinds = {params["type"]} if "type" in params else set(params.get("types", {}).values())
        since = max(int(params.get("created", {}).get("gte", 0)), self.account.clock() - _EVENTS_KEPT)
        events = {
            event["id"]: event
            for event in self.account.events
            if (not kinds or event["type"] in kinds) and event["created"] >= since
        }
        return self.account.page(events, params, "/v1/events")

    def _take_usage(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.account.meters.take(params, self.account.customers)

    def _retrieve_payment(self, params: dict[str, Any], key: str) -> dict[str, Any]:
        intent = self.account.payments.intents.get(key)
        if intent is None:
            raise FormRefused(404, f"No such payment_intent: '{key}'", code="resource_missing", param="intent")
        charge = intent["latest_charge"]
        expanded = "latest_charge" in params.get("expand", {}).values()
        return {**intent, "latest_charge": charge if expanded or charge is None else charge["id"]}

    def _list_disputes(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("payment_intent")
        found = {
            key: item
            for key, item in self.account.payments.disputes.items()
            if wanted in {None, item["payment_intent"]}
        }
        return self.account.page(found, params, "/v1/disputes")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    """Connections that may wait to be accepted. A burst would overflow the standard library's five."""


def _handler(owner: StripeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._respond("GET")

        def do_POST(self) -> None:
            self._respond("POST")

        def do_DELETE(self) -> None:
            self._respond("DELETE")

        def _respond(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            answer = owner.respond(method, self.path, self.headers, body)
            if answer is None:
                self.close_connection = True
                return
            status, raw, headers = answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Log nothing, to keep the tests' output clean."""

    return Handler
