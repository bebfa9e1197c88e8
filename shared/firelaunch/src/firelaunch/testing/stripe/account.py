"""What one Stripe account holds, and what happens in it: customers, checkouts, subscriptions, and their events."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from .forms import Refused

__all__ = ["VERSION", "Account"]

VERSION = "2026-10-28.endive"
_MONTH = 30 * 86_400
_ENDED = frozenset({"canceled", "incomplete_expired"})


class Account:
    """In memory. Every change makes its event, in order; ``events`` has them all, oldest first.

    Args:
        clock: seconds since 1970.
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
        """A new customer."""
        made = self._made("customer", "cus", {"email": email, "metadata": dict(metadata)})
        with self.lock:
            self.customers[made["id"]] = made
            self._tell("customer.created", made)
        return made

    def delete_customer(self, customer: str) -> None:
        """As from the dashboard: what the customer subscribes to is canceled."""
        with self.lock:
            for subscription in list(self.subscriptions.values()):
                if subscription["customer"] == customer and subscription["status"] not in _ENDED:
                    self.change(subscription["id"], status="canceled")
            self._tell("customer.deleted", self.customers.pop(customer))

    def known_customer(self, customer: str | None) -> dict[str, Any]:
        """A customer that there is.

        Raises:
            Refused: there is none of that id.
        """
        if customer not in self.customers:
            raise Refused(400, f"No such customer: '{customer}'", code="resource_missing", param="customer")
        return self.customers[customer]

    def known_price(self, price: str) -> str:
        """A price that there is.

        Raises:
            Refused: there is none of that id.
        """
        if price not in self.prices:
            param = "line_items[0][price]"
            raise Refused(400, f"No such price: '{price}'", code="resource_missing", param=param)
        return price

    def session(self, fields: dict[str, Any], price: str, for_subscription: Mapping[str, str]) -> dict[str, Any]:
        """A checkout that nobody has paid yet."""
        made = self._made("checkout.session", "cs_test", fields)
        made |= {"status": "open", "payment_status": "unpaid", "subscription": None}
        made["url"] = f"https://checkout.stripe.com/c/pay/{made['id']}"
        with self.lock:
            self.sessions[made["id"]] = made
            made["_price"], made["_metadata"] = price, dict(for_subscription)
        return made

    def pay(self, session: str) -> dict[str, Any]:
        """The customer pays at a checkout's page: the subscription that this begins."""
        with self.lock:
            paid = self.sessions[session]
            made = self.subscribe(paid["customer"], paid["_metadata"], paid["_price"])
            paid |= {"status": "complete", "payment_status": "paid", "subscription": made["id"]}
            self._tell("checkout.session.completed", paid)
        return made

    def subscribe(
        self, customer: str, metadata: Mapping[str, str], price: str, status: str = "active"
    ) -> dict[str, Any]:
        """A new subscription."""
        made = self._made("subscription", "sub", {"customer": customer, "metadata": dict(metadata), "status": status})
        item: dict[str, Any] = {
            "id": f"si_{made['id']}",
            "object": "subscription_item",
            "price": {"id": price, "object": "price"},
        }
        item |= {"quantity": 1, "current_period_start": made["created"], "current_period_end": made["created"] + _MONTH}
        made["items"] = {"object": "list", "data": [item], "has_more": False, "url": "/v1/subscription_items"}
        made["cancel_at_period_end"] = False
        with self.lock:
            self.subscriptions[made["id"]] = made
            self._tell("customer.subscription.created", made)
        return made

    def change(self, subscription: str, *, price: str | None = None, **fields: Any) -> None:
        """Change fields of a subscription, or what is paid for; nothing but its metadata changes of one that ended.

        Raises:
            Refused: it has ended.
        """
        with self.lock:
            found = self.subscriptions[subscription]
            if found["status"] in _ENDED and set(fields) - {"metadata"}:
                raise Refused(400, "A canceled subscription can only update its cancellation_details and metadata.")
            before = {name: found.get(name) for name in fields}
            found |= fields
            if price is not None:
                found["items"]["data"][0]["price"]["id"] = price
            ended = found["status"] == "canceled"
            self._tell(f"customer.subscription.{'deleted' if ended else 'updated'}", found, before)

    def happen(self, kind: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """An event of any type and about anything."""
        return self._tell(kind, dict(about))

    def page(self, items: Mapping[str, dict[str, Any]], params: Mapping[str, str], url: str) -> dict[str, Any]:
        """A page, the newest first.

        Raises:
            Refused: ``limit`` is not 1 to 100, or ``starting_after`` is none of the items.
        """
        limit, after = params.get("limit", "10"), params.get("starting_after")
        if not limit.isdigit() or not 1 <= int(limit) <= 100:
            raise Refused(400, "This value must be between 1 and 100 (inclusive).", param="limit")
        if after is not None and after not in items:
            raise Refused(400, f"No such object: '{after}'", code="resource_missing", param="starting_after")
        found = [*items.values()][::-1]
        if after is not None:
            found = found[next(n for n, item in enumerate(found) if item["id"] == after) + 1 :]
        page = found[: int(limit)]
        return {"object": "list", "data": page, "has_more": len(found) > len(page), "url": url}

    def listed(self, params: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The subscriptions that ``customer`` and ``status`` ask for; without a status, those not canceled."""
        return dict(self._wanted(params))

    def _wanted(self, params: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
        customer, status = params.get("customer"), params.get("status")
        for key, item in self.subscriptions.items():
            state = item["status"]
            asked = state != "canceled" if status is None else status in {"all", state}
            # A page may go on after one that has been canceled meanwhile.
            if (asked or key == params.get("starting_after")) and customer in {None, item["customer"]}:
                yield key, item

    def _made(self, kind: str, prefix: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        made = {"id": f"{prefix}_{next(self._numbers):014d}", "object": kind, "created": int(self.clock())}
        return {**made, "livemode": False, **fields}

    def _tell(self, kind: str, about: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        shown = {key: value for key, value in about.items() if not key.startswith("_")}
        data: dict[str, Any] = {"object": copy.deepcopy(shown)}
        if before is not None:
            data["previous_attributes"] = dict(before)
        told = self._made("event", "evt", {"type": kind, "api_version": VERSION, "data": data, "pending_webhooks": 1})
        told["request"] = {"id": None, "idempotency_key": None}
        with self.lock:
            self.events.append(told)
        return told
