"""Model a Stripe account: customers, checkouts, subscriptions, and the events of their changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .forms import FormRefused
from .meters import Meters
from .objects import Objects
from .payments import OneTimePayments

__all__ = ["Account"]

_MONTH = 30 * 86_400
_ENDED = frozenset({"canceled", "incomplete_expired"})


class Account(Objects):
    """A Stripe account in memory. Every change adds its event to ``events``, oldest first.

    Args:
        clock: returns the seconds since 1970.

    Attributes:
        prices: the ids of its recurring prices.
        one_time: the amounts of its one-time prices, in cents, by id.
        metered: the event names of the meters of its usage-based prices, by the price's id.
        checkout_pages: the address below which users pay.
        payments, meters: the parts of it that are modelled in modules of their own.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.prices: set[str] = set()
        self.one_time: dict[str, int] = {}
        self.metered: dict[str, str] = {}
        self.checkout_pages = "https://checkout.stripe.com"
        self.payments = OneTimePayments(self)
        self.meters = Meters(self)
        self.customers: dict[str, dict[str, Any]] = {}
        self.subscriptions: dict[str, dict[str, Any]] = {}

    def customer(self, metadata: Mapping[str, str], email: str | None = None) -> dict[str, Any]:
        """Create a customer and return it."""
        customer = self.new_object("customer", "cus", {"email": email, "metadata": dict(metadata)})
        with self.lock:
            self.customers[customer["id"]] = customer
            self.emit("customer.created", customer)
        return customer

    def delete_customer(self, customer: str) -> None:
        """Delete a customer and cancel their subscriptions, as the dashboard does."""
        with self.lock:
            for subscription in list(self.subscriptions.values()):
                if subscription["customer"] == customer and subscription["status"] not in _ENDED:
                    self.change(subscription["id"], status="canceled")
            self.emit("customer.deleted", self.customers.pop(customer))

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
        if price not in self.prices and price not in self.one_time and price not in self.metered:
            param = "line_items[0][price]"
            raise FormRefused(400, f"No such price: '{price}'", code="resource_missing", param=param)
        return price

    def session(self, fields: dict[str, Any], prices: Sequence[str], data: Mapping[str, Any]) -> dict[str, Any]:
        """Create an unpaid checkout session and return it.

        Args:
            data: the session's ``subscription_data`` or ``payment_intent_data``.
        """
        session = self.new_object("checkout.session", "cs_test", {"expires_at": int(self.clock()) + 86_400, **fields})
        session |= {"status": "open", "payment_status": "unpaid", "subscription": None, "payment_intent": None}
        session["url"] = f"{self.checkout_pages}/c/pay/{session['id']}"
        with self.lock:
            self.sessions[session["id"]] = session
            session["_prices"], session["_data"] = list(prices), dict(data)
        return session

    def pay(self, session: str, *, later: bool = False, card: bool = True) -> dict[str, Any]:
        """Complete a checkout as its customer, and return the new subscription or payment.

        Args:
            later: whether the money comes days later, as with a bank debit.
            card: whether the customer gives a card, which a trial may do without.

        Raises:
            FormRefused: the checkout is completed or expired, or wants a card.
        """
        with self.lock:
            checkout = self.sessions[session]
            if checkout["status"] != "open" or checkout["expires_at"] < self.clock():
                raise FormRefused(400, "This checkout session is completed or expired.")
            data = checkout["_data"]
            if checkout["mode"] == "payment":
                amount = sum(self.one_time[price] for price in checkout["_prices"])
                intent = self.payments.begin(checkout, amount, data.get("metadata", {}), later=later)
                result, made = self.payments.intents[intent], {"payment_intent": intent}
            else:
                if not card and (checkout.get("payment_method_collection") != "if_required" or not _trial(data)):
                    raise FormRefused(400, "A payment method is required.")
                result = self._subscription_of(checkout, data, card)
                made = {"subscription": result["id"]}
            checkout |= {"status": "complete", "payment_status": "unpaid" if later else "paid", **made}
            self.emit("checkout.session.completed", checkout)
        return result

    def _subscription_of(self, checkout: Mapping[str, Any], data: Mapping[str, Any], card: bool) -> dict[str, Any]:
        days = _trial(data)
        start = int(self.clock())
        trial: dict[str, Any] = {"trial_start": start, "trial_end": start + days * 86_400} if days else {}
        ends = data.get("trial_settings", {}).get("end_behavior", {}).get("missing_payment_method", "create_invoice")
        price, *more = checkout["_prices"]
        return self.subscribe(
            checkout["customer"],
            data.get("metadata", {}),
            price,
            "trialing" if days else "active",
            more=more,
            trial_settings={"end_behavior": {"missing_payment_method": ends}},
            default_payment_method="pm_card" if card else None,
            **trial,
        )

    def end_trial(self, subscription: str) -> None:
        """End a trial. Without a card it is canceled, paused, or owes an invoice, as its ``trial_settings`` say."""
        with self.lock:
            record = self.subscriptions[subscription]
            missing = record["trial_settings"]["end_behavior"]["missing_payment_method"]
            if record["default_payment_method"] is not None:
                self.change(subscription, status="active")
            elif missing == "pause":
                self.pause(subscription, "trial_end_without_payment_method")
            else:
                self.change(subscription, status="canceled" if missing == "cancel" else "past_due")

    def subscribe(
        self,
        customer: str,
        metadata: Mapping[str, str],
        price: str,
        status: str = "active",
        billing_mode: str = "flexible",
        more: Sequence[str] = (),
        **given: Any,
    ) -> dict[str, Any]:
        """Create a subscription and return it.

        Args:
            billing_mode: "flexible", the default since 2025-09-30
                (https://docs.stripe.com/changelog/clover/2025-09-30/billing-mode-default-flexible), or "classic".
            more: further prices.
            given: further fields.
        """
        fields: dict[str, Any] = {"customer": customer, "metadata": dict(metadata), "status": status}
        fields |= {"billing_mode": {"type": billing_mode, "flexible": None}, "cancel_at_period_end": False}
        fields |= dict.fromkeys(
            ("cancel_at", "canceled_at", "pause_collection", "status_details", "trial_start", "trial_end")
        )
        subscription = self.new_object("subscription", "sub", fields | given)
        period = {"current_period_start": subscription["created"]}
        period["current_period_end"] = given.get("trial_end") or subscription["created"] + _MONTH
        items: list[dict[str, Any]] = [
            {"id": f"si_{number}_{subscription['id']}", "object": "subscription_item", "price": {"id": each}, **period}
            for number, each in enumerate((price, *more))
        ]
        subscription["items"] = {"object": "list", "data": items, "has_more": False, "url": "/v1/subscription_items"}
        with self.lock:
            self.subscriptions[subscription["id"]] = subscription
            self.emit("customer.subscription.created", subscription)
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
            self.emit(f"customer.subscription.{told}", record, before)

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

    def keep_in_portal(self, subscription: str) -> None:
        """Take a cancellation back, as a customer may until the period ends."""
        self.change(subscription, cancel_at=None, cancel_at_period_end=False, canceled_at=None)

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


def _trial(data: Mapping[str, Any]) -> int:
    return int(data.get("trial_period_days", 0))
