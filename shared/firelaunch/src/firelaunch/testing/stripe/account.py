"""Model a Stripe account: customers, checkouts, subscriptions, and the events of their changes."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from .forms import FormRefused

__all__ = ["VERSION", "Account"]

VERSION = "2026-10-28.endive"
_MONTH = 30 * 86_400
_ENDED = frozenset({"canceled", "incomplete_expired"})


class Account:
    """A Stripe account in memory. Every change adds its event to ``events``, oldest first.

    Args:
        clock: returns the seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.prices: set[str] = set()
        self.customers: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._numbers = count(1)

    def customer(self, metadata: Mapping[str, str], email: str | None = None) -> dict[str, Any]:
        """Create a customer and return it."""
        customer = self._new_object("customer", "cus", {"email": email, "metadata": dict(metadata)})
        with self.lock:
            self.customers[customer["id"]] = customer
            self._emit("customer.created", customer)
        return customer

    def delete_customer(self, customer: str) -> None:
        """Delete a customer and cancel their subscriptions, as the dashboard does."""
        with self.lock:
            for subscription in list(self.subscriptions.values()):
                if subscription["customer"] == customer and subscription["status"] not in _ENDED:
                    self.change(subscription["id"], status="canceled")
            self._emit("customer.deleted", self.customers.pop(customer))

    def known_customer(self, customer: str | None) -> dict[str, Any]:
        """Return a customer by id.

        Raises:
            FormRefused: there is no customer with that id.
        """
        if customer not in self.customers:
            raise FormRefused(400, f"No such customer: '{customer}'", code="resource_missing", param="customer")
        return self.customers[customer]

    def known_price(self, price: str) -> str:
        """Return the id of an existing price.

        Raises:
            FormRefused: there is no price with that id.
        """
        if price not in self.prices:
            param = "line_items[0][price]"
            raise FormRefused(400, f"No such price: '{price}'", code="resource_missing", param=param)
        return price

    def session(self, fields: dict[str, Any], price: str, for_subscription: Mapping[str, str]) -> dict[str, Any]:
        """Create an unpaid checkout session and return it."""
        session = self._new_object("checkout.session", "cs_test", fields)
        session |= {"status": "open", "payment_status": "unpaid", "subscription": None}
        session["url"] = f"https://checkout.stripe.com/c/pay/{session['id']}"
        with self.lock:
            self.sessions[session["id"]] = session
            session["_price"], session["_metadata"] = price, dict(for_subscription)
        return session

    def pay(self, session: str) -> dict[str, Any]:
        """Pay a checkout as its customer, and return the new subscription."""
        with self.lock:
            checkout = self.sessions[session]
            subscription = self.subscribe(checkout["customer"], checkout["_metadata"], checkout["_price"])
            checkout |= {"status": "complete", "payment_status": "paid", "subscription": subscription["id"]}
            self._emit("checkout.session.completed", checkout)
        return subscription

    def subscribe(
        self,
        customer: str,
        metadata: Mapping[str, str],
        price: str,
        status: str = "active",
        billing_mode: str = "flexible",
    ) -> dict[str, Any]:
        """Create a subscription and return it.

        Args:
            billing_mode: "flexible", the default since 2025-09-30
                (https://docs.stripe.com/changelog/clover/2025-09-30/billing-mode-default-flexible), or "classic".
        """
        fields: dict[str, Any] = {"customer": customer, "metadata": dict(metadata), "status": status}
        fields |= {"billing_mode": {"type": billing_mode, "flexible": None}, "cancel_at_period_end": False}
        fields |= dict.fromkeys(
            ("cancel_at", "canceled_at", "pause_collection", "status_details", "trial_start", "trial_end")
        )
        subscription = self._new_object("subscription", "sub", fields)
        item: dict[str, Any] = {
            "id": f"si_{subscription['id']}",
            "object": "subscription_item",
            "price": {"id": price, "object": "price"},
        }
        item |= {
            "quantity": 1,
            "current_period_start": subscription["created"],
            "current_period_end": subscription["created"] + _MONTH,
        }
        subscription["items"] = {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"}
        with self.lock:
            self.subscriptions[subscription["id"]] = subscription
            self._emit("customer.subscription.created", subscription)
        return subscription

    def change(self, subscription: str, event: str | None = None, *, price: str | None = None, **fields: Any) -> None:
        """Change fields or the price of a subscription. If the subscription has ended, only its metadata can change.

        Args:
            event: the last part of the event's type, if it is none of "updated" and "deleted".

        Raises:
            FormRefused: the subscription has ended.
        """
        with self.lock:
            record = self.subscriptions[subscription]
            if record["status"] in _ENDED and set(fields) - {"metadata"}:
                raise FormRefused(400, "A canceled subscription can only update its cancellation_details and metadata.")
            before = {name: record.get(name) for name in fields}
            record |= fields
            if price is not None:
                record["items"]["data"][0]["price"]["id"] = price
            told = event or ("deleted" if record["status"] == "canceled" else "updated")
            self._emit(f"customer.subscription.{told}", record, before)

    def cancel_in_portal(self, subscription: str) -> None:
        """Cancel at the end of the period, as a customer does in the portal.

        The flexible billing mode sets ``cancel_at`` alone, the classic one the flag, too
        (https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
        """
        with self.lock:
            record = self.subscriptions[subscription]
            end = min(item["current_period_end"] for item in record["items"]["data"])
            classic = record["billing_mode"]["type"] == "classic"
            self.change(subscription, cancel_at=end, cancel_at_period_end=classic, canceled_at=int(self.clock()))

    def pause(self, subscription: str, reason: str = "pause_requested") -> None:
        """Suspend a subscription (https://docs.stripe.com/billing/subscriptions/pause). It has the status "paused".

        Raises:
            FormRefused: the subscription is of the classic billing mode, or not active.
        """
        with self.lock:
            record = self.subscriptions[subscription]
            if record["billing_mode"]["type"] != "flexible" or record["status"] not in {"active", "trialing"}:
                raise FormRefused(400, "This subscription cannot be paused.")
            paused = {"type": "subscription", "subscription": {"type": reason}, "transitioned_at": int(self.clock())}
            self.change(subscription, "paused", status="paused", status_details={"paused": paused})

    def resume(self, subscription: str) -> None:
        """Resume a suspended subscription.

        Raises:
            FormRefused: the subscription is not paused.
        """
        with self.lock:
            if self.subscriptions[subscription]["status"] != "paused":
                raise FormRefused(400, "This subscription is not paused.")
            self.change(subscription, "resumed", status="active", status_details=None)

    def happen(self, kind: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """Add an event of any type about any object, and return it."""
        return self._emit(kind, dict(about))

    def page(self, items: Mapping[str, dict[str, Any]], params: Mapping[str, str], url: str) -> dict[str, Any]:
        """Return a page of items, newest first.

        Raises:
            FormRefused: ``limit`` is not from 1 to 100, or ``starting_after`` is not one of the items.
        """
        limit, after = params.get("limit", "10"), params.get("starting_after")
        if not limit.isdigit() or not 1 <= int(limit) <= 100:
            raise FormRefused(400, "This value must be between 1 and 100 (inclusive).", param="limit")
        if after is not None and after not in items:
            raise FormRefused(400, f"No such object: '{after}'", code="resource_missing", param="starting_after")
        remaining = [*items.values()][::-1]
        if after is not None:
            remaining = remaining[next(n for n, item in enumerate(remaining) if item["id"] == after) + 1 :]
        page = remaining[: int(limit)]
        return {"object": "list", "data": page, "has_more": len(remaining) > len(page), "url": url}

    def listed(self, params: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the subscriptions with ``customer`` and ``status``; without a status, those that are not canceled."""
        return dict(self._filtered(params))

    def _filtered(self, params: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        customer, status = params.get("customer"), params.get("status")
        for key, item in self.subscriptions.items():
            state = item["status"]
            matches = state != "canceled" if status is None else status in {"all", state}
            # The next page may start after a subscription that was canceled meanwhile.
            if (matches or key == params.get("starting_after")) and customer in {None, item["customer"]}:
                yield key, item

    def _new_object(self, kind: str, prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        base = {"id": f"{prefix}_{next(self._numbers):014d}", "object": kind, "created": int(self.clock())}
        return {**base, "livemode": False, **fields}

    def _emit(self, kind: str, about: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        shown = {key: value for key, value in about.items() if not key.startswith("_")}
        data: dict[str, Any] = {"object": copy.deepcopy(shown)}
        if before is not None:
            data["previous_attributes"] = dict(before)
        event = self._new_object(
            "event", "evt", {"type": kind, "api_version": VERSION, "data": data, "pending_webhooks": 1}
        )
        event["request"] = {"id": None, "idempotency_key": None}
        with self.lock:
            self.events.append(event)
        return event
